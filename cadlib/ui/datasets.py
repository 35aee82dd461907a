"""Opens data sets and assesses their files."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.errors import DatasetInvalid
from cadlib.files.allowed_folders import any_folder, folder_below
from cadlib.files.cache import cache_dir
from cadlib.images import read_image
from cadlib.images.synthetic import write_dataset
from cadlib.ui.held import holding
from cadlib.ui.image_views import assessed
from cadlib.ui.models import model

if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset


def dataset_folders() -> list[str]:
    """Return the data sets in the folder CADLIB_DATA; none if that is not set."""
    root = os.environ.get("CADLIB_DATA")
    if not root:
        return []
    # Imported late: pandas takes a third of a second, and a result on the Diagnose page needs none.
    from cadlib.data.dataset import find_datasets  # noqa: PLC0415

    return [str(folder) for folder in find_datasets(Path(root))]


def may_name_a_folder() -> bool:
    """Return whether a reader can open a data set by its folder.

    It can be below CADLIB_DATA, or anywhere if the operator allows any folder.
    """
    return any_folder() or bool(os.environ.get("CADLIB_DATA"))


def typed_folder(typed: str) -> str:
    """Return the folder that a reader typed.

    Raise FolderRefused for one that the reader may not open.
    A data set in the list can be typed too: the operator may have linked it into CADLIB_DATA.
    """
    if typed in dataset_folders():
        return typed
    root = os.environ.get("CADLIB_DATA") or None
    folder = folder_below(typed, root, "CADLIB_DATA")
    return str(folder)


def dataset(path: str) -> "Dataset":
    """Return the checked data set in a folder; raise DatasetInvalid if there is none."""
    try:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise DatasetInvalid(
                f"Expected a data set folder, but {folder} is not a folder. Enter its full path."
            )
        # The newest time identifies the state of the folder in the cache.
        written = max(path.lstat().st_mtime for path in (folder, *folder.iterdir()))
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetInvalid(
            f"Expected a data set folder, but it cannot be opened: {error}."
        ) from error
    return _dataset(str(folder), written)


@st.cache_resource(max_entries=1, show_spinner="Drawing synthetic lesions …")
def synthetic_folder() -> str:
    """Return a folder in ISIC's layout with synthetic lesions, for readers without a data set.

    It lies among the caches, and is removed when the server stops.
    """
    cache = cache_dir()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        place = tempfile.mkdtemp(prefix="synthetic-", dir=cache)
    except OSError:
        # The folder of caches cannot be written.
        place = tempfile.mkdtemp(prefix="cadlib-")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    target = Path(place) / "synthetic"
    folder = write_dataset(target)
    return str(folder)


def assess_file(path: str) -> Assessment:
    """Assess the image in a file, once; raise ImageRejected where there is none."""
    written = Path(path).stat().st_mtime
    # A file written again, or another model, has another result.
    key = ("assessment", written, model().record.model_id)
    return holding().derived(
        path,
        key,
        lambda: _assess_file(path),
        lambda assessment: assessment.image.pixels.nbytes,
    )


# The time is an argument because a folder written again is another data set.
@st.cache_resource(max_entries=3, show_spinner="Reading the data set …", show_time=True)
def _dataset(folder: str, written: float) -> "Dataset":  # noqa: ARG001
    from cadlib.data.dataset import open_dataset  # noqa: PLC0415 - as above

    return open_dataset(Path(folder), verify=False)


def _assess_file(path: str) -> Assessment:
    with st.spinner("Reading …"):
        image = read_image(path)
        return assessed(image)
