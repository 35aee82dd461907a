"""Computes the curves and areas of the trade-offs of thresholds.

A curve is computed from the images where they are available, else from metrics.json alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cadlib.metrics.curves import (
    Area,
    PrecisionRecallCurve,
    precision_recall_of_roc,
    precision_recall_points,
)
from cadlib.metrics.decision_curve import DecisionCurve, curve_of_points, decision_curve
from cadlib.metrics.image_counts import Counts
from cadlib.metrics.thresholds import trade_offs
from cadlib.taxonomy import CODES

if TYPE_CHECKING:  # pandas takes a third of a second to load, and metrics.json does not need it
    from cadlib.evaluation.cached import Evaluated


def areas(figures: Mapping[str, Any]) -> dict[str, Area]:
    """Return the area under each ROC curve of metrics.json with its interval.

    The areas are by the keys of `roc`.
    """
    intervals = figures["intervals"]
    by_curve = {}
    for code, area in figures["auc"].items():
        interval = intervals["auc"][code]
        by_curve[code] = Area(area, interval)
    name = "malignant_auc"
    by_curve["malignant"] = Area(figures[name], intervals[name])
    return by_curve


def roc_curves(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ROC curves of metrics.json.

    If no image has a diagnosis, this is only the curve of malignancy.
    """
    curves = figures["roc"]
    counts = Counts.of(figures)
    if not counts.diagnosed:
        return {"malignant": curves["malignant"]}
    return dict(curves)


def precision_recall(
    figures: Mapping[str, Any],
    evaluated: "Evaluated | None",
) -> dict[str, PrecisionRecallCurve]:
    """Return the precision-recall curves of malignancy and melanoma.

    That of melanoma is missing if no image has a diagnosis.
    `evaluated` has the images; without it the curves are computed from the ROC curves.
    """
    counts = Counts.of(figures)
    curves = {}
    if counts.diagnosed:
        curves["melanoma"] = _melanoma_curve(figures, evaluated, counts)
    if evaluated:
        malignant = evaluated.labels.malignant
        curves["malignant"] = precision_recall_points(evaluated.malignant, malignant)
    else:
        roc = figures["roc"]["malignant"]
        curves["malignant"] = precision_recall_of_roc(roc, counts.malignant, counts.benign)
    return curves


def _melanoma_curve(
    figures: Mapping[str, Any],
    evaluated: "Evaluated | None",
    counts: Counts,
) -> PrecisionRecallCurve:
    if evaluated:
        melanoma = CODES.index("MEL")
        diagnosed = evaluated.labels.diagnosed
        scores = evaluated.probabilities[diagnosed, melanoma]
        is_melanoma = evaluated.labels.codes[diagnosed] == melanoma
        return precision_recall_points(scores, is_melanoma)
    roc = figures["roc"]["MEL"]
    n_melanomas = figures["n_by_class"]["MEL"]
    n_others = counts.diagnosed - n_melanomas
    return precision_recall_of_roc(roc, n_melanomas, n_others)


def average_precisions(figures: Mapping[str, Any]) -> dict[str, Area]:
    """Return the areas under the precision-recall curves, with intervals.

    The area of malignancy is missing from figures that an earlier version measured.
    """
    intervals = figures["intervals"]
    area = figures["average_precision"]["MEL"]
    interval = intervals["average_precision"]["MEL"]
    by_curve = {"melanoma": Area(area, interval)}
    name = "malignant_average_precision"
    if name in figures:
        by_curve["malignant"] = Area(figures[name], intervals[name])
    return by_curve


def decision(
    figures: Mapping[str, Any],
    evaluated: "Evaluated | None",
    prevalence: float,
) -> DecisionCurve:
    """Return the decision curve at a prevalence, with an interval if the images are available.

    Raise ValueError without a malignant or a benign image.
    """
    if not evaluated:
        return curve_of_points(trade_offs(figures), prevalence)
    malignant = evaluated.labels.malignant
    return decision_curve(evaluated.malignant, malignant, evaluated.groups, prevalence)
