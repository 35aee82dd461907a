"""Would the model say the same of the picture turned round? A lesion has no up, so every change is the model's own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.images import LesionImage, preprocess
from cadlib.metrics import classification
from cadlib.model.model import Model

TURNS = {
    "turned 90°": (1, False), "turned 180°": (2, False), "turned 270°": (3, False),
    "mirrored": (0, True), "mirrored, 90°": (1, True), "mirrored, 180°": (2, True), "mirrored, 270°": (3, True),
}  # fmt: skip
"""The seven flips and quarter turns that change a picture: how many quarters, and whether it is mirrored first."""


@dataclass(frozen=True, eq=False)
class Stability:
    """What a model says of a picture as it is and in the order of TURNS: (8, 8) float64, read-only, a row a view."""

    probabilities: NDArray[np.float64]

    @property
    def same(self) -> int:
        """Return in how many of the 8 views the first diagnosis is that of the picture as it is."""
        tops = self.probabilities.argmax(axis=1)
        return int((tops == tops[0]).sum())

    @property
    def malignant_range(self) -> tuple[float, float]:
        """Return the lowest and the highest malignant probability of the views."""
        found = classification.malignant_probability(self.probabilities)
        return float(found.min()), float(found.max())


def stability(model: Model, image: LesionImage) -> Stability:
    """Predict a picture in its eight views, in one pass of the network; of the image alone, without facts."""
    pixels = preprocess.to_pixels(image, model.record.input)
    views = np.stack([pixels, *(turned(pixels, *turn) for turn in TURNS.values())])
    probabilities = model.calibrated(model.see(views).logits, min(image.file_px))
    probabilities.flags.writeable = False
    return Stability(probabilities)


def turned(pixels: NDArray[np.uint8], quarters: int, mirrored: bool) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels mirrored left to right, if so, and then turned by quarters against the clock."""
    return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters))


def turned_back(values: NDArray[np.float32], quarters: int, mirrored: bool) -> NDArray[np.float32]:
    """Return (H, W) values over a picture that was `turned` in the places of the picture as it was."""
    upright = np.rot90(values, -quarters)
    return upright[:, ::-1] if mirrored else upright
