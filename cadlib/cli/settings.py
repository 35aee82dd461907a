"""The flags of a training: one for each field of TrainConfig."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from cadlib.cli.usage import UsageError, check_data, check_subset

if TYPE_CHECKING:  # torch takes seconds; `--help` and bad usage do not wait for it
    from cadlib.training.config import TrainConfig


def add_settings(
    command: argparse.ArgumentParser, defaults: "TrainConfig", without: Sequence[str] = ()
) -> None:
    """Add a flag for each field of TrainConfig; those `without` a flag keep their default."""
    for setting in fields(defaults):
        flag, default = f"--{setting.name.replace('_', '-')}", getattr(defaults, setting.name)
        text = f"{setting.metadata['help']} (default: {'none' if default == '' else default})"
        if setting.name in without:
            command.set_defaults(**{setting.name: default})
        elif isinstance(default, bool):
            command.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=default, help=text
            )
        else:
            command.add_argument(flag, type=type(default), default=default, help=text)


def settings_of(options: argparse.Namespace) -> "TrainConfig":
    """Return the settings that the flags give; the folder of images has to be there."""
    from cadlib.training.config import TrainConfig

    try:
        config = TrainConfig(
            **{setting.name: getattr(options, setting.name) for setting in fields(TrainConfig)}
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_data(options.data)
    if config.subset:
        check_subset(config.subset)
    return config


@contextmanager
def training_packages() -> Iterator[None]:
    """Say which file of requirements holds a package that an import inside does not find."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"Training needs {error.name}; run `pip install -r requirements-train.txt`."
        ) from error
