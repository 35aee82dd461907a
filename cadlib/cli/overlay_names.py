"""Gives each overlay a unique name that the file system takes."""

import os
from pathlib import Path

_USUAL_LIMIT = 255  # bytes


class OverlayNames:
    """Unique names for files in a folder; the folder must exist."""

    def __init__(self, folder: Path) -> None:
        self._limit = _name_limit(folder)
        self._taken: set[str] = set()

    def take(self, stem: str, ending: str) -> str:
        """Return a name that no other file has: the stem, shortened if needed, and the ending."""
        number = 1
        name = _joined(stem, ending, self._limit)
        # Names are compared without case, because some file systems ignore it.
        while name.casefold() in self._taken:
            number += 1
            name = _joined(stem, f"_{number}{ending}", self._limit)
        self._taken.add(name.casefold())
        return name


def _joined(stem: str, ending: str, limit: int) -> str:
    """Return the stem and the ending in at most `limit` bytes.

    A longer stem is cut between characters.
    """
    room = limit - len(os.fsencode(ending))
    while len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return stem + ending


def _name_limit(folder: Path) -> int:
    """Return how many bytes a name in a folder may have; encrypted file systems allow fewer."""
    try:
        limit = os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        # Windows, or a file system without this information.
        return _USUAL_LIMIT
    if limit <= 0:
        return _USUAL_LIMIT
    return min(limit, _USUAL_LIMIT)
