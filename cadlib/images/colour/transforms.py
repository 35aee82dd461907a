"""Caches the colour transforms of recent files, within a limit of memory."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

MAX_PROFILE_BYTES = 16 * 1024 * 1024
"""The largest colour profile that is used. Those of large printers have 3 MB."""
MAX_KEPT_PROFILE_BYTES = 1024 * 1024
"""The transform of a larger profile is not cached, because it may be as large."""
MAX_KEPT = 16
"""The most transforms in the cache."""

Result = TypeVar("Result")


def too_large_note(icc: bytes) -> str:
    """Return the note on a profile that is too large."""
    size_mb = len(icc) / 2**20
    limit_mb = MAX_PROFILE_BYTES // 2**20
    return (
        f"The colour profile of the file has {size_mb:.0f} MB, "
        f"more than the {limit_mb} MB that are read, and was ignored."
    )


def cache_by_digest(compute: Callable[[bytes], Result]) -> Callable[[bytes], Result]:
    """Cache the results for the last profiles, by their SHA-256; do not keep the profiles."""
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
        # Without the lock, so that other profiles need not wait.
        result = compute(icc)
        with lock:
            results[digest] = result
            if len(results) > MAX_KEPT:
                results.popitem(last=False)
        return result

    return computed
