"""Reads a file, bytes or a Pillow image as a checked LesionImage.

The result is upright 8-bit sRGB without data that identify a person. All images enter the package
here. A statement in a file is used only where the bytes of the file confirm it. The data of the
camera and the patient (EXIF, GPS, XMP, colour profile) are used here and are not passed on. The
exceptions are the age, sex and site of a DICOM header.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from cadlib.errors import ImageRejected
from cadlib.images.file_types.kinds import DICOM, EXPECTED, kind_of
from cadlib.images.lesion_image import ENOUGH_PX, MAX_PIXELS, MIN_SIDE_PX, LesionImage
from cadlib.images.regular_files import NotRegular, TooLarge, read_regular_file
from cadlib.thread_pool import map_ahead

if TYPE_CHECKING:
    from cadlib.images.decoding.pool import DecoderPool

__all__ = [
    "ENOUGH_PX",
    "MAX_FILE_BYTES",
    "MAX_PIXELS",
    "MIN_SIDE_PX",
    "SUPPORTED_SUFFIXES",
    "LesionImage",
    "is_dicom",
    "read_image",
    "read_images",
    "read_size",
    "start_decoders",
]

MAX_FILE_BYTES = 512 * 1024 * 1024
"""The largest file that is opened: 40 megapixels of uncompressed 16-bit RGBA, and some room."""
SUPPORTED_SUFFIXES: tuple[str, ...] = (
    ".jpg",
    ".jpeg",
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".dcm",
)

HEAD_BYTES = 256 * 1024
"""`read_size` reads so many bytes first. It reads the whole file if the header does not fit."""

# `kind_of` needs no more than these.
_HEAD_BYTES = 132
_READERS = 4
# Only a few, because an image may have 40 megapixels.
_READ_AHEAD = 2 * _READERS


def read_image(
    source: str | os.PathLike[str] | bytes | Image.Image, enough_px: int = ENOUGH_PX
) -> LesionImage:
    """Read one image as upright 8-bit sRGB, from a path, a file's bytes or a Pillow image.

    JPEG, PNG, TIFF, BMP, WebP and DICOM are recognised by content. A name is only used in messages.
    A Pillow image is not changed. A JPEG may be decoded at a fraction of its size, with at least
    `enough_px` on its longer side: see ENOUGH_PX. Raises ImageRejected for anything else, with a
    message for the user.

    Files are decoded in another process, within limits of time and memory. Raises
    DecoderUnavailable if no such process can be started.
    """
    if isinstance(source, Image.Image):
        # Few callers pass a Pillow image.
        from cadlib.images.decoding.decode_file import decode_opened  # noqa: PLC0415

        return decode_opened(source, "This image")
    if isinstance(source, bytes):
        name = "This file"
        data = source
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = _printable_name(path)
        data = _read_file(path, name)
    else:
        raise TypeError(
            f"Expected `source` to be a path, bytes or a PIL image but got {type(source).__name__}."
        )
    decoded = _decoders().decode(data, name, enough_px)
    description = decoded.description
    return LesionImage(
        pixels=decoded.pixels,
        sha256=decoded.sha256,
        format=description.format,
        notes=description.notes,
        reduced=description.reduced,
        facts=description.facts,
    )


def start_decoders() -> None:
    """Start a process that decodes images, so that the first image need not wait for it.

    Return at once. If no process can be started, reading the first image raises the error.
    """
    _decoders().start()


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) in px of a file's image when upright.

    Only the header is read, so a truncated file passes. Raises ImageRejected for a file without
    such a header, and for an image that is too small or too large to read.
    """
    image_path = Path(path)
    name = _printable_name(image_path)
    pool = _decoders()
    start = _read_file(image_path, name, HEAD_BYTES)
    try:
        return pool.image_size(start, name)
    except ImageRejected:
        if len(start) < HEAD_BYTES:
            raise
    # The header may be behind a large preview or at the end of the file.
    whole = _read_file(image_path, name)
    return pool.image_size(whole, name)


def _decoders() -> "DecoderPool":
    # A decoder process imports this package, too, and needs no pool.
    from cadlib.images.decoding.pool import decoder_pool  # noqa: PLC0415

    return decoder_pool(MAX_PIXELS)


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Return whether a file begins like DICOM; exported files often have no suffix."""
    try:
        head = read_regular_file(Path(path), _HEAD_BYTES)
    except (OSError, ValueError):
        return False
    return kind_of(head) == DICOM


def read_images(sources: Iterable[str | os.PathLike[str]]) -> Iterator[LesionImage | ImageRejected]:
    """Read files in their order, a few ahead in threads.

    For a file that cannot be read, yield its ImageRejected instead of raising it.
    """
    return map_ahead(_read_or_reject, sources, workers=_READERS, ahead=_READ_AHEAD)


def _read_or_reject(source: str | os.PathLike[str]) -> LesionImage | ImageRejected:
    try:
        return read_image(source)
    except ImageRejected as rejection:
        return rejection


def _printable_name(path: Path) -> str:
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return name or "This path"


def _read_file(path: Path, name: str, at_most: int | None = None) -> bytes:
    """Return the bytes of a regular file, or only the first `at_most` bytes."""
    try:
        if path.is_dir():
            raise ImageRejected(f"{name} is a folder. {EXPECTED}. Select a file inside the folder.")
        if not path.exists():
            raise ImageRejected(f"{name} was not found. {EXPECTED}. Check the name and the folder.")
        if at_most:
            return read_regular_file(path, at_most)
        return read_regular_file(path, MAX_FILE_BYTES, whole=True)
    except NotRegular as error:
        raise ImageRejected(f"{name} is a device, not a file. {EXPECTED}.") from error
    except TooLarge as error:
        raise ImageRejected(
            f"{name} has {error.size / 2**20:.0f} MB. "
            f"Expected at most {MAX_FILE_BYTES // 2**20} MB. Export the image as JPEG."
        ) from error
    except PermissionError as error:
        raise ImageRejected(
            f"{name} cannot be read: permission denied. Ask for read permission."
        ) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImageRejected(
            f"{name} could not be read: {reason}. Check the disk or the network."
        ) from error
