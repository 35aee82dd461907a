"""Names the places of the case store, without loading a database library."""

import os
from pathlib import Path

from platformdirs import user_data_path

URL_VARIABLE = "CADLIB_DATABASE"
IMAGES_VARIABLE = "CADLIB_CASE_IMAGES"
_FILE_PREFIX = "sqlite:///"


def own_dir() -> Path:
    """Return the folder of the store of a machine without a database server."""
    return user_data_path("cadlib") / "cases"


def default_url() -> str:
    """Return the URL of CADLIB_DATABASE, or of a SQLite file in the user's data folder."""
    return os.environ.get(URL_VARIABLE) or f"sqlite:///{own_dir() / 'cases.sqlite'}"


def default_images() -> str:
    """Return the address of CADLIB_CASE_IMAGES, or of a folder in the user's data folder."""
    return os.environ.get(IMAGES_VARIABLE) or str(own_dir() / "images")


def exists() -> bool:
    """Return whether there may be a store: a file of SQLite, or any database server."""
    url = default_url()
    if not url.startswith(_FILE_PREFIX):
        return True
    return Path(url.removeprefix(_FILE_PREFIX)).is_file()
