"""May a heatmap be read? Whether it is faithful to the answer, whether it is stable, and the sentence on both."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.images import LesionImage
from cadlib.images.preprocess import to_pixels
from cadlib.model.model import Model
from cadlib.saliency.faithfulness import faithfulness
from cadlib.saliency.heatmap import Heatmap, raw_maps, surface
from cadlib.saliency.test_time_views import TURNS, turned, turned_back
from cadlib.taxonomy import CODES

VIEWS = ("turned 90°", "mirrored, 180°")
"""The turns that a map is compared with: one that swaps the axes and one that mirrors, for a method may cost a pass of
torch each."""
LEAST_FAITHFUL, LEAST_STABLE = 0.48, 0.44
"""A map has to be above both: 95 % of the random maps of 300 validation images are below (`limits` under `saliency` in
the metrics.json of models/isic2019, by `python -m cadlib saliency`)."""
ABOUT_RANDOM_MAPS = (
    "Both are at most 1 and about 0 on average for random maps; 95 % of the random maps of isic2019 are below "
    f"{LEAST_FAITHFUL} (faithfulness) and {LEAST_STABLE} (stability)."
)


@dataclass(frozen=True)
class Trust:
    """How far a heatmap may be trusted, both from -1 to 1 and NaN where it is not defined.

    Both are about 0 on average for random maps, of which 95 % are below LEAST_FAITHFUL and LEAST_STABLE.

    `faithfulness` is that of `cadlib.saliency.faithfulness`; `stability` is the mean correlation with the maps of
    the image rotated and mirrored.
    """

    faithfulness: float
    stability: float

    @property
    def readable(self) -> bool:
        """Say whether both are better than chance."""
        return self.faithfulness > LEAST_FAITHFUL and self.stability > LEAST_STABLE

    @property
    def sentence(self) -> str:
        """Return what a reader is told, "Do not read this map: …" where it is poor."""
        if self.readable:
            return "Hiding what is hot changes the answer, and the map stays when the picture is turned."
        return f"Do not read this map: {' and '.join(self._reasons())}."

    def _reasons(self) -> list[str]:
        if math.isnan(self.faithfulness):
            return ["nothing stands out in it, or nothing in the picture changes the answer"]
        return [
            *["hiding what is hot changes the answer hardly more than chance"]
            * (self.faithfulness <= LEAST_FAITHFUL),
            *["it changes when the picture is turned"] * (not self.stability > LEAST_STABLE),
        ]


def trust(model: Model, image: LesionImage, found: Heatmap, code: str) -> Trust:
    """Measure how far a heatmap of an image may be trusted as evidence for one of the eight diagnoses.

    It costs fourteen passes of the network, for a method of gradients two of them in torch.
    """
    target, pixels = CODES.index(code), to_pixels(image, model.record.input)
    views = np.stack([turned(pixels, *TURNS[view]) for view in VIEWS])
    again = [surface(raw, model.record) for raw in raw_maps(model, views, target, found.method)]
    [faithful] = faithfulness(model, pixels, min(image.file_px), [found.values], target)
    return Trust(float(faithful), stability_of(found.values, again))


def stability_of(values: NDArray[np.float32], again: list[NDArray[np.float32]]) -> float:
    """Return the mean correlation of a map with those of the picture in VIEWS, turned back here; NaN for a flat one."""
    turns = (TURNS[view] for view in VIEWS)
    return float(
        np.mean(
            [
                agreement(values, turned_back(one, *turn))
                for one, turn in zip(again, turns, strict=True)
            ]
        )
    )


def agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return Pearson's correlation of two maps over their places, -1 to 1; NaN where one of them is flat."""
    if not (np.ptp(one) > 0 and np.ptp(other) > 0):
        return math.nan
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
