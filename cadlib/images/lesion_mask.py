"""Finds the lesion in a dermoscopic image."""

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SMOOTHING_SHARE = 0.02
"""Standard deviation of the smoothing that hides hair, as a share of the side."""
LEAST_SHARE = 0.02
MOST_SHARE = 0.9
"""A lesion that covers less or more of the image is not a lesion that was found."""
_GREYS = 255


def lesion_mask(pixels: Pixels, skin: Pixels) -> Mask | None:
    """Return where the lesion is in (S, S, 3) uint8 RGB, (S, S) bool; None if none is found.

    The method is that of Otsu (IEEE Trans. SMC 9 (1979) 62): the distances from the colour of the
    skin, (3,) uint8, are parted where the two classes differ most. Of the connected regions of the
    far class, the one with the most pixels near the centre is the lesion. It is a simple method for
    averages over many images. It is not good enough to measure a single lesion.
    """
    is_far = _far_from(pixels, skin)
    _, regions = cv2.connectedComponents(is_far)
    quarter = len(pixels) // 4
    centre = regions[quarter:-quarter, quarter:-quarter]
    counts = np.bincount(centre.ravel())
    # Region 0 is the skin.
    counts[0] = 0
    if not counts.any():
        return None
    mask: Mask = regions == counts.argmax()
    if not LEAST_SHARE <= mask.mean() <= MOST_SHARE:
        return None
    return mask


def _far_from(pixels: Pixels, skin: Pixels) -> Pixels:
    """Return 1 where the colour is of the class that is far from the skin, else 0, (S, S)."""
    sigma = SMOOTHING_SHARE * len(pixels)
    smooth = cv2.GaussianBlur(pixels, (0, 0), sigma).astype(np.float32)
    distances = np.linalg.norm(smooth - skin, axis=-1)
    # A uniform image has no far class.
    farthest = max(float(distances.max()), 1.0)
    greys = np.rint(distances / farthest * _GREYS).astype(np.uint8)
    _, is_far = cv2.threshold(greys, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(is_far, np.uint8)


def share_inside(values: NDArray[np.float32], mask: Mask | None) -> float:
    """Return the mean of values from 0 on inside a mask, as a share of both means' sum.

    It is 0.5 where a map does not distinguish the lesion from its surroundings, and 1 where all of
    it is inside. The ratio of the mean inside to that outside (as in Tschandl et al., Nature
    Medicine 26 (2020) 1229) is the share divided by one minus the share. The result is NaN without
    a mask, and for a map of zeros.
    """
    if mask is None or not values.any():
        return float("nan")
    inside = float(values[mask].mean())
    outside = float(values[~mask].mean())
    return inside / (inside + outside)
