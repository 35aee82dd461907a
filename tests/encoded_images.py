"""A picture for tests of file formats, and pictures as files of any format."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def asymmetric_picture(height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Return a picture in which no turn or flip gives the same pixels; shared, so read-only."""
    y, x = np.mgrid[:height_px, :width_px]
    blocks = 40 + (x // 30) * 60 + (y // 35) * 20
    pixels = np.stack([x * 2, y * 3, blocks], axis=-1).astype(np.uint8)
    pixels.flags.writeable = False
    return pixels


def encoded(picture: NDArray[np.uint8] | Image.Image, kind: str, **options: object) -> bytes:
    """Return a picture as a file's bytes."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
