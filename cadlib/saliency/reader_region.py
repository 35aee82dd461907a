"""Compares a saliency map with the region that a reader marked.

The pointing game asks whether the highest value lies in the region (Zhang et al., IJCV 126 (2018)
1084). The intersection over union compares the whole shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cadlib.errors import CaseRejected
from cadlib.saliency.heatmap import Heatmap

HIGHLIGHTED_SHARE = 0.5
"""Values of at least this share of the peak count as highlighted (full width at half maximum)."""
LEAST_POINTS = 3
MOST_POINTS = 500
_SMOOTHING_SHARE = 0.1
"""Standard deviation of the smoothing of a random map, as a share of its side."""

Region = tuple[tuple[float, float], ...]
"""The corners of a polygon, (x, y) in shares of the width and the height of the image."""


@dataclass(frozen=True)
class RegionAgreement:
    """How a map agrees with a region.

    `peak_inside` is whether the highest value lies in the region. `iou` is the intersection over
    union of the region and the highlighted places, 0 to 1.
    """

    peak_inside: bool
    iou: float


def check_region(points: Sequence[Sequence[float]]) -> Region:
    """Return a region; raise CaseRejected for points that are none."""
    if not LEAST_POINTS <= len(points) <= MOST_POINTS:
        raise CaseRejected(
            f"Expected a region of {LEAST_POINTS} to {MOST_POINTS} points, but got {len(points)}. "
            "Mark the region again."
        )
    corners = []
    for point in points:
        is_pair = len(point) == 2
        # NaN is between no two numbers.
        if not is_pair or not all(0 <= value <= 1 for value in point):
            raise CaseRejected(
                f"Expected points from 0 to 1 of the image, but got {tuple(point)}. "
                "Mark the region again."
            )
        x, y = point
        corners.append((float(x), float(y)))
    return tuple(corners)


def compare_with_region(
    heatmap: Heatmap,
    region: Region,
    image_px: tuple[int, int],
) -> RegionAgreement | None:
    """Compare a map with a region of its image of (width, height) px; None for a map of zeros.

    The part of the region outside the square that the network read counts: no map can highlight it.
    """
    if not heatmap.raw_peak > 0:
        return None
    width_px, height_px = image_px
    # OpenCV fills a polygon with whole pixels.
    inside = np.zeros((height_px, width_px), np.uint8)
    corners = np.array(region) * [width_px, height_px]
    cv2.fillPoly(inside, [np.rint(corners).astype(np.int32)], 1)
    values = _over_image(heatmap, width_px, height_px)
    highlighted = values >= HIGHLIGHTED_SHARE * values.max()
    marked = inside.astype(bool)
    # The first of several equal peaks counts.
    peak = np.unravel_index(values.argmax(), values.shape)
    union = (highlighted | marked).sum()
    iou = (highlighted & marked).sum() / union
    return RegionAgreement(bool(marked[peak]), float(iou))


def _over_image(heatmap: Heatmap, width_px: int, height_px: int) -> NDArray[np.float32]:
    """Return the values of a map over its whole image, 0 outside the square."""
    left, top, right, bottom = heatmap.box
    side_px = (right - left, bottom - top)
    enlarged = cv2.resize(heatmap.values, side_px, interpolation=cv2.INTER_LINEAR)
    values = np.zeros((height_px, width_px), np.float32)
    # The square of a large image may reach beyond it by a rounded pixel.
    place = values[top:bottom, left:right]
    place[:] = enlarged[: place.shape[0], : place.shape[1]]
    return values


def random_map(heatmap: Heatmap, seed: int) -> Heatmap:
    """Return a map with the same values at random places, as smooth as maps are.

    It shows nothing of the image. A reader who accepts it does not judge the map.
    """
    rng = np.random.default_rng(seed)
    size_px = heatmap.values.shape[0]
    noise = rng.standard_normal(heatmap.values.shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), _SMOOTHING_SHARE * size_px)
    order = np.argsort(smooth, axis=None)
    values = np.empty(heatmap.values.size, np.float32)
    # The highest noise gets the highest value, and so on.
    values[order] = np.sort(heatmap.values, axis=None)
    placed = values.reshape(heatmap.values.shape)
    placed.setflags(write=False)
    return replace(heatmap, values=placed)
