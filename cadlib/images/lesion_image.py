"""Defines an image that was read and the limits on its size."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import ImageRejected
from cadlib.images.patient import NO_FACTS, PatientFacts

MIN_SIDE_PX = 64
"""The shortest side that can be read. A smaller lesion shows no structure that can be assessed."""
MAX_PIXELS = 40_000_000
"""The largest image that is decoded: larger than those of dermatoscopes and phones."""
ENOUGH_PX = 1200
"""A JPEG is decoded at a half, quarter or eighth of its size if its longer side keeps this many
pixels and its shorter side half as many. A page shows no more, and a network reads far less.
libjpeg reduces while it decodes, in a fraction of the time."""


@dataclass(frozen=True, eq=False)
class LesionImage:
    """An image that was read and checked.

    `pixels` is (H, W, 3) uint8 sRGB, upright, C-contiguous and read-only.
    `sha256` is the hexadecimal digest of the file's bytes, or of shape and pixels for a Pillow
    image.
    `format` is "JPEG", "PNG", "TIFF", "BMP", "WebP", "DICOM" or "PIL".
    `notes` describes each change to the image in one sentence.
    `reduced` is (width, height) of the upright image in its file if the image was read at a
    fraction of that size, else None.
    `facts` holds the age, sex and site of a DICOM header. A model uses them only if they are passed
    to it.
    `red_blue_swapped` is true if a user had the two channels exchanged
    (`red_blue_swap.swap_red_and_blue`).
    """

    pixels: NDArray[np.uint8]
    sha256: str
    format: str
    notes: tuple[str, ...] = ()
    reduced: tuple[int, int] | None = None
    facts: PatientFacts = NO_FACTS
    red_blue_swapped: bool = False

    @property
    def key(self) -> str:
        """Return a key of these pixels: `sha256`, and whether red and blue were exchanged."""
        # The file is the same, but its pixels are not.
        if self.red_blue_swapped:
            return f"{self.sha256}-swapped"
        return self.sha256

    @property
    def height_px(self) -> int:
        """Return the height of `pixels`."""
        return int(self.pixels.shape[0])

    @property
    def width_px(self) -> int:
        """Return the width of `pixels`."""
        return int(self.pixels.shape[1])

    @property
    def file_px(self) -> tuple[int, int]:
        """Return (width, height) of the upright image in its file, before any reduction."""
        return self.reduced or (self.width_px, self.height_px)


def check_size(size: tuple[int, int], name: str) -> None:
    """Raise ImageRejected for an image that is too small to assess or too large to decode."""
    width_px, height_px = size
    if min(size) < MIN_SIDE_PX:
        raise ImageRejected(
            f"{name} is {width_px} × {height_px} px. "
            f"Expected at least {MIN_SIDE_PX} px on each side. "
            "Use the original image, not a thumbnail."
        )
    if width_px * height_px > MAX_PIXELS:
        raise ImageRejected(
            f"{name} is {width_px} × {height_px} px. "
            f"Expected at most {MAX_PIXELS // 10**6} megapixels. "
            "Reduce the image size, or crop it to the lesion."
        )
