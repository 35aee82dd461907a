"""Measures whether red leads blue, as it does in skin."""

import math

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

DARK = 50
"""Channel value up to which a pixel counts as black: its hue is noise."""
FEWEST_PIXELS = 20
# Keeps the logarithm of dark channel values from jumping with their noise.
_OFFSET = 8
# In channel values: an image without colour leads to neither side.
_GREY = 3
# Spread of a flat channel.
_EVEN = 0.02
_SPREAD_SCALE = 0.2
_SPREAD_WEIGHT = 0.5


def red_lead(pixels: MatLike, usable: NDArray[np.bool_]) -> float:
    """Return how clearly red leads blue, -1.5 to 1.5, of (H, W, 3) float32 RGB of 0 to 255.

    Two signs are added. Skin and lesions reflect more red than blue: the mean of red minus blue, as
    a share of the mean colourfulness. Melanin and blood absorb more blue than red, so blue varies
    more from place to place, whatever colour the light has. Exchanging red and blue changes only
    the sign of the result. It is 0 for an image without colour, and where fewer than
    `FEWEST_PIXELS` pixels are usable.
    """
    red, green, blue = cv2.split(pixels)
    brightest = cv2.max(cv2.max(red, green), blue)
    darkest = cv2.min(cv2.min(red, green), blue)
    coloured = usable & (brightest > DARK)
    mask = coloured.astype(np.uint8)
    if cv2.countNonZero(mask) < FEWEST_PIXELS:
        return 0.0

    excess = _mean(red, mask) - _mean(blue, mask)
    colourfulness = _mean(brightest, mask) - _mean(darkest, mask)
    lead_of_means = excess / (colourfulness + _GREY)
    blue_spread = _spread(blue, mask) + _EVEN
    red_spread = _spread(red, mask) + _EVEN
    spread = math.log(blue_spread / red_spread)
    # The hyperbolic tangent keeps an extreme spread from deciding alone.
    bounded_spread = math.tanh(spread / _SPREAD_SCALE)
    lead_of_spreads = _SPREAD_WEIGHT * bounded_spread
    return lead_of_means + lead_of_spreads


def _mean(channel: MatLike, mask: MatLike) -> float:
    return cv2.mean(channel, mask)[0]


def _spread(channel: MatLike, mask: MatLike) -> float:
    """Return the standard deviation of a channel's logarithm.

    Light of another colour does not change it.
    """
    logarithm = cv2.log(channel + _OFFSET)
    _, deviation = cv2.meanStdDev(logarithm, mask=mask)
    return float(deviation[0, 0])
