"""Checks that a WebP holds the chunks that its header states.

WebP has no checksum. Within the pixels, libwebp notices little damage apart from a missing end.
"""

import struct

from cadlib.images.file_types.kinds import damaged

_FILE_HEADER_BYTES = 12
_CHUNK_HEADER_BYTES = 8
# Lossy pixels, lossless pixels, and a frame of an animation.
_PIXEL_CHUNKS = (b"VP8 ", b"VP8L", b"ANMF")


def check_webp(data: bytes, name: str) -> int:
    """Return 0, the page to read.

    Raise ImageRejected for a WebP that is cut short or has no pixels.
    """
    if len(data) < _FILE_HEADER_BYTES:
        raise damaged(name, "WebP")
    (length,) = struct.unpack("<I", data[4:8])
    end = 8 + length
    if end > len(data):
        raise damaged(name, "WebP")
    at = _FILE_HEADER_BYTES
    has_pixels = False
    while at + _CHUNK_HEADER_BYTES <= end:
        kind, size = struct.unpack_from("<4sI", data, at)
        at += _CHUNK_HEADER_BYTES + size
        if at > end:
            raise damaged(name, "WebP")
        if kind in _PIXEL_CHUNKS:
            has_pixels = True
        # Chunks of odd length are padded with one byte.
        at += size % 2
    if not has_pixels:
        raise damaged(name, "WebP")
    return 0
