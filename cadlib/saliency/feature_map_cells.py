"""Locates the cells of a network's last feature map in the image."""

import numpy as np
from numpy.typing import NDArray


def enlargement(
    backbone: str,
    size_px: int,
    cells: int,
    *,
    all_views: bool = False,
) -> NDArray[np.float64]:
    """Return the (size_px, cells) weights that spread a row of cells over the pixels of its side.

    The interpolation is linear. From each end to the outermost cell's centre the value is that
    cell's. With `all_views` the row is an average over all flips and quarter turns of the image: a
    cell lies between its centre and that in a mirrored image.
    """
    centres = _centres(backbone, size_px, cells)
    if all_views:
        mirrored_centres = size_px - 1 - centres[::-1]
        centres = (centres + mirrored_centres) / 2
    numbers = np.arange(cells)
    pixels = np.arange(size_px)
    place = np.interp(pixels, centres, numbers)
    difference = place[:, None] - numbers
    distance = np.abs(difference)
    # A cell has its whole weight at its centre, and none at the centre of the next one.
    weights: NDArray[np.float64] = np.maximum(0.0, 1 - distance)
    return weights


def _centres(backbone: str, size_px: int, cells: int) -> NDArray[np.float64]:
    """Return the pixel, from 0 and maybe a fraction, at the centre of the area each cell reads.

    Most networks are assumed to read even parts of the side. Those that timm calls tf_… pad as
    TensorFlow does ("SAME"): a layer of stride 2 puts the odd pixel of an even side to the right.
    So its i-th output is centred on input 2i + 1, or on 2i where the side is odd. The cells of
    176 px are centred on pixels 15, 47, … 175, and not on 14, 43, … 161.
    """
    offset = 0.0
    stride = 1
    side = size_px
    while side > cells:
        if side % 2 == 0:
            offset += stride
        stride *= 2
        # An odd side gives half of the next even one.
        side = (side + 1) // 2
    numbers = np.arange(cells, dtype=np.float64)
    if backbone.startswith("tf_") and side == cells:
        return offset + stride * numbers
    # Each cell reads an equal part of the side.
    return (numbers + 0.5) * size_px / cells - 0.5
