"""Limits folders that a reader types to those the operator allows.

A page runs with the rights of the server. Without a limit, anyone who reaches the page could read
the whole disk.
"""

import os
from pathlib import Path
from typing import Final

from cadlib.errors import FolderRefused

SWITCH: Final = "CADLIB_LOCAL_FOLDERS"
"""Set to 1 where the only reader is the operator: then any folder may be typed."""


def any_folder() -> bool:
    """Return whether the operator lets readers name any folder of this machine."""
    return os.environ.get(SWITCH) == "1"


def folder_below(typed: str, root: str | Path | None, variable: str) -> Path:
    """Return the typed folder with links resolved.

    `root` is the folder that `variable` names, None if it is not set. A relative path starts at
    `root`. Raise FolderRefused for a folder outside `root`, whether it exists or not.
    """
    try:
        path = Path(typed).expanduser()
        if any_folder():
            return path
        if root is not None:
            base = Path(root).resolve()
            folder = (base / path).resolve()
            if folder.is_relative_to(base):
                return folder
    except (OSError, RuntimeError, ValueError) as error:
        raise FolderRefused(
            f"Expected the path of a folder, but found one that cannot be used: {error}."
        ) from error
    where = f"below {variable}" if root is not None else f"below {variable}, which is not set"
    raise FolderRefused(
        f"Expected a folder {where}, but found another one. Move the data there, or start the "
        f"server with {SWITCH}=1 if nobody else can reach it."
    )
