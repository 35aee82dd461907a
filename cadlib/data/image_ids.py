"""Compares image ids, however a file name or a table writes them."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from cadlib.images import SUPPORTED_SUFFIXES

_SCIENTIFIC = re.compile(r"\d(?:[.,]\d+)?E\+?\d+", re.IGNORECASE)
_FLOAT = re.compile(r"(\d+)[.,]0+")
_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
_DATE = re.compile(rf"\d{{1,2}}-{_MONTH}|{_MONTH}-\d{{2}}", re.IGNORECASE)
_PATH_CHARACTERS = frozenset("./\\")
_SPREADSHEET_DIGITS = 15
"""Significant digits of a number in a spreadsheet; the digits after them become zeros."""


def composed(text: str) -> str:
    """Return a text in Unicode's composed form (NFC): macOS stores file names decomposed."""
    return unicodedata.normalize("NFC", text)


def without_suffix(name: str) -> str:
    """Return a file name or path without the suffix of an image."""
    suffix = PurePosixPath(name).suffix
    is_image = suffix.lower() in SUPPORTED_SUFFIXES
    return name.removesuffix(suffix) if is_image else name


def resolve_id(cell: str, images: frozenset[str]) -> str:
    r"""Return the id that a cell names: an id, a file name, or a path that ends with one of them.

    The longest end of the path that is in `images` counts; without any it is the whole path,
    without the suffix of an image.

    >>> resolve_id("C:\\data\\nv\\ISIC_1.JPG", frozenset({"ISIC_1"}))
    'ISIC_1'
    """
    if not _PATH_CHARACTERS.intersection(cell):
        return composed(cell)
    with_slashes = composed(cell).replace("\\", "/")
    # Without repeated slashes and single dots.
    parts_of_path = PurePosixPath(with_slashes).parts
    path = "/".join(parts_of_path)
    stem = without_suffix(path)
    # An id may itself end like a file: that of "a.jpg.jpg" is "a.jpg". So the stem goes first.
    for name in (stem, path):
        parts = name.split("/")
        # From the longest end to the shortest: the first match is the most specific one.
        while parts:
            end = "/".join(parts)
            if end in images:
                return end
            parts = parts[1:]
    return stem


def changed_by_spreadsheet(ids: Iterable[str], images: Iterable[str]) -> list[str]:
    """Return the `ids` that look like a spreadsheet's numbers or dates.

    The ids have no image. Each is followed by the image that may be meant. None of them is
    corrected: 1.0E+05 may stand for many ids.
    """
    by_number: dict[str, str] = {}
    by_digits: dict[str, str] = {}
    for image in images:
        if image.isdecimal():
            # A spreadsheet drops the zeros at the start of a number.
            number = image.lstrip("0")
            by_number[number] = image
            first_digits = image[:_SPREADSHEET_DIGITS]
            by_digits[first_digits] = image
    changed = []
    for name in ids:
        similar = _image_of_number(name, by_number, by_digits)
        if similar is not None:
            changed.append(f"{name} (image {similar})")
            continue
        is_scientific = _SCIENTIFIC.fullmatch(name)
        is_date = _DATE.fullmatch(name)
        if is_scientific or is_date:
            changed.append(name)
    return changed


def _image_of_number(
    name: str,
    by_number: dict[str, str],
    by_digits: dict[str, str],
) -> str | None:
    """Return the image whose id became the number `name` in a spreadsheet, None without one.

    `by_number` has ids without leading zeros, `by_digits` their first 15 digits.
    """
    number = _FLOAT.fullmatch(name)
    digits = number[1] if number else name
    if not digits.isdecimal():
        return None
    similar = by_number.get(digits.lstrip("0"))
    if len(digits) > _SPREADSHEET_DIGITS:
        similar = similar or by_digits.get(digits[:_SPREADSHEET_DIGITS])
    return similar
