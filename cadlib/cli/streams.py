"""Prepares the output streams, and detects a reader that is gone.

A command ends quietly when nobody reads its output any more, and runs when a stream is closed.
"""

import io
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

READER_GONE = 141
"""Exit code of a command whose reader is gone: 128 + SIGPIPE, as shells report it."""


def prepare_streams() -> None:
    """Open closed streams on the null device, and escape characters that a stream cannot encode."""
    # A stream is None where the shell closed it, as with `>&-`.
    if sys.stdout is None:
        sys.stdout = _null_stream()
    if sys.stderr is None:
        sys.stderr = _null_stream()
    for stream in _streams():
        # A terminal may have no ▲, and a file name may be no text.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _null_stream() -> TextIO:
    """Open the null device; it stays open to the end of the process."""
    return Path(os.devnull).open("w", encoding="utf-8")


def reader_is_gone() -> bool:
    """Return whether a stream is a pipe that nobody reads any more."""
    return any(_is_broken(stream) for stream in _streams())


def mute_broken_streams() -> None:
    """Redirect streams that cannot write their buffer to the null device.

    Python would try to write it again when it ends, and print an error.
    """
    for stream in _streams():
        if _write_error(stream) is None:
            continue
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, stream.fileno())
        os.close(null_device)


def _streams() -> Iterator[TextIO]:
    yield sys.stdout
    yield sys.stderr


def _is_broken(stream: TextIO) -> bool:
    if isinstance(_write_error(stream), BrokenPipeError):
        return True
    return _has_no_reader(stream)


def _has_no_reader(stream: TextIO) -> bool:
    """Return whether a pipe has no reader.

    A stream without a buffer has nothing left to write, so `_write_error` would not detect it.
    """
    if not hasattr(select, "poll"):  # Windows
        return False
    poll = select.poll()
    try:
        # No event is asked for, because errors are reported in any case.
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError):
        # A stream of a test, or a closed one.
        return False
    closed_events = select.POLLERR | select.POLLHUP
    return any(event & closed_events for _, event in poll.poll(0))


def _write_error(stream: TextIO) -> OSError | None:
    """Return the error of writing a stream's buffer, or None."""
    try:
        stream.flush()
    except OSError as error:
        return error
    return None
