"""Makes thumbnails of image files and keeps them in the cache folder."""

import io
from pathlib import Path

from PIL import Image

from cadlib.files.cache import Cache, file_facts
from cadlib.images import LesionImage, read_image

SIDE_PX = 240
QUALITY = 85
_THUMBNAILS = Cache("thumbnails", ".jpg", spread=True, private=True)


def thumbnail(path: Path) -> bytes:
    """Return the image in a file as a JPEG of at most SIDE_PX a side.

    Raise ImageRejected for a file without a readable image. A changed file gets a new thumbnail.
    The cache folder may be deleted at any time; half a million thumbnails take about 4 GB. If it is
    not writable, each call makes the thumbnail again.
    """
    # A changed file has other facts, and so another entry.
    facts = file_facts(path.resolve())
    entry = _THUMBNAILS.entry(facts, SIDE_PX, QUALITY)
    cached = entry.read(Path.read_bytes)
    if cached is not None:
        return cached
    image = read_image(path, enough_px=SIDE_PX)
    data = shrunk(image, SIDE_PX, QUALITY)
    entry.write(lambda file: file.write(data))
    return data


def shrunk(image: LesionImage, side_px: int, quality: int = 90) -> bytes:
    """Return an image as JPEG, at most `side_px` a side."""
    small = Image.fromarray(image.pixels)
    small.thumbnail(
        (side_px, side_px),
        Image.Resampling.LANCZOS,
        reducing_gap=2.0,
    )
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
