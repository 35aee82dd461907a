"""Returns freed memory to the operating system."""

import ctypes
import sys
from functools import cache
from typing import Any


def give_back() -> None:
    """Return freed memory to the system where the C library can do that.

    glibc keeps it otherwise.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    # musl has no such function.
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
