"""Lists thresholds on the malignant probability with their sensitivity and specificity."""

from collections.abc import Iterator

from cadlib.metrics.image_counts import Counts
from cadlib.metrics.operating_point import Interval, PointIntervals, Threshold
from cadlib.metrics.predictive_values import at_prevalence
from cadlib.metrics.summary_schema import (
    EvaluationMetrics,
    MeasuredPoint,
    ShareInterval,
    StoredRoc,
)

UNNAMED = "chosen"
NO_INTERVALS = PointIntervals(None, None)


class TradeOff(Threshold, frozen=True):
    """A threshold with its sensitivity and specificity over malignant and benign images.

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
        """Return the share of malignant images among those referred; NaN where none is referred."""
        true_positives = self.n_malignant * self.sensitivity
        false_positives = self.n_benign * (1 - self.specificity)
        referred = true_positives + false_positives
        return true_positives / referred if referred else float("nan")

    def threshold_at(self, prevalence: float) -> float:
        """Return the threshold as a probability at another share of malignant lesions."""
        return at_prevalence(self.threshold, self.prevalence, prevalence)

    def net_benefit(self, prevalence: float) -> float:
        """Return the net benefit per patient of referring from this threshold on.

        See `decision_curve.net_benefit`. At a threshold of 1 a needless referral costs infinitely
        much: the benefit is minus infinity if there is one.
        """
        probability = self.threshold_at(prevalence)
        needless = (1 - prevalence) * (1 - self.specificity)
        benefit = prevalence * self.sensitivity
        if probability < 1:
            return benefit - needless * probability / (1 - probability)
        return float("-inf") if needless else benefit


def trade_offs(metrics: EvaluationMetrics) -> tuple[TradeOff, ...]:
    """Return the points of metrics.json's ROC curve of malignancy and its operating points.

    Thresholds rise. Each point is exact, none is interpolated. The result is empty without a
    malignant or a benign image.
    """
    curve = metrics.roc["malignant"]
    if curve is None:
        return ()
    images = Counts.of(metrics)
    named = [_operating_point(point, images) for point in metrics.operating_points]
    # The curve is rounded to six decimals; a point of both would be listed twice.
    named_thresholds = {round(point.threshold, 6) for point in named}
    corners = _curve_points(curve, images)
    # The point of the model has a name and its own intervals, so it replaces that of the curve.
    others = [point for point in corners if point.threshold not in named_thresholds]
    points = sorted([*named, *others], key=lambda point: point.threshold)
    return tuple(points)


def _operating_point(point: MeasuredPoint, images: Counts) -> TradeOff:
    # Both are defined, because a ROC curve has malignant and benign images.
    assert point.sensitivity is not None
    assert point.specificity is not None
    ends = point.intervals
    return TradeOff(
        name=point.name,
        threshold=point.threshold,
        sensitivity=point.sensitivity,
        specificity=point.specificity,
        n_malignant=images.malignant,
        n_benign=images.benign,
        intervals=PointIntervals(ends.sensitivity, ends.specificity),
    )


def _curve_points(curve: StoredRoc, images: Counts) -> Iterator[TradeOff]:
    """Yield the points of a ROC curve except the first, where nothing is called positive."""
    # An earlier version stored no intervals.
    missing = (None,) * len(curve.threshold)
    tpr_intervals = curve.tpr_interval or missing
    fpr_intervals = curve.fpr_interval or missing
    rates = (curve.threshold, curve.tpr, curve.fpr, tpr_intervals, fpr_intervals)
    points = zip(*rates, strict=True)
    for threshold, tpr, fpr, tpr_interval, fpr_interval in points:
        # The infinite threshold of the first point, which JSON does not have.
        if threshold is None:
            continue
        yield TradeOff(
            name=UNNAMED,
            threshold=threshold,
            sensitivity=tpr,
            specificity=1 - fpr,
            n_malignant=images.malignant,
            n_benign=images.benign,
            intervals=_intervals(tpr_interval, fpr_interval),
        )


def _intervals(tpr: ShareInterval, fpr: ShareInterval) -> PointIntervals:
    sensitivity: Interval = None
    if tpr is not None:
        low_tpr, high_tpr = tpr
        sensitivity = (low_tpr, high_tpr)
    specificity: Interval = None
    if fpr is not None:
        # The high end of the false positive rate is the low end of the specificity.
        low_fpr, high_fpr = fpr
        specificity = (1 - high_fpr, 1 - low_fpr)
    return PointIntervals(sensitivity, specificity)
