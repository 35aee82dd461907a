"""Measures the colours of an image and its detail by size.

A network that classifies eight diagnoses drops what all skin has in common: its features do not
show whether there is skin in the image at all. These plain measurements do. Colours are CIE Lab;
detail is the Laplacian pyramid of Burt and Adelson (IEEE Transactions on Communications 31, 1983).
"""

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

# At this side, models of different input sizes have the same measurements, and noise, hair and the
# blocks of a JPEG, which an image of a lesion may have, hardly count.
SIDE_PX = 64
"""An image is measured at this side."""
COARSE_PX = 32
LEVELS = 4
SHARES = (2, 25, 50, 75, 98)
"""Percentiles of each channel."""
N_MEASUREMENTS = 3 * len(SHARES) + 3 + 7 * LEVELS + 3

# Smaller detail is the rounding of a file.
_FLOOR = np.float32(1e-3)
"""Least detail, as a share of full scale."""


Floats = NDArray[np.float32]
Measurements = NDArray[np.floating]
Doubles = NDArray[np.float64]


def measure(pixels: NDArray[np.uint8]) -> Floats:
    """Return the measurements of (N, S, S, 3) uint8 RGB images, (N, N_MEASUREMENTS) float32."""
    measurements = [_measured(image) for image in pixels]
    return np.stack(measurements)


def _measured(pixels: NDArray[np.uint8]) -> Floats:
    small = cv2.resize(pixels, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    shares = small.astype(np.float32) / 255
    lab = cv2.cvtColor(shares, cv2.COLOR_RGB2Lab)
    # The lightness of CIE Lab goes up to 100.
    level: MatLike = lab / np.float32(100)
    coarse = cv2.resize(level, (COARSE_PX, COARSE_PX), interpolation=cv2.INTER_AREA)
    colours = np.asarray(coarse, np.float32).reshape(-1, 3)
    percentiles = _percentiles(colours)
    measurements: list[Measurements] = [percentiles.ravel(), _correlations(colours)]
    for _ in range(LEVELS):
        smaller = cv2.pyrDown(level)
        measurements += _details(level, smaller)
        level = smaller
    measurements.append(_spread(level))
    return np.concatenate(measurements).astype(np.float32)


def _details(level: MatLike, smaller: MatLike) -> list[Measurements]:
    """Return detail, sharpness and direction of a pyramid level beyond the next one."""
    size_px = level.shape[1::-1]
    blurred = cv2.pyrUp(smaller, dstsize=size_px)
    detail = cv2.subtract(level, blurred)
    spread = _spread(detail) + _FLOOR
    mean_of_channel = cv2.mean(np.abs(detail))[:3]
    size = np.array(mean_of_channel) + _FLOOR
    return [np.log(spread), np.log(size / spread), _direction(level)]


def _direction(level: MatLike) -> Measurements:
    """Return the logarithm of the ratio of horizontal to vertical steps in lightness, (1,)."""
    lightness = cv2.extractChannel(level, 0)
    along = _mean_step(lightness[:, 1:], lightness[:, :-1])
    down = _mean_step(lightness[1:], lightness[:-1])
    ratio = (along + _FLOOR) / (down + _FLOOR)
    direction: Measurements = np.log(np.array([ratio]))
    return direction


def _mean_step(values: MatLike, neighbours: MatLike) -> float:
    """Return the mean distance of values from their neighbours."""
    # NumPy takes five times as long.
    total = cv2.norm(values, neighbours, cv2.NORM_L1)
    return total / values.size


def _percentiles(values: Floats) -> Doubles:
    """Return the percentiles SHARES of each channel of (n, 3), as np.percentile does."""
    # np.percentile takes three times as long.
    last = len(values) - 1
    places = np.array(SHARES)[:, None] / 100 * last
    ascending = np.sort(values, axis=0)
    below = places.astype(int).ravel()
    lower = ascending[below]
    step = ascending[below + 1] - lower
    percentiles: Doubles = lower + step * (places % 1)
    return percentiles


def _spread(values: MatLike) -> Doubles:
    """Return the standard deviation of each channel of (h, w, 3)."""
    # NumPy takes twenty times as long for three channels.
    _, deviations = cv2.meanStdDev(values)
    return np.asarray(deviations, np.float64).ravel()


def _correlations(values: Floats) -> Floats:
    """Return the correlation of each pair of the three channels of (n, 3), (3,).

    It is near 0 for a channel that hardly varies.
    """
    spread = values - values.mean(axis=0)
    # The floor on the diagonal keeps a constant channel from a division by 0.
    floor = np.eye(3, dtype=np.float32) * _FLOOR**2
    products = spread.T @ spread
    shared = products / len(values) + floor
    scale = np.sqrt(np.diag(shared))
    matrix = shared / np.outer(scale, scale)
    pairs = matrix[(0, 0, 1), (1, 2, 2)]
    correlations: Floats = pairs.astype(np.float32)
    return correlations
