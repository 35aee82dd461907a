"""Computes what a threshold means for the patients of a clinic.

Sensitivity and specificity are those of the lesions that the model was measured on, and are assumed
to hold elsewhere. The share of malignant lesions differs between clinics, and is never that of a
data set.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cadlib.metrics.operating_point import PointIntervals

INTERVAL_NOTE = (
    "The intervals of PPV and NPV combine the limits of sensitivity and specificity: "
    "they are at least 95 % intervals, and the share of malignant lesions is taken as exact."
)


class Measured(Protocol):
    """The measured results of a threshold, on any images."""

    @property
    def sensitivity(self) -> float: ...  # noqa: D102 - of the malignant, 0 to 1
    @property
    def specificity(self) -> float: ...  # noqa: D102 - of the benign, 0 to 1
    @property
    def intervals(self) -> PointIntervals: ...  # noqa: D102 - of both, 95 %


@dataclass(frozen=True)
class Outcomes:
    """The numbers of patients by outcome, whole numbers; each patient has one lesion."""

    detected: int
    """Malignant and referred."""
    missed: int
    """Malignant and not referred."""
    needless: int
    """Benign and referred."""
    spared: int
    """Benign and not referred."""


@dataclass(frozen=True)
class PredictiveValues:
    """An operating point at a prevalence, above 0 and below 1.

    The prevalence is the share of malignant lesions among all examined ones.
    """

    point: Measured
    prevalence: float

    def __post_init__(self) -> None:
        if not 0 < self.prevalence < 1:
            raise ValueError(
                f"Expected `prevalence` to be between 0 and 1 but got {self.prevalence!r}."
            )

    @property
    def positive(self) -> float:
        """Return the PPV: the share of malignant lesions among the referred patients.

        It is NaN where nobody is referred. Bayes' theorem (Altman and Bland, BMJ 309 (1994) 102).
        """
        shares = self._point_shares
        return _share(
            part=shares.detected,
            other=shares.needless,
        )

    @property
    def negative(self) -> float:
        """Return the NPV: the share of benign lesions among the patients not referred.

        It is NaN where everybody is referred.
        """
        shares = self._point_shares
        return _share(
            part=shares.spared,
            other=shares.missed,
        )

    @property
    def intervals(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Return the ends of PPV and of NPV, at the low and at the high ends of both rates.

        PPV and NPV rise with sensitivity and with specificity, so these are at least 95 %
        intervals. The prevalence is taken as exact. Return None where the point has no intervals.
        """
        sensitivity = self.point.intervals.sensitivity
        specificity = self.point.intervals.specificity
        if sensitivity is None or specificity is None:
            return None
        low_sensitivity, high_sensitivity = sensitivity
        low_specificity, high_specificity = specificity
        # Both rates at their low ends give the low end, as both values rise with each rate.
        low = self._shares(low_sensitivity, low_specificity)
        high = self._shares(high_sensitivity, high_specificity)
        low_positive = _share(low.detected, low.needless)
        high_positive = _share(high.detected, high.needless)
        low_negative = _share(low.spared, low.missed)
        high_negative = _share(high.spared, high.missed)
        return (low_positive, high_positive), (low_negative, high_negative)

    def of(self, patients: int) -> Outcomes:
        """Return the outcomes of so many patients, as whole numbers that add up to them.

        The method is that of the largest remainder.
        """
        exact = [patients * share for share in self._point_shares]
        # Rounded down, so that patients can only remain, never be too many.
        whole = [int(number) for number in exact]
        places = range(len(exact))
        # Rounding each number by itself could give one patient too many or too few.
        by_remainder = sorted(places, key=lambda index: whole[index] - exact[index])
        n_remaining = patients - sum(whole)
        for index in by_remainder[:n_remaining]:
            whole[index] += 1
        return Outcomes(*whole)

    @property
    def one_missed_in(self) -> float:
        """Return among how many patients one malignant lesion is missed; infinity where none is."""
        missed = self._point_shares.missed
        # A point that misses nothing on its images has no such number.
        if not missed:
            return float("inf")
        return 1 / missed

    @property
    def _point_shares(self) -> "_Shares":
        return self._shares(self.point.sensitivity, self.point.specificity)

    def _shares(self, sensitivity: float, specificity: float) -> "_Shares":
        benign = 1 - self.prevalence
        return _Shares(
            detected=self.prevalence * sensitivity,
            missed=self.prevalence * (1 - sensitivity),
            needless=benign * (1 - specificity),
            spared=benign * specificity,
        )


class _Shares(NamedTuple):
    """The shares of all patients by outcome, in the order of `Outcomes`."""

    detected: float
    missed: float
    needless: float
    spared: float


def at_prevalence(malignant_probability: float, measured: float, prevalence: float) -> float:
    """Return a malignant probability, 0 to 1, at another prevalence.

    It was calibrated where a share `measured` of the lesions is malignant, and is wanted where a
    share `prevalence` is; both are above 0 and below 1. Only the odds of the prior change (Saerens,
    Latinne and Decaestecker, Neural Computation 14 (2002) 21, eq. 2.4): malignant and benign
    lesions are assumed to look as they do in the data set. A clinic whose lesions are easier or
    harder has to measure.
    """
    if not 0 < measured < 1 or not 0 < prevalence < 1:
        raise ValueError(
            f"Expected two prevalences between 0 and 1 but got {measured!r} and {prevalence!r}."
        )
    # Each part is multiplied by the ratio of the priors, and the sum of both is made 1 again.
    malignant = malignant_probability * prevalence / measured
    benign = (1 - malignant_probability) * (1 - prevalence) / (1 - measured)
    return _share(malignant, benign)


def _share(part: float, other: float) -> float:
    whole = part + other
    return part / whole if whole else float("nan")
