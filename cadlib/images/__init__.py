"""A file, bytes or a Pillow image -> LesionImage: checked, upright, 8-bit sRGB, stripped of identity.

This is the only door for pictures. What a file says about itself is believed only as far as its bytes bear it
out; the camera's and the patient's data (EXIF, GPS, XMP, colour profile) are used here and go no further, but for
the age, sex and site of a DICOM header.
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
"""The largest file that is opened: 40 megapixels of 16-bit RGBA without compression, and some room."""
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
"""What `read_size` reads first. Most headers lie in it; the whole file is read where one does not."""

_HEAD_BYTES = 132  # all that kind_of looks at
_READERS = 4
_READ_AHEAD = 2 * _READERS  # few, for one may be of 40 megapixels


def read_image(
    source: str | os.PathLike[str] | bytes | Image.Image, enough_px: int = ENOUGH_PX
) -> LesionImage:
    """Read one picture, given as a path, a file's bytes or a Pillow image, as upright 8-bit sRGB.

    JPEG, PNG, TIFF, BMP, WebP and DICOM are told by content; a name is only used in messages. A Pillow image stays
    as it was. `enough_px` is what is kept of a JPEG's longer side where it has more: see ENOUGH_PX. Raises
    ImageRejected, in a sentence for the reader, for anything else.

    Files are decoded in another process, within limits of time and memory. Raises DecoderUnavailable where
    none can be started.
    """
    if isinstance(source, Image.Image):
        from cadlib.images.decoding.decode_file import decode_opened  # noqa: PLC0415 - few callers bring one

        return decode_opened(source, "This picture")
    if isinstance(source, bytes):
        name, data = "This file", source
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = _printable_name(path)
        data = _read_file(path, name)
    else:
        raise TypeError(
            f"Expected `source` to be a path, bytes or a PIL image but got {type(source).__name__}."
        )
    decoded = _decoders().decode(data, name, enough_px)
    about = decoded.description
    return LesionImage(
        decoded.pixels, decoded.sha256, about.format, about.notes, about.reduced, about.facts
    )


def start_decoders() -> None:
    """Start a process that decodes images, without waiting for it, so that the first image need not wait.

    Where none can be started, the first image says so.
    """
    _decoders().start()


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) in px of a file's picture turned upright, by its header: a truncated file passes.

    Raises ImageRejected for a file that has no such header, and for a picture too small or too large to read.
    """
    name = _printable_name(Path(path))
    pool = _decoders()
    start = _read_file(Path(path), name, HEAD_BYTES)
    try:
        return pool.image_size(start, name)
    except ImageRejected:
        if len(start) < HEAD_BYTES:
            raise
    # Its header may lie behind a large preview or at the end of the file.
    return pool.image_size(_read_file(Path(path), name), name)


def _decoders() -> "DecoderPool":
    from cadlib.images.decoding.pool import decoder_pool  # noqa: PLC0415 - a decoder process imports this package, too

    return decoder_pool(MAX_PIXELS)


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Say whether a file begins as DICOM does, whatever its name: exported ones often have no suffix."""
    try:
        return kind_of(read_regular_file(Path(path), _HEAD_BYTES)) == DICOM
    except (OSError, ValueError):
        return False


def read_images(sources: Iterable[str | os.PathLike[str]]) -> Iterator[LesionImage | ImageRejected]:
    """Read files in their order, a few ahead in threads; one that cannot be read comes as its rejection."""
    return map_ahead(_read_or_reject, sources, workers=_READERS, ahead=_READ_AHEAD)


def _read_or_reject(source: str | os.PathLike[str]) -> LesionImage | ImageRejected:
    try:
        return read_image(source)
    except ImageRejected as rejection:
        return rejection


def _printable_name(path: Path) -> str:
    return "".join(c if c.isprintable() else "?" for c in path.name) or "This path"


def _read_file(path: Path, name: str, at_most: int | None = None) -> bytes:
    """Return the bytes of a regular file, or its first `at_most`."""
    try:
        if path.is_dir():
            raise ImageRejected(f"{name} is a folder. {EXPECTED}; choose a file inside it.")
        if not path.exists():
            raise ImageRejected(f"{name} was not found. {EXPECTED}; check the name and the folder.")
        return (
            read_regular_file(path, at_most)
            if at_most
            else read_regular_file(path, MAX_FILE_BYTES, whole=True)
        )
    except NotRegular as error:
        raise ImageRejected(f"{name} is a device, not a file. {EXPECTED}.") from error
    except TooLarge as error:
        raise ImageRejected(
            f"{name} has {error.size / 2**20:.0f} MB. Expected at most {MAX_FILE_BYTES // 2**20} MB; "
            "export the picture as JPEG."
        ) from error
    except PermissionError as error:
        raise ImageRejected(
            f"{name} may not be read by this user. Ask for the right to read it."
        ) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImageRejected(
            f"{name} could not be read: {reason}. Check the disk or the network."
        ) from error
