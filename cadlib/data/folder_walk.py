"""Lists the folders and files below a folder that may be data.

`predict` and data sets share this module. Both skip the same names, follow the same links and
report the same faults.
"""

import errno
import heapq
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# Names that systems, NAS devices, archives and notebooks leave behind.
# Names with a leading dot are skipped anyway.
_DROPPINGS = frozenset(
    {
        # NAS: Synology, QNAP, NetApp
        *(
            "@eadir",
            "#recycle",
            "#snapshot",
            "@tmp",
            "@__thumb",
            "@sharebin",
            "@recycle",
            "@recently-snapshot",
            "~snapshot",
        ),
        # Windows
        *(
            "$recycle.bin",
            "recycler",
            "recycled",
            "system volume information",
            "$windows.~bt",
            "msocache",
        ),
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "autorun.inf"),
        # Linux, Android
        *("lost+found", "lost.dir"),
        # macOS
        *("__macosx", "network trash folder", "temporary items", "resource.frk", "icon\r"),
        # Python
        "__pycache__",
    }
)
_LOCK_OF_OFFICE = "~$"
# A stream of NTFS, which WSL writes as a separate file.
_ORIGIN_OF_DOWNLOAD = ":zone.identifier"
_RESCUED_BY_WINDOWS = re.compile(r"found\.\d{3}")

# Errors of a link without a target: to itself, to below a file, to no path.
_NO_TARGET = (errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)

FaultKind = Literal["broken link", "unreadable"]


@dataclass(frozen=True)
class Fault:
    """A link without a target, or a folder or entry that cannot be read.

    `reason` is a sentence with the cause and advice.
    """

    path: Path
    kind: FaultKind
    reason: str


@dataclass(frozen=True)
class Folder:
    """The data in one folder, each sorted by name; `links` are the `folders` that are links.

    `names` are the names of regular files and of links to regular files. Devices, pipes and
    sockets are skipped.
    """

    path: Path
    names: tuple[str, ...]
    folders: tuple[Path, ...]
    links: frozenset[Path]
    faults: tuple[Fault, ...]

    @property
    def files(self) -> list[Path]:
        """Return the files, sorted by name."""
        return [self.path / name for name in self.names]


@dataclass(frozen=True)
class Tree:
    """The data below a folder: its folders and faults, each sorted by path."""

    folders: tuple[Folder, ...]
    faults: tuple[Fault, ...]

    @property
    def files(self) -> list[Path]:
        """Return the files of all folders, sorted by path."""
        files: list[Path] = []
        for folder in self.folders:
            files += folder.files
        return sorted(files)


def is_data(name: str) -> bool:
    """Return whether a file or folder of this name may be data.

    Hidden names, and names that a system left behind, are no data.
    """
    plain = name.lower()
    if plain.startswith((".", _LOCK_OF_OFFICE)):
        return False
    if plain.endswith(_ORIGIN_OF_DOWNLOAD):
        return False
    return plain not in _DROPPINGS and not _RESCUED_BY_WINDOWS.fullmatch(plain)


def list_folder(path: Path) -> Folder:
    """Return the data directly in a folder.

    A folder that cannot be read is empty and has a fault with the reason.
    """
    try:
        data = _data_in(path)
    except OSError as error:
        fault = _unreadable(path, error)
        return Folder(path, (), (), frozenset(), (fault,))

    names: list[str] = []
    folders: list[Path] = []
    links: set[Path] = set()
    faults: list[Fault] = []
    for entry in data:
        child = path / entry.name
        try:
            kind = _kind(entry)
        except OSError as error:
            faults.append(_entry_fault(entry, child, error))
            continue
        if kind == "file":
            names.append(entry.name)
        elif kind == "broken link":
            faults.append(_broken(child))
        elif kind != "other":
            folders.append(child)
        if kind == "link to a folder":
            links.add(child)
    names.sort()
    folders.sort()
    faults.sort(key=_path_of)
    return Folder(path, tuple(names), tuple(folders), frozenset(links), tuple(faults))


def _data_in(folder: Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that may be data; raise OSError."""
    with os.scandir(folder) as entries:
        return [entry for entry in entries if is_data(entry.name)]


def _kind(entry: os.DirEntry[str]) -> str:
    """Return the kind of an entry of a folder; raise OSError where it cannot be read.

    It is "file", also for a link to one, "folder", "link to a folder", "broken link", or "other"
    for devices, pipes and sockets.
    """
    if entry.is_file():
        return "file"
    is_link = entry.is_symlink()
    if entry.is_dir():
        return "link to a folder" if is_link else "folder"
    if is_link and not Path(entry.path).exists():
        return "broken link"
    return "other"


def _entry_fault(
    entry: os.DirEntry[str],
    path: Path,
    error: OSError,
) -> Fault:
    """Return the fault of an entry of a folder whose kind cannot be read."""
    if entry.is_symlink() and error.errno in _NO_TARGET:
        return _broken(path)
    return _unreadable(path, error)


def _path_of(item: Fault | Folder) -> Path:
    return item.path


def is_any(_folder: Path) -> bool:
    """Return True: every folder is read."""
    return True


def read_tree(
    root: Path,
    depth: int | None = None,
    enter: Callable[[Path], bool] = is_any,
) -> Tree:
    """Return the data in a folder and in the folders below it, down to `depth` levels.

    A folder is read only where `enter` returns true for it. Links are followed, also out of the
    folder. Each folder is read once, however many paths lead to it, so links that form a circle
    end. A folder is read under its own path before a link to it is followed, so the result does
    not depend on the order of names.
    """
    folders: list[Folder] = []
    faults: list[Fault] = []
    visited = set()
    # A heap of (is a link, path, level): real folders first, then links, each by path.
    waiting = [(False, root, 0)]
    while waiting:
        _, path, level = heapq.heappop(waiting)
        try:
            identity = _identity(path)
        except OSError as error:
            faults.append(_unreadable(path, error))
            continue
        is_new = identity not in visited
        visited.add(identity)
        if not is_new or not enter(path):
            continue

        folder = list_folder(path)
        folders.append(folder)
        faults.extend(folder.faults)
        if level == depth:
            continue
        for child in folder.folders:
            entry = (child in folder.links, child, level + 1)
            heapq.heappush(waiting, entry)
    # They were read in the order of levels and links.
    folders.sort(key=_path_of)
    faults.sort(key=_path_of)
    return Tree(tuple(folders), tuple(faults))


def _identity(folder: Path) -> tuple[int, int]:
    """Return what is the same for every path and link to a folder; raise OSError."""
    status = folder.stat()
    return status.st_dev, status.st_ino


def _broken(link: Path) -> Fault:
    target = link.readlink()
    reason = (
        f"{link.name} is a link to {target}, which is not there. "
        "Restore the target or remove the link."
    )
    return Fault(link, "broken link", reason)


def _unreadable(path: Path, error: OSError) -> Fault:
    reason = error.strerror or type(error).__name__
    advice = "Check the rights of the folder, the disk and the network."
    name = path.name or path
    return Fault(
        path,
        "unreadable",
        f"{name} cannot be read: {reason}. {advice}",
    )
