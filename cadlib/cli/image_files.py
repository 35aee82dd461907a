"""Finds the images in the files and folders that a person names."""

from dataclasses import dataclass
from pathlib import Path

from cadlib.cli.usage import UsageError
from cadlib.data.folder_walk import Fault, read_tree
from cadlib.images import SUPPORTED_SUFFIXES, is_dicom


@dataclass(frozen=True)
class Listing:
    """The images of an argument, and what could not be read of its folder."""

    files: list[Path]
    faults: tuple[Fault, ...] = ()


def images_in(path: Path, heatmaps: Path | None) -> Listing:
    """Return the file itself, or the images and faults below a folder.

    Overlays in the folder `heatmaps` are left out. Raise UsageError for a folder without images.
    """
    try:
        is_folder = path.is_dir()
    except OSError:
        # A folder above is closed to this user: reported when the file is read.
        is_folder = False
    if not is_folder:
        return Listing([path])
    tree = read_tree(path)
    overlays = heatmaps.resolve() if heatmaps else None
    images = []
    for file in tree.files:
        if not _is_image(file):
            continue
        if overlays and file.resolve().is_relative_to(overlays):
            continue
        images.append(file)
    # With a fault, the images may lie in a folder that could not be read.
    if not images and not tree.faults:
        raise UsageError(
            f"Expected images ({', '.join(SUPPORTED_SUFFIXES)}) in {path} but it holds none."
        )
    return Listing(images, tree.faults)


def _is_image(path: Path) -> bool:
    """Return whether to read a file of a folder, by its suffix.

    DICOM files often have no suffix, and an index DICOMDIR beside them.
    """
    if path.suffix.lower() in SUPPORTED_SUFFIXES:
        return True
    return not path.suffix and path.name != "DICOMDIR" and is_dicom(path)
