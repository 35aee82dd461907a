"""Compares predictions for rotated and mirrored views of an image.

A lesion has no upright side, so every change comes from the model alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.images import LesionImage, preprocess
from cadlib.images.turns import TURNS, turned
from cadlib.metrics import classification
from cadlib.model.model import Model


@dataclass(frozen=True, eq=False)
class Stability:
    """The predictions for the original image and for its views in the order of TURNS.

    `probabilities` is (8, 8) float64, read-only, a row for each view.
    """

    probabilities: NDArray[np.float64]

    @property
    def same(self) -> int:
        """Return the number of the 8 views with the top diagnosis of the original image."""
        tops = self.probabilities.argmax(axis=1)
        # The first view is the image as it is.
        top_of_original = tops[0]
        same = tops == top_of_original
        return int(same.sum())

    @property
    def malignant_range(self) -> tuple[float, float]:
        """Return the lowest and the highest malignant probability of the views."""
        malignant = classification.malignant_probability(self.probabilities)
        lowest = float(malignant.min())
        highest = float(malignant.max())
        return lowest, highest


def stability(model: Model, image: LesionImage) -> Stability:
    """Predict an image in its eight views, in one pass of the network.

    The predictions use the image alone, without facts about the patient.
    """
    pixels = preprocess.to_pixels(image, model.record.input)
    views = [turned(pixels, turn) for turn in TURNS]
    outputs = model.see(np.stack(views))
    short_side_px = min(image.file_px)
    probabilities = model.calibrated(outputs.logits, short_side_px)
    probabilities.flags.writeable = False
    return Stability(probabilities)
