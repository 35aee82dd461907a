"""Reads regular files, never more of them than was asked for."""

import os
import stat
from pathlib import Path


class NotRegular(OSError):
    """The path names a pipe, a device or a socket, which may never end or never answer."""


class TooLarge(OSError):
    """The file has more bytes than may be read; `size` is how many, as far as that is known."""

    def __init__(self, size: int) -> None:
        super().__init__("the file is too large")
        self.size = size


def read_regular_file(path: Path, at_most: int, whole: bool = False) -> bytes:
    """Return the first `at_most` bytes of a file; with `whole`, raise TooLarge where it has more.

    What is opened is checked, not what the path named before. A named pipe does not block. A file that
    grows meanwhile, or whose size the system does not know, is read up to the limit.
    """
    # On Windows a file is opened as text where the flag for bytes is missing.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise NotRegular(f"{path.name} is no regular file")
        if whole and facts.st_size > at_most:
            raise TooLarge(facts.st_size)
        return _read(file.fileno(), at_most, facts.st_size, whole)


def _read(descriptor: int, at_most: int, expected: int, whole: bool) -> bytes:
    parts = []
    left = at_most + 1 if whole else at_most
    step = max(expected + 1, 64 * 1024)  # one more than expected, so that the end is seen
    while left > 0 and (part := os.read(descriptor, min(step, left))):
        parts.append(part)
        left -= len(part)
    if whole and left == 0:
        raise TooLarge(at_most + 1)
    return parts[0] if len(parts) == 1 else b"".join(parts)
