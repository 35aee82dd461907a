"""Where derived files lie that may be deleted at any time: decoded pixels, hashes, features, maps, suspects."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path


def cache_dir() -> Path:
    """Return the folder: CADLIB_CACHE where it is set, else the user's own cache."""
    return Path(os.environ.get("CADLIB_CACHE") or user_cache_path("cadlib"))


def keep_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as a .npy file, whole or not at all: another process may read it, or write the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.part")
    with aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)
    aside.replace(path)
