"""Measure how many bytes TIFF's LZW unpacks to.

libtiff stops as soon as it has the bytes it needs, so a strip that a flipped bit made longer passes unnoticed: its
rows are shifted. Only lengths are computed here, one table of codes at a time (TIFF 6.0, section 13).
"""

import numpy as np
from numpy.typing import NDArray

CLEAR, END = 256, 257
_FIRST_ENTRY = 258
_MOST_CODES = 4861  # between two clear codes: libtiff's table has room for no more entries
_WIDTHS = np.select(
    [np.arange(_MOST_CODES) < count for count in (254, 766, 1790)], [9, 10, 11], 12
).astype(np.int32)
"""Bits of each code since the last clear code: a code grows when the entries 510, 1022 and 2046 are made."""
_ENDS = np.cumsum(_WIDTHS)
_STARTS = _ENDS - _WIDTHS
_MASKS = (1 << _WIDTHS) - 1
_SHIFTS = 24 - _WIDTHS
_ORDER = np.arange(_MOST_CODES, dtype=np.int32)


def unpacked_length(packed: bytes) -> int | None:
    """Return the bytes that a strip unpacks to, None where a code refers to an entry that is not there yet."""
    values = np.frombuffer(packed + bytes(3), np.uint8).astype(np.int32)
    windows = values[:-2] << 16 | values[1:-1] << 8 | values[2:]  # 24 bits from each byte on
    bits = 8 * len(packed)
    at = length = 0
    while True:
        codes = _codes(windows, at, bits)
        special = np.flatnonzero((codes == CLEAR) | (codes == END))
        count = int(special[0]) if special.size else len(codes)
        strings = _strings_length(codes[:count])
        if strings is None:
            return None
        length += strings
        if not special.size or codes[count] == END:
            return length
        at += int(_ENDS[count])


def _codes(windows: NDArray[np.int32], at: int, bits: int) -> NDArray[np.int32]:
    """Return the codes from bit `at` on, as wide as they are behind a clear code."""
    count = int(np.searchsorted(_ENDS, bits - at, side="right"))
    starts = at + _STARTS[:count]
    shifts = _SHIFTS[:count] - (starts & 7).astype(np.int32)
    codes: NDArray[np.int32] = windows[starts >> 3] >> shifts & _MASKS[:count]
    return codes


def _strings_length(codes: NDArray[np.int32]) -> int | None:
    """Return the length of all strings that codes stand for; None for a code before its entry.

    Entry 258 + j is the string of code j and one byte more, so the length of a string is the length of its chain.
    """
    order = _ORDER[: len(codes)]
    is_entry = codes >= _FIRST_ENTRY
    parents = np.where(is_entry, codes - _FIRST_ENTRY, order)
    if (parents[is_entry] >= order[is_entry]).any():
        return None
    depths = is_entry.astype(np.int32)
    while True:  # each round doubles the steps that a chain is followed
        grandparents = parents[parents]
        if np.array_equal(grandparents, parents):
            return int(depths.sum(dtype=np.int64)) + len(codes)
        depths += depths[parents]
        parents = grandparents
