"""Replaces several files of a folder, all or none."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

ASIDE = ".aside-"
"""The beginning of the name of the folder for new files."""


def replace_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Replace files of a folder, all or none; raise OSError where that fails.

    All files are written completely before the first one is moved to its place. If one move fails,
    the files before it are restored.
    """
    with TemporaryDirectory(dir=folder, prefix=ASIDE) as aside:
        fresh = Path(aside, "new")
        former = Path(aside, "former")
        fresh.mkdir()
        former.mkdir()
        for name, content in contents.items():
            _write(fresh / name, content)
        for name in contents:
            path = folder / name
            if path.exists():
                _keep_former(path, former / name)
        try:
            for name in contents:
                new_file = fresh / name
                new_file.replace(folder / name)
        except OSError:
            for path in former.iterdir():
                path.replace(folder / path.name)
            raise


def _write(path: Path, content: str | bytes) -> None:
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(content)


def _keep_former(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError:
        # Some file systems have no links.
        shutil.copy2(path, place)
