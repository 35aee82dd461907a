"""Measures whether a map shows what the answer depends on.

Deletion and insertion (Petsiuk, Das and Saenko, RISE, BMVC 2018): the hottest sixth of the image is
blanked, then the hottest two sixths, and so on. The same parts are also shown alone. If a map
points at what counts, the probability of its diagnosis drops early in deletion and rises early in
insertion.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cadlib.model.model import Model

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]

SHARES = (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6)
"""Shares of the image that are blanked or shown alone.

A sixth is six cells of a network that reads 176 px."""
BATCH = 32
RIM_SHARE = 0.05
"""Share of the side, at each edge, that is searched for the skin beside the lesion."""
BLUR_SHARE = 0.1
"""Standard deviation of the blur of `blurred`, as a share of the side."""
SOFT_EDGE_SHARE = 1 / 44
"""Standard deviation that softens the edge of a blank, as a share of the side.

A sharp edge would be a new feature."""


def faithfulness(
    model: Model,
    pixels: Pixels,
    short_side_px: int,
    maps: Sequence[Map],
    target: int,
    filling: Pixels | None = None,
) -> NDArray[np.float64]:
    """Return for each map how much more the answer depends on its hot part than on the rest.

    The value is from -1 to 1. It is the area between the insertion and the deletion curve of the
    probability of diagnosis `target`, divided by the span of that probability over both curves.
    Random maps have about 0 on average. A map upside down has the negative of the map's value. It
    is NaN for a map of one value, and where no blank changes the answer.

    `pixels` is (S, S, 3) uint8 RGB of the model's input size, of an image of that short side in its
    file. `maps` are (S, S). `filling`, (3,) or (S, S, 3) uint8, is what a blank shows: the colour
    of the skin if None. It takes two passes of each network and ten for each map.
    """
    if filling is None:
        filling = skin_colour(pixels)
    ranks = [_ranks(values) for values in maps]
    insertions = []
    deletions = []
    for rank in ranks:
        for share in SHARES:
            insertions.append(blanked(pixels, rank < share, filling))
            deletions.append(blanked(pixels, rank >= share, filling))
    nothing = np.broadcast_to(filling, pixels.shape)
    variants = [pixels, nothing, *insertions, *deletions]
    answers = _answers(model, variants, short_side_px, target)
    ends = answers[:2]
    curves = answers[2:].reshape(2, len(maps), len(SHARES))
    return _areas(ends, curves, maps)


def _answers(
    model: Model,
    variants: Sequence[Pixels],
    short_side_px: int,
    target: int,
) -> NDArray[np.float64]:
    """Return the probability of one diagnosis for each variant of an image."""
    logits = []
    # In batches, so that the memory of a pass does not grow with the number of maps.
    for start in range(0, len(variants), BATCH):
        batch = np.stack(variants[start : start + BATCH])
        # One view alone: eight would take eight times as long, for each map on a page.
        outputs = model.see(batch, views=1)
        logits.append(outputs.logits)
    probabilities = model.calibrated(np.concatenate(logits), short_side_px)
    return probabilities[:, target]


def _areas(
    ends: NDArray[np.float64],
    curves: NDArray[np.float64],
    maps: Sequence[Map],
) -> NDArray[np.float64]:
    """Return the area between the two curves of each map, as a share of their span.

    `ends` are the answers for the whole image and for skin alone. `curves` is (2, maps, shares):
    insertion, deletion.
    """
    highest_of_curves = curves.max(axis=(0, 2))
    lowest_of_curves = curves.min(axis=(0, 2))
    highest = np.maximum(highest_of_curves, ends.max())
    lowest = np.minimum(lowest_of_curves, ends.min())
    spans = highest - lowest
    # The ranks of a flat map are only the order of its pixels.
    varied = [bool(np.ptp(values) > 0) for values in maps]
    defined = (spans > 0) & varied
    insertion, deletion = curves
    differences = insertion - deletion
    area = differences.mean(axis=-1)
    undefined = np.full(len(maps), np.nan)
    shares: NDArray[np.float64] = np.divide(
        area,
        spans,
        out=undefined,
        where=defined,
    )
    return shares


def blanked(pixels: Pixels, visible: NDArray[np.bool_], filling: Pixels) -> Pixels:
    """Paint (S, S, 3) pixels with a filling where `visible` (S, S) is False, with a soft edge.

    `filling` is a colour, (3,), or an image, (S, S, 3).

    Skin is what the place would look like without a lesion. A dermatoscope never records black,
    grey or noise, so the network's answer to them is arbitrary. A blurred image still shows the
    lesion, and blur itself separates the archives of ISIC 2019. In tests, both separated real maps
    less well from random ones, as did a sharp edge.
    """
    sigma = len(pixels) * SOFT_EDGE_SHARE
    weight = visible.astype(np.float32)
    # The edge of the image is no edge of a blank, so it is not softened.
    soft = cv2.GaussianBlur(
        weight,
        (0, 0),
        sigma,
        borderType=cv2.BORDER_REPLICATE,
    )
    share = soft[..., None]
    blend = share * pixels + (1 - share) * filling
    painted: Pixels = np.rint(blend).astype(np.uint8)
    return painted


def blurred(pixels: Pixels) -> Pixels:
    """Return an image in which no structure of a lesion can be seen, only its place and colour."""
    # In uint8, OpenCV rounds the weights so much that fine stripes remain.
    smooth = cv2.GaussianBlur(
        pixels.astype(np.float32),
        (0, 0),
        BLUR_SHARE * len(pixels),
        borderType=cv2.BORDER_REPLICATE,
    )
    return np.rint(smooth).astype(np.uint8)


def skin_colour(pixels: Pixels) -> Pixels:
    """Return the median colour along the edges of an image, (3,) uint8."""
    rim = round(RIM_SHARE * len(pixels))
    rim = max(1, rim)
    inside = np.zeros(pixels.shape[:2], np.bool_)
    inside[rim:-rim, rim:-rim] = True
    edges = pixels[~inside]
    # A few hairs or dark corners do not change a median.
    colour: Pixels = np.median(edges, axis=0).astype(np.uint8)
    return colour


def _ranks(values: Map) -> NDArray[np.float64]:
    """Return for each place the share of the places that are hotter, 0 to below 1.

    Of equal values, the first counts as hotter.
    """
    order = np.argsort(-values, axis=None, kind="stable")
    n_places = values.size
    ranks = np.empty(n_places)
    ranks[order] = np.arange(n_places) / n_places
    return ranks.reshape(values.shape)
