"""Reads regular files, up to a limit of bytes."""

import os
import stat
from pathlib import Path


class NotRegular(OSError):
    """The path names a pipe, a device or a socket, which may never end or may block."""


class TooLarge(OSError):
    """The file has more bytes than the limit; `size` is their number, as far as it is known."""

    def __init__(self, size: int) -> None:
        super().__init__("the file is too large")
        self.size = size


def read_regular_file(path: Path, at_most: int, whole: bool = False) -> bytes:
    """Return the first `at_most` bytes of a file; with `whole`, raise TooLarge if it has more.

    The opened file is checked, because the path may have changed since an earlier check. A named
    pipe does not block. A file that grows during reading, or has no size that the system knows, is
    read up to the limit. Raise NotRegular for a pipe, a device or a socket.
    """
    no_block = getattr(os, "O_NONBLOCK", 0)
    # Windows opens a file as text without this flag.
    binary = getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, os.O_RDONLY | no_block | binary)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotRegular(f"{path.name} is no regular file")
        if whole and status.st_size > at_most:
            raise TooLarge(status.st_size)
        return _read(file.fileno(), at_most, status.st_size, whole)


def _read(descriptor: int, at_most: int, expected_bytes: int, whole: bool) -> bytes:
    parts = []
    # One byte more shows whether the file is larger than the limit.
    left = at_most + 1 if whole else at_most
    # One byte more than expected, so that the first call reaches the end.
    step = max(expected_bytes + 1, 64 * 1024)
    while left > 0:
        count = min(step, left)
        part = os.read(descriptor, count)
        if not part:
            break
        parts.append(part)
        left -= len(part)
    if whole and left == 0:
        raise TooLarge(at_most + 1)
    # Joining a single part would copy it.
    if len(parts) == 1:
        return parts[0]
    return b"".join(parts)
