"""Do two images show one picture? Asked of their pixels, for what a hash and a network call alike need not be it.

Pictures of a kind look alike as a whole: pale skin with a brown spot, or a bright circle on black, as a dermatoscope
shows it. What only one picture has is its detail: each place compared with its own surroundings, at an equal contrast
everywhere, and the black around the field of view left out. Details of one picture agree also after it was
compressed, resized, recoloured, mirrored or turned by quarters, and those of two photographs of a lesion if taken
from the same place. The thresholds were read off all 136 million pairs across the splits of isic2019 1.2.0, with the
pictures in view (`python -m cadlib audit --sheet`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, binary_fill_holes, gaussian_filter

from cadlib.progress import Progress, no_progress

SIDE_PX = 32
TURNS = 8
SAME = 0.75
"""From here on two pictures show the same. There, six pairs from 0.796 on do; the first that does not: 0.674."""
SAME_IF_NEAREST = 0.65
"""The same where a network also finds no picture nearer: three more pairs do; the first in doubt: 0.606."""
WIDE_FIELD = 0.8
SAME_IN_NARROW_FIELD = 0.9
"""With less of the picture in view, a spot on plain skin is alike to others: up to 0.846 there."""

_DARK = 0.3
"""Of the brightness of the skin: what is darker, and not within the lesion, is outside the field of view."""
_AROUND_PX = 1.5
_BLOCK = 512
"""Pictures that are compared with all others at a time."""
_NOISE = 1.0
"""Grey levels: contrast below this is what compression makes, and is not raised to the level of the rest."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Details:
    """The detail of N pictures: `values` (N, 32, 32) float32, each of mean 0 and length 1; all 0 where there is none.

    `fields` (N,) float32 is the share of a picture, 0 to 1, that is in the field of view.
    """

    values: Floats
    fields: Floats

    def of(self, rows: NDArray[np.int64]) -> "Details":
        """Return those of some pictures."""
        return Details(self.values[rows], self.fields[rows])


def details_of(pictures: NDArray[np.uint8]) -> Details:
    """Return the details of (N, S, S, 3) uint8 RGB."""
    values, fields = zip(*map(_detail, pictures), strict=True)
    return Details(np.stack(values), np.array(fields, np.float32))


def details_in(batches: Iterable[NDArray[np.uint8]]) -> Details:
    """Return the details of pictures that come some at a time, each (n, S, S, 3) uint8 RGB."""
    values, fields = zip(
        *((some.values, some.fields) for some in map(details_of, batches)), strict=True
    )
    return Details(np.concatenate(values), np.concatenate(fields))


def likeness(left: Details, right: Details) -> Floats:
    """Return (N, M) correlations, -1 to 1, of N details with M, each at its best of eight flips and quarter turns."""
    flat = left.values.reshape(len(left.values), -1)
    sides = (right.values, right.values[:, :, ::-1])
    best = np.full((len(left.values), len(right.values)), -1, np.float32)
    for side in sides:
        for quarter in range(TURNS // 2):
            turned = np.rot90(side, quarter, (1, 2)).reshape(len(side), -1)
            np.maximum(best, flat @ turned.T, out=best)
    return best


def shows_the_same(
    alike: Floats, left: Details, right: Details, nearest: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Tell of (N, M) pairs whether they show the same, by their likeness.

    `nearest` (N, M) marks the pairs than which a network finds none nearer.
    """
    wide = np.minimum.outer(left.fields, right.fields) >= WIDE_FIELD
    needed = np.where(wide, np.where(nearest, SAME_IF_NEAREST, SAME), SAME_IN_NARROW_FIELD)
    found: NDArray[np.bool_] = alike >= needed.astype(np.float32)
    return found


def likely_pairs(details: Details, progress: Progress = no_progress) -> NDArray[np.int64]:
    """Return the (2, n) pairs, of N pictures all compared, that may show the same: for a split, which joins them.

    Each pair is taken for one that a network finds nearest, so none that an audit could call the same is missed. A
    few more come along, which costs a split nothing. The time grows with the square of N.
    """
    n, found = len(details.values), [np.zeros((2, 0), np.int64)]
    for first in range(0, n, _BLOCK):
        left = details.of(np.arange(first, min(first + _BLOCK, n)))
        right = details.of(np.arange(first, n))
        alike = likeness(left, right)
        pairs = np.stack(np.nonzero(shows_the_same(alike, left, right, np.ones(alike.shape, bool))))
        found.append(first + pairs[:, pairs[0] < pairs[1]])
        progress("comparing images", min(first + _BLOCK, n), n)
    return np.concatenate(found, axis=1)


def _detail(pixels: NDArray[np.uint8]) -> tuple[Floats, float]:
    small = (
        Image.fromarray(pixels).convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.HAMMING)
    )
    grey = np.asarray(small, np.float32)
    bright = binary_fill_holes(grey > _DARK * np.percentile(grey, 75))
    field = binary_erosion(bright, iterations=2, border_value=1).astype(np.float32)
    rough = (grey - _smoothed(grey, field, _AROUND_PX)) * field
    even = rough / (np.sqrt(_smoothed(rough**2, field, 2 * _AROUND_PX)) + _NOISE)
    even -= field * (even.sum() / max(field.sum(), 1.0))
    length = np.linalg.norm(even)
    return np.float32(1 / length if length > 0 else 0) * even, float(field.mean())


def _smoothed(values: Floats, field: Floats, sigma_px: float) -> Floats:
    """Return the mean around each place, over the field of view alone."""
    weight: Floats = gaussian_filter(field, sigma_px)
    mean: Floats = gaussian_filter(values * field, sigma_px)
    mean /= np.maximum(weight, np.float32(1e-3))
    return mean
