"""Measures whether two images show the same, by their pixels.

Neither a hash nor a network can decide this: different images may be alike to both.

Images of one kind look alike as a whole: pale skin with a brown spot, or a bright circle on black
from a dermatoscope. Only the detail belongs to one image: each place compared with its own
surroundings, at an equal contrast everywhere, without the black around the field of view. Details
of one image still agree after it was compressed, resized, recoloured, mirrored or turned by
quarters. Those of two photographs of a lesion agree if taken from the same place. The thresholds
were read off all 136 million pairs across the splits of isic2019 1.2.0, with the images in view
(`python -m cadlib audit --sheet`).
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
"""From this similarity on, two images show the same.

In isic2019 1.2.0 six pairs from 0.796 on do; the first pair that does not has 0.674.
"""
SAME_IF_NEAREST = 0.65
"""The same, where a network also finds no nearer image.

Three more pairs show the same; the first doubtful one has 0.606.
"""
WIDE_FIELD = 0.8
"""Share of the image from which on a field of view is wide."""
SAME_IN_NARROW_FIELD = 0.9
"""The same in a narrow field: there a spot on plain skin is alike to others, up to 0.846."""

_DARK = 0.3
"""Share of the skin's brightness.

Darker places outside the lesion are outside the field of view.
"""
_AROUND_PX = 1.5
_BLOCK = 512
"""Images that are compared with all others at a time."""
_NOISE = 1.0
"""Grey levels of contrast that come from compression; they are not amplified."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Details:
    """The detail of N images.

    `values` (N, 32, 32) float32 has mean 0 and length 1 in each image, or only 0 without detail.
    `fields` (N,) float32 is the share of an image, 0 to 1, that is in the field of view.
    """

    values: Floats
    fields: Floats

    def of(self, rows: NDArray[np.int64]) -> "Details":
        """Return the details of some of the images."""
        return Details(self.values[rows], self.fields[rows])


def details_of(images: NDArray[np.uint8]) -> Details:
    """Return the details of (N, S, S, 3) uint8 RGB images."""
    values = []
    fields = []
    for pixels in images:
        value, field = _detail(pixels)
        values.append(value)
        fields.append(field)
    return Details(np.stack(values), np.array(fields, np.float32))


def details_in(batches: Iterable[NDArray[np.uint8]]) -> Details:
    """Return the details of images that come in batches, each (n, S, S, 3) uint8 RGB."""
    values = []
    fields = []
    for batch in batches:
        details = details_of(batch)
        values.append(details.values)
        fields.append(details.fields)
    return Details(np.concatenate(values), np.concatenate(fields))


def similarity(left: Details, right: Details) -> Floats:
    """Return (N, M) correlations, -1 to 1, of N details with M.

    Each is the largest over eight flips and quarter turns.
    """
    n_left = len(left.values)
    n_right = len(right.values)
    left_rows = left.values.reshape(n_left, -1)
    mirrored = right.values[:, :, ::-1]
    best = np.full((n_left, n_right), -1, np.float32)
    for side in (right.values, mirrored):
        for quarter in range(TURNS // 2):
            turned = np.rot90(side, quarter, (1, 2))
            right_rows = turned.reshape(n_right, -1)
            # Each detail has mean 0 and length 1: the product of two is their correlation.
            correlation = left_rows @ right_rows.T
            np.maximum(best, correlation, out=best)
    return best


def shows_the_same(
    alike: Floats,
    left: Details,
    right: Details,
    nearest: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return whether (N, M) pairs show the same, by their similarity `alike`, (N, M).

    `nearest` (N, M) marks the pairs for which a network finds no nearer pair.
    """
    field = np.minimum.outer(left.fields, right.fields)
    is_wide = field >= WIDE_FIELD
    in_wide_field = np.where(nearest, SAME_IF_NEAREST, SAME)
    threshold = np.where(is_wide, in_wide_field, SAME_IN_NARROW_FIELD)
    is_same: NDArray[np.bool_] = alike >= threshold.astype(np.float32)
    return is_same


def likely_pairs(details: Details, progress: Progress = no_progress) -> NDArray[np.int64]:
    """Return the (2, n) pairs, of all N images, that may show the same; a split joins them.

    Each pair is treated as if it were the nearest for a network, so no pair is missed that an
    audit could call the same. The few pairs too many do no harm to a split. The time grows with
    the square of N.
    """
    n = len(details.values)
    pairs = [np.zeros((2, 0), np.int64)]
    for first in range(0, n, _BLOCK):
        last = min(first + _BLOCK, n)
        block_rows = np.arange(first, last)
        later_rows = np.arange(first, n)
        left = details.of(block_rows)
        # Earlier images were compared with this block when it was their turn.
        right = details.of(later_rows)
        alike = similarity(left, right)
        all_nearest = np.ones(alike.shape, bool)
        is_same = shows_the_same(alike, left, right, all_nearest)
        same = np.stack(np.nonzero(is_same))
        # Each pair once, and no image with itself.
        is_upper = same[0] < same[1]
        pairs.append(first + same[:, is_upper])
        progress("comparing images", last, n)
    return np.concatenate(pairs, axis=1)


def _detail(pixels: NDArray[np.uint8]) -> tuple[Floats, float]:
    """Return the detail (32, 32) of an image, and the share of it in the field of view."""
    image = Image.fromarray(pixels).convert("L")
    small = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.HAMMING)
    grey = np.asarray(small, np.float32)
    field = _field_of_view(grey)
    around = _smoothed(grey, field, _AROUND_PX)
    rough = (grey - around) * field
    variance = _smoothed(rough**2, field, 2 * _AROUND_PX)
    contrast: Floats = np.sqrt(variance)
    # The same contrast everywhere: a dark lesion would outweigh all other places.
    even = rough / (contrast + _NOISE)
    field_size = max(field.sum(), 1.0)
    mean = even.sum() / field_size
    even -= field * mean
    length = float(np.linalg.norm(even))
    scale = 0.0
    # An image without detail, black or blank, is like no other.
    if length > 0:
        scale = 1 / length
    return np.float32(scale) * even, float(field.mean())


def _field_of_view(grey: Floats) -> Floats:
    """Return 1 in the field of view and 0 outside, float32, for grey levels of an image."""
    # Most of an image is skin, which is brighter than a lesion.
    skin = np.percentile(grey, 75)
    darkest = _DARK * skin
    is_bright = grey > darkest
    # A dark lesion is a hole in the bright skin.
    bright = binary_fill_holes(is_bright)
    field = binary_erosion(bright, iterations=2, border_value=1)
    mask: Floats = field.astype(np.float32)
    return mask


def _smoothed(values: Floats, field: Floats, sigma_px: float) -> Floats:
    """Return the weighted mean around each place, over the field of view alone."""
    weight: Floats = gaussian_filter(field, sigma_px)
    mean: Floats = gaussian_filter(values * field, sigma_px)
    # Far outside the field the weight is 0.
    mean /= np.maximum(weight, np.float32(1e-3))
    return mean
