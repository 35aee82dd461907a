"""From a malignant probability to what to do about it, at an operating point of the model.

No threshold is written in code: each was chosen on validation images and comes from the model's record, with the
sensitivity and specificity that were measured for it, and the split that they were measured on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

TARGET_SENSITIVITY = {"rule-out": 0.98, "balanced": 0.95, "rule-in": 0.90}
DEFAULT_OPERATING_POINT = "balanced"
SHOWN_NAMES = {"rule-in": "fewer referrals"}
"""Stored name of an operating point -> the name that a reader sees, where the two differ.

A rule-in test has a high specificity and confirms a disease. The point stored as "rule-in" does not:
it is chosen for its sensitivity, and many of the lesions that it refers are benign.
"""

Action = Literal["refer", "below the referral threshold"]
Interval = tuple[float, float] | None
"""Low and high end of a 95 % interval; None where too few lesions stand behind it."""


@dataclass(frozen=True)
class Threshold:
    """A threshold on the malignant probability by its name: refer at or above it."""

    name: str
    threshold: float

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:  # NaN fails too: under it nobody would be referred
            raise ValueError(
                f"Expected `threshold` of {self.name} to be from 0 to 1 but got {self.threshold!r}."
            )

    @property
    def shown_name(self) -> str:
        """Return the name that a reader sees; `name` is the stored one, which commands take."""
        return shown_name(self.name)


@dataclass(frozen=True)
class PointIntervals:
    """The 95 % intervals of an operating point's two figures, over lesions."""

    sensitivity: Interval
    specificity: Interval

    def __post_init__(self) -> None:
        for field in fields(self):
            ends = getattr(self, field.name)
            if ends is not None and not (len(ends) == 2 and 0 <= ends[0] <= ends[1] <= 1):
                raise ValueError(
                    f"Expected the interval of `{field.name}` to be two of 0 to 1 but got {ends!r}."
                )

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Build the intervals from JSON values; raise TypeError or ValueError for what is none."""
        return cls(**{name: ends if ends is None else tuple(ends) for name, ends in raw.items()})


@dataclass(frozen=True)
class OperatingPoint(Threshold):
    """A threshold and what it was measured to do on the images of `split`.

    `sensitivity` and `specificity` are fractions over `n_malignant` and `n_benign` images. The threshold was chosen
    on validation images in any case; on "test" it had never seen the images that it was measured on.
    """

    sensitivity: float
    specificity: float
    n_malignant: int
    n_benign: int
    split: Literal["validation", "test"]
    intervals: PointIntervals

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("sensitivity", "specificity"):
            if not 0 <= (value := getattr(self, field)) <= 1:
                raise ValueError(
                    f"Expected `{field}` of {self.name} to be from 0 to 1 but got {value!r}."
                )
        if min(self.n_malignant, self.n_benign) < 1:
            raise ValueError(
                f"Expected {self.name} to be measured on malignant and benign images but got {self!r}."
            )
        if self.split not in ("validation", "test"):
            raise ValueError(
                f"Expected `split` of {self.name} to be validation or test but got {self.split!r}."
            )

    @property
    def prevalence(self) -> float:
        """Return the share of malignant images among those it was measured on."""
        return self.n_malignant / (self.n_malignant + self.n_benign)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Build a point from JSON values; raise TypeError or ValueError for what is none."""
        if missing := {field.name for field in fields(cls)} - raw.keys():
            raise ValueError(f"an operating point lacks {', '.join(sorted(missing))}")
        return cls(**{**raw, "intervals": PointIntervals.from_json(raw["intervals"])})


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
        ours, theirs, digits = (
            two_digits(self.malignant_probability),
            two_digits(point.threshold),
            2,
        )
        while ours == theirs and self.malignant_probability != point.threshold:
            digits += 1
            ours, theirs = (
                f"{self.malignant_probability:.{digits}f}",
                f"{point.threshold:.{digits}f}",
            )
        side = "at or above" if self.action == "refer" else "below"
        lead = "Refer" if self.action == "refer" else "Below the referral threshold"
        name = point.shown_name.replace(" ", "-")
        return f"{lead}: malignant probability {ours}, {side} the {name} threshold of {theirs}"


def shown_name(name: str) -> str:
    """Return the name of an operating point that a reader sees, for its stored name."""
    return SHOWN_NAMES.get(name, name)


def both_names(name: str) -> str:
    """Return the shown name, with the stored one in brackets where it differs: "fewer referrals (rule-in)"."""
    return f"{SHOWN_NAMES[name]} ({name})" if name in SHOWN_NAMES else name


def about_the_points() -> str:
    """Return the targets of the operating points, and what the last of them does not do."""
    targets = ", ".join(
        f"{shown_name(name)} {target:.2f}" for name, target in TARGET_SENSITIVITY.items()
    )
    fewest = shown_name("rule-in")
    return (
        f"Target sensitivity: {targets}. Rule-out misses the fewest malignant lesions, {fewest} refers the "
        f"fewest lesions; a referral at “{fewest}” does not confirm malignancy."
    )


def two_digits(probability: float) -> str:
    """Return a probability as text of two digits that never says 0 or 1 of what is only near it."""
    if 0 < probability < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= probability < 1 else f"{probability:.2f}"


def decide(malignant_probability: float, operating_point: OperatingPoint) -> Decision:
    """Compare a malignant probability (0 to 1) with an operating point; raising it never lowers the action."""
    if not 0.0 <= malignant_probability <= 1.0:
        raise ValueError(
            f"Expected `malignant_probability` to be from 0 to 1 but got {malignant_probability!r}."
        )
    refer = malignant_probability >= operating_point.threshold
    action: Action = "refer" if refer else "below the referral threshold"
    return Decision(action, malignant_probability, operating_point)


def choose_thresholds(
    malignant_probabilities: NDArray[np.float64], malignant: NDArray[np.bool_]
) -> tuple[Threshold, ...]:
    """Choose for each target sensitivity the highest threshold that reaches it on these images.

    `malignant_probabilities` is (N,) float64, `malignant` (N,) bool, the truth. Raise ValueError when one
    of the two groups is empty: sensitivity or specificity would have no meaning.
    """
    positives, n_benign = np.sort(malignant_probabilities[malignant]), int((~malignant).sum())
    if not len(positives) or not n_benign:
        raise ValueError(
            f"Expected malignant and benign images but got {len(positives)} malignant and {n_benign} benign."
        )
    missed = {
        name: int(np.floor((1 - target) * len(positives) + 1e-9))
        for name, target in TARGET_SENSITIVITY.items()
    }
    return tuple(Threshold(name, float(positives[rank])) for name, rank in missed.items())
