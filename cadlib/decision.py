"""From a malignant probability to what to do about it, at an operating point measured on validation data.

No threshold is written in code: each comes from the model's record, with the sensitivity and specificity
that were measured for it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

TARGET_SENSITIVITY = {"rule-out": 0.98, "balanced": 0.95, "rule-in": 0.90}
DEFAULT_OPERATING_POINT = "balanced"

Action = Literal["refer", "below the referral threshold"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the malignant probability (refer at or above it) and what it was measured to do.

    `sensitivity` and `specificity` are fractions over `n_malignant` and `n_benign` validation images.
    """

    name: str
    threshold: float
    sensitivity: float
    specificity: float
    n_malignant: int
    n_benign: int

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:  # NaN fails too: under it nobody would be referred
            raise ValueError(f"Expected `threshold` of {self.name} to be from 0 to 1 but got {self.threshold!r}.")
        for field in ("sensitivity", "specificity"):  # NaN where no image was malignant, or benign
            if not (0 <= (value := getattr(self, field)) <= 1 or math.isnan(value)):
                raise ValueError(f"Expected `{field}` of {self.name} to be from 0 to 1 but got {value!r}.")


@dataclass(frozen=True)
class Decision:
    """What the operating point says of one malignant probability (0 to 1)."""

    action: Action
    malignant_probability: float
    operating_point: OperatingPoint

    @property
    def sentence(self) -> str:
        """Return the decision as one sentence, for the head of a page or a report.

        Probability and threshold have two digits, and more where two would not tell which is the greater.
        """
        point = self.operating_point
        ours, theirs, digits = two_digits(self.malignant_probability), two_digits(point.threshold), 2
        while ours == theirs and self.malignant_probability != point.threshold:
            digits += 1
            ours, theirs = f"{self.malignant_probability:.{digits}f}", f"{point.threshold:.{digits}f}"
        side = "at or above" if self.action == "refer" else "below"
        lead = "Refer" if self.action == "refer" else "Below the referral threshold"
        return f"{lead}: malignant probability {ours}, {side} the {point.name} threshold of {theirs}"


def two_digits(probability: float) -> str:
    """Return a probability as text of two digits that never says 0 or 1 of what is only near it."""
    if 0 < probability < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= probability < 1 else f"{probability:.2f}"


def decide(malignant_probability: float, operating_point: OperatingPoint) -> Decision:
    """Compare a malignant probability (0 to 1) with an operating point; raising it never lowers the action."""
    if not 0.0 <= malignant_probability <= 1.0:
        raise ValueError(f"Expected `malignant_probability` to be from 0 to 1 but got {malignant_probability!r}.")
    refer = malignant_probability >= operating_point.threshold
    action: Action = "refer" if refer else "below the referral threshold"
    return Decision(action, malignant_probability, operating_point)


def choose_operating_points(
    malignant_probabilities: NDArray[np.float64], malignant: NDArray[np.bool_]
) -> tuple[OperatingPoint, ...]:
    """Choose for each target sensitivity the highest threshold that reaches it on these images.

    `malignant_probabilities` is (N,) float64, `malignant` (N,) bool, the truth. Raise ValueError when one
    of the two groups is empty: sensitivity or specificity would have no meaning.
    """
    positives = np.sort(malignant_probabilities[malignant])
    negatives = malignant_probabilities[~malignant]
    if not len(positives) or not len(negatives):
        raise ValueError(
            f"Expected malignant and benign images but got {len(positives)} malignant and {len(negatives)} benign."
        )
    points = []
    for name, target in TARGET_SENSITIVITY.items():
        missed = int(np.floor((1 - target) * len(positives) + 1e-9))
        threshold = float(positives[missed])
        points.append(
            OperatingPoint(
                name=name,
                threshold=threshold,
                sensitivity=float(np.mean(positives >= threshold)),
                specificity=float(np.mean(negatives < threshold)),
                n_malignant=len(positives),
                n_benign=len(negatives),
            )
        )
    return tuple(points)
