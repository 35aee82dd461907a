"""Unpacks deflated DICOM files, up to the size that their headers require."""

import zlib
from io import BytesIO
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.filereader import read_dataset

from cadlib.errors import ImageRejected
from cadlib.images.file_types.work_limits import ElementLimit, check_dicom

HEADER_BYTES = 16 * 1024 * 1024
"""The most bytes of header and elements behind the pixels. They usually take less than 100 KB."""

_SIZE_KEYWORDS = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "NumberOfFrames")
_SIZE_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _SIZE_KEYWORDS]
_PIXEL_GROUP = 0x7FE0


def inflate(
    packed: bytes,
    name: str,
    pixels: bool,
    at_most: int,
) -> bytes:
    """Return the unpacked file, or only its start if `pixels` is false.

    Raise ImageRejected if it unpacks to more bytes than its rows, columns and samples need, or to
    more than `at_most`.
    """
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    start = stream.decompress(packed, HEADER_BYTES)
    # The rest is kept in the stream.
    del packed
    if not pixels or len(start) < HEADER_BYTES:
        check_dicom(start, name)
        return start
    needed = _pixel_bytes(start, name)
    if needed > at_most:
        raise _too_large(name, at_most)
    # One byte more shows whether there are too many.
    rest = stream.decompress(stream.unconsumed_tail, needed + 1)
    if len(rest) > needed:
        raise _too_large(name, needed + HEADER_BYTES)
    whole = start + rest
    check_dicom(whole, name)
    return whole


def _pixel_bytes(start: bytes, name: str) -> int:
    """Return the number of bytes of uncompressed pixels that a header describes."""
    limit = ElementLimit(name, frozenset(), lambda tag: tag >> 16 >= _PIXEL_GROUP)
    header = read_dataset(
        BytesIO(start),
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=limit,
        specific_tags=_SIZE_TAGS,
    )
    values = []
    for keyword in _SIZE_KEYWORDS:
        # A missing or empty element counts as 1.
        value = int(header.get(keyword) or 1)
        values.append(value)
    rows, columns, samples, bits, frames = values
    pixels = rows * columns * samples * frames
    needed = pixels * (bits + 7) // 8
    return max(needed, 0)


def _too_large(name: str, limit: int) -> ImageRejected:
    return ImageRejected(
        f"{name} unpacks to more than {limit / 2**20:.0f} MB. "
        "Expected at most what its rows, columns and samples need. "
        "Export the image without compression."
    )
