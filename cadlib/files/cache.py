"""Where derived files lie that may be deleted at any time: decoded pixels, hashes, features, maps, suspects.

A cache may be missing, read-only, full, or no folder at all. Modules keep files by `keep` or `keep_by` and look for
them at `standing`. Where the cache folder cannot be written, one warning says so, and a temporary folder stands in for
it until the process ends. What the cache folder holds is still read.
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
"""Raised whenever images are read in another way, or others are refused: what was derived before is then made anew."""
_log = logging.getLogger(__name__)
_stand_ins: dict[Path, Path | None] = {}
"""Cache folder that cannot be written -> temporary folder; None where that cannot be made either."""
_guard = threading.Lock()


def cache_dir() -> Path:
    """Return the folder: CADLIB_CACHE where it is set, else the user's own cache."""
    if named := os.environ.get("CADLIB_CACHE"):
        return Path(os.path.expanduser(named))  # noqa: PTH111 - Path.expanduser raises without a home folder
    return user_cache_path("cadlib")


def file_facts(path: str | os.PathLike[str]) -> bytes:
    """Return what tells a file from another and from its later self: path, size and time of change.

    A line, so that those of many files can be hashed one behind the other. It changes with READING. May raise OSError.
    """
    status = os.stat(path)
    return f"{READING}\0{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode()


def standing(path: Path) -> Path:
    """Return where a file of the cache stands: in the temporary folder where that has it, else at its path."""
    other = _stand_in(path)
    return (
        path if other is None or not other.exists() else other
    )  # a file that stands in is the newer one


def is_standing(path: Path) -> bool:
    """Tell whether a file of the cache stands somewhere."""
    return os.path.exists(standing(path))  # noqa: PTH110 - Path.exists raises where a folder above is closed


def kept_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files with a suffix that stand in a folder of the cache, sorted by path."""
    files: list[Path] = []
    for place in filter(None, (folder, _stand_in(folder))):
        with suppress(OSError):  # nothing was kept there, or it cannot be read
            files += [place / name for name in os.listdir(place) if name.endswith(suffix)]  # noqa: PTH208
    return sorted(files)


def keep_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a .npy file, as `keep` does."""
    keep(path, lambda file: np.save(file, array, allow_pickle=False))


def keep(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file of the cache, whole or not at all: another process may read it, or write the same.

    Where it cannot be written the work goes on without it: see `keep_by`.
    """
    keep_by(path, lambda place: _write_whole(place, write))


def keep_by(path: Path, write: Callable[[Path], object]) -> bool:
    """Keep a file or a folder of the cache by a function that writes it to a path and may raise OSError.

    Where that fails, warn once and write it to a temporary folder. Return false where that fails too.
    """
    if not given_up():
        try:
            _check_home()
            write(path)
        except OSError as error:
            give_up(error)
        else:
            return True
    other = _stand_in(path)
    if other is None:
        return False
    try:
        write(other)
    except OSError:  # the warning has been given
        return False
    return True


def given_up() -> bool:
    """Tell whether the cache folder could not be written in this process."""
    return _absolute(cache_dir()) in _stand_ins


def give_up(error: OSError) -> None:
    """Write nothing more into the cache folder in this process, and warn of it, once."""
    folder = _absolute(cache_dir())
    with _guard:
        if folder in _stand_ins:
            return
        try:
            _stand_ins[folder] = Path(tempfile.mkdtemp(prefix="cadlib-cache-"))
        except OSError:
            _stand_ins[folder] = None
    _log.warning(
        "The cache folder %s cannot be written: %s. The work goes on without it, and the next run starts anew. "
        "Set CADLIB_CACHE to a folder that can be written.",
        cache_dir(),
        error.strerror or error,
    )


def _write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        with aside.open("wb") as file:
            write(file)
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()  # half a file would fill a full disk for good
        raise


def _check_home() -> None:
    """Raise FileNotFoundError for a user without a home folder: "~/.cache" would become a folder named "~"."""
    if "CADLIB_CACHE" not in os.environ and not cache_dir().is_absolute():
        raise FileNotFoundError(errno.ENOENT, "this user has no home folder")


def _stand_in(path: Path) -> Path | None:
    """Return the path in the temporary folder that stands in for the cache folder, None where none does."""
    main = cache_dir()
    folder = _stand_ins.get(_absolute(main))
    if folder is None:
        return None
    return folder / (path.relative_to(main) if path.is_relative_to(main) else path.name)


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder))  # noqa: PTH100 - Path.resolve raises on a loop of links


def _remove_stand_ins(owner: int) -> None:
    if os.getpid() == owner:  # not at the end of a process that was forked off
        for folder in filter(None, _stand_ins.values()):
            shutil.rmtree(folder, ignore_errors=True)


atexit.register(_remove_stand_ins, os.getpid())
