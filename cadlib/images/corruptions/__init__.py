"""Damages a dermoscopic image in fifteen ways at five strengths.

All kinds are pure functions. Strength 1 is hardly visible. Strength 5 is severe, but a
dermatologist still recognises a dermoscopic image. Lengths are fractions of the image's short side,
so that a kind means the same at 84 px and at 4,000 px. Only JPEG works in the pixels of a file. The
same seed draws the same hairs, and a greater strength draws more of them.

    camera      noise, blur, resolution, JPEG, exposure, contrast, colour
    overlays    objects between lens and skin: frame, hair, ruler, ink, bubbles

The idea of five strengths is from Hendrycks and Dietterich (ICLR 2019). Their code is not used:
`imagecorruptions` fails with current scikit-image and SciPy, `corrupt-tta` measures in pixels of a
224 px photograph and draws from numpy's global generator. Gaussian filter, convolution, JPEG and
resampling are those of SciPy and Pillow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from cadlib.images.brushes import Pixels
from cadlib.images.corruptions import camera, overlays

STRENGTHS = (1, 2, 3, 4, 5)
MIN_SIDE_PX = 16


@dataclass(frozen=True)
class Corruption:
    """One kind of damage. `levels` has a number for each strength, `unit` is its unit."""

    name: str
    levels: tuple[float, float, float, float, float]
    unit: str
    damage: Callable[[Pixels, float, Generator], Pixels]

    def __call__(self, pixels: Pixels, strength: int, seed: int) -> Pixels:
        """Return a damaged copy of (H, W, 3) uint8 RGB, of the same shape and type.

        `strength` is from 1 to 5. `seed`, 0 or more, fixes the random draws. Raise ValueError for
        anything else.
        """
        if not _is_rgb(pixels) or min(pixels.shape[:2]) < MIN_SIDE_PX:
            raise ValueError(
                f"Expected `pixels` to be (H, W, 3) uint8 of at least {MIN_SIDE_PX} px a side "
                f"but got {pixels.shape} {pixels.dtype}."
            )
        if strength not in STRENGTHS:
            raise ValueError(
                f"Expected `strength` to be one of 1, 2, 3, 4, 5 but got {strength!r}."
            )
        if seed < 0:
            raise ValueError(f"Expected `seed` to be 0 or more but got {seed}.")
        level = self.levels[strength - 1]
        # A generator of its own, so that other draws do not change the damage.
        rng = np.random.default_rng(seed)
        return self.damage(pixels, level, rng)


def _is_rgb(pixels: Pixels) -> bool:
    return pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


CORRUPTIONS = (
    Corruption(
        name="noise",
        levels=(0.015, 0.03, 0.05, 0.08, 0.12),
        unit="standard deviation, of full scale",
        damage=camera.noise,
    ),
    Corruption(
        name="shot noise",
        levels=(2000, 700, 250, 100, 45),
        unit="photons that make full scale",
        damage=camera.shot_noise,
    ),
    Corruption(
        name="defocus",
        levels=(0.006, 0.011, 0.018, 0.027, 0.038),
        unit="radius of the disc, of the short side",
        damage=camera.defocus,
    ),
    Corruption(
        name="motion",
        levels=(0.012, 0.024, 0.04, 0.06, 0.085),
        unit="length of the way, of the short side",
        damage=camera.motion,
    ),
    Corruption(
        name="low resolution",
        levels=(0.75, 0.55, 0.4, 0.28, 0.2),
        unit="share of the pixels of a side",
        damage=camera.low_resolution,
    ),
    Corruption(
        name="JPEG",
        levels=(60, 35, 20, 12, 7),
        unit="quality of the file",
        damage=camera.jpeg,
    ),
    Corruption(
        name="overexposure",
        levels=(0.15, 0.3, 0.5, 0.75, 1.0),
        unit="stops of light too many",
        damage=camera.expose,
    ),
    Corruption(
        name="underexposure",
        levels=(-0.4, -0.9, -1.5, -2.2, -3.0),
        unit="stops of light",
        damage=camera.expose,
    ),
    Corruption(
        name="low contrast",
        levels=(0.85, 0.7, 0.55, 0.4, 0.27),
        unit="share of the contrast that is left",
        damage=camera.contrast,
    ),
    Corruption(
        name="colour cast",
        levels=(0.1, 0.22, 0.38, 0.55, 0.75),
        unit="stops between red and blue",
        damage=camera.colour_cast,
    ),
    Corruption(
        name="dark frame",
        levels=(0.1, 0.25, 0.4, 0.55, 0.7),
        unit="light lost in the corners",
        damage=overlays.dark_frame,
    ),
    Corruption(
        name="hair",
        levels=(2, 6, 14, 26, 42),
        unit="hairs in a square",
        damage=overlays.hair,
    ),
    Corruption(
        name="ruler",
        levels=(0.2, 0.4, 0.6, 0.8, 1.0),
        unit="faint at the border to bold beside the lesion",
        damage=overlays.ruler,
    ),
    Corruption(
        name="ink",
        levels=(0.2, 0.4, 0.6, 0.8, 1.0),
        unit="from a faint stroke to a ring round the lesion",
        damage=overlays.ink,
    ),
    Corruption(
        name="gel bubbles",
        levels=(4, 11, 22, 38, 60),
        unit="bubbles in a square",
        damage=overlays.bubbles,
    ),
)
"""In the order of tables: faults of the camera first, then objects on the skin."""
