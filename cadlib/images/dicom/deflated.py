"""Unfolds deflated DICOM files, up to what their headers need."""

import zlib
from io import BytesIO
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset

from cadlib.errors import ImageRejected
from cadlib.images.file_types.work_limits import ElementLimit, check_dicom

HEADER_BYTES = 16 * 1024 * 1024
"""What the header and the elements behind the pixels may take. Usual ones take less than 100 KB."""

_SIZE_KEYWORDS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
_SIZE_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _SIZE_KEYWORDS]
_PIXEL_GROUP = 0x7FE0


def inflate(packed: bytes, name: str, pixels: bool, at_most: int) -> bytes:
    """Return the unfolded file, or its start without `pixels`.

    Refuse one that unfolds to more than its rows, columns and samples need, or to more than `at_most`.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    start = stream.decompress(packed, HEADER_BYTES)
    del packed
    if not pixels or len(start) < HEADER_BYTES:
        check_dicom(start, name)
        return start
    needed = _pixel_bytes(start, name)
    if needed > at_most:
        raise _unfolds(name, at_most)
    rest = stream.decompress(stream.unconsumed_tail, needed + 1)
    if len(rest) > needed:
        raise _unfolds(name, needed + HEADER_BYTES)
    whole = start + rest
    check_dicom(whole, name)
    return whole


def _pixel_bytes(start: bytes, name: str) -> int:
    """Return what the pixels of an uncompressed image need, by its header."""
    limit = ElementLimit(name, frozenset(), lambda tag: tag >> 16 >= _PIXEL_GROUP)
    header = read_dataset(BytesIO(start), False, True, stop_when=limit, specific_tags=_SIZE_TAGS)
    rows, columns, samples, bits, frames = (
        int(header.get(keyword) or 1) for keyword in _SIZE_KEYWORDS
    )
    return max(rows * columns * samples * frames * (bits + 7) // 8, 0)


def _unfolds(name: str, limit: int) -> ImageRejected:
    return ImageRejected(
        f"{name} unfolds to more than {limit / 2**20:.0f} MB. Expected at most what its rows, columns and "
        "samples need; export the picture without compression."
    )
