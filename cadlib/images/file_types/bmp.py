"""Check that a BMP holds all the pixels that its header states."""

import struct
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from cadlib.images.file_types.kinds import damaged, unsupported

_RLE8, _RLE4 = 1, 2
_EMBEDDED_PROFILE = b"DEBM"  # "MBED", as a little-endian number
_V5_BYTES = 124


@dataclass(frozen=True)
class _BmpHeader:
    offset: int
    width_px: int
    height_px: int
    bits: int
    compression: int


def check_bmp(data: bytes, name: str) -> int:
    """Return 0, the page to read; raise ImageRejected for a damaged header and a form that is not supported."""
    try:
        Image.open(BytesIO(data), formats=("BMP",)).close()
    except Image.DecompressionBombError:
        return 0  # its size is refused next
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        if "Unsupported BMP" in str(error):
            raise unsupported(name, "a BMP image in a rare form") from error
        raise damaged(name, "BMP") from error
    return 0


def check_bmp_pixels(data: bytes, name: str) -> None:
    """Refuse a BMP that is shorter than its header says, or whose runs end before its last pixel."""
    header = _read_header(data)
    if header.compression in (_RLE8, _RLE4):
        if not _is_complete(data, header):
            raise damaged(name, "BMP")
        return
    row_bytes = (header.width_px * header.bits + 31) // 32 * 4
    if header.offset + row_bytes * header.height_px > len(data):
        raise damaged(name, "BMP")


def embedded_profile(data: bytes) -> bytes | None:
    """Return the colour profile inside a BMP of version 5, None where there is none."""
    if len(data) < 14 + _V5_BYTES or struct.unpack("<I", data[14:18])[0] != _V5_BYTES:
        return None
    if data[70:74] != _EMBEDDED_PROFILE:
        return None
    start, length = struct.unpack("<II", data[126:134])
    return data[14 + start : 14 + start + length] or None


def _read_header(data: bytes) -> _BmpHeader:
    offset, header_bytes = struct.unpack("<II", data[10:18])
    if header_bytes == 12:
        width_px, height_px, _, bits = struct.unpack("<HHHH", data[18:26])
        return _BmpHeader(offset, width_px, height_px, bits, 0)
    width_px, height_px, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
    return _BmpHeader(offset, abs(width_px), abs(height_px), bits, compression)


def _is_complete(data: bytes, header: _BmpHeader) -> bool:
    """Return whether the runs fill each row; a BMP may leave out pixels, which then have no stated colour."""
    at, column, row = header.offset, 0, 0
    while at + 1 < len(data) and not _is_filled(header, column, row):
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            column += count
        elif value == 0:  # the end of a row
            if column < header.width_px:
                return False
            column, row = 0, row + 1
        elif value < 3:  # the end of the image, or a jump
            return False
        else:
            packed_bytes = (value + 1) // 2 if header.compression == _RLE4 else value
            column += value
            at += packed_bytes + packed_bytes % 2
        # Two pixels share a byte of RLE4, so a row of odd width may end one behind its last.
        if column > header.width_px + (header.compression == _RLE4):
            return False
    return _is_filled(header, column, row) and at <= len(data)


def _is_filled(header: _BmpHeader, column: int, row: int) -> bool:
    return row >= header.height_px or (row == header.height_px - 1 and column >= header.width_px)
