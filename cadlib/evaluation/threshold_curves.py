"""Computes the curves and areas of the trade-offs of thresholds.

A curve is computed from the images where they are available, else from metrics.json alone.
"""

from typing import TYPE_CHECKING

from msgspec import UNSET

from cadlib.metrics.curves import (
    Area,
    PrecisionRecallCurve,
    precision_recall_of_roc,
    precision_recall_points,
)
from cadlib.metrics.decision_curve import DecisionCurve, curve_of_points, decision_curve
from cadlib.metrics.image_counts import Counts
from cadlib.metrics.summary_schema import EvaluationMetrics, StoredRoc, Summary
from cadlib.metrics.thresholds import trade_offs
from cadlib.taxonomy import CODES

if TYPE_CHECKING:  # pandas takes a third of a second to load, and metrics.json does not need it
    from cadlib.evaluation.cached import Evaluated


def areas(summary: Summary) -> dict[str, Area]:
    """Return the area under each ROC curve of metrics.json with its interval.

    The areas are by the keys of `roc`.
    """
    intervals = summary.intervals
    by_curve = {}
    for code, area in summary.auc.items():
        by_curve[code] = Area(area, intervals.auc[code])
    by_curve["malignant"] = Area(summary.malignant_auc, intervals.malignant_auc)
    return by_curve


def roc_curves(metrics: EvaluationMetrics) -> dict[str, StoredRoc | None]:
    """Return the ROC curves of metrics.json.

    If no image has a diagnosis, this is only the curve of malignancy.
    """
    curves = metrics.roc
    counts = Counts.of(metrics)
    if not counts.diagnosed:
        malignant = curves["malignant"]
        return {"malignant": malignant}
    return dict(curves)


def precision_recall(
    metrics: EvaluationMetrics,
    evaluated: "Evaluated | None",
) -> dict[str, PrecisionRecallCurve]:
    """Return the precision-recall curves of malignancy and melanoma.

    That of melanoma is missing if no image has a diagnosis.
    `evaluated` has the images; without it the curves are computed from the ROC curves.
    """
    counts = Counts.of(metrics)
    curves = {}
    if counts.diagnosed:
        curves["melanoma"] = _melanoma_curve(metrics, evaluated, counts)
    # The images give every corner of the curve, metrics.json at most 200 of them.
    if evaluated:
        malignant = evaluated.labels.malignant
        curves["malignant"] = precision_recall_points(evaluated.malignant, malignant)
    else:
        roc = metrics.roc["malignant"]
        curves["malignant"] = precision_recall_of_roc(roc, counts.malignant, counts.benign)
    return curves


def _melanoma_curve(
    metrics: EvaluationMetrics,
    evaluated: "Evaluated | None",
    counts: Counts,
) -> PrecisionRecallCurve:
    if evaluated:
        melanoma = CODES.index("MEL")
        diagnosed = evaluated.labels.diagnosed
        scores = evaluated.probabilities[diagnosed, melanoma]
        is_melanoma = evaluated.labels.codes[diagnosed] == melanoma
        return precision_recall_points(scores, is_melanoma)
    roc = metrics.roc["MEL"]
    n_melanomas = metrics.n_by_class["MEL"]
    # The ROC curve of a class is over the images with a diagnosis alone.
    n_others = counts.diagnosed - n_melanomas
    return precision_recall_of_roc(roc, n_melanomas, n_others)


def average_precisions(metrics: EvaluationMetrics) -> dict[str, Area]:
    """Return the areas under the precision-recall curves, with intervals.

    The area of malignancy is missing from metrics that an earlier version measured.
    """
    intervals = metrics.intervals
    area = metrics.average_precision["MEL"]
    interval = intervals.average_precision["MEL"]
    by_curve = {"melanoma": Area(area, interval)}
    malignant_area = metrics.malignant_average_precision
    malignant_interval = intervals.malignant_average_precision
    if malignant_area is not UNSET and malignant_interval is not UNSET:
        by_curve["malignant"] = Area(malignant_area, malignant_interval)
    return by_curve


def decision(
    metrics: EvaluationMetrics,
    evaluated: "Evaluated | None",
    prevalence: float,
) -> DecisionCurve:
    """Return the decision curve at a prevalence, with an interval if the images are available.

    Raise ValueError without a malignant or a benign image.
    """
    # An interval needs the lesions, which metrics.json does not hold.
    if not evaluated:
        return curve_of_points(trade_offs(metrics), prevalence)
    malignant = evaluated.labels.malignant
    return decision_curve(evaluated.malignant, malignant, evaluated.groups, prevalence)
