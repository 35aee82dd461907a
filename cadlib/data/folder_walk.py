"""List the folders and files below a folder that may be data.

`predict` and data sets share this module. Both skip the same names, follow the same links and report the same faults.
"""

import errno
import heapq
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# Names that systems, NAS devices, archives and notebooks leave behind. Names with a leading dot are skipped anyway.
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
_ORIGIN_OF_DOWNLOAD = ":zone.identifier"  # a stream of NTFS, which WSL writes as a file of its own
_RESCUED_BY_WINDOWS = re.compile(r"found\.\d{3}")

_NO_TARGET = (
    errno.ELOOP,
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
)  # of a link: to itself, to below a file, to no path

FaultKind = Literal["broken link", "unreadable"]


@dataclass(frozen=True)
class Fault:
    """A link without a target, or a folder or entry that cannot be read; `reason` says what to do about it."""

    path: Path
    kind: FaultKind
    reason: str


@dataclass(frozen=True)
class Folder:
    """The data in one folder, each sorted by name; `links` are those of its `folders` that are links.

    `names` are those of regular files and of links to such. Devices, pipes and sockets are not among them.
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
        return sorted(file for folder in self.folders for file in folder.files)


def is_data(name: str) -> bool:
    """Tell whether a file or folder of this name may be data: it is not hidden and no system left it behind."""
    plain = name.lower()
    if plain.startswith((".", _LOCK_OF_OFFICE)) or plain.endswith(_ORIGIN_OF_DOWNLOAD):
        return False
    return plain not in _DROPPINGS and not _RESCUED_BY_WINDOWS.fullmatch(plain)


def list_folder(path: Path) -> Folder:
    """Return the data directly in a folder. A folder that cannot be read is empty and has a fault that says so."""
    try:
        with os.scandir(path) as entries:
            data = [entry for entry in entries if is_data(entry.name)]
    except OSError as error:
        return Folder(path, (), (), frozenset(), (_unreadable(path, error),))

    names: list[str] = []
    folders: list[Path] = []
    links: set[Path] = set()
    faults: list[Fault] = []
    for entry in data:
        try:
            if entry.is_file():
                names.append(entry.name)
            elif entry.is_dir():
                folders.append(path / entry.name)
                if entry.is_symlink():
                    links.add(path / entry.name)
            elif entry.is_symlink() and not (path / entry.name).exists():
                faults.append(_broken(path / entry.name))
        except OSError as error:
            dead_end = entry.is_symlink() and error.errno in _NO_TARGET
            fault = (
                _broken(path / entry.name) if dead_end else _unreadable(path / entry.name, error)
            )
            faults.append(fault)
    names.sort()
    folders.sort()
    faults.sort(key=lambda fault: fault.path)
    return Folder(path, tuple(names), tuple(folders), frozenset(links), tuple(faults))


def read_tree(
    root: Path, depth: int | None = None, enter: Callable[[Path], bool] = lambda _: True
) -> Tree:
    """Return the data in a folder and those below it, down to `depth` levels, where `enter` returns true for a folder.

    Links are followed, also out of the folder. Each folder is read once, whatever leads to it, so that links that form
    a circle end. A folder is read under its own path before a link to it is followed. Then the result does not depend
    on the order of names.
    """
    folders: list[Folder] = []
    faults: list[Fault] = []
    read: set[tuple[int, int]] = set()
    waiting = [(False, root, 0)]  # a heap: real folders first, then links, each by path
    while waiting:
        _, path, level = heapq.heappop(waiting)
        try:
            status = path.stat()
        except OSError as error:
            faults.append(_unreadable(path, error))
            continue
        if (status.st_dev, status.st_ino) in read:
            continue
        read.add((status.st_dev, status.st_ino))
        if not enter(path):
            continue

        folder = list_folder(path)
        folders.append(folder)
        faults.extend(folder.faults)
        if depth is not None and level == depth:
            continue
        for child in folder.folders:
            heapq.heappush(waiting, (child in folder.links, child, level + 1))
    folders.sort(key=lambda folder: folder.path)
    faults.sort(key=lambda fault: fault.path)
    return Tree(tuple(folders), tuple(faults))


def _broken(link: Path) -> Fault:
    target = link.readlink()
    reason = f"{link.name} is a link to {target}, which is not there. Restore the target or remove the link."
    return Fault(link, "broken link", reason)


def _unreadable(path: Path, error: OSError) -> Fault:
    reason = error.strerror or type(error).__name__
    advice = "Check the rights of the folder, the disk and the network."
    return Fault(path, "unreadable", f"{path.name or path} cannot be read: {reason}. {advice}")
