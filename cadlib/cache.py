"""Where derived files lie that may be deleted at any time: decoded pixels, perceptual hashes."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_dir() -> Path:
    """Return the folder: CADLIB_CACHE where it is set, else the user's own cache."""
    return Path(os.environ.get("CADLIB_CACHE") or user_cache_path("cadlib"))
