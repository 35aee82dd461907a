"""Checks the chunks of a PNG: checksums, order and pixel data.

Pillow reads no checksum of the pixels, and stops once it has enough of them.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cadlib.images.file_types.kinds import damaged, unsupported

_SIGNATURE_BYTES = 8
# Colour type -> channels and depths (PNG 11.2.2).
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Adam7: the first column and row of each pass, and its steps (PNG 8.2)."""
_WITHOUT_INTERLACE = ((0, 0, 1, 1),)
# Pixels are unpacked in pieces, so that a bomb cannot fill the memory.
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """A chunk of a PNG: its type of four letters and its data."""

    kind: bytes
    data: memoryview


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """Yield the chunks up to IEND; raise ValueError for a truncated chunk or a wrong checksum."""
    view = memoryview(data)
    at = _SIGNATURE_BYTES
    while True:
        if at + 12 > len(data):
            raise ValueError("a PNG without an end")
        length, kind = struct.unpack_from(">I4s", view, at)
        start = at + 8
        end = start + length
        if end + 4 > len(data):
            raise ValueError("a chunk behind the end of the file")
        # The checksum covers the type and the data.
        checked = view[at + 4 : end]
        (checksum,) = struct.unpack_from(">I", view, end)
        if zlib.crc32(checked) != checksum:
            raise ValueError("a chunk with a wrong checksum")
        yield Chunk(kind, view[start:end])
        if kind == b"IEND":
            return
        at = end + 4


def check_png(data: bytes, name: str) -> int:
    """Return 0, the page to read.

    Raise ImageRejected for a damaged chunk and for a form that is not supported.
    """
    first_kind = data[_SIGNATURE_BYTES + 4 : _SIGNATURE_BYTES + 8]
    if first_kind == b"CgBI":
        raise unsupported(name, "a PNG image in Apple's own form for apps")
    try:
        header, *others = list(png_chunks(data))
        fields = struct.unpack(">IIBBBBB", header.data)
    except (ValueError, struct.error) as error:
        raise damaged(name, "PNG") from error
    _, _, bits, colour_type, compression, filtering, interlace = fields
    depths = _DEPTHS.get(colour_type, ())
    if header.kind != b"IHDR" or bits not in depths:
        raise damaged(name, "PNG")
    # The standard defines one compression, one filtering and two ways to interlace.
    if compression or filtering or interlace > 1:
        raise damaged(name, "PNG")
    for chunk in others:
        # A capital first letter marks a chunk that each reader must understand.
        is_critical = chunk.kind[:1].isupper()
        if is_critical and chunk.kind not in _CRITICAL:
            raise unsupported(
                name,
                "a PNG image with a critical part of a later version",
            )
    return 0


def check_png_pixels(data: bytes, name: str) -> None:
    """Raise ImageRejected for a PNG with damaged pixel data.

    The packed pixels must not end early, must match their checksum and must end with the image.
    """
    needed = -1
    inflate = zlib.decompressobj()
    length = 0
    try:
        for chunk in png_chunks(data):
            if chunk.kind == b"IHDR":
                needed = _unpacked_bytes(chunk.data)
            if chunk.kind != b"IDAT":
                continue
            rest: bytes | memoryview = chunk.data
            while len(rest) and not inflate.eof:
                piece = inflate.decompress(rest, _PIECE_BYTES)
                length += len(piece)
                rest = inflate.unconsumed_tail
                if length > needed + _PIECE_BYTES:
                    raise ValueError("more pixels than the image has")
    except (ValueError, zlib.error) as error:
        raise damaged(name, "PNG") from error
    if not inflate.eof or length < needed:
        raise damaged(name, "PNG")


def _unpacked_bytes(header: memoryview) -> int:
    """Return the bytes of all rows, each with its filter byte."""
    fields = struct.unpack(">IIBBBBB", header)
    width_px, height_px, bits, colour_type, _, _, interlace = fields
    pixel_bits = bits * _CHANNELS[colour_type]
    passes = _PASSES if interlace else _WITHOUT_INTERLACE
    total = 0
    for left, top, step_x, step_y in passes:
        width_left = width_px - left
        height_left = height_px - top
        columns = math.ceil(width_left / step_x)
        rows = math.ceil(height_left / step_y)
        # A small image has no pixel in some passes, and then no filter byte either.
        if columns > 0 and rows > 0:
            row_bits = columns * pixel_bits
            pixel_bytes = math.ceil(row_bits / 8)
            total += rows * (1 + pixel_bytes)
    return total
