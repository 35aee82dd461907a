"""What each threshold on the malignant probability does on some images: the points that a reader may choose among."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cadlib.metrics.image_counts import Counts
from cadlib.metrics.operating_point import PointIntervals, Threshold
from cadlib.metrics.predictive_values import at_prevalence

UNNAMED = "chosen"
NO_INTERVALS = PointIntervals(None, None)


@dataclass(frozen=True)
class TradeOff(Threshold):
    """A threshold with its sensitivity and specificity over so many malignant and benign images, of whatever set.

    The model's own operating points have their names, any other is `UNNAMED`.
    """

    sensitivity: float
    specificity: float
    n_malignant: int
    n_benign: int
    intervals: PointIntervals = NO_INTERVALS

    @property
    def prevalence(self) -> float:
        """Return the share of malignant images."""
        return self.n_malignant / (self.n_malignant + self.n_benign)

    @property
    def precision(self) -> float:
        """Return the share of malignant images among those referred; NaN where none is."""
        found = self.n_malignant * self.sensitivity
        referred = found + self.n_benign * (1 - self.specificity)
        return found / referred if referred else float("nan")

    def threshold_at(self, prevalence: float) -> float:
        """Return the threshold as the probability that it is where a share `prevalence` is malignant."""
        return at_prevalence(self.threshold, self.prevalence, prevalence)

    def net_benefit(self, prevalence: float) -> float:
        """Return the net benefit of referring at it (see `net_benefit`), a patient; minus infinity at 1."""
        odds = self.threshold_at(prevalence)
        needless = (1 - prevalence) * (1 - self.specificity)
        harm = needless * odds / (1 - odds) if odds < 1 else float("inf") * bool(needless)
        return prevalence * self.sensitivity - harm


def trade_offs(figures: Mapping[str, Any]) -> tuple[TradeOff, ...]:
    """Return the points of metrics.json's ROC curve of malignancy and its operating points, thresholds rising.

    Each is exact, none is interpolated. Empty without a malignant or a benign image.
    """
    curve = figures["roc"]["malignant"]
    if curve is None:
        return ()
    images = Counts.of(figures)
    counts = {"n_malignant": images.malignant, "n_benign": images.benign}
    named = [
        TradeOff(
            point["name"], point["threshold"], point["sensitivity"], point["specificity"], **counts,
            intervals=PointIntervals.from_json(point["intervals"]),
        )
        for point in figures["operating_points"]
    ]  # fmt: skip
    taken = {round(point.threshold, 6) for point in named}
    unknown = [None] * len(curve["threshold"])  # what an earlier version measured has no intervals
    found, wrong = (curve.get(name, unknown) for name in ("tpr_interval", "fpr_interval"))
    corners = zip(curve["threshold"], curve["tpr"], curve["fpr"], found, wrong, strict=True)
    others = [
        TradeOff(
            UNNAMED, threshold, tpr, 1 - fpr, **counts, intervals=_intervals(of_found, of_wrong)
        )
        for threshold, tpr, fpr, of_found, of_wrong in corners
        if threshold is not None and threshold not in taken
    ]
    return tuple(sorted([*named, *others], key=lambda point: point.threshold))


def _intervals(found: list[float] | None, wrong: list[float] | None) -> PointIntervals:
    return PointIntervals(
        None if found is None else (found[0], found[1]),
        None if wrong is None else (1 - wrong[1], 1 - wrong[0]),
    )
