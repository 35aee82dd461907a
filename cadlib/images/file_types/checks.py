"""Check a file before it is decoded: its form, its length and its checksums."""

from collections.abc import Callable

from PIL import Image

from cadlib.images.file_types.bmp import check_bmp, check_bmp_pixels
from cadlib.images.file_types.jpeg import read_header
from cadlib.images.file_types.png import check_png, check_png_pixels
from cadlib.images.file_types.tiff import check_page, check_strips, check_tiff
from cadlib.images.file_types.webp import check_webp


def check_form(kind: str, data: bytes, name: str) -> int:
    """Return the number of the page to read, 0 where a format has no pages.

    `kind` is Pillow's name of the format. Raise ImageRejected for a file that is damaged or not supported. Nothing is
    unpacked, so this may run before the size of the image is known.
    """
    return _FORMS[kind](data, name)


def check_pixels(kind: str, data: bytes, page: int, name: str) -> None:
    """Raise ImageRejected where the pixels of a page are damaged in a way that its decoder does not notice.

    Some formats are unpacked for it, so the size of the image must have been checked.
    """
    if kind == "TIFF":
        check_strips(data, page, name)
    elif kind == "PNG":
        check_png_pixels(data, name)
    elif kind == "BMP":
        check_bmp_pixels(data, name)


def check_unread(image: Image.Image, data: bytes, name: str) -> None:
    """Raise ImageRejected where a Pillow image that still has to be read from `data` is damaged or not supported."""
    if image.format == "TIFF":
        check_page(data, image.tell(), name)
    elif image.format in _FORMS:
        check_form(image.format, data, name)
    check_pixels(image.format or "", data, image.tell(), name)


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
