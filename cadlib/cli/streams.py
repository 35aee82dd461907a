"""Let a command end quietly when the reader of its output is gone, and print where a stream is closed."""

import io
import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

READER_GONE = 141
"""Exit code of a command whose reader is gone: 128 + SIGPIPE, as a shell reports it of other commands."""


def prepare_streams() -> None:
    """Open closed streams on nothing, and let none fail on a character that it does not have."""
    if sys.stdout is None:  # `>&-`
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays open to the end
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as above
    for stream in _streams():
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal that has no ▲, a file name that is no text
            stream.reconfigure(errors="backslashreplace")


def reader_is_gone() -> bool:
    """Tell whether what is printed meets a pipe that nobody reads any more."""
    return any(
        isinstance(_trouble(stream), BrokenPipeError) or _has_no_reader(stream)
        for stream in _streams()
    )


def mute_broken_streams() -> None:
    """Send to nothing what a stream still holds and cannot write: Python would try again at its end, and complain."""
    for stream in _streams():
        if _trouble(stream) is None:
            continue
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)


def _streams() -> Iterator[TextIO]:
    yield sys.stdout
    yield sys.stderr


def _has_no_reader(stream: TextIO) -> bool:
    """Tell whether a pipe has no reader: a stream without a buffer holds nothing that would meet the trouble again."""
    if not hasattr(select, "poll"):  # Windows
        return False
    asked = select.poll()
    try:
        asked.register(stream.fileno(), 0)
    except (OSError, ValueError):  # a stream of a test, or a closed one
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))


def _trouble(stream: TextIO) -> OSError | None:
    """Return why a stream cannot write what it holds, None where it can."""
    try:
        stream.flush()
    except OSError as error:
        return error
    return None
