"""Decides on a malignant probability at an operating point of the model.

No threshold is written in code. Each was chosen on validation images and comes from the model's
record, with the sensitivity and specificity measured for it and the split they were measured on.
"""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from cadlib.files.json_types import JsonObject, Name, Positive, Share
from cadlib.metrics.summary_schema import MeasuredPoint, ShareInterval

TARGET_SENSITIVITY = {"rule-out": 0.98, "balanced": 0.95, "rule-in": 0.90}
DEFAULT_OPERATING_POINT = "balanced"
SHOWN_NAMES = {"rule-in": "fewer referrals"}
"""Stored name of an operating point -> the name that a reader sees, where the two differ.

A rule-in test has a high specificity and confirms a disease. The point stored as "rule-in" does
not: it is chosen for its sensitivity, and many of the lesions that it refers are benign.
"""

Action = Literal["refer", "below the referral threshold"]
Interval = tuple[float, float] | None
"""Low and high end of a 95 % interval; None where it rests on too few lesions."""


class Threshold(JsonObject, frozen=True):
    """A threshold on the malignant probability by its name: refer at or above it."""

    name: Name
    threshold: Share

    def __post_init__(self) -> None:
        # NaN fails too: with it nobody would be referred.
        if not 0 <= self.threshold <= 1:
            raise ValueError(
                f"Expected `threshold` of {self.name} to be from 0 to 1 but got {self.threshold!r}."
            )

    @property
    def shown_name(self) -> str:
        """Return the name that a reader sees; `name` is the stored one, which commands take."""
        return shown_name(self.name)


class PointIntervals(JsonObject, frozen=True):
    """The 95 % intervals of an operating point's two metrics, over lesions."""

    sensitivity: ShareInterval
    specificity: ShareInterval

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            ends = getattr(self, name)
            if ends is not None and not _is_interval(ends):
                raise ValueError(
                    f"Expected the interval of `{name}` to be two of 0 to 1 but got {ends!r}."
                )


def _is_interval(ends: tuple[float, ...]) -> bool:
    """Return whether these are two ends from 0 to 1, the low one first."""
    return len(ends) == 2 and 0 <= ends[0] <= ends[1] <= 1


class OperatingPoint(Threshold, frozen=True):
    """A threshold and its measured results on the images of `split`.

    `sensitivity` and `specificity` are fractions over `n_malignant` and `n_benign` images. The
    threshold was always chosen on validation images. So images of the "test" split had no part in
    its choice.
    """

    sensitivity: Share
    specificity: Share
    n_malignant: Positive
    n_benign: Positive
    split: Literal["validation", "test"]
    intervals: PointIntervals

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("sensitivity", "specificity"):
            value = getattr(self, field)
            if not 0 <= value <= 1:
                raise ValueError(
                    f"Expected `{field}` of {self.name} to be from 0 to 1 but got {value!r}."
                )
        # A share of no image is not defined.
        if min(self.n_malignant, self.n_benign) < 1:
            raise ValueError(
                f"Expected {self.name} to be measured on malignant and benign images "
                f"but got {self!r}."
            )
        if self.split not in ("validation", "test"):
            raise ValueError(
                f"Expected `split` of {self.name} to be validation or test but got {self.split!r}."
            )

    @property
    def prevalence(self) -> float:
        """Return the share of malignant images among those that it was measured on."""
        return self.n_malignant / (self.n_malignant + self.n_benign)

    @classmethod
    def of(cls, point: MeasuredPoint, split: Literal["validation", "test"]) -> Self:
        """Return a threshold with its results on a split.

        Raise ValueError where one is not defined: without a malignant or a benign image.
        """
        if point.sensitivity is None or point.specificity is None:
            raise ValueError(
                f"Expected {point.name} to be measured on malignant and benign images "
                f"but got {point.n_malignant} malignant and {point.n_benign} benign."
            )
        ends = point.intervals
        return cls(
            name=point.name,
            threshold=point.threshold,
            sensitivity=point.sensitivity,
            specificity=point.specificity,
            n_malignant=point.n_malignant,
            n_benign=point.n_benign,
            split=split,
            intervals=PointIntervals(ends.sensitivity, ends.specificity),
        )


@dataclass(frozen=True)
class Decision:
    """The decision of an operating point on one malignant probability (0 to 1)."""

    action: Action
    malignant_probability: float
    operating_point: OperatingPoint

    @property
    def sentence(self) -> str:
        """Return the decision as one sentence, for the heading of a page or a report.

        Probability and threshold have two digits, and more where two digits would look equal.
        """
        probability, threshold = self._distinct_texts()
        lead = "Refer" if self.action == "refer" else "Below the referral threshold"
        name = self.operating_point.shown_name
        return (
            f"{lead}: malignant probability {probability} (referral threshold {threshold}, {name})"
        )

    def _distinct_texts(self) -> tuple[str, str]:
        """Return probability and threshold with as many digits as it takes to differ."""
        probability = self.malignant_probability
        threshold = self.operating_point.threshold
        probability_text = two_digits(probability)
        threshold_text = two_digits(threshold)
        # Equal values have equal texts, whatever the digits.
        if probability == threshold:
            return probability_text, threshold_text
        digits = 2
        while probability_text == threshold_text:
            digits += 1
            probability_text = f"{probability:.{digits}f}"
            threshold_text = f"{threshold:.{digits}f}"
        return probability_text, threshold_text


def shown_name(name: str) -> str:
    """Return the name of an operating point that a reader sees, for its stored name."""
    return SHOWN_NAMES.get(name, name)


def both_names(name: str) -> str:
    """Return the shown name, with the stored one in brackets if it differs.

    For example: "fewer referrals (rule-in)".
    """
    if name not in SHOWN_NAMES:
        return name
    return f"{SHOWN_NAMES[name]} ({name})"


def about_the_points() -> str:
    """Return the targets of the operating points, and the limits of the last of them."""
    targets = []
    for name, target in TARGET_SENSITIVITY.items():
        targets.append(f"{shown_name(name)} {target:.2f}")
    fewest = shown_name("rule-in")
    return (
        f"Target sensitivity: {', '.join(targets)}. Rule-out misses the fewest malignant lesions, "
        f"{fewest} refers the fewest lesions; a referral at “{fewest}” does not confirm malignancy."
    )


def two_digits(probability: float) -> str:
    """Return a probability as text of two digits, never 0 or 1 for a value only near it."""
    if 0 < probability < 0.005:
        return "<0.01"
    if 0.995 <= probability < 1:
        return ">0.99"
    return f"{probability:.2f}"


def decide(malignant_probability: float, operating_point: OperatingPoint) -> Decision:
    """Compare a malignant probability (0 to 1) with an operating point.

    A higher probability never weakens the action.
    """
    if not 0.0 <= malignant_probability <= 1.0:
        raise ValueError(
            f"Expected `malignant_probability` to be from 0 to 1 but got {malignant_probability!r}."
        )
    refer = malignant_probability >= operating_point.threshold
    action: Action = "refer" if refer else "below the referral threshold"
    return Decision(action, malignant_probability, operating_point)


def choose_thresholds(
    malignant_probabilities: NDArray[np.float64],
    malignant: NDArray[np.bool_],
) -> tuple[Threshold, ...]:
    """Choose for each target sensitivity the highest threshold that reaches it on these images.

    `malignant_probabilities` is (N,) float64, `malignant` (N,) bool, the truth. Raise ValueError
    when one of the two groups is empty: sensitivity or specificity would not be defined.
    """
    positives = np.sort(malignant_probabilities[malignant])
    n_malignant = len(positives)
    n_benign = int((~malignant).sum())
    if not n_malignant or not n_benign:
        raise ValueError(
            f"Expected malignant and benign images but got {n_malignant} malignant "
            f"and {n_benign} benign."
        )
    thresholds = []
    for name, target in TARGET_SENSITIVITY.items():
        # The small term keeps a whole number of allowed misses whole in spite of rounding.
        allowed_misses = (1 - target) * n_malignant
        n_missed = int(np.floor(allowed_misses + 1e-9))
        # The positives rise, so at most `n_missed` of them lie below the threshold.
        threshold = float(positives[n_missed])
        thresholds.append(Threshold(name, threshold))
    return tuple(thresholds)
