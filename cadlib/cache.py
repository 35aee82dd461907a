"""Where derived files lie that may be deleted at any time: decoded pixels, hashes, features, maps, suspects."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path


def cache_dir() -> Path:
    """Return the folder: CADLIB_CACHE where it is set, else the user's own cache."""
    return Path(os.environ.get("CADLIB_CACHE") or user_cache_path("cadlib"))


def file_facts(path: str | os.PathLike[str]) -> bytes:
    """Return what tells a file from another and from its later self: path, size and time of change. May raise OSError.

    A line, so that those of many files can be hashed one behind the other.
    """
    status = os.stat(path)
    return f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode()


def keep_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a .npy file, as `keep` does."""
    keep(path, lambda file: np.save(file, array, allow_pickle=False))


def keep(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file, whole or not at all: another process may read it, or write the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.part")
    with aside.open("wb") as file:
        write(file)
    aside.replace(path)
