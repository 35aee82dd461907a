"""Measure how many bytes TIFF's LZW unpacks to.

libtiff stops as soon as it has the bytes it needs, so a strip that a flipped bit made longer passes unnoticed: its
rows are shifted. Only lengths are computed here, one table of codes at a time (TIFF 6.0, section 13).
"""

import numpy as np
from numpy.typing import NDArray

CLEAR, END = 256, 257
_FIRST_ENTRY = 258
_MOST_CODES = 4861  # between two clear codes: libtiff's table has room for no more entries
_WIDTHS = np.select([np.arange(_MOST_CODES) < count for count in (254, 766, 1790)], [9, 10, 11], 12)
"""Bits of each code since the last clear code: a code grows when the entries 510, 1022 and 2046 are made."""
_ENDS = np.cumsum(_WIDTHS)
_STARTS = _ENDS - _WIDTHS


def unpacked_length(packed: bytes) -> int | None:
    """Return the bytes that a strip unpacks to, None where a code refers to an entry that is not there yet."""
    values = np.frombuffer(packed + bytes(3), np.uint8).astype(np.int64)
    bits = 8 * len(packed)
    at = length = 0
    while True:
        codes = _codes(values, at, bits)
        special = np.flatnonzero((codes == CLEAR) | (codes == END))
        count = int(special[0]) if special.size else len(codes)
        strings = _strings_length(codes[:count])
        if strings is None:
            return None
        length += strings
        if not special.size or codes[count] == END:
            return length
        at += int(_ENDS[count])


def _codes(values: NDArray[np.int64], at: int, bits: int) -> NDArray[np.int64]:
    """Return the codes from bit `at` on, as wide as they are behind a clear code."""
    count = int(np.searchsorted(_ENDS, bits - at, side="right"))
    starts = at + _STARTS[:count]
    first = starts >> 3
    window = values[first] << 16 | values[first + 1] << 8 | values[first + 2]
    widths = _WIDTHS[:count]
    codes: NDArray[np.int64] = window >> (24 - (starts & 7) - widths) & ((1 << widths) - 1)
    return codes


def _strings_length(codes: NDArray[np.int64]) -> int | None:
    """Return the length of all strings that codes stand for; None for a code before its entry.

    Entry 258 + j is the string of code j and one byte more, so the length of a string is the length of its chain.
    """
    order = np.arange(len(codes))
    is_entry = codes >= _FIRST_ENTRY
    parents = np.where(is_entry, codes - _FIRST_ENTRY, order)
    if (parents[is_entry] >= order[is_entry]).any():
        return None
    depths = is_entry.astype(np.int64)
    while True:
        grandparents = parents[parents]
        if (grandparents == parents).all():
            return int(depths.sum()) + len(codes)
        depths += depths[parents]
        parents = grandparents
