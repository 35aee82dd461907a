"""Checks the free space of a disk."""

import shutil
from pathlib import Path

from cadlib.errors import DownloadFailed


def check_free(folder: Path, needed_bytes: int) -> None:
    """Raise DownloadFailed when the disk of a folder has less free space than needed."""
    # Before the download: it takes hours until a disk is full.
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise DownloadFailed(
            f"Expected {needed_bytes:,} bytes of free disk for {folder}, "
            f"but there are {free_bytes:,}. "
            "Free disk space, or use a folder on another disk."
        )
