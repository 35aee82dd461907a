"""Compares two saliency maps."""

import math

import numpy as np
from numpy.typing import NDArray


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Return Pearson's correlation of two maps over their places, -1 to 1.

    It is NaN where a map is flat.
    """
    both_vary = np.ptp(first) > 0 and np.ptp(second) > 0
    if not both_vary:
        return math.nan
    # A flat map has a standard deviation of 0, by which a correlation would be divided.
    correlations = np.corrcoef(first.ravel(), second.ravel())
    return float(correlations[0, 1])
