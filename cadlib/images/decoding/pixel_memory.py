"""Memory that a decoder writes pixels to and the app reads them from, which is faster than a pipe.

It has no name, so nothing is left behind when both processes end. Linux has it (memfd_create(2)); elsewhere
pixels go through the pipe.
"""

import math
import mmap
import os
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = -1
"""The descriptor that stands for "there is no such memory"."""

_KEPT_BYTES = 8 * 1024 * 1024  # a usual image; the memory of larger ones is given back at once


class Reader:
    """The app's side of it.

    The app never maps the memory: a decoder that made it smaller would crash the app.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor of new memory."""
        # A file object, because it may be closed twice, and by another thread.
        self._file = FileIO(descriptor, "r+")

    @property
    def descriptor(self) -> int:
        """Return the descriptor that a decoder inherits."""
        return self._file.fileno()

    def read(self, pixels: NDArray[np.uint8]) -> bool:
        """Fill `pixels` with what was written; return whether there was enough."""
        place = pixels.data.cast("B")
        is_large = len(place) > _KEPT_BYTES
        self._file.seek(0)
        while place:
            count = self._file.readinto(place)
            if not count:
                return False
            place = place[count:]
        if is_large:
            self._give_back()
        return True

    def close(self) -> None:
        """Give the memory back once the decoder has ended, too."""
        self._file.close()

    def _give_back(self) -> None:
        size_bytes = os.fstat(self.descriptor).st_size
        self._file.truncate(0)
        self._file.truncate(size_bytes)


class Writer:
    """The decoder's side of it."""

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor that was inherited."""
        memory: Any = mmap.mmap(descriptor, 0)
        self._bytes: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        os.close(descriptor)

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array of this shape at the start of the memory, for a decoder to write to."""
        return self._bytes[: math.prod(shape)].reshape(shape)

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Write all pixels to the start of the memory, unless they are there already."""
        place = self.allocate(pixels.shape)
        if pixels.ctypes.data != place.ctypes.data:
            np.copyto(place, pixels)


def create(size_bytes: int) -> Reader | None:
    """Return new memory, None where the platform has none.

    It takes room only where something was written.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        reader = Reader(os.memfd_create("cadlib-pixels"))
    except OSError:
        return None
    try:
        os.ftruncate(reader.descriptor, size_bytes)
    except OSError:  # a limit on the size of files holds for it, too
        reader.close()
        return None
    return reader
