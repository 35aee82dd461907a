"""Computes how many bytes the LZW data of a TIFF unpack to.

libtiff stops as soon as it has the bytes it needs. So it does not notice a strip that a flipped bit
made longer, in which rows are shifted. Only lengths are computed here, one table of codes at a time
(TIFF 6.0, section 13).
"""

import numpy as np
from numpy.typing import NDArray

CLEAR = 256
END = 257
_FIRST_ENTRY = 258
# The most codes between two clear codes: libtiff's table has no room for more entries.
_MOST_CODES = 4861
_ORDER = np.arange(_MOST_CODES, dtype=np.int32)
_WIDTHS = np.select(
    [_ORDER < 254, _ORDER < 766, _ORDER < 1790],
    [9, 10, 11],
    12,
).astype(np.int32)
"""Bits of each code since the last clear code.

The width grows when the entries 510, 1022 and 2046 are made.
"""
# The last and first bit of each code, counted from the clear code.
_ENDS = np.cumsum(_WIDTHS)
_STARTS = _ENDS - _WIDTHS
_MASKS = (1 << _WIDTHS) - 1
# A code is taken from the high end of a window of 24 bits.
_SHIFTS = 24 - _WIDTHS


def unpacked_length(packed: bytes) -> int | None:
    """Return the number of bytes that a strip unpacks to.

    Return None if a code refers to an entry that does not exist yet.
    """
    windows = _windows(packed)
    bits = 8 * len(packed)
    at = 0
    length = 0
    while True:
        codes = _codes(windows, at, bits)
        is_special = (codes == CLEAR) | (codes == END)
        special = np.flatnonzero(is_special)
        is_last_table = not special.size
        count = len(codes) if is_last_table else int(special[0])
        table_codes = codes[:count]
        table_length = _strings_length(table_codes)
        if table_length is None:
            return None
        length += table_length
        if is_last_table or codes[count] == END:
            return length
        at += int(_ENDS[count])


def _windows(packed: bytes) -> NDArray[np.int32]:
    """Return the 24 bits that start at each byte."""
    padded = np.frombuffer(packed + bytes(3), np.uint8)
    values = padded.astype(np.int32)
    windows = values[:-2] << 16
    windows |= values[1:-1] << 8
    windows |= values[2:]
    return windows


def _codes(windows: NDArray[np.int32], at: int, bits: int) -> NDArray[np.int32]:
    """Return the codes from bit `at` on, with the widths that follow a clear code."""
    bits_left = bits - at
    count = int(np.searchsorted(_ENDS, bits_left, side="right"))
    starts = at + _STARTS[:count]
    bytes_at = starts >> 3
    bits_in_byte = (starts & 7).astype(np.int32)
    shifts = _SHIFTS[:count] - bits_in_byte
    shifted = windows[bytes_at] >> shifts
    codes: NDArray[np.int32] = shifted & _MASKS[:count]
    return codes


def _strings_length(codes: NDArray[np.int32]) -> int | None:
    """Return the length of all strings that codes stand for, or None for a code before its entry.

    Entry 258 + j is the string of code j and one more byte, so the length of a string is the length
    of its chain.
    """
    order = _ORDER[: len(codes)]
    is_entry = codes >= _FIRST_ENTRY
    parents = np.where(is_entry, codes - _FIRST_ENTRY, order)
    is_too_early = parents[is_entry] >= order[is_entry]
    if is_too_early.any():
        return None
    depths = is_entry.astype(np.int32)
    # Each round doubles the number of steps that a chain is followed.
    while True:
        grandparents = parents[parents]
        if np.array_equal(grandparents, parents):
            extra_bytes = int(depths.sum(dtype=np.int64))
            return extra_bytes + len(codes)
        depths += depths[parents]
        parents = grandparents
