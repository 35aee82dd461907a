"""Measure whether red leads blue, as it does in skin."""

import math

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

DARK = 50
"""Channel value up to which a pixel counts as black: its hue is noise."""
FEWEST_PIXELS = 20
_OFFSET = 8  # keeps the logarithm of dark channel values from jumping with their noise
_GREY = 3  # channel values; a picture without colour leads to neither side
_EVEN = 0.02  # spread of a flat channel
_SPREAD_SCALE = 0.2
_SPREAD_WEIGHT = 0.5


def red_lead(pixels: MatLike, usable: NDArray[np.bool_]) -> float:
    """Return how clearly red leads blue, -1.5 to 1.5, of (H, W, 3) float32 RGB of 0 to 255.

    Two signs are added. Skin and lesions reflect more red than blue: the mean of red minus blue, as a share of the
    mean colourfulness. Melanin and blood absorb more blue than red, so that blue varies more from place to place,
    whatever colour the light has. Exchanging red and blue changes only the sign of the result. It is 0 for a picture
    without colour, and where fewer than `FEWEST_PIXELS` pixels are usable.
    """
    red, green, blue = cv2.split(pixels)
    most = cv2.max(cv2.max(red, green), blue)
    least = cv2.min(cv2.min(red, green), blue)
    mask = (usable & (most > DARK)).astype(np.uint8)
    if cv2.countNonZero(mask) < FEWEST_PIXELS:
        return 0.0

    excess = cv2.mean(red, mask)[0] - cv2.mean(blue, mask)[0]
    colourfulness = cv2.mean(most, mask)[0] - cv2.mean(least, mask)[0]
    spread = math.log((_spread(blue, mask) + _EVEN) / (_spread(red, mask) + _EVEN))
    return excess / (colourfulness + _GREY) + _SPREAD_WEIGHT * math.tanh(spread / _SPREAD_SCALE)


def _spread(channel: MatLike, mask: MatLike) -> float:
    """Return the standard deviation of a channel's logarithm: light of another colour does not change it."""
    _, deviation = cv2.meanStdDev(cv2.log(channel + _OFFSET), mask=mask)
    return float(deviation[0, 0])
