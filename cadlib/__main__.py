"""Runs the command line; `python -m cadlib --help` lists the commands."""

import sys
from collections.abc import Sequence

# Few modules are imported here: a Ctrl-C during an import would end with a traceback.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    It is 0 for success, 1 for a failure, 2 for bad usage, 130 after Ctrl-C, and 141 where nobody
    reads the output any more, as in `| head`.
    """
    try:
        from cadlib.cli.streams import (  # noqa: PLC0415
            READER_GONE,
            mute_broken_streams,
            prepare_streams,
        )

        prepare_streams()
        try:
            return _main(arguments)
        except BrokenPipeError:
            mute_broken_streams()
            return READER_GONE
    except KeyboardInterrupt as stop:
        message = str(stop) or "Stopped."
        print(f"cadlib: {message}", file=sys.stderr)
        return 130


def _main(arguments: Sequence[str] | None) -> int:
    """Run one command and return its exit code.

    Raise BrokenPipeError where nobody reads the output any more.
    """
    from cadlib.cli import command_line  # noqa: PLC0415
    from cadlib.cli.streams import mute_broken_streams, reader_is_gone  # noqa: PLC0415
    from cadlib.cli.usage import UsageError  # noqa: PLC0415
    from cadlib.errors import CadError  # noqa: PLC0415

    try:
        try:
            command = command_line.parse(arguments)
            return command.run() if command else 0
        finally:
            # An error is handled here, but not at the end of Python.
            sys.stdout.flush()
    except CadError as error:
        print(f"cadlib: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except OSError as error:
        if isinstance(error, BrokenPipeError) and reader_is_gone():
            raise
        print(f"cadlib: {error}. Check the disk and the rights of the folder.", file=sys.stderr)
        mute_broken_streams()
        return 1


if __name__ == "__main__":
    sys.exit(main())
