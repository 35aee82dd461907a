"""Fifteen kinds of damage to a dermoscopic picture, each at five strengths, as pure functions.

Strength 1 is hardly seen, strength 5 is severe, but a dermatologist still knows a dermoscopic picture. Lengths
are fractions of the picture's short side, so that a kind means the same at 84 px and at 4,000 px; JPEG alone
works in the pixels of a file. The same seed draws the same hairs, and a greater strength draws more of them.

    camera    noise, blur, resolution, JPEG, exposure, contrast, colour
    drawn     what lies between lens and skin: frame, hair, ruler, ink, bubbles

The idea of five strengths is Hendrycks and Dietterich's (ICLR 2019). Their code is not used: `imagecorruptions`
fails with today's scikit-image and SciPy, `corrupt-tta` measures in pixels of a 224 px photograph and draws from
numpy's global generator. What a kept library has (Gaussian filter, convolution, JPEG, resampling) is SciPy's or
Pillow's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.images.corruptions import camera, overlays

STRENGTHS = (1, 2, 3, 4, 5)
MIN_SIDE_PX = 16

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Corruption:
    """One kind of damage; `levels` holds a number for each strength, and `unit` says of what."""

    name: str
    levels: tuple[float, float, float, float, float]
    unit: str
    damage: Callable[[Pixels, float, np.random.Generator], Pixels]

    def __call__(self, pixels: Pixels, strength: int, seed: int) -> Pixels:
        """Return a damaged copy of (H, W, 3) uint8 RGB, of the same shape and type.

        `strength` is from 1 to 5; `seed`, 0 or more, fixes what is drawn. Raise ValueError for anything else.
        """
        if (
            pixels.dtype != np.uint8
            or pixels.ndim != 3
            or pixels.shape[2] != 3
            or min(pixels.shape[:2]) < MIN_SIDE_PX
        ):
            raise ValueError(
                f"Expected `pixels` to be (H, W, 3) uint8 of at least {MIN_SIDE_PX} px a side but got "
                f"{pixels.shape} {pixels.dtype}."
            )
        if strength not in STRENGTHS:
            raise ValueError(
                f"Expected `strength` to be one of 1, 2, 3, 4, 5 but got {strength!r}."
            )
        if seed < 0:
            raise ValueError(f"Expected `seed` to be 0 or more but got {seed}.")
        return self.damage(pixels, self.levels[strength - 1], np.random.default_rng(seed))


CORRUPTIONS = (
    Corruption("noise", (0.015, 0.03, 0.05, 0.08, 0.12), "standard deviation, of full scale", camera.noise),
    Corruption("shot noise", (2000, 700, 250, 100, 45), "photons that make full scale", camera.shot_noise),
    Corruption("defocus", (0.006, 0.011, 0.018, 0.027, 0.038), "radius of the disc, of the short side", camera.defocus),
    Corruption("motion", (0.012, 0.024, 0.04, 0.06, 0.085), "length of the way, of the short side", camera.motion),
    Corruption("low resolution", (0.75, 0.55, 0.4, 0.28, 0.2), "share of the pixels of a side", camera.low_resolution),
    Corruption("JPEG", (60, 35, 20, 12, 7), "quality of the file", camera.jpeg),
    Corruption("overexposure", (0.15, 0.3, 0.5, 0.75, 1.0), "stops of light too many", camera.expose),
    Corruption("underexposure", (-0.4, -0.9, -1.5, -2.2, -3.0), "stops of light", camera.expose),
    Corruption("low contrast", (0.85, 0.7, 0.55, 0.4, 0.27), "share of the contrast that is left", camera.contrast),
    Corruption("colour cast", (0.1, 0.22, 0.38, 0.55, 0.75), "stops between red and blue", camera.colour_cast),
    Corruption("dark frame", (0.1, 0.25, 0.4, 0.55, 0.7), "light lost in the corners", overlays.dark_frame),
    Corruption("hair", (2, 6, 14, 26, 42), "hairs in a square", overlays.hair),
    Corruption("ruler", (0.2, 0.4, 0.6, 0.8, 1.0), "faint at the border to bold beside the lesion", overlays.ruler),
    Corruption("ink", (0.2, 0.4, 0.6, 0.8, 1.0), "from a faint stroke to a ring round the lesion", overlays.ink),
    Corruption("gel bubbles", (4, 11, 22, 38, 60), "bubbles in a square", overlays.bubbles),
)  # fmt: skip
"""In the order of tables: the camera's first, then what lies on the skin."""
