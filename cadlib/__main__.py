"""The command line: parse, call, print. `python -m cadlib --help` lists the commands."""

import argparse
import io
import sys
from collections.abc import Sequence

from cadlib.commands import COMMANDS
from cadlib.commands.usage import UsageError
from cadlib.errors import CadError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 for success, 1 if something failed, 2 for bad usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that has no ▲, a file name that is no text
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except CadError as error:
        print(f"cadlib: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        print(f"cadlib: {error}. Check the disk and the rights of the folder.", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"cadlib: {str(stop) or 'Stopped.'}", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    root = argparse.ArgumentParser(
        prog="python -m cadlib",
        description="Computer-aided diagnosis of skin lesions: it supports a reader, never replaces one.",
    )
    commands = root.add_subparsers(required=True, metavar="command")
    for name, (command, does) in COMMANDS.items():
        command.add(commands.add_parser(name, help=does))
    return root


if __name__ == "__main__":
    sys.exit(main())
