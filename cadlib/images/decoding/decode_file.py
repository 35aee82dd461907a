"""Decodes the bytes of a file in this process.

Only a decoder process (`worker`) may do that with an untrusted file, because `pool` limits the time
and memory of that process and survives its crash. The app imports this module only for images that
its caller has opened with Pillow.
"""

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
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

if TYPE_CHECKING:
    from cadlib.images.dicom.file import DicomFile

_FRACTIONS = {1: "all", 2: "a half", 4: "a quarter", 8: "an eighth"}
# Pillow's errors on PNG.
_TOO_MUCH_TEXT = (
    "Decompressed data too large",
    "Too much memory used in text chunks",
)
# Orientations that exchange width and height.
_SIDEWAYS = (5, 6, 7, 8)


def decode_here(
    data: bytes, name: str, enough_px: int = ENOUGH_PX, allocate: Allocate = new_array
) -> LesionImage:
    """Decode a file's bytes in this process, with an empty `sha256`.

    `allocate` makes the array for the pixels of a JPEG, but the result may be in another array.
    Only a decoder process (`worker`) calls this with an untrusted file, because `pool` limits the
    time and memory of that process and survives its crash.
    """
    kind = kind_of(data)
    check_work(data, kind, name)
    if kind == DICOM:
        return _read_dicom(data, name)
    with _open(data, name) as image:
        whole = image.size
        fraction = _reduce(image, enough_px)
        pixels, notes = decode(image, name, allocate)
        reduced = None
        if fraction > 1:
            reduced = _upright_size(whole, image, pixels)
            notes = (_reduced_note(reduced, fraction), *notes)
        return LesionImage(
            pixels=pixels,
            sha256="",
            format=FORMATS[image.format or ""],
            notes=notes,
            reduced=reduced,
        )


def _upright_size(
    whole: tuple[int, int],
    image: Image.Image,
    pixels: NDArray[np.uint8],
) -> tuple[int, int]:
    """Return the size of the whole image, turned in the same way as the pixels."""
    height_px, width_px = pixels.shape[:2]
    pixel_size = (width_px, height_px)
    if pixel_size == image.size:
        return whole
    whole_width_px, whole_height_px = whole
    return whole_height_px, whole_width_px


def _reduced_note(size: tuple[int, int], fraction: int) -> str:
    width_px, height_px = size
    share = _FRACTIONS[fraction]
    return f"The image ({width_px} × {height_px} px) was read at {share} of its size."


def _read_dicom(data: bytes, name: str) -> LesionImage:
    file = _dicom_reader(name)(BytesIO(data), name)
    check_size(file.size, name)
    image, header_notes = file.image()
    pixels, notes = decode(image, name)
    return LesionImage(
        pixels=pixels,
        sha256="",
        format="DICOM",
        notes=(*header_notes, *notes),
        facts=file.facts,
    )


def _dicom_reader(name: str) -> "type[DicomFile]":
    """Return the class that reads DICOM files; raise ImageRejected where pydicom is missing."""
    # The import of pydicom takes a while, and few images need it.
    try:
        from cadlib.images.dicom.file import DicomFile  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ImageRejected(
            f"{name} is a DICOM image, and {error.name}, which reads such images, is not "
            'installed. Run `pip install "cadlib[dicom]"`, or export the image as PNG or JPEG.'
        ) from error
    return DicomFile


def size_here(data: bytes, name: str) -> tuple[int, int]:
    """Return (width, height) of an upright image from the start of a file, in this process.

    `data` are all bytes of the file or its first ones. See `decode_here` for untrusted files.
    """
    kind = kind_of(data)
    check_work(data, kind, name)
    if kind == DICOM:
        reader = _dicom_reader(name)
        file = BytesIO(data)
        size = reader(file, name, pixels=False).size
    else:
        size = _pillow_size(data, name)
    check_size(size, name)
    return size


def _pillow_size(data: bytes, name: str) -> tuple[int, int]:
    """Return (width, height) of an upright image that Pillow opens; raise ImageRejected."""
    # Pillow opens an MPO as a JPEG.
    formats = [pillow_name for pillow_name in FORMATS if pillow_name != "MPO"]
    file = BytesIO(data)
    try:
        with Image.open(file, formats=formats) as image:
            is_tiff = image.format == "TIFF"
            if is_tiff:
                image.seek(main_page(data, name))
            width_px, height_px = image.size
            # Pillow has already turned the size of a TIFF.
            is_sideways = not is_tiff and _is_sideways(image)
    except ImageRejected:
        raise
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        raise ImageRejected(f"{name} has no header that can be read. {EXPECTED}.") from error
    if is_sideways:
        return height_px, width_px
    return width_px, height_px


def _is_sideways(image: Image.Image) -> bool:
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    return orientation in _SIDEWAYS


def decode_opened(image: Image.Image, name: str) -> LesionImage:
    """Decode an image that the caller opened or made with Pillow, and do not change it."""
    check_size(image.size, name)
    data = file_bytes(image)
    if data is not None:
        check_unread(image, data, name)
    pixels, notes = decode(image, name)
    shape = repr(pixels.shape).encode()
    digest = hashlib.sha256(shape + pixels.tobytes())
    return LesionImage(
        pixels=pixels,
        sha256=digest.hexdigest(),
        format="PIL",
        notes=notes,
    )


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header only, and return the image without decoding its pixels.

    Raise ImageRejected unless the kind, the number of images and the size can be decoded.
    """
    if not data:
        raise ImageRejected(
            f"{name} is empty (0 bytes). {EXPECTED}. Copy or export the image again."
        )
    kind = kind_of(data)
    if kind not in FORMATS:
        raise foreign(name, kind or "in an unknown format")
    page = check_form(kind, data, name)
    try:
        image = Image.open(BytesIO(data), formats=(kind,))
        count = _count_images(image)
        image.seek(page)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRejected(
            f"{name} is far larger than {MAX_PIXELS // 10**6} megapixels. Expected at most that. "
            "Reduce the image size, or crop it to the lesion."
        ) from error
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        if any(text in str(error) for text in _TOO_MUCH_TEXT):
            raise ImageRejected(
                f"{name} has a text or a colour profile of more than 1 MB once it is unpacked. "
                "Expected at most that. Export it again without its metadata."
            ) from error
        raise damaged(name, FORMATS[kind]) from error
    check_size(image.size, name)
    if count > 1:
        raise several(name, count)
    check_pixels(kind, data, page, name)
    return image


def _count_images(image: Image.Image) -> int:
    # The other images of an MPO are previews, and the pages of a TIFF are counted already.
    if image.format in ("MPO", "TIFF"):
        return 1
    return int(getattr(image, "n_frames", 1))


def _reduce(image: Image.Image, enough_px: int) -> int:
    """Prepare a JPEG to be decoded at the smallest sufficient size.

    Return the factor by which it is reduced, 1 for an image that is not reduced.
    """
    longer_side_px = max(image.size)
    shorter_side_px = min(image.size)
    longer_side_factor = longer_side_px / enough_px
    shorter_side_factor = shorter_side_px / enough_px * 2
    most = min(longer_side_factor, shorter_side_factor)
    fraction = 1
    for factor in _FRACTIONS:
        if factor <= most:
            fraction = factor
    if fraction == 1:
        return 1
    # Only a JPEG can be decoded at a smaller size.
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return 1
    size = (image.width // fraction, image.height // fraction)
    image.draft(None, size)
    return fraction
