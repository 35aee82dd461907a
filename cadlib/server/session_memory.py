"""Counts the bytes of images that sessions hold, and limits them.

Each session has one `Holding`. It is deleted with the session, and its images no longer count.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import RLock
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

from cadlib.errors import HoldingFull

T = TypeVar("T")
MB: Final = 1_000_000
SESSION_LIMIT_BYTES: Final = 768 * MB
"""Pixels and derived images of one session together: 25 photographs of 10 megapixels."""
DERIVED_LIMIT_BYTES: Final = 96 * MB
"""Thumbnails, heatmaps and other derived images of one session.

The least recently used are dropped, and computed again on demand.
"""
LIMIT_VARIABLE: Final = "CADLIB_MEMORY_MB"
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

_holdings: "WeakSet[Holding]" = WeakSet()
_elsewhere: list[Callable[[], int]] = []
_guard = RLock()
"""Held while bytes are counted and added: two sessions must not take the same last megabyte."""


class Holding:
    """The memory of one session: its images, and images derived from them."""

    def __init__(self) -> None:
        self._items: dict[Hashable, int] = {}
        self._derived: OrderedDict[tuple[str, Hashable], tuple[Any, int]] = OrderedDict()
        self._derived_bytes = 0
        self._forgotten = 0
        with _guard:
            _holdings.add(self)

    @property
    def bytes(self) -> int:
        """Return how many bytes this session holds."""
        return sum(self._items.values()) + self._derived_bytes

    def take(self, key: Hashable, size_bytes: int) -> None:
        """Count an item that is about to be held; raise HoldingFull where a limit forbids it."""
        with _guard:
            # An item of the same key is replaced, so it no longer counts.
            replaced = self._items.get(key, 0)
            held = self.bytes - replaced
            if held + size_bytes > SESSION_LIMIT_BYTES:
                raise HoldingFull(
                    f"Expected at most {SESSION_LIMIT_BYTES // MB} MB of images at a time, "
                    f"but found {_mb(held)} MB and {_mb(size_bytes)} MB more. "
                    "Remove some images, then add this file again."
                )
            held_by_all = held_bytes() - replaced
            if held_by_all + size_bytes > process_limit_bytes():
                raise HoldingFull(
                    f"Expected at most {process_limit_bytes() // MB} MB of images on this server, "
                    f"but found {_mb(held_by_all)} MB of all its users "
                    f"and {_mb(size_bytes)} MB more. "
                    "Remove images, or add this file again later. "
                    f"The operator can raise {LIMIT_VARIABLE}."
                )
            self._items[key] = size_bytes

    def drop(self, key: Hashable) -> None:
        """Stop counting an item; do nothing where there is no item of that key."""
        with _guard:
            self._items.pop(key, None)

    def has_derived(self, image: str, key: Hashable) -> bool:
        """Return whether `derived` would return a stored value."""
        with _guard:
            return (image, key) in self._derived

    def derived(
        self,
        image: str,
        key: Hashable,
        make: Callable[[], T],
        size_of: Callable[[T], int],
    ) -> T:
        """Return a value derived from an image, made by `make` unless it is stored.

        `key` distinguishes it from other values of the image. `size_of` counts its bytes. A value
        that does not fit is returned and not stored.
        """
        place = (image, key)
        with _guard:
            if place in self._derived:
                self._derived.move_to_end(place)
                return cast("T", self._derived[place][0])
            forgotten = self._forgotten
        # Without the lock, because it may take seconds.
        value = make()
        size_bytes = size_of(value)
        with _guard:
            self._remove(place)
            self._make_room(size_bytes)
            # The image may have been removed while another thread derived something from it.
            if forgotten != self._forgotten:
                return value
            fits_session = size_bytes <= DERIVED_LIMIT_BYTES
            fits_server = held_bytes() + size_bytes <= process_limit_bytes()
            if fits_session and fits_server:
                self._derived[place] = (value, size_bytes)
                self._derived_bytes += size_bytes
        return value

    def _make_room(self, size_bytes: int) -> None:
        """Drop derived values until so many bytes fit, the least recently used first."""
        most = DERIVED_LIMIT_BYTES - size_bytes
        while self._derived and self._derived_bytes > most:
            # A value that is used moves to the end.
            first = next(iter(self._derived))
            self._remove(first)

    def forget(self, image: str) -> None:
        """Drop all values derived from an image."""
        with _guard:
            self._forgotten += 1
            # A list, because the loop removes items.
            places = [place for place in self._derived if place[0] == image]
            for place in places:
                self._remove(place)

    def _remove(self, place: tuple[str, Hashable]) -> None:
        _, size_bytes = self._derived.pop(place, (None, 0))
        self._derived_bytes -= size_bytes


def count_also(size_bytes: Callable[[], int]) -> None:
    """Count bytes that are held for sessions elsewhere too; `size_bytes` returns their number.

    A function that is added twice counts once.
    """
    if size_bytes not in _elsewhere:
        _elsewhere.append(size_bytes)


def held_bytes() -> int:
    """Return how many bytes are held for all sessions together."""
    with _guard:
        in_sessions = sum(holding.bytes for holding in _holdings)
        elsewhere = sum(count() for count in _elsewhere)
        return in_sessions + elsewhere


def process_limit_bytes() -> int:
    """Return how many bytes all sessions may hold: CADLIB_MEMORY_MB, else half of the memory.

    Raise ValueError where CADLIB_MEMORY_MB is no number.
    """
    limit = os.environ.get(LIMIT_VARIABLE)
    if not limit:
        return _memory_bytes() // 2
    if not limit.isdecimal() or int(limit) == 0:
        raise ValueError(
            f"Expected {LIMIT_VARIABLE} to be a number of megabytes, but found {limit!r}. "
            "Set it to a whole number above 0."
        )
    return int(limit) * MB


def _memory_bytes() -> int:
    """Return the memory of this machine, or of the container where that is less."""
    if not hasattr(os, "sysconf"):  # Windows
        return 8_000 * MB
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        container = int(_CGROUP_LIMIT.read_text())
    except (OSError, ValueError):
        # There is no such group, or its limit is "max".
        return machine
    return min(machine, container)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / MB:,.0f}"
