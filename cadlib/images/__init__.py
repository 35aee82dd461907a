"""A file, bytes or a Pillow image -> LesionImage: checked, upright, 8-bit sRGB, stripped of identity.

This is the only door for pictures. What a file says about itself is believed only as far as its bytes bear it
out; the camera's and the patient's data (EXIF, GPS, XMP, colour profile) are used here and go no further, but for
the age, sex and site of a DICOM header.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, JpegImagePlugin

from cadlib.errors import ImageRejected
from cadlib.images.decoding import decode, file_bytes
from cadlib.images.files import NotRegular, TooLarge, read_regular_file
from cadlib.images.forms import check_form, check_pixels, check_unread
from cadlib.images.kinds import DICOM, EXPECTED, FORMATS, damaged, foreign, kind_of, several
from cadlib.images.limits import check_work
from cadlib.images.pool import decoder_pool
from cadlib.images.tiff import main_page
from cadlib.patient import NO_FACTS, PatientFacts
from cadlib.readahead import map_ahead

MIN_SIDE_PX = 64
"""The shortest side that can be read; below it a lesion has no structure left to judge."""
MAX_PIXELS = 40_000_000
"""The largest picture that is decoded: above any dermatoscope or phone in full frame, below a bomb."""
MAX_FILE_BYTES = 512 * 1024 * 1024
"""The largest file that is opened: 40 megapixels of 16-bit RGBA without compression, and some room."""
SUPPORTED_SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".dcm")

ENOUGH_PX = 1200
"""A JPEG is decoded at a half, quarter or eighth of its size where its longer side keeps this many pixels, its shorter
half as many: what a page shows at most, and far more than a network reads. libjpeg does that on the way, in a fraction
of the time."""

HEAD_BYTES = 256 * 1024
"""What `read_size` reads first. Most headers lie in it; the whole file is read where one does not."""

_FRACTIONS = {1: "all", 2: "a half", 4: "a quarter", 8: "an eighth"}
_SIDEWAYS = (5, 6, 7, 8)  # of these: width and height change places
_HEAD_BYTES = 132  # all that kind_of looks at
_READERS = 4
_READ_AHEAD = 2 * _READERS  # few, for one may be of 40 megapixels


@dataclass(frozen=True, eq=False)
class LesionImage:
    """One picture that passed the door.

    `pixels` is (H, W, 3) uint8 sRGB, upright, C-contiguous and read-only. `sha256` is the hexadecimal digest
    of the file's bytes, or of shape and pixels where a Pillow image was given. `format` is "JPEG", "PNG",
    "TIFF", "BMP", "WebP", "DICOM" or "PIL". `notes` says in one sentence each what was done to the picture. `reduced`
    is (width, height) of the upright picture in its file where that was read at a fraction of it, else None.
    `facts` is what a DICOM header says of age, sex and site; no answer rests on them unless they are handed on.
    `red_blue_swapped` is true where a reader had the two channels exchanged (`channels.swap_red_and_blue`).
    """

    pixels: NDArray[np.uint8]
    sha256: str
    format: str
    notes: tuple[str, ...] = ()
    reduced: tuple[int, int] | None = None
    facts: PatientFacts = NO_FACTS
    red_blue_swapped: bool = False

    @property
    def key(self) -> str:
        """Return what tells these pixels from others: `sha256`, and whether red and blue were exchanged since."""
        return f"{self.sha256}-swapped" if self.red_blue_swapped else self.sha256

    @property
    def height_px(self) -> int:
        """Return the height of `pixels`."""
        return int(self.pixels.shape[0])

    @property
    def width_px(self) -> int:
        """Return the width of `pixels`."""
        return int(self.pixels.shape[1])

    @property
    def file_px(self) -> tuple[int, int]:
        """Return (width, height) of the upright picture in its file: those of `pixels` unless it was reduced."""
        return self.reduced or (self.width_px, self.height_px)


def read_image(source: str | os.PathLike[str] | bytes | Image.Image, enough_px: int = ENOUGH_PX) -> LesionImage:
    """Read one picture, given as a path, a file's bytes or a Pillow image, as upright 8-bit sRGB.

    JPEG, PNG, TIFF, BMP, WebP and DICOM are told by content; a name is only used in messages. A Pillow image stays
    as it was. `enough_px` is what is kept of a JPEG's longer side where it has more: see ENOUGH_PX. Raises
    ImageRejected, in a sentence for the reader, for anything else.

    Files are decoded in another process, within limits of time and memory. Raises DecoderUnavailable where
    none can be started.
    """
    if isinstance(source, Image.Image):
        _check_size(source.size, "This picture")
        unread = file_bytes(source)
        if unread is not None:
            check_unread(source, unread, "This picture")
        pixels, notes = decode(source, "This picture")
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes())
        return LesionImage(pixels, digest.hexdigest(), "PIL", notes)
    if isinstance(source, bytes):
        name, data = "This file", source
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = _printable_name(path)
        data = _read_file(path, name)
    else:
        raise TypeError(f"Expected `source` to be a path, bytes or a PIL image but got {type(source).__name__}.")
    decoded = decoder_pool(MAX_PIXELS).decode(data, name, enough_px)
    about = decoded.description
    return LesionImage(decoded.pixels, decoded.sha256, about.format, about.notes, about.reduced, about.facts)


def start_decoders() -> None:
    """Start a process that decodes images, without waiting for it, so that the first image need not wait.

    Where none can be started, the first image says so.
    """
    decoder_pool(MAX_PIXELS).start()


def decode_here(data: bytes, name: str, enough_px: int = ENOUGH_PX) -> LesionImage:
    """Decode a file's bytes in this process, with `sha256` left empty.

    Only a decoder process (`worker`) calls this with a file that is not trusted: `pool` limits its time
    and memory and survives its crash.
    """
    check_work(data, kind_of(data), name)
    if kind_of(data) == DICOM:
        return _read_dicom(data, name)
    with _open(data, name) as image:
        whole, fraction = image.size, _reduce(image, enough_px)
        pixels, notes = decode(image, name)
        reduced = None
        if fraction > 1:
            reduced = whole if pixels.shape[1::-1] == image.size else whole[::-1]
            said = f"The picture of {reduced[0]} × {reduced[1]} pixels was read at {_FRACTIONS[fraction]} of its size."
            notes = (said, *notes)
        return LesionImage(pixels, "", FORMATS[image.format or ""], notes, reduced)


def _read_dicom(data: bytes, name: str) -> LesionImage:
    from cadlib.images.dicom import DicomFile  # noqa: PLC0415 - pydicom takes a while, and few pictures need it

    file = DicomFile(BytesIO(data), name)
    _check_size(file.size, name)
    image, told = file.picture()
    pixels, notes = decode(image, name)
    return LesionImage(pixels, "", "DICOM", (*told, *notes), facts=file.facts)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) in px of a file's picture turned upright, by its header: a truncated file passes.

    Raises ImageRejected for a file that has no such header, and for a picture too small or too large to read.
    """
    name = _printable_name(Path(path))
    pool = decoder_pool(MAX_PIXELS)
    start = _read_file(Path(path), name, HEAD_BYTES)
    try:
        return pool.image_size(start, name)
    except ImageRejected:
        if len(start) < HEAD_BYTES:
            raise
    # Its header may lie behind a large preview or at the end of the file.
    return pool.image_size(_read_file(Path(path), name), name)


def size_here(data: bytes, name: str) -> tuple[int, int]:
    """Return the size of an image turned upright, of a file's bytes or its first ones, in this process.

    See `decode_here`.
    """
    kind = kind_of(data)
    check_work(data, kind, name)
    if kind == DICOM:
        from cadlib.images.dicom import DicomFile  # noqa: PLC0415 - as in _read_dicom

        size = DicomFile(BytesIO(data), name, pixels=False).size
        _check_size(size, name)
        return size
    try:
        with Image.open(BytesIO(data), formats=[kind for kind in FORMATS if kind != "MPO"]) as image:
            if image.format == "TIFF":
                image.seek(main_page(data, name))
            size = image.size
            # Pillow has turned the size of a TIFF already.
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    except ImageRejected:
        raise
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        raise ImageRejected(f"{name} has no header that can be read. {EXPECTED}.") from error
    _check_size(size, name)
    return (size[1], size[0]) if turned else size


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
        return read_regular_file(path, at_most) if at_most else read_regular_file(path, MAX_FILE_BYTES, whole=True)
    except NotRegular as error:
        raise ImageRejected(f"{name} is a device, not a file. {EXPECTED}.") from error
    except TooLarge as error:
        raise ImageRejected(
            f"{name} has {error.size / 2**20:.0f} MB. Expected at most {MAX_FILE_BYTES // 2**20} MB; "
            "export the picture as JPEG."
        ) from error
    except PermissionError as error:
        raise ImageRejected(f"{name} may not be read by this user. Ask for the right to read it.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImageRejected(f"{name} could not be read: {reason}. Check the disk or the network.") from error


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header only; return the still packed picture once kind, count and size are fit to decode."""
    if not data:
        raise ImageRejected(f"{name} is empty (0 bytes). {EXPECTED}; copy or export the picture again.")
    kind = kind_of(data)
    if kind not in FORMATS:
        raise foreign(name, kind or "in a format that is not known here")
    page = check_form(kind, data, name)
    try:
        image = Image.open(BytesIO(data), formats=(kind,))
        count = 1 if image.format in ("MPO", "TIFF") else int(getattr(image, "n_frames", 1))
        image.seek(page)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRejected(
            f"{name} is far larger than {MAX_PIXELS // 10**6} megapixels. Expected at most that; "
            "make the picture smaller or cut it to the lesion."
        ) from error
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        raise damaged(name, FORMATS[kind]) from error
    _check_size(image.size, name)
    if count > 1:
        raise several(name, count)
    check_pixels(kind, data, page, name)
    return image


def _reduce(image: Image.Image, enough_px: int) -> int:
    """Let a JPEG be decoded at the least size that is enough; return how many times smaller that is, else 1."""
    keeps = min(max(image.size) / enough_px, min(image.size) / enough_px * 2)
    fraction = max((one for one in _FRACTIONS if one <= keeps), default=1)
    if fraction == 1 or not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    image.draft(None, (image.width // fraction, image.height // fraction))
    return fraction


def _check_size(size: tuple[int, int], name: str) -> None:
    """Refuse a picture too small to judge or too large to decode."""
    width_px, height_px = size
    if min(size) < MIN_SIDE_PX:
        raise ImageRejected(
            f"{name} is {width_px} × {height_px} pixels. Expected at least {MIN_SIDE_PX} on each side; "
            "use the original picture, not a thumbnail."
        )
    if width_px * height_px > MAX_PIXELS:
        raise ImageRejected(
            f"{name} is {width_px} × {height_px} pixels. Expected at most {MAX_PIXELS // 10**6} megapixels; "
            "make the picture smaller or cut it to the lesion."
        )
