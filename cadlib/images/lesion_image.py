"""What is known of one image once it was read, and how large an image may be."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import ImageRejected
from cadlib.images.patient import NO_FACTS, PatientFacts

MIN_SIDE_PX = 64
"""The shortest side that can be read; below it a lesion has no structure left to judge."""
MAX_PIXELS = 40_000_000
"""The largest picture that is decoded: above any dermatoscope or phone in full frame, below a bomb."""
ENOUGH_PX = 1200
"""A JPEG is decoded at a half, quarter or eighth of its size where its longer side keeps this many pixels, its shorter
half as many: what a page shows at most, and far more than a network reads. libjpeg does that on the way, in a fraction
of the time."""


@dataclass(frozen=True, eq=False)
class LesionImage:
    """One picture that passed the door.

    `pixels` is (H, W, 3) uint8 sRGB, upright, C-contiguous and read-only. `sha256` is the hexadecimal digest
    of the file's bytes, or of shape and pixels where a Pillow image was given. `format` is "JPEG", "PNG",
    "TIFF", "BMP", "WebP", "DICOM" or "PIL". `notes` says in one sentence each what was done to the picture. `reduced`
    is (width, height) of the upright picture in its file where that was read at a fraction of it, else None.
    `facts` is what a DICOM header says of age, sex and site; no answer rests on them unless they are handed on.
    `red_blue_swapped` is true where a reader had the two channels exchanged (`channels.swap_red_and_blue`).
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
        """Return what tells these pixels from others: `sha256`, and whether red and blue were exchanged since."""
        return f"{self.sha256}-swapped" if self.red_blue_swapped else self.sha256

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
        """Return (width, height) of the upright picture in its file: those of `pixels` unless it was reduced."""
        return self.reduced or (self.width_px, self.height_px)


def check_size(size: tuple[int, int], name: str) -> None:
    """Refuse a picture too small to judge or too large to decode."""
    width_px, height_px = size
    if min(size) < MIN_SIDE_PX:
        raise ImageRejected(
            f"{name} is {width_px} × {height_px} pixels. Expected at least {MIN_SIDE_PX} on each side; "
            "use the original picture, not a thumbnail."
        )
    if width_px * height_px > MAX_PIXELS:
        raise ImageRejected(
            f"{name} is {width_px} × {height_px} pixels. Expected at most {MAX_PIXELS // 10**6} megapixels; "
            "make the picture smaller or cut it to the lesion."
        )
