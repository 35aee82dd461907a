"""Turns images in eight ways, and maps of them back.

The ways are the flips and quarter turns. A lesion has no upright side, so all eight views show the
same.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Turn(NamedTuple):
    """A number of quarter turns counter-clockwise, after mirroring left to right if `mirrored`."""

    quarters: int
    mirrored: bool


AS_IT_IS = Turn(0, mirrored=False)

CHANGING_TURNS = {
    "turned 90°": Turn(1, mirrored=False),
    "turned 180°": Turn(2, mirrored=False),
    "turned 270°": Turn(3, mirrored=False),
    "mirrored": Turn(0, mirrored=True),
    "mirrored, 90°": Turn(1, mirrored=True),
    "mirrored, 180°": Turn(2, mirrored=True),
    "mirrored, 270°": Turn(3, mirrored=True),
}
"""The seven turns that change an image, by name."""

TURNS = (AS_IT_IS, *CHANGING_TURNS.values())
"""All eight turns, the image as it is first."""


def turned(pixels: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """Return the view of (…, H, W, C) pixels after a turn, without a copy."""
    mirrored = pixels
    if turn.mirrored:
        mirrored = pixels[..., :, ::-1, :]
    return np.rot90(mirrored, turn.quarters, axes=(-3, -2))


def turned_back(values: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """Return (…, H, W) values of a turned image at the places of the image as it is.

    The result is a view, without a copy.
    """
    upright = np.rot90(values, -turn.quarters, axes=(-2, -1))
    if turn.mirrored:
        return upright[..., ::-1]
    return upright


def pixels_turned_back(pixels: NDArray[Any], turn: Turn) -> NDArray[Any]:
    """Return (…, H, W, C) pixels of a turned image as the image is, without a copy."""
    channels_first = np.moveaxis(pixels, -1, 0)
    upright = turned_back(channels_first, turn)
    return np.moveaxis(upright, 0, -1)


def canonical_turn(pixels: NDArray[np.uint8]) -> Turn:
    """Return the turn to an orientation that is the same for all eight views of an image.

    `pixels` is (H, W, 3). The views are compared as their pixels are read, row by row, and the
    smallest is taken. Where two views are equal in all pixels, either may be returned.
    """
    # A view that is higher than wide never competes with one that is wider than high.
    height, width = pixels.shape[:2]
    is_upright = height > width
    candidates = [turn for turn in TURNS if (turn.quarters % 2 == 1) == is_upright]
    if height == width:
        candidates = list(TURNS)
    views = {turn: turned(pixels, turn) for turn in candidates}
    n_rows = min(height, width)
    for row in range(n_rows):
        row_bytes = {turn: view[row].tobytes() for turn, view in views.items()}
        smallest = min(row_bytes.values())
        views = {turn: view for turn, view in views.items() if row_bytes[turn] == smallest}
        # In nearly all images, the first row decides.
        if len(views) == 1:
            break
    return next(iter(views))
