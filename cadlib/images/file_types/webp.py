"""Check that a WebP holds the chunks that its header states.

WebP has no checksum: within its pixels libwebp notices little damage but a missing end.
"""

import struct

from cadlib.images.file_types.kinds import damaged

_PIXELS = (b"VP8 ", b"VP8L")
_ANIMATION = b"ANMF"


def check_webp(data: bytes, name: str) -> int:
    """Return 0, the page to read; raise ImageRejected for a WebP that is cut short or lacks its pixels."""
    if len(data) < 12:
        raise damaged(name, "WebP")
    (length,) = struct.unpack("<I", data[4:8])
    end = 8 + length
    if end > len(data):
        raise damaged(name, "WebP")
    at, has_pixels = 12, False
    while at + 8 <= end:
        kind, size = struct.unpack("<4sI", data[at : at + 8])
        at += 8 + size
        if at > end:
            raise damaged(name, "WebP")
        has_pixels = has_pixels or kind in _PIXELS or kind == _ANIMATION
        at += size % 2
    if not has_pixels:
        raise damaged(name, "WebP")
    return 0
