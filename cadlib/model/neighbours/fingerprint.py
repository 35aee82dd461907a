"""A picture in 256 bits, which stay nearly the same when its file is resized, compressed or recoloured.

The perceptual hash of Zauner (Implementation and Benchmarking of Perceptual Image Hash Functions, 2010), of four times
the usual bits: which of the 16 × 16 slowest waves of the grey picture are above their median. Not imagehash's: what
answers would load PyWavelets for it.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

WAVES = 16
SIDE_PX = 64
BYTES = WAVES * WAVES // 8


def fingerprints(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the fingerprint of each picture of (N, S, S, 3) uint8 RGB, (N, 32) uint8."""
    return np.stack([_fingerprint(picture) for picture in pictures])


def _fingerprint(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    slow = cv2.dct(small.astype(np.float32))[:WAVES, :WAVES]
    return np.packbits(slow > np.median(slow))
