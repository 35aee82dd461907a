"""Checks form, length and checksums of a file before it is decoded."""

from collections.abc import Callable

from PIL import Image

from cadlib.images.file_types.bmp import check_bmp, check_bmp_pixels
from cadlib.images.file_types.jpeg import read_header
from cadlib.images.file_types.png import check_png, check_png_pixels
from cadlib.images.file_types.tiff import check_page, check_strips, check_tiff
from cadlib.images.file_types.webp import check_webp


def check_form(kind: str, data: bytes, name: str) -> int:
    """Return the number of the page to read, 0 for formats without pages.

    `kind` is Pillow's name of the format. Raise ImageRejected for a file that is damaged or not
    supported. Nothing is unpacked, so this may run before the size of the image is known.
    """
    check = _FORMS[kind]
    return check(data, name)


def check_pixels(kind: str, data: bytes, page: int, name: str) -> None:
    """Raise ImageRejected for damaged pixels that the decoder does not notice.

    Some formats are unpacked for this check, so check the size of the image before.
    """
    if kind == "TIFF":
        check_strips(data, page, name)
    elif kind == "PNG":
        check_png_pixels(data, name)
    elif kind == "BMP":
        check_bmp_pixels(data, name)


def check_unread(image: Image.Image, data: bytes, name: str) -> None:
    """Raise ImageRejected for a Pillow image that is damaged or not supported.

    `data` are the bytes that the image still has to be read from.
    """
    kind = image.format or ""
    page = image.tell()
    if kind == "TIFF":
        check_page(data, page, name)
    elif kind in _FORMS:
        check_form(kind, data, name)
    check_pixels(kind, data, page, name)


def _check_jpeg(data: bytes, name: str) -> int:
    read_header(data, name)
    return 0


_FORMS: dict[str, Callable[[bytes, str], int]] = {
    "JPEG": _check_jpeg,
    "PNG": check_png,
    "TIFF": check_tiff,
    "BMP": check_bmp,
    "WEBP": check_webp,
}
