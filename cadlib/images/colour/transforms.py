"""Keeps the colour transforms of recent files, within a limit of memory."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

MAX_PROFILE_BYTES = 16 * 1024 * 1024
"""The largest colour profile that is used. Those of large printers have 3 MB."""
MAX_KEPT_PROFILE_BYTES = 1024 * 1024
"""The transform of a larger profile is not kept: it may be as large."""
MAX_KEPT = 16

Result = TypeVar("Result")


def too_large_note(icc: bytes) -> str:
    """Return the note for a profile that is too large to be used."""
    return (
        f"The colour profile of the file has {len(icc) / 2**20:.0f} MB, more than the "
        f"{MAX_PROFILE_BYTES // 2**20} MB that are read, and was left aside."
    )


def kept_by_digest(compute: Callable[[bytes], Result]) -> Callable[[bytes], Result]:
    """Keep the results for the last profiles, by their SHA-256: the profiles themselves are not kept."""
    results: OrderedDict[bytes, Result] = OrderedDict()
    lock = Lock()

    def computed(icc: bytes) -> Result:
        if len(icc) > MAX_KEPT_PROFILE_BYTES:
            return compute(icc)
        digest = hashlib.sha256(icc).digest()
        with lock:
            if digest in results:
                results.move_to_end(digest)
                return results[digest]
        result = compute(icc)
        with lock:
            results[digest] = result
            if len(results) > MAX_KEPT:
                results.popitem(last=False)
        return result

    return computed
