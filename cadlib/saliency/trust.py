"""Measures whether a heatmap is faithful and stable, and reports both."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.images import LesionImage
from cadlib.images.preprocess import to_pixels
from cadlib.images.turns import CHANGING_TURNS, turned, turned_back
from cadlib.model.model import Model
from cadlib.saliency.agreement import agreement
from cadlib.saliency.faithfulness import faithfulness
from cadlib.saliency.heatmap import Heatmap, raw_maps, surface
from cadlib.taxonomy import CODES

VIEWS = (CHANGING_TURNS["turned 90°"], CHANGING_TURNS["mirrored, 180°"])
"""The views whose maps are compared: one swaps the axes, one mirrors.

There are only two, because a method may need a pass of torch for each."""
LEAST_FAITHFUL = 0.48
LEAST_STABLE = 0.44
"""A map has to be above both limits.

95 % of the random maps of 300 validation images are below (`limits` under `saliency` in the
metrics.json of models/isic2019, by `python -m cadlib saliency`)."""
ABOUT_RANDOM_MAPS = (
    "Both are at most 1 and about 0 on average for random maps; "
    "95 % of the random maps of isic2019 are below "
    f"{LEAST_FAITHFUL} (faithfulness) and {LEAST_STABLE} (stability)."
)


@dataclass(frozen=True)
class Trust:
    """How far a heatmap may be trusted. Both values are from -1 to 1, or NaN where undefined.

    Both are about 0 on average for random maps. 95 % of these are below LEAST_FAITHFUL and
    LEAST_STABLE.

    `faithfulness` is that of `cadlib.saliency.faithfulness`. `stability` is the mean correlation
    with the maps of the image rotated and mirrored. A map from random masks turns with the image:
    for it, `stability` is the correlation expected with the map of other masks, and `by_masks` is
    True.
    """

    faithfulness: float
    stability: float
    by_masks: bool = False

    @property
    def readable(self) -> bool:
        """Return whether both are better than chance."""
        return self._faithful and self._stable

    @property
    def sentence(self) -> str:
        """Return the sentence for readers, "Do not interpret this map: …" where it is poor."""
        if self.readable:
            condition = "when the image is rotated and mirrored"
            if self.by_masks:
                condition = "with other random masks"
            return (
                "Hiding the highlighted regions changes the result, "
                f"and the map stays similar {condition}."
            )
        reasons = " and ".join(self._reasons())
        return f"Do not interpret this map: {reasons}."

    @property
    def _faithful(self) -> bool:
        return self.faithfulness > LEAST_FAITHFUL

    @property
    def _stable(self) -> bool:
        return self.stability > LEAST_STABLE

    def _reasons(self) -> list[str]:
        if math.isnan(self.faithfulness):
            return ["no region stands out, or no region changes the result"]
        reasons = []
        if not self._faithful:
            reasons.append(
                "hiding the highlighted regions changes the result hardly more "
                "than hiding random ones"
            )
        if not self._stable:
            condition = "when the image is rotated or mirrored"
            if self.by_masks:
                condition = "with other random masks"
            reasons.append(f"it changes {condition}")
        return reasons


def trust(
    model: Model,
    image: LesionImage,
    heatmap: Heatmap,
    code: str,
) -> Trust:
    """Measure how far a heatmap of an image may be trusted as evidence for one diagnosis.

    `code` is one of the eight. It takes fourteen passes of the network, twelve for RISE.
    """
    target = CODES.index(code)
    pixels = to_pixels(image, model.record.input)
    short_side_px = min(image.file_px)
    [faithful] = faithfulness(
        model,
        pixels,
        short_side_px,
        [heatmap.values],
        target,
    )
    if heatmap.repeatability is not None:
        return Trust(float(faithful), heatmap.repeatability, by_masks=True)
    views = np.stack([turned(pixels, turn) for turn in VIEWS])
    raw_view_maps = raw_maps(model, views, target, heatmap.method)
    view_maps = [surface(raw, model.record, model.views) for raw in raw_view_maps]
    stable = stability_of(heatmap.values, view_maps)
    return Trust(float(faithful), stable)


def stability_of(
    values: NDArray[np.float32],
    again: list[NDArray[np.float32]],
) -> float:
    """Return the mean correlation of a map with the maps of the image in VIEWS.

    `again` has the maps of VIEWS as the model saw them. They are rotated back here. The result is
    NaN for a flat map.
    """
    correlations = []
    for turn, view_map in zip(VIEWS, again, strict=True):
        upright = turned_back(view_map, turn)
        correlation = agreement(values, upright)
        correlations.append(correlation)
    return float(np.mean(correlations))
