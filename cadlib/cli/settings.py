"""Defines the flags of a training: one for each field of TrainConfig."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

from cadlib.cli.usage import UsageError, check_data, check_subset

# torch takes seconds to load; `--help` and bad usage do not wait for it.
if TYPE_CHECKING:
    from cadlib.training.config import TrainConfig


def add_settings(
    command: argparse.ArgumentParser, defaults: "TrainConfig", without: Sequence[str] = ()
) -> None:
    """Add a flag for each field of TrainConfig; those `without` a flag keep their default."""
    for setting in fields(defaults):
        flag = "--" + setting.name.replace("_", "-")
        default = getattr(defaults, setting.name)
        default_text = "none" if default == "" else default
        text = f"{setting.metadata['help']} (default: {default_text})"
        if setting.name in without:
            command.set_defaults(**{setting.name: default})
        elif isinstance(default, bool):
            command.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=default, help=text
            )
        else:
            command.add_argument(flag, type=type(default), default=default, help=text)


def settings_of(options: argparse.Namespace) -> "TrainConfig":
    """Return the settings of the flags.

    Raise UsageError for settings out of range, and where the folder of images or the subset is
    missing.
    """
    from cadlib.training.config import TrainConfig

    settings = {setting.name: getattr(options, setting.name) for setting in fields(TrainConfig)}
    try:
        config = TrainConfig(**settings)
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_data(options.data)
    if config.subset:
        check_subset(config.subset)
    return config


@contextmanager
def training_packages() -> Iterator[None]:
    """Raise UsageError with the file of requirements where an import inside fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f"Training needs {error.name}; run `pip install -r requirements-train.txt`."
        ) from error
