"""Checks that a BMP holds all the pixels that its header states."""

import struct
from dataclasses import dataclass
from io import BytesIO

from PIL import Image

from cadlib.images.file_types.kinds import damaged, unsupported

_RLE8 = 1
_RLE4 = 2
_OS2_HEADER_BYTES = 12
_FILE_HEADER_BYTES = 14
_V5_HEADER_BYTES = 124
# The number "MBED" in little-endian order.
_EMBEDDED_PROFILE = b"DEBM"


@dataclass(frozen=True)
class _BmpHeader:
    offset: int
    width_px: int
    height_px: int
    bits: int
    compression: int


def check_bmp(data: bytes, name: str) -> int:
    """Return 0, the page to read.

    Raise ImageRejected for a damaged header and for a form that is not supported.
    """
    try:
        image = Image.open(BytesIO(data), formats=("BMP",))
        image.close()
    except Image.DecompressionBombError:
        # The check of the size comes next and refuses the file.
        return 0
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        if "Unsupported BMP" in str(error):
            raise unsupported(name, "a BMP image in a rare form") from error
        raise damaged(name, "BMP") from error
    return 0


def check_bmp_pixels(data: bytes, name: str) -> None:
    """Raise ImageRejected for a BMP whose pixels are incomplete.

    The file must be as long as its header states, and runs must fill all pixels.
    """
    header = _read_header(data)
    if header.compression in (_RLE8, _RLE4):
        if not _is_complete(data, header):
            raise damaged(name, "BMP")
        return
    # Each row is padded to a multiple of 32 bits.
    row_bits = header.width_px * header.bits
    row_words = (row_bits + 31) // 32
    pixel_bytes = 4 * row_words * header.height_px
    end = header.offset + pixel_bytes
    if end > len(data):
        raise damaged(name, "BMP")


def embedded_profile(data: bytes) -> bytes | None:
    """Return the colour profile inside a BMP of version 5, or None if there is none."""
    headers_bytes = _FILE_HEADER_BYTES + _V5_HEADER_BYTES
    if len(data) < headers_bytes:
        return None
    (header_bytes,) = struct.unpack("<I", data[14:18])
    if header_bytes != _V5_HEADER_BYTES:
        return None
    colour_space = data[70:74]
    # A linked profile is in another file.
    if colour_space != _EMBEDDED_PROFILE:
        return None
    place = data[126:134]
    offset, length = struct.unpack("<II", place)
    # The offset counts from the end of the file header.
    start = _FILE_HEADER_BYTES + offset
    end = start + length
    profile = data[start:end]
    return profile or None


def _read_header(data: bytes) -> _BmpHeader:
    offset, header_bytes = struct.unpack("<II", data[10:18])
    if header_bytes == _OS2_HEADER_BYTES:
        width_px, height_px, _, bits = struct.unpack("<HHHH", data[18:26])
        compression = 0
    else:
        width_px, height_px, _, bits, compression = struct.unpack("<iiHHI", data[18:34])
    # A negative height means that the rows go from top to bottom.
    return _BmpHeader(
        offset=offset,
        width_px=abs(width_px),
        height_px=abs(height_px),
        bits=bits,
        compression=compression,
    )


def _is_complete(data: bytes, header: _BmpHeader) -> bool:
    """Return whether the runs fill each row.

    A BMP may leave out pixels, but those have no stated colour.
    """
    is_rle4 = header.compression == _RLE4
    # Two pixels share a byte of RLE4, so a row of odd width may end one pixel too late.
    most_columns = header.width_px + 1 if is_rle4 else header.width_px
    at = header.offset
    column = 0
    row = 0
    while at + 1 < len(data) and not _is_filled(header, column, row):
        count = data[at]
        value = data[at + 1]
        at += 2
        if count:
            column += count
        elif value == 0:
            # The end of a row.
            if column < header.width_px:
                return False
            column = 0
            row += 1
        elif value < 3:
            # The end of the image, or a jump over pixels.
            return False
        else:
            packed_bytes = (value + 1) // 2 if is_rle4 else value
            column += value
            # Single pixels are padded to a multiple of 2 bytes.
            at += packed_bytes + packed_bytes % 2
        if column > most_columns:
            return False
    return _is_filled(header, column, row) and at <= len(data)


def _is_filled(header: _BmpHeader, column: int, row: int) -> bool:
    if row >= header.height_px:
        return True
    last_row = header.height_px - 1
    is_last_row = row == last_row
    is_behind_end = column >= header.width_px
    return is_last_row and is_behind_end
