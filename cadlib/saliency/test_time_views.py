"""Compares predictions for rotated and mirrored views of an image.

A lesion has no upright side, so every change comes from the model alone.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.images import LesionImage, preprocess
from cadlib.images.turns import TURNS
from cadlib.metrics import classification
from cadlib.model.model import Model, Prediction


@dataclass(frozen=True, eq=False)
class Stability:
    """The predictions for each of the eight views of an image alone, in the order of TURNS.

    `probabilities` is (8, 8) float64, read-only, a row for each view. `top` is the place of the
    model's top diagnosis in taxonomy order. `averaged` is whether the model's result is the average
    of these views, or that of the first one.
    """

    probabilities: NDArray[np.float64]
    top: int
    averaged: bool

    @property
    def same(self) -> int:
        """Return the number of the 8 views that have the model's top diagnosis."""
        tops = self.probabilities.argmax(axis=1)
        same = tops == self.top
        return int(same.sum())

    @property
    def malignant_range(self) -> tuple[float, float]:
        """Return the lowest and the highest malignant probability of the views."""
        malignant = classification.malignant_probability(self.probabilities)
        lowest = float(malignant.min())
        highest = float(malignant.max())
        return lowest, highest


def stability(model: Model, image: LesionImage, prediction: Prediction) -> Stability:
    """Return what the model predicts for each of the eight views of an image alone.

    `prediction` is that of the image. It has these predictions if the model reads all views; else
    the network runs once more. They are without facts about the patient.
    """
    alone = prediction.image_probabilities
    if alone is None:
        alone = prediction.probabilities
    top = int(alone.argmax())
    if len(prediction.view_probabilities) == len(TURNS):
        return Stability(prediction.view_probabilities, top, averaged=True)
    pixels = preprocess.to_pixels(image, model.record.input)
    outputs = model.see(pixels[None], views=len(TURNS))
    short_side_px = min(image.file_px)
    probabilities = model.calibrated(outputs.view_logits[0], short_side_px)
    probabilities.flags.writeable = False
    return Stability(probabilities, top, averaged=False)
