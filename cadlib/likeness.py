"""Do two images show one picture? Asked of their pixels, for what a hash and a network call alike need not be it.

Pictures of a kind look alike as a whole: pale skin with a brown spot, or a bright circle on black, as a dermatoscope
shows it. What only one picture has is its detail: each place compared with its own surroundings, at an equal contrast
everywhere, and the black around the field of view left out. Details of one picture agree also after it was
compressed, resized, recoloured, mirrored or turned by quarters; those of another crop or another photograph of the
same lesion mostly do not.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter

SIDE_PX = 32
SAME_PICTURE = 0.6
"""Correlation of details from which on two images count as one picture."""
TURNS = 8

_DARK = 40.0
"""Grey level, 0 to 255, at or below which a pixel counts as outside the field of view."""
_AROUND_PX = 1.5
_NOISE = 3.0
"""Grey levels: contrast below this is what compression and sensors make, and is not raised to the level of the rest."""

Details = NDArray[np.float32]


def detail(pixels: NDArray[np.uint8]) -> Details:
    """Return the detail of (S, S, 3) uint8 RGB as (32, 32) float32: mean 0, length 1; all 0 where there is none."""
    small = Image.fromarray(pixels).convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    grey = np.asarray(small, np.float32)
    field = binary_erosion(grey > _DARK, iterations=2, border_value=1).astype(np.float32)
    rough = (grey - _smoothed(grey, field, _AROUND_PX)) * field
    even = rough / (np.sqrt(_smoothed(rough**2, field, 2 * _AROUND_PX)) + _NOISE)
    even -= field * (even.sum() / max(field.sum(), 1.0))
    length = np.linalg.norm(even)
    found: Details = np.float32(1 / length if length > 0 else 0) * even
    return found


def turned(details: Details) -> list[Details]:
    """Return (N, 32, 32) details as they are, mirrored and turned by quarters: eight times (N, 1024)."""
    sides = (details, details[:, :, ::-1])
    return [np.rot90(side, turns, (1, 2)).reshape(len(details), -1) for side in sides for turns in range(TURNS // 2)]


def likeness(left: Details, right: list[Details]) -> NDArray[np.float32]:
    """Return (N, M) correlations, -1 to 1, of (N, 1024) details with M `turned` ones, each at its best turn."""
    best = left @ right[0].T
    for turn in right[1:]:
        np.maximum(best, left @ turn.T, out=best)
    return best


def _smoothed(values: NDArray[np.float32], field: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Return the mean around each place, over the field of view alone."""
    weight: NDArray[np.float32] = gaussian_filter(field, sigma_px)
    total: NDArray[np.float32] = gaussian_filter(values * field, sigma_px)
    return total / np.maximum(weight, np.float32(1e-3))
