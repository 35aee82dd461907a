"""Defines the options of a training: one for each field of TrainConfig."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import model_option
from cadlib.cli.usage import UsageError, check_data, check_subset
from cadlib.training.config import TrainConfig

SETTINGS_FIELD = "settings"
"""Field of a command that takes the settings of a training."""
OF_SEVERAL_PROCESSES = ("devices", "nodes", "strategy")
"""Settings that some commands do not offer, because they run in one process."""
PANEL = "Training settings"
ENGINE_PANEL = "Machine settings, which do not change the result"


@dataclass(frozen=True, kw_only=True)
class TrainingCommand(CliCommand):
    """A command that trains networks."""

    settings: TrainConfig = field(default_factory=TrainConfig)


Command = TypeVar("Command", bound=TrainingCommand)


def with_settings(
    command: type[Command], defaults: TrainConfig, without: Sequence[str] = ()
) -> Callable[..., Command]:
    """Return a constructor of a command that takes each field of TrainConfig by itself.

    The command has a field `settings`. The fields of TrainConfig in `without` have no option and
    keep their default.
    """
    offered = [setting for setting in fields(defaults) if setting.name not in without]
    names = {setting.name for setting in offered}

    def construct(**values: Any) -> Command:
        settings: dict[str, Any] = {name: getattr(defaults, name) for name in without}
        own: dict[str, Any] = {}
        for name, value in values.items():
            target = settings if name in names else own
            target[name] = value
        return command(**own, settings=_config(settings))

    parameters = inspect.signature(command).parameters.values()
    own_parameters = [each for each in parameters if each.name != SETTINGS_FIELD]
    option_parameters = [_parameter(setting, defaults) for setting in offered]
    # Typer makes the options from the signature.
    signature = inspect.Signature([*own_parameters, *option_parameters])
    vars(construct)["__signature__"] = signature
    return construct


def _config(settings: dict[str, Any]) -> TrainConfig:
    """Return the settings; raise UsageError for those out of range."""
    try:
        return TrainConfig(**settings)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _parameter(setting: "Field[Any]", defaults: TrainConfig) -> inspect.Parameter:
    """Return a setting as the parameter of a function, with its option for Typer."""
    default = getattr(defaults, setting.name)
    metadata = setting.metadata
    text = _sentence(metadata["help"])
    option_name = setting.name.replace("_", "-")
    flag = f"--{option_name}"
    if isinstance(default, bool):
        option = typer.Option(f"{flag}/--no-{option_name}", help=text)
    # The name of a model, which a shell can complete.
    elif setting.name in ("split_of", "teacher"):
        option = model_option(text)
    else:
        option = typer.Option(flag, help=text)
    panel = ENGINE_PANEL if metadata["engine"] else PANEL
    option.rich_help_panel = panel
    # An empty default would be shown as empty brackets.
    option.show_default = default != ""
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[type(default), option],
    )


def _sentence(text: str) -> str:
    """Return a text with a capital at its start and a stop at its end."""
    return f"{text[0].upper()}{text[1:]}."


def check_settings(data: Path, config: TrainConfig) -> None:
    """Raise UsageError where the folder of images or the subset is missing."""
    check_data(data)
    if config.subset:
        check_subset(config.subset)


@contextmanager
def training_packages() -> Iterator[None]:
    """Raise UsageError with the command that installs them where an import inside fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UsageError(
            f'Training needs {error.name}: run `pip install "cadlib[train]"`, '
            "or in a clone `pip install -r requirements-train.txt`."
        ) from error
