"""Parses the command line with Typer.

A command is imported when it is named, so the list of commands needs none of them.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from cadlib.cli import COMMANDS, Entry
from cadlib.cli.command import CliCommand
from cadlib.cli.usage import UsageError

_PROGRAM = "cadlib"
_COMPLETION_VARIABLE = "_CADLIB_COMPLETE"
"""Environment variable by which a shell asks for completions; Typer reads it."""
_DESCRIPTION = (
    "Computer-aided diagnosis of skin lesions: it supports a reader and never replaces one."
)
_EPILOG = "Run `cadlib COMMAND --help` for the options of a command and an example."
_CONTEXT = {"max_content_width": 100}
_PLAIN: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}
"""Help is plain text: rich would take 0.1 s to import, and adds colours and frames."""


def parse(arguments: Sequence[str] | None = None) -> CliCommand | None:
    """Return the command that the arguments name, or None where they only ask for help.

    `arguments` are those of this process if None. Raise UsageError for arguments that do not fit.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    words = list(arguments)
    root = _root()
    if os.environ.get(_COMPLETION_VARIABLE):
        # It answers the shell and exits.
        root.main(words, prog_name=_PROGRAM)
    # `root.main` would end the process by itself where nobody reads the output.
    try:
        with root.make_context(_program_name(words), words) as context:
            command = root.invoke(context)
    except typer.Exit:
        return None
    except typer.TyperException as error:
        raise UsageError(_message(error)) from error
    if not isinstance(command, CliCommand):
        raise TypeError(f"Expected a command but got {command!r}.")
    return command


def _program_name(words: Sequence[str]) -> str:
    """Return how the program was started, as its usage and help show it."""
    is_script = Path(sys.argv[0]).stem == _PROGRAM
    # A shell completes the words after a command's name, so a script for it needs this name.
    if is_script or any(word.endswith("-completion") for word in words):
        return _PROGRAM
    return f"python -m {_PROGRAM}"


def _message(error: typer.TyperException) -> str:
    """Return what was expected, what came, and where to read on."""
    # Not every error belongs to a command.
    context = getattr(error, "ctx", None)
    path = context.command_path if context else _PROGRAM
    text = _unknown_option(error, path) or _wrong_value(error) or error.format_message()
    return f"{text}\nRun `{path} --help` for all options and an example."


def _unknown_option(error: typer.TyperException, path: str) -> str:
    """Return the message for an option that does not exist, or nothing for another error."""
    # Only the error for an unknown option has this attribute.
    if not hasattr(error, "possibilities"):
        return ""
    name = getattr(error, "option_name", "")
    text = f"Expected an option of `{path}` but got {name!r}."
    if error.possibilities:
        similar = " or ".join(sorted(error.possibilities))
        text += f" Did you mean {similar}?"
    return text


def _wrong_value(error: typer.TyperException) -> str:
    """Return the message for a value that does not fit, or nothing for another error."""
    problem = _first_problem(error.__cause__)
    if not isinstance(error, typer.BadParameter) or error.param is None or problem is None:
        return ""
    # The message is a whole sentence, of which only the expected value is needed.
    _, _, choices = problem["msg"].partition(" is not one of ")
    expected = problem["msg"].partition(",")[0].removeprefix("Input should be ")
    if choices:
        expected = f"one of {choices.removesuffix('.')}"
    name = "/".join(error.param.opts)
    return f"Expected {name} to be {expected} but got {problem['input']!r}."


def _first_problem(cause: BaseException | None) -> dict[str, Any] | None:
    """Return the first problem of a pydantic ValidationError; Typer checks values with it."""
    errors = getattr(cause, "errors", None)
    if errors is None:
        return None
    problem: dict[str, Any] = errors()[0]
    return problem


def _root() -> TyperGroup:
    app = typer.Typer(
        cls=_Group,
        help=_DESCRIPTION,
        epilog=_EPILOG,
        subcommand_metavar="COMMAND …",
        context_settings=_CONTEXT,
        **_PLAIN,
    )

    # Typer makes a group only of an app with a callback or with several commands.
    @app.callback()
    def root() -> None:
        """Have no options of its own but help and completion."""

    group = get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError(f"Expected a group of commands but got {group!r}.")
    # Added by hand: Typer would need the function of each command, and so its import.
    for entry in COMMANDS:
        group.add_command(_subgroup(entry) if entry.actions else _LazyCommand(entry))
    return group


def _subgroup(entry: Entry) -> TyperGroup:
    """Return a command that has subcommands."""
    return _Group(
        name=entry.name,
        commands=[_LazyCommand(action) for action in entry.actions],
        help=entry.summary,
        rich_help_panel=entry.purpose,
        rich_markup_mode=None,
        subcommand_metavar="ACTION …",
    )


class _Group(TyperGroup):
    """Lists its commands under a heading for each purpose."""

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        rows: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            heading = getattr(command, "rich_help_panel", None) or "Commands"
            rows.setdefault(heading, []).append((name, command.help or ""))
        for heading, of_purpose in rows.items():
            with formatter.section(heading):
                formatter.write_dl(of_purpose)


class _LazyCommand(TyperCommand):
    """Stands for a command in the list, and imports it when it is used."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(
            entry.name,
            help=entry.summary,
            rich_help_panel=entry.purpose,
            rich_markup_mode=None,
        )
        self._entry = entry

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        return _command(self._entry).make_context(info_name, args, parent, **extra)


class _Command(TyperCommand):
    """Shows options under a heading for each group, and the example as it is written."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            # A hidden parameter has no help.
            if record is None:
                continue
            name, text = record
            heading = getattr(parameter, "rich_help_panel", None) or "Options"
            if parameter.param_type_name == "argument":
                heading = "Arguments"
                # Typer adds the Python type here, which means nothing to a reader.
                name = name.partition(" ")[0]
            rows.setdefault(heading, []).append((name, text))
        for heading, of_group in rows.items():
            with formatter.section(heading):
                formatter.write_dl(of_group)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        with formatter.section("Example"):
            for line in (self.epilog or "").splitlines():
                formatter.write(f"  {line}\n")


def _command(entry: Entry) -> Any:
    """Import a command and build its parser."""
    module_name, _, class_name = entry.target.partition(":")
    command: type[CliCommand] = getattr(import_module(module_name), class_name)
    # The program completes words; a command would add the same two options again.
    app = typer.Typer(add_completion=False, **_PLAIN)
    register = app.command(
        entry.name,
        cls=_Command,
        help=entry.summary,
        epilog=command.EXAMPLE,
        context_settings=_CONTEXT,
    )
    register(command.constructor())
    return get_command(app)
