"""Check a file before it is decoded: form, length and checksums."""

from collections.abc import Callable

from cadlib.images.jpeg import read_header
from cadlib.images.tiff import check_tiff


def check_form(kind: str, data: bytes, name: str) -> int:
    """Return the number of the page to read, 0 where a format has no pages.

    `kind` is Pillow's name of the format. Raise ImageRejected for a file that is damaged or not supported.
    """
    return _CHECKS[kind](data, name) if kind in _CHECKS else 0


def _check_jpeg(data: bytes, name: str) -> int:
    read_header(data, name)
    return 0


_CHECKS: dict[str, Callable[[bytes, str], int]] = {"JPEG": _check_jpeg, "TIFF": check_tiff}
