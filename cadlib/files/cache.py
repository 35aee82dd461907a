"""Stores derived files that may be deleted at any time.

Derived files are decoded pixels, hashes, features, maps and suspects. A cache may be missing,
read-only, full, or not a folder at all. Modules store files with `keep` or `keep_by` and find them
with `standing`. Where the cache folder cannot be written, one warning reports it, and a temporary
folder replaces it until the process ends. Files in the cache folder are still read.
"""

import atexit
import errno
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

READING = 2
"""The version of image reading.

It is raised whenever images are read in another way, or others are refused. Files derived before
are then derived again.
"""
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


def standing(path: Path) -> Path:
    """Return the present place of a cache file: in the temporary folder, else at its path."""
    replacement = _stand_in(path)
    if replacement is None or not replacement.exists():
        return path
    # A file in the temporary folder is the newer one.
    return replacement


def is_standing(path: Path) -> bool:
    """Return whether a file of the cache exists in either place."""
    # Path.exists raises where a folder above is not accessible.
    return os.path.exists(standing(path))  # noqa: PTH110


def kept_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files with a suffix in a folder of the cache, in both places, sorted by path."""
    files: list[Path] = []
    for place in (folder, _stand_in(folder)):
        if place is None:
            continue
        # The folder is missing where nothing was stored, or it cannot be read.
        with suppress(OSError):
            files += [place / name for name in os.listdir(place) if name.endswith(suffix)]  # noqa: PTH208
    return sorted(files)


def keep_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a .npy file, as `keep` does."""
    keep(path, lambda file: np.save(file, array, allow_pickle=False))


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file of the cache, whole or not at all.

    Another process may read it, or write the same file. Where it cannot be written, the work
    continues without it: see `keep_by`.
    """
    keep_by(path, lambda place: _write_whole(place, write))


def keep_by(path: Path, write: Callable[[Path], object]) -> bool:
    """Store a file or folder of the cache by a function that writes to a path.

    The function may raise OSError. Where that fails, warn once and write it to a temporary folder.
    Return false where that fails too.
    """
    if not given_up():
        try:
            _check_home()
            write(path)
        except OSError as error:
            give_up(error)
        else:
            return True
    replacement = _stand_in(path)
    if replacement is None:
        return False
    try:
        write(replacement)
    except OSError:
        # The warning was shown when the cache folder failed.
        return False
    return True


def given_up() -> bool:
    """Return whether the cache folder could not be written in this process."""
    return _absolute(cache_dir()) in _stand_ins


def give_up(error: OSError) -> None:
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


def _write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = path.with_suffix(f".{writer}.part")
    try:
        with partial.open("wb") as file:
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
    inner = path.relative_to(main) if path.is_relative_to(main) else path.name
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
