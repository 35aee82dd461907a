"""Decodes the bytes of a file in this process.

Only a decoder process (`worker`) may do that with a file that is not trusted: `pool` limits its time and memory
and survives its crash. The app imports this module only for the images that its caller has opened with Pillow.
"""

import hashlib
from io import BytesIO

from PIL import ExifTags, Image, JpegImagePlugin

from cadlib.errors import ImageRejected
from cadlib.images.decoding.to_rgb import decode, file_bytes
from cadlib.images.file_types.checks import check_form, check_pixels, check_unread
from cadlib.images.file_types.jpeg import Allocate, new_array
from cadlib.images.file_types.kinds import (
    DICOM,
    EXPECTED,
    FORMATS,
    damaged,
    foreign,
    kind_of,
    several,
)
from cadlib.images.file_types.tiff import main_page
from cadlib.images.file_types.work_limits import check_work
from cadlib.images.lesion_image import ENOUGH_PX, MAX_PIXELS, LesionImage, check_size

_FRACTIONS = {1: "all", 2: "a half", 4: "a quarter", 8: "an eighth"}
_TOO_MUCH_TEXT = (
    "Decompressed data too large",
    "Too much memory used in text chunks",
)  # Pillow's errors on PNG
_SIDEWAYS = (5, 6, 7, 8)  # of these: width and height change places


def decode_here(
    data: bytes, name: str, enough_px: int = ENOUGH_PX, allocate: Allocate = new_array
) -> LesionImage:
    """Decode a file's bytes in this process, with `sha256` left empty.

    `allocate` makes the array for what a JPEG holds; the pixels may be elsewhere all the same.
    Only a decoder process (`worker`) calls this with a file that is not trusted: `pool` limits its time
    and memory and survives its crash.
    """
    check_work(data, kind_of(data), name)
    if kind_of(data) == DICOM:
        return _read_dicom(data, name)
    with _open(data, name) as image:
        whole, fraction = image.size, _reduce(image, enough_px)
        pixels, notes = decode(image, name, allocate)
        reduced = None
        if fraction > 1:
            reduced = whole if pixels.shape[1::-1] == image.size else whole[::-1]
            note = f"The picture of {reduced[0]} × {reduced[1]} pixels was read at {_FRACTIONS[fraction]} of its size."
            notes = (note, *notes)
        return LesionImage(pixels, "", FORMATS[image.format or ""], notes, reduced)


def _read_dicom(data: bytes, name: str) -> LesionImage:
    from cadlib.images.dicom.file import DicomFile  # noqa: PLC0415 - pydicom takes a while, and few pictures need it

    file = DicomFile(BytesIO(data), name)
    check_size(file.size, name)
    image, header_notes = file.picture()
    pixels, notes = decode(image, name)
    return LesionImage(pixels, "", "DICOM", (*header_notes, *notes), facts=file.facts)


def size_here(data: bytes, name: str) -> tuple[int, int]:
    """Return the size of an image turned upright, of a file's bytes or its first ones, in this process.

    See `decode_here`.
    """
    kind = kind_of(data)
    check_work(data, kind, name)
    if kind == DICOM:
        from cadlib.images.dicom.file import DicomFile  # noqa: PLC0415 - as in _read_dicom

        size = DicomFile(BytesIO(data), name, pixels=False).size
        check_size(size, name)
        return size
    try:
        with Image.open(
            BytesIO(data), formats=[kind for kind in FORMATS if kind != "MPO"]
        ) as image:
            if image.format == "TIFF":
                image.seek(main_page(data, name))
            size = image.size
            # Pillow has turned the size of a TIFF already.
            turned = (
                image.format != "TIFF"
                and image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
            )
    except ImageRejected:
        raise
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        raise ImageRejected(f"{name} has no header that can be read. {EXPECTED}.") from error
    check_size(size, name)
    return (size[1], size[0]) if turned else size


def decode_opened(image: Image.Image, name: str) -> LesionImage:
    """Decode an image that the caller opened or made with Pillow; it stays as it was."""
    check_size(image.size, name)
    unread = file_bytes(image)
    if unread is not None:
        check_unread(image, unread, name)
    pixels, notes = decode(image, name)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes())
    return LesionImage(pixels, digest.hexdigest(), "PIL", notes)


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header only; return the still packed picture once kind, count and size are fit to decode."""
    if not data:
        raise ImageRejected(
            f"{name} is empty (0 bytes). {EXPECTED}; copy or export the picture again."
        )
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
        if any(text in str(error) for text in _TOO_MUCH_TEXT):
            raise ImageRejected(
                f"{name} has a text or a colour profile of more than 1 MB once it is unpacked. Expected at most that; "
                "export it again without its metadata."
            ) from error
        raise damaged(name, FORMATS[kind]) from error
    check_size(image.size, name)
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
