"""Shares memory in which a decoder passes pixels to the app.

It is faster than a pipe. It has no name, so nothing remains when both processes end. Linux has it
(memfd_create(2)); on other systems pixels go through the pipe.
"""

import math
import mmap
import os
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = -1
"""The value of the descriptor if there is no such memory."""

# A usual image fits. The memory of larger images is given back at once.
_RETAINED_BYTES = 8 * 1024 * 1024


class Reader:
    """The app's side of the memory.

    The app never maps the memory, because a decoder that made it smaller would crash the app.
    """

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor of new memory."""
        # A file object may be closed twice, and by another thread.
        self._file = FileIO(descriptor, "r+")

    @property
    def descriptor(self) -> int:
        """Return the descriptor that a decoder inherits."""
        return self._file.fileno()

    def read(self, pixels: NDArray[np.uint8]) -> bool:
        """Fill `pixels` from the memory; return whether it holds enough bytes."""
        place = pixels.data.cast("B")
        is_large = len(place) > _RETAINED_BYTES
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
        """Close this side; the memory is freed once the decoder has ended, too."""
        self._file.close()

    def _give_back(self) -> None:
        """Free the pages of the memory, and keep its size."""
        status = os.fstat(self.descriptor)
        self._file.truncate(0)
        self._file.truncate(status.st_size)


class Writer:
    """The decoder's side of the memory."""

    def __init__(self, descriptor: int) -> None:
        """Take over the inherited descriptor."""
        memory: Any = mmap.mmap(descriptor, 0)
        self._bytes: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)
        os.close(descriptor)

    def allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array of this shape at the start of the memory, for a decoder to write to."""
        count = math.prod(shape)
        return self._bytes[:count].reshape(shape)

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Write all pixels to the start of the memory, unless they are there already."""
        place = self.allocate(pixels.shape)
        is_there_already = pixels.ctypes.data == place.ctypes.data
        if not is_there_already:
            np.copyto(place, pixels)


def create(size_bytes: int) -> Reader | None:
    """Return new memory, or None if the platform has none.

    Pages take space only once something is written to them.
    """
    if not hasattr(os, "memfd_create"):
        return None
    try:
        reader = Reader(os.memfd_create("cadlib-pixels"))
    except OSError:
        return None
    try:
        os.ftruncate(reader.descriptor, size_bytes)
    except OSError:
        # A limit on the size of files applies to this memory, too.
        reader.close()
        return None
    return reader
