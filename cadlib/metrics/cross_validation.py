"""Measures the networks of a cross-validation.

Each is measured on the images of its fold, which it was not trained on.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cadlib.files.json_types import Count, Share
from cadlib.metrics import classification
from cadlib.metrics.balanced_rule import BalancedRule
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.summary import defined
from cadlib.metrics.summary_schema import MetricsObject
from cadlib.taxonomy import CODES

METRICS = (
    "balanced_accuracy",
    "balanced_accuracy_by_rule",
    "malignant_auc",
    "melanoma_auc",
)
"""Fields of `FoldMetrics` that are averaged over the folds."""


class FoldMetrics(MetricsObject, frozen=True, kw_only=True):
    """The metrics of one network on the images of its fold.

    A metric is None where the fold has no image of a diagnosis that it needs.
    """

    fold: Count
    backbone: str
    n: Count
    balanced_accuracy: Share | None
    balanced_accuracy_by_rule: Share | None
    """Of the diagnosis that the balanced rule names; None for a model without this rule."""
    malignant_auc: Share | None
    melanoma_auc: Share | None


class CrossValidation(MetricsObject, frozen=True, kw_only=True):
    """The metrics of each fold, in their order."""

    folds: tuple[FoldMetrics, ...]

    def mean(self, metric: str) -> float | None:
        """Return the mean over the folds; None if it is not defined in all of them."""
        return self._over_folds(metric, np.mean)

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation over the folds, of a sample (divisor: folds minus 1)."""
        return self._over_folds(metric, _sample_deviation)

    def _over_folds(
        self,
        metric: str,
        summarise: Callable[[list[float]], np.floating],
    ) -> float | None:
        values = [getattr(fold, metric) for fold in self.folds]
        if None in values:
            return None
        return float(summarise(values))


def measure_folds(
    folds: NDArray[np.int64],
    backbones: Sequence[str],
    labels: Labels,
    probabilities: Floats,
    rule: BalancedRule | None,
) -> CrossValidation:
    """Measure each fold.

    `folds`, (N,), is the fold of each image, and `backbones` has the network of each fold. `labels`
    is (N,), and `probabilities`, (N, 8), are by the network that was not trained on the image.
    """
    measured = []
    for fold, backbone in enumerate(backbones):
        rows = folds == fold
        metrics = _measure_fold(fold, backbone, labels[rows], probabilities[rows], rule)
        measured.append(metrics)
    return CrossValidation(folds=tuple(measured))


def _measure_fold(
    fold: int,
    backbone: str,
    labels: Labels,
    probabilities: Floats,
    rule: BalancedRule | None,
) -> FoldMetrics:
    by_rule = None
    if rule is not None:
        adjusted = rule.adjusted(probabilities)
        by_rule = defined(float(classification.balanced_accuracy(labels, adjusted)))
    melanoma = CODES.index("MEL")
    accuracy = classification.balanced_accuracy(labels, probabilities)
    malignant_auc = classification.malignant_auc(labels, probabilities)
    class_auc = classification.class_auc(labels, probabilities)
    return FoldMetrics(
        fold=fold,
        backbone=backbone,
        n=len(labels),
        balanced_accuracy=defined(float(accuracy)),
        balanced_accuracy_by_rule=by_rule,
        malignant_auc=defined(float(malignant_auc)),
        melanoma_auc=defined(float(class_auc[melanoma])),
    )


def _sample_deviation(values: list[float]) -> np.floating:
    # One fold has no deviation.
    deviation: np.floating = np.std(values, ddof=1) if len(values) > 1 else np.float64(0)
    return deviation
