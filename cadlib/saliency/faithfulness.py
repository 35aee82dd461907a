"""Does a map show what the answer rests on? Blank the picture where it is hot, and where it is not, and compare.

Deletion and insertion (Petsiuk, Das and Saenko, RISE, BMVC 2018): the hottest sixth of the picture is blanked, then the
hottest two sixths, and so on; and the same parts are shown alone. A map that points at what counts loses the
probability of its diagnosis early in the one and has it early in the other.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cadlib.model.model import Model

Pixels = NDArray[np.uint8]
Map = NDArray[np.float32]

SHARES = (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6)
"""Of the picture, that are blanked or shown alone. A sixth is six cells of a network that sees 176 px."""
BATCH = 32
RIM_SHARE = 0.05
"""Of the side, at each edge: where the skin beside the lesion is looked for."""
SOFT_EDGE_SHARE = 1 / 44
"""Of the side, the standard deviation by which the edge of a blank is softened: a sharp one would be a new feature."""


def faithfulness(
    model: Model, pixels: Pixels, short_side_px: int, maps: Sequence[Map], target: int
) -> NDArray[np.float64]:
    """Return for each map how much more the answer rests on what is hot in it than on the rest, -1 to 1.

    It is the area between the insertion and the deletion curve of the probability of diagnosis `target`, divided by the
    span of that probability over both curves: random maps have about 0 on average, and that of the same map upside
    down is its negative. NaN for a map of one value, and where nothing that is blanked changes the answer.

    `pixels` is (S, S, 3) uint8 RGB of the model's input size, of an image of that short side in its file; `maps` are
    (S, S). It takes two passes of the network and ten for each map.
    """
    skin = skin_colour(pixels)
    shown = [blanked(pixels, rank < share, skin) for rank in map(_ranks, maps) for share in SHARES]
    hidden = [
        blanked(pixels, rank >= share, skin) for rank in map(_ranks, maps) for share in SHARES
    ]
    nothing = np.broadcast_to(skin, pixels.shape)
    pictures = [pixels, nothing, *shown, *hidden]
    parts = (pictures[start : start + BATCH] for start in range(0, len(pictures), BATCH))
    logits = np.concatenate([model.see(np.stack(part)).logits for part in parts])
    answers = model.calibrated(logits, short_side_px)[:, target]
    ends, curves = answers[:2], answers[2:].reshape(2, len(maps), len(SHARES))
    spans = np.maximum(curves.max(axis=(0, 2)), ends.max()) - np.minimum(
        curves.min(axis=(0, 2)), ends.min()
    )
    defined = (spans > 0) & [bool(np.ptp(values) > 0) for values in maps]
    area = (curves[0] - curves[1]).mean(axis=-1)
    found: NDArray[np.float64] = np.divide(
        area, spans, out=np.full(len(maps), np.nan), where=defined
    )
    return found


def blanked(pixels: Pixels, kept: NDArray[np.bool_], skin: Pixels) -> Pixels:
    """Paint (S, S, 3) pixels over with skin, with a soft edge, where `kept` (S, S) is not.

    Skin, as the place would look without a lesion. Black, grey or noise is nothing a dermatoscope sees, and what the
    network says of it is chance. A blurred picture keeps the lesion, and blur itself tells the archives of ISIC 2019
    apart; both set real maps less apart from random ones when it was tried, as did a sharp edge.
    """
    sigma = len(pixels) * SOFT_EDGE_SHARE
    share = cv2.GaussianBlur(
        kept.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE
    )[..., None]
    painted: Pixels = np.rint(share * pixels + (1 - share) * skin).astype(np.uint8)
    return painted


def skin_colour(pixels: Pixels) -> Pixels:
    """Return the median colour along the edges of a picture, (3,) uint8."""
    rim = max(1, round(RIM_SHARE * len(pixels)))
    inside = np.zeros(pixels.shape[:2], np.bool_)
    inside[rim:-rim, rim:-rim] = True
    colour: Pixels = np.median(pixels[~inside], axis=0).astype(np.uint8)
    return colour


def _ranks(values: Map) -> NDArray[np.float64]:
    """Return for each place the share of the places that are hotter, 0 to below 1; the first of equals is hotter."""
    ranks = np.empty(values.size)
    ranks[np.argsort(-values, axis=None, kind="stable")] = np.arange(values.size) / values.size
    return ranks.reshape(values.shape)
