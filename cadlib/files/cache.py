"""Stores derived files that may be deleted at any time.

Every kind of entry, below the cache folder:

| entry | content | its name depends on |
| --- | --- | --- |
| `pixels/*.npy` | decoded images at the input size of a model | image files, input size |
| `perceptual-hashes.csv` | hash of each image file | nothing; a line has path, size and time |
| `outputs/…/*.npz` | outputs of a network for images | network, its runtime, input; image files |
| `evaluations/…/` | predictions.csv and metrics.json | deciding fields; table; image files |
| `maps/*.npy` | places of images on a map | features, seed, method |
| `suspects/*.json` | findings of label review | model id; table |
| `thumbnails/…/*.jpg` | a small image | image file, its side |

An image file counts by its path, its size and its time of change: see `file_facts`.

A `Cache` holds the entries of one kind. A cache may be missing, read-only, full, or not a folder at
all. Where the cache folder cannot be written, one warning reports it, and a temporary folder
replaces it until the process ends. Files in the cache folder are still read. An entry is written
whole or not at all, and a damaged one counts as missing.
"""

import atexit
import csv
import errno
import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar
from zipfile import BadZipFile

from platformdirs import user_cache_path

READING = 2
"""The version of image reading.

It is raised whenever images are read in another way, or others are refused. Files derived before
are then derived again.
"""
Content = TypeVar("Content")
# What readers of text, tables and arrays raise for a file that is damaged.
_DAMAGED = (ValueError, KeyError, EOFError, csv.Error, BadZipFile)
_OWNER_ONLY = 0o600
_log = logging.getLogger(__name__)
_stand_ins: dict[Path, Path | None] = {}
"""Cache folder that cannot be written -> temporary folder; None if that failed as well."""
_guard = threading.Lock()


def cache_dir() -> Path:
    """Return the folder: CADLIB_CACHE where it is set, else the user's own cache."""
    folder = os.environ.get("CADLIB_CACHE")
    if folder:
        # Path.expanduser raises without a home folder.
        return Path(os.path.expanduser(folder))  # noqa: PTH111
    return user_cache_path("cadlib")


def file_facts(path: str | os.PathLike[str]) -> bytes:
    """Return what distinguishes a file from others and from its later versions, as bytes.

    These are path, size and time of change. They form one line, so that the lines of many files can
    be hashed one after the other. They change with READING. May raise OSError.
    """
    status = os.stat(path)
    size = status.st_size
    changed_ns = status.st_mtime_ns
    line = f"{READING}\0{path}\0{size}\0{changed_ns}\n"
    return line.encode()


def key_of(*facts: object) -> str:
    """Return a digest of facts, 32 hexadecimal digits.

    Bytes and the data of arrays count by their content, everything else by its repr.

    Example:
        >>> key_of("openTSNE 1", 0)
        '829933de02807cd63a2c8da39f99650d'

    """
    digest = hashlib.sha256()
    for fact in facts:
        content = _content(fact)
        # With the length, two lists of facts cannot run into the same bytes.
        digest.update(content.nbytes.to_bytes(8))
        digest.update(content)
    return digest.hexdigest()[:32]


def _content(fact: object) -> memoryview:
    if isinstance(fact, bytes | memoryview):
        return memoryview(fact)
    text = repr(fact)
    return memoryview(text.encode())


@dataclass(frozen=True)
class Cache:
    """The entries of one kind: files with `suffix`, or folders without one.

    `kind` is the name of their folder. `spread` puts them into one of 256 folders each, for half a
    million of them. `private` entries can be read by this user alone.

    Example:
        >>> entry = Cache("maps", ".npy").entry("openTSNE 1", 0)
        >>> entry.path.relative_to(cache_dir()).as_posix()
        'maps/829933de02807cd63a2c8da39f99650d.npy'

    """

    kind: str
    suffix: str = ""
    spread: bool = False
    private: bool = False

    def entry(self, *facts: object) -> "CacheEntry":
        """Return the entry that these facts name, as `key_of` does, whether it exists or not."""
        key = key_of(*facts)
        name = f"{key}{self.suffix}"
        folder = self._folder
        if self.spread:
            prefix = key[:2]
            folder = folder / prefix
        path = folder / name
        return CacheEntry(path, self.private)

    def entries(self) -> "list[CacheEntry]":
        """Return the entries that exist, sorted by name; not of a kind that is `spread`."""
        names: set[str] = set()
        for place in (self._folder, _stand_in(self._folder)):
            if place is None:
                continue
            # The folder is missing where nothing was stored, or it cannot be read.
            with suppress(OSError):
                names.update(os.listdir(place))  # noqa: PTH208
        files = sorted(name for name in names if name.endswith(self.suffix))
        return [CacheEntry(self._folder / name, self.private) for name in files]

    @property
    def _folder(self) -> Path:
        return cache_dir() / self.kind


@dataclass(frozen=True)
class CacheEntry:
    """A file or folder of the cache at its `path` in the cache folder; it need not exist."""

    path: Path
    private: bool = False

    @property
    def place(self) -> Path:
        """Return where the entry is now: in the temporary folder, else at its path."""
        replacement = _stand_in(self.path)
        if replacement is None or not replacement.exists():
            return self.path
        # A file in the temporary folder is the newer one.
        return replacement

    def exists(self) -> bool:
        """Return whether the entry exists in either place."""
        # Path.exists raises where a folder above is not accessible.
        return os.path.exists(self.place)  # noqa: PTH110

    def read(self, read: Callable[[Path], Content]) -> Content | None:
        """Return what a function reads from the entry; None where it is missing or damaged.

        The function may raise OSError, and ValueError for damage, which is logged.
        """
        try:
            return read(self.place)
        except OSError:
            # The entry is missing or cannot be read.
            return None
        except _DAMAGED as error:
            _log.warning(
                "The cache file %s is damaged (%s); its content is computed again.",
                self.path,
                error,
            )
            return None

    def write(self, write: Callable[[IO[bytes]], object]) -> None:
        """Write a file, whole or not at all.

        Another process may read it, or write the same file. Where it cannot be written, the work
        continues without it: see `make`.
        """
        self.make(lambda place: _write_whole(place, write, self.private))

    def make(self, make: Callable[[Path], object], *, elsewhere: bool = True) -> bool:
        """Store a file or folder by a function that writes to a path, whole or not at all.

        The function may raise OSError. Where that fails, warn once and write it to a temporary
        folder, but not if it is too large to be `elsewhere`. Return false where that fails too.
        """
        if not _given_up():
            try:
                _check_home()
                make(self.path)
            except OSError as error:
                _give_up(error)
            else:
                return True
        replacement = _stand_in(self.path)
        if replacement is None or not elsewhere:
            return False
        try:
            make(replacement)
        except OSError:
            # The warning was shown when the cache folder failed.
            return False
        return True


def _given_up() -> bool:
    """Return whether the cache folder could not be written in this process."""
    return _absolute(cache_dir()) in _stand_ins


def _give_up(error: OSError) -> None:
    """Stop writing into the cache folder in this process, and warn once."""
    folder = _absolute(cache_dir())
    with _guard:
        if folder in _stand_ins:
            return
        try:
            _stand_ins[folder] = Path(tempfile.mkdtemp(prefix="cadlib-cache-"))
        except OSError:
            _stand_ins[folder] = None
    _log.warning(
        "The cache folder %s cannot be written: %s. The work goes on without it, and the next run "
        "starts again. Set CADLIB_CACHE to a folder that can be written.",
        cache_dir(),
        error.strerror or error,
    )


def _write_whole(path: Path, write: Callable[[IO[bytes]], object], private: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = path.with_suffix(f".{writer}.part")
    try:
        with partial.open("wb") as file:
            if private:
                partial.chmod(_OWNER_ONLY)
            write(file)
        partial.replace(path)
    except BaseException:
        # A partial file would fill a full disk for good.
        with suppress(OSError):
            partial.unlink()
        raise


def _check_home() -> None:
    """Raise FileNotFoundError for a user without a home folder.

    "~/.cache" would otherwise become a folder named "~".
    """
    if "CADLIB_CACHE" in os.environ:
        return
    if not cache_dir().is_absolute():
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder")


def _stand_in(path: Path) -> Path | None:
    """Return the path in the temporary folder that replaces the cache folder, None without one."""
    main = cache_dir()
    folder = _stand_ins.get(_absolute(main))
    if folder is None:
        return None
    if not path.is_relative_to(main):
        return folder / path.name
    inner = path.relative_to(main)
    return folder / inner


def _absolute(folder: Path) -> Path:
    # Path.resolve raises on a loop of links.
    return Path(os.path.abspath(folder))  # noqa: PTH100


def _remove_stand_ins(owner: int) -> None:
    # A forked process ends without removing the folders of its parent.
    if os.getpid() != owner:
        return
    for folder in _stand_ins.values():
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


atexit.register(_remove_stand_ins, os.getpid())
