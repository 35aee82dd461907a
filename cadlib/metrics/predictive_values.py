"""What a threshold means in a clinic: of its patients, how many are referred rightly, needlessly, or missed.

Sensitivity and specificity are those of the lesions that the model was measured on, and taken to hold elsewhere; how
many lesions are malignant is another matter in each clinic, and never that of a data set.
"""

from dataclasses import dataclass
from typing import Protocol

from cadlib.metrics.operating_point import PointIntervals

INTERVAL_NOTE = (
    "The intervals of PPV and NPV combine the limits of sensitivity and specificity: "
    "they are at least 95 % intervals, and the share of malignant lesions is taken as exact."
)


class Measured(Protocol):
    """What a threshold was measured to do, on whatever images."""

    @property
    def sensitivity(self) -> float: ...  # noqa: D102 - of the malignant, 0 to 1
    @property
    def specificity(self) -> float: ...  # noqa: D102 - of the benign, 0 to 1
    @property
    def intervals(self) -> PointIntervals: ...  # noqa: D102 - of both, 95 %


@dataclass(frozen=True)
class Outcomes:
    """Of some patients with one lesion each: how many of each kind, whole numbers."""

    found: int
    """Malignant and referred."""
    missed: int
    """Malignant and not referred."""
    needless: int
    """Benign and referred."""
    spared: int
    """Benign and not referred."""


@dataclass(frozen=True)
class PredictiveValues:
    """An operating point at a prevalence, above 0 and below 1: the share of malignant lesions among those looked at."""

    point: Measured
    prevalence: float

    def __post_init__(self) -> None:
        if not 0 < self.prevalence < 1:
            raise ValueError(
                f"Expected `prevalence` to be between 0 and 1 but got {self.prevalence!r}."
            )

    @property
    def positive(self) -> float:
        """Return the PPV: the share of the referred whose lesion is malignant; NaN where nobody is referred.

        Bayes' theorem (Altman and Bland, BMJ 309 (1994) 102).
        """
        found, _, needless, _ = self._shares(self.point.sensitivity, self.point.specificity)
        return _share(found, needless)

    @property
    def negative(self) -> float:
        """Return the NPV: the share of those not referred whose lesion is benign; NaN where everybody is referred."""
        _, missed, _, spared = self._shares(self.point.sensitivity, self.point.specificity)
        return _share(spared, missed)

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Return the ends of PPV and of NPV at the low and at the high ends of sensitivity and specificity together.

        Both rise with both, so these are no narrower than 95 % intervals; the prevalence is taken as given. None where
        the point has no intervals.
        """
        sensitivity, specificity = (
            self.point.intervals.sensitivity,
            self.point.intervals.specificity,
        )
        if sensitivity is None or specificity is None:
            return None
        low, high = (self._shares(*ends) for ends in zip(sensitivity, specificity, strict=True))
        return (_share(low[0], low[2]), _share(high[0], high[2])), (
            _share(low[3], low[1]),
            _share(high[3], high[1]),
        )

    def of(self, patients: int) -> Outcomes:
        """Return what becomes of so many patients, as whole numbers that add up to them (largest remainder)."""
        exact = [
            patients * share
            for share in self._shares(self.point.sensitivity, self.point.specificity)
        ]
        whole = [int(number) for number in exact]
        rest = sorted(range(len(exact)), key=lambda index: whole[index] - exact[index])
        for index in rest[: patients - sum(whole)]:
            whole[index] += 1
        return Outcomes(*whole)

    @property
    def one_missed_in(self) -> float:
        """Return among how many patients one malignant lesion is missed; infinity where none is."""
        missed = self._shares(self.point.sensitivity, self.point.specificity)[1]
        return 1 / missed if missed else float("inf")

    def _shares(self, sensitivity: float, specificity: float) -> tuple[float, float, float, float]:
        benign = 1 - self.prevalence
        return (
            self.prevalence * sensitivity, self.prevalence * (1 - sensitivity),
            benign * (1 - specificity), benign * specificity,
        )  # fmt: skip


def at_prevalence(malignant_probability: float, measured: float, prevalence: float) -> float:
    """Return a malignant probability, 0 to 1, as it is where a share `prevalence` of the lesions is malignant.

    It was calibrated where a share `measured` was; both are above 0 and below 1. Only the odds of the prior change
    (Saerens, Latinne and Decaestecker, Neural Computation 14 (2002) 21, eq. 2.4): malignant and benign lesions are
    taken to look as they do in the data set, and a clinic whose lesions are easier or harder has to measure.
    """
    if not 0 < measured < 1 or not 0 < prevalence < 1:
        raise ValueError(
            f"Expected two prevalences between 0 and 1 but got {measured!r} and {prevalence!r}."
        )
    malignant = malignant_probability * prevalence / measured
    return _share(malignant, (1 - malignant_probability) * (1 - prevalence) / (1 - measured))


def _share(part: float, other: float) -> float:
    return part / (part + other) if part + other else float("nan")
