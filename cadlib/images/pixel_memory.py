"""Memory that a decoder writes pixels to and the app reads them from, which is faster than a pipe.

It has no name, so nothing is left behind when both processes end. Linux has it (memfd_create(2)); elsewhere
pixels go through the pipe.
"""

import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE = -1
"""The descriptor that stands for "there is no such memory"."""

_KEPT_BYTES = 8 * 1024 * 1024  # a usual image; the memory of larger ones is given back at once


def create(size_bytes: int) -> int:
    """Return the descriptor of new memory, `NONE` where the platform has none.

    It takes room only where something was written.
    """
    if not hasattr(os, "memfd_create"):
        return NONE
    try:
        descriptor = os.memfd_create("cadlib-pixels")
    except OSError:
        return NONE
    try:
        os.ftruncate(descriptor, size_bytes)
    except OSError:  # a limit on the size of files holds for it, too
        os.close(descriptor)
        return NONE
    return descriptor


def read(descriptor: int, pixels: NDArray[np.uint8]) -> bool:
    """Fill `pixels` with what was written; return whether there was enough.

    The app never maps the memory: a decoder that made it smaller would crash the app.
    """
    place = pixels.data.cast("B")
    at = 0
    while at < len(place):
        count = os.preadv(descriptor, [place[at:]], at)
        if not count:
            return False
        at += count
    if len(place) > _KEPT_BYTES:
        _give_back(descriptor)
    return True


class Writer:
    """The decoder's side of it."""

    def __init__(self, descriptor: int) -> None:
        """Take over a descriptor that `create` returned."""
        self._map: Any = mmap.mmap(descriptor, 0)
        os.close(descriptor)

    def write(self, pixels: NDArray[np.uint8]) -> None:
        """Write all pixels to the start of the memory."""
        place = np.frombuffer(self._map, np.uint8, pixels.size).reshape(pixels.shape)
        np.copyto(place, pixels)


def _give_back(descriptor: int) -> None:
    size_bytes = os.fstat(descriptor).st_size
    os.ftruncate(descriptor, 0)
    os.ftruncate(descriptor, size_bytes)
