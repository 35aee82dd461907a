"""Check the chunks of a PNG: checksums, order and the length of the packed pixels.

Pillow reads no checksum of the pixels, and stops once it has enough of them.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from cadlib.images.file_types.kinds import damaged, unsupported

_SIGNATURE_BYTES = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> channels (PNG 11.2.2)
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
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Chunk:
    """A chunk of a PNG: its type of four letters and its data."""

    kind: bytes
    data: memoryview


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """Walk over the chunks up to IEND; raise ValueError where one is cut off or fails its checksum."""
    view = memoryview(data)
    at = _SIGNATURE_BYTES
    while True:
        if at + 12 > len(data):
            raise ValueError("a PNG without an end")
        length, kind = struct.unpack(">I4s", view[at : at + 8])
        end = at + 8 + length
        if end + 4 > len(data):
            raise ValueError("a chunk behind the end of the file")
        if zlib.crc32(view[at + 4 : end]) != struct.unpack(">I", view[end : end + 4])[0]:
            raise ValueError("a chunk with a wrong checksum")
        yield Chunk(kind, view[at + 8 : end])
        if kind == b"IEND":
            return
        at = end + 4


def check_png(data: bytes, name: str) -> int:
    """Return 0, the page to read; raise ImageRejected for a damaged chunk and a form that is not supported."""
    if data[_SIGNATURE_BYTES + 4 : _SIGNATURE_BYTES + 8] == b"CgBI":
        raise unsupported(name, "a PNG image in Apple's own form for apps")
    try:
        header, *others = list(png_chunks(data))
        _, _, bits, colour_type, compression, filtering, interlace = struct.unpack(
            ">IIBBBBB", header.data
        )
    except (ValueError, struct.error) as error:
        raise damaged(name, "PNG") from error
    if header.kind != b"IHDR" or bits not in _DEPTHS.get(colour_type, ()):
        raise damaged(name, "PNG")
    if compression or filtering or interlace > 1:
        raise damaged(name, "PNG")
    for chunk in others:
        # The case of the first letter tells what a reader must understand.
        if chunk.kind[:1].isupper() and chunk.kind not in _CRITICAL:
            raise unsupported(name, "a PNG image with a critical part of a later version")
    return 0


def check_png_pixels(data: bytes, name: str) -> None:
    """Refuse a PNG whose packed pixels end early, fail their checksum or do not end with their image."""
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
                length += len(inflate.decompress(rest, _PIECE_BYTES))
                rest = inflate.unconsumed_tail
                if length > needed + _PIECE_BYTES:
                    raise ValueError("more pixels than the image has")
    except (ValueError, zlib.error) as error:
        raise damaged(name, "PNG") from error
    if not inflate.eof or length < needed:
        raise damaged(name, "PNG")


def _unpacked_bytes(header: memoryview) -> int:
    """Return the bytes of all rows, each with its filter byte."""
    width_px, height_px, bits, colour_type, _, _, interlace = struct.unpack(">IIBBBBB", header)
    pixel_bits = bits * _CHANNELS[colour_type]
    passes = _PASSES if interlace else ((0, 0, 1, 1),)
    total = 0
    for left, top, step_x, step_y in passes:
        columns, rows = math.ceil((width_px - left) / step_x), math.ceil((height_px - top) / step_y)
        if columns > 0 and rows > 0:
            total += rows * (1 + math.ceil(columns * pixel_bits / 8))
    return total
