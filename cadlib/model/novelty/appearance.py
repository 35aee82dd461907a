"""What is measured of the look of a picture: its colours, and how much detail of which size they have.

A network that tells eight diagnoses apart forgets what all skin has in common: its features do not say whether there is
skin in the picture at all. These plain figures do. Colours are CIE Lab; detail is the Laplacian pyramid of Burt and
Adelson (IEEE Transactions on Communications 31, 1983).
"""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

SIDE_PX = 64
"""A picture is measured at this side: models that read other sizes have the same figures, and noise, hair and the
blocks of a JPEG, which a picture of a lesion may have, hardly count."""
COARSE_PX = 32
LEVELS = 4
SHARES = (2, 25, 50, 75, 98)
"""Percentiles of each channel."""
N_FIGURES = 3 * len(SHARES) + 3 + 7 * LEVELS + 3

_FLOOR = np.float32(1e-3)
"""Of detail, as a share of full scale: below it there is the rounding of a file."""


def measure(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the figures of (N, S, S, 3) uint8 RGB pictures, (N, N_FIGURES) float32."""
    return np.stack([_measured(one) for one in pixels])


def _measured(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    small = cv2.resize(pixels, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    level: MatLike = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab) / np.float32(
        100
    )
    coarse = cv2.resize(level, (COARSE_PX, COARSE_PX), interpolation=cv2.INTER_AREA)
    colours = np.asarray(coarse, np.float32).reshape(-1, 3)
    figures: list[NDArray[np.floating]] = [_percentiles(colours).ravel(), _correlations(colours)]
    for _ in range(LEVELS):
        smaller = cv2.pyrDown(level)
        figures += _details(level, smaller)
        level = smaller
    figures.append(_spread(level))
    return np.concatenate(figures).astype(np.float32)


def _details(level: MatLike, smaller: MatLike) -> list[NDArray[np.floating]]:
    """Return how much detail a level of the pyramid has beyond the next one, how sharp it is, and its direction."""
    detail = cv2.subtract(level, cv2.pyrUp(smaller, dstsize=level.shape[1::-1]))
    spread = _spread(detail) + _FLOOR
    size = np.array(cv2.mean(np.abs(detail))[:3]) + _FLOOR
    lightness = cv2.extractChannel(level, 0)
    along = _mean_step(lightness[:, 1:], lightness[:, :-1]) + _FLOOR
    down = _mean_step(lightness[1:], lightness[:-1]) + _FLOOR
    return [np.log(spread), np.log(size / spread), np.log(np.array([along / down]))]


def _mean_step(values: MatLike, neighbours: MatLike) -> float:
    """Return the mean distance of values from their neighbours; NumPy takes five times as long."""
    return cv2.norm(values, neighbours, cv2.NORM_L1) / values.size


def _percentiles(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the SHARES of each channel of (n, 3) as np.percentile does, which takes three times as long."""
    places, values = np.array(SHARES)[:, None] / 100 * (len(values) - 1), np.sort(values, axis=0)
    below = places.astype(int).ravel()
    percentiles: NDArray[np.float64] = values[below] + (values[below + 1] - values[below]) * (
        places % 1
    )
    return percentiles


def _spread(values: MatLike) -> NDArray[np.float64]:
    """Return the standard deviation of each channel of (h, w, 3); NumPy takes twenty times as long over three."""
    return np.asarray(cv2.meanStdDev(values)[1], np.float64).ravel()


def _correlations(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how the three channels of (n, 3) go together, near 0 for one that hardly varies."""
    spread = values - values.mean(axis=0)
    shared = spread.T @ spread / len(values) + np.eye(3, dtype=np.float32) * _FLOOR**2
    scale = np.sqrt(np.diag(shared))
    correlations: NDArray[np.float32] = (shared / np.outer(scale, scale))[
        (0, 0, 1), (1, 2, 2)
    ].astype(np.float32)
    return correlations
