"""What thresholds trade on some images, as curves: of the images where they are there, else of metrics.json alone."""

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

if TYPE_CHECKING:  # pandas takes a third of a second, figures alone need none
    from cadlib.evaluation.cached import Evaluated


def areas(figures: Mapping[str, Any]) -> dict[str, Area]:
    """Return the area under each ROC curve of metrics.json, by the keys of `roc`, with its interval."""
    ends = figures["intervals"]
    return {
        **{code: Area(area, ends["auc"][code]) for code, area in figures["auc"].items()},
        "malignant": Area(figures["malignant_auc"], ends["malignant_auc"]),
    }


def roc_curves(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ROC curves of metrics.json; without a diagnosis that of malignancy alone."""
    curves = figures["roc"]
    if not Counts.of(figures).diagnosed:
        return {"malignant": curves["malignant"]}
    return dict(curves)


def precision_recall(
    figures: Mapping[str, Any], found: "Evaluated | None"
) -> dict[str, PrecisionRecallCurve]:
    """Return the precision-recall curves of melanoma, where images have a diagnosis, and of malignancy."""
    counts = Counts.of(figures)
    curves = {}
    if counts.diagnosed:
        curves["melanoma"] = _melanoma_curve(figures, found, counts)
    if found:
        curves["malignant"] = precision_recall_points(found.malignant, found.labels.malignant)
    else:
        roc = figures["roc"]["malignant"]
        curves["malignant"] = precision_recall_of_roc(roc, counts.malignant, counts.benign)
    return curves


def _melanoma_curve(
    figures: Mapping[str, Any], found: "Evaluated | None", counts: Counts
) -> PrecisionRecallCurve:
    if found:
        melanoma = CODES.index("MEL")
        diagnosed = found.labels.diagnosed
        scores = found.probabilities[diagnosed, melanoma]
        return precision_recall_points(scores, found.labels.codes[diagnosed] == melanoma)
    melanomas = figures["n_by_class"]["MEL"]
    return precision_recall_of_roc(figures["roc"]["MEL"], melanomas, counts.diagnosed - melanomas)


def average_precisions(figures: Mapping[str, Any]) -> dict[str, Area]:
    """Return the areas under these, with intervals; what an earlier version measured lacks that of malignancy."""
    ends, name = figures["intervals"], "malignant_average_precision"
    return {
        "melanoma": Area(figures["average_precision"]["MEL"], ends["average_precision"]["MEL"]),
        **({"malignant": Area(figures[name], ends[name])} if name in figures else {}),
    }


def decision(
    figures: Mapping[str, Any], found: "Evaluated | None", prevalence: float
) -> DecisionCurve:
    """Return the decision curve at a prevalence, with an interval where the images are there.

    Raise ValueError without a malignant or a benign image.
    """
    if found:
        return decision_curve(found.malignant, found.labels.malignant, found.groups, prevalence)
    return curve_of_points(trade_offs(figures), prevalence)
