"""Replaces several files of a folder, all or none."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

ASIDE = ".aside-"
"""How the name of the folder begins in which new files wait."""


def replace_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Replace files of a folder, all or none; raise OSError where that fails.

    All are written whole before the first takes its place. Where one cannot, those before it are put back.
    """
    with TemporaryDirectory(dir=folder, prefix=ASIDE) as aside:
        fresh = Path(aside, "new")
        former = Path(aside, "former")
        for part in (fresh, former):
            part.mkdir()
        for name, content in contents.items():
            path = fresh / name
            path.write_text(content, encoding="utf-8") if isinstance(
                content, str
            ) else path.write_bytes(content)
        for name in contents:
            if (folder / name).exists():
                _keep_former(folder / name, former / name)
        try:
            for name in contents:
                (fresh / name).replace(folder / name)
        except OSError:
            for path in former.iterdir():
                path.replace(folder / path.name)
            raise


def _keep_former(path: Path, place: Path) -> None:
    try:
        os.link(path, place)
    except OSError:  # a file system without links
        shutil.copy2(path, place)
