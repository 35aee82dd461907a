"""Where in the picture the cells of a network's last feature map lie, so that a map is drawn where it was seen."""

import numpy as np
from numpy.typing import NDArray


def enlargement(backbone: str, size_px: int, cells: int) -> NDArray[np.float64]:
    """Return the (size_px, cells) weights that spread a row of cells bilinearly over the pixels of its side.

    From each end to the outermost cell's centre the value is that cell's.
    """
    centres = _centres(backbone, size_px, cells)
    place = np.interp(np.arange(size_px), centres, np.arange(cells))
    weights: NDArray[np.float64] = np.maximum(0.0, 1 - np.abs(place[:, None] - np.arange(cells)))
    return weights


def _centres(backbone: str, size_px: int, cells: int) -> NDArray[np.float64]:
    """Return the pixel, from 0 and in general a fraction, that stands at the centre of what each cell reads.

    Most networks are taken to read even parts of the side. Those that timm calls tf_… pad as TensorFlow does ("SAME"):
    a layer of stride 2 puts the odd pixel of an even side to the right, so its i-th output is centred on input 2i + 1,
    on 2i where the side is odd. The cells of 176 px are centred on pixels 15, 47, … 175, and not on 14, 43, … 161.
    """
    offset, stride, side = 0.0, 1, size_px
    while side > cells:
        offset += stride * (side % 2 == 0)
        stride, side = 2 * stride, -(-side // 2)
    if backbone.startswith("tf_") and side == cells:
        return offset + stride * np.arange(cells, dtype=np.float64)
    return (np.arange(cells, dtype=np.float64) + 0.5) * size_px / cells - 0.5
