"""How good predictions are, as pure functions on arrays.

`labels` is (N,) int, the index of the true diagnosis in taxonomy order; `probabilities` is (N, 8) float64,
rows sum to 1, the same order. The predicted diagnosis is the most probable one, the first of equals.

A figure that cannot be computed (a class without an image, no image at all) is NaN here and None in the
JSON of `summarise`, never 0. Wrong arguments raise ValueError.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

from cadlib.taxonomy import CODES, MALIGNANT

RELIABILITY_BINS = 15
"""As many as Guo et al. 2017 take, so that figures compare with the literature."""
ROC_POINTS = 200
ROW_SUM_TOLERANCE = 1e-4
"""Wider than the rounding of a float32 softmax, narrower than that of a bfloat16 one."""

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class RocCurve:
    """A receiver operating characteristic: three read-only (K,) float64 arrays, from (0, 0) to (1, 1).

    At `threshold[k]` and above a case is called positive; the first is infinite, nothing is. All three are
    empty when the positives or the negatives are missing.
    """

    fpr: Floats
    tpr: Floats
    threshold: Floats


@dataclass(frozen=True)
class ReliabilityBin:
    """The `n` predictions with a top probability in (low, high]: its mean, and the fraction that was right.

    `confidence` and `accuracy` are NaN in a bin without a prediction.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def confusion_matrix(labels: Labels, probabilities: Floats) -> NDArray[np.int64]:
    """Count images by truth (rows) and prediction (columns); (8, 8) int64."""
    labels, probabilities = _checked(labels, probabilities)
    # scikit-learn's refuses an empty input; this is the same count in a line.
    pairs = labels * len(CODES) + probabilities.argmax(axis=1)
    return np.bincount(pairs, minlength=len(CODES) ** 2).reshape(len(CODES), len(CODES))


def accuracy(labels: Labels, probabilities: Floats) -> float:
    """Return the fraction of images whose most probable diagnosis is the true one."""
    matrix = confusion_matrix(labels, probabilities)
    return float(_ratio(np.trace(matrix), matrix.sum()))


def balanced_accuracy(labels: Labels, probabilities: Floats) -> float:
    """Return the mean sensitivity over the classes that have an image.

    With all eight present this is the figure ISIC 2019 ranks by. With fewer it is a mean over fewer and
    compares only with figures over the same classes; `summarise` gives their number as `n_classes`.
    """
    sensitivity = np.array(list(class_sensitivity(labels, probabilities).values()))
    return _mean(sensitivity[~np.isnan(sensitivity)])


def class_sensitivity(labels: Labels, probabilities: Floats) -> dict[str, float]:
    """Return by code the fraction of the class's images that are predicted as it."""
    matrix = confusion_matrix(labels, probabilities)
    return _by_code(_ratio(matrix.diagonal(), matrix.sum(axis=1)))


def class_specificity(labels: Labels, probabilities: Floats) -> dict[str, float]:
    """Return by code the fraction of all other classes' images that are not predicted as it."""
    matrix = confusion_matrix(labels, probabilities)
    others = matrix.sum() - matrix.sum(axis=1)
    false_positives = matrix.sum(axis=0) - matrix.diagonal()
    return _by_code(_ratio(others - false_positives, others))


def class_auc(labels: Labels, probabilities: Floats) -> dict[str, float]:
    """Return by code the area under the ROC curve of the class against all others."""
    labels, probabilities = _checked(labels, probabilities)
    return {code: auc(probabilities[:, i], labels == i) for i, code in enumerate(CODES)}


def malignant_probability(probabilities: Floats) -> Floats:
    """Sum the probabilities of the malignant diagnoses; (…, 8) -> (…), 0 to 1."""
    # The sum of a row can exceed 1 by a rounding, which a probability must not.
    total: Floats = np.minimum(np.asarray(probabilities, np.float64)[..., MALIGNANT].sum(axis=-1), 1.0)
    return total


def malignant_truth(labels: Labels) -> NDArray[np.bool_]:
    """Say of each label whether its diagnosis is malignant; (N,) bool."""
    return np.array(MALIGNANT)[labels]


def malignant_auc(labels: Labels, probabilities: Floats) -> float:
    """Return the area under the ROC curve of malignant against benign."""
    labels, probabilities = _checked(labels, probabilities)
    return auc(malignant_probability(probabilities), malignant_truth(labels))


def auc(scores: Floats, truth: NDArray[np.bool_]) -> float:
    """Return the probability that a positive scores above a negative, ties counted half.

    `scores` is (N,) float64, `truth` (N,) bool.
    """
    scores, truth = _checked_scores(scores, truth)
    return float(roc_auc_score(truth, scores)) if _both_present(truth) else math.nan


def roc_points(scores: Floats, truth: NDArray[np.bool_], limit: int = ROC_POINTS) -> RocCurve:
    """Trace the ROC curve with at most `limit` points, the corners that shape it.

    `scores` is (N,) float64, `truth` (N,) bool. Each point is one that the data has, none is interpolated.
    """
    scores, truth = _checked_scores(scores, truth)
    if limit < 2:
        raise ValueError(f"Expected `limit` to be at least 2, the two ends of the curve, but got {limit}.")
    if not _both_present(truth):
        return RocCurve(*(_read_only(np.empty(0)) for _ in range(3)))
    fpr, tpr, threshold = roc_curve(truth, scores)
    kept = _corners(fpr, tpr, limit)
    return RocCurve(*(_read_only(np.asarray(values[kept], np.float64)) for values in (fpr, tpr, threshold)))


def sensitivity_specificity(scores: Floats, truth: NDArray[np.bool_], threshold: float) -> tuple[float, float]:
    """Return sensitivity and specificity when a score at or above the threshold is called positive.

    `scores` is (N,) float64, `truth` (N,) bool.
    """
    scores, truth = _checked_scores(scores, truth)
    positive = scores >= threshold
    return _mean(positive[truth]), _mean(~positive[~truth])


def reliability_bins(labels: Labels, probabilities: Floats, bins: int = RELIABILITY_BINS) -> tuple[ReliabilityBin, ...]:
    """Sort the predictions into equal-width bins of their top probability (Guo et al., ICML 2017)."""
    labels, probabilities = _checked(labels, probabilities)
    if bins < 1:
        raise ValueError(f"Expected `bins` to be at least 1 but got {bins}.")
    confidence, right = probabilities.max(axis=1, initial=0), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    place = np.digitize(confidence, edges[1:-1], right=True)
    return tuple(
        ReliabilityBin(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            n=int((place == i).sum()),
            confidence=_mean(confidence[place == i]),
            accuracy=_mean(right[place == i]),
        )
        for i in range(bins)
    )


def expected_calibration_error(labels: Labels, probabilities: Floats, bins: int = RELIABILITY_BINS) -> float:
    """Return the mean gap between top probability and accuracy, bin by bin (ECE; Guo et al., ICML 2017)."""
    filled = [bin_ for bin_ in reliability_bins(labels, probabilities, bins) if bin_.n]
    if not filled:
        return math.nan
    gaps = [abs(bin_.accuracy - bin_.confidence) for bin_ in filled]
    return float(np.average(gaps, weights=[bin_.n for bin_ in filled]))


def brier_score(labels: Labels, probabilities: Floats) -> float:
    """Return the mean squared distance from the one-hot truth, summed over classes: 0 to 2 (Brier 1950)."""
    labels, probabilities = _checked(labels, probabilities)
    return _mean(np.square(probabilities - np.eye(len(CODES))[labels]).sum(axis=1))


def summarise(labels: Labels, probabilities: Floats) -> dict[str, Any]:
    """Return every figure of this module as plain JSON values, None where one is not defined.

    `roc` has a curve a code and one for "malignant", None where there is none; its numbers are rounded to
    six decimals, and its first threshold (nothing is called positive) is None.
    """
    labels, probabilities = _checked(labels, probabilities)
    n_by_class = np.bincount(labels, minlength=len(CODES))
    curves = {code: roc_points(probabilities[:, i], labels == i) for i, code in enumerate(CODES)}
    curves["malignant"] = roc_points(malignant_probability(probabilities), malignant_truth(labels))
    summary = {
        "n": len(labels),
        "n_classes": int((n_by_class > 0).sum()),
        "n_by_class": dict(zip(CODES, n_by_class.tolist(), strict=True)),
        "balanced_accuracy": balanced_accuracy(labels, probabilities),
        "accuracy": accuracy(labels, probabilities),
        "malignant_auc": malignant_auc(labels, probabilities),
        "auc": class_auc(labels, probabilities),
        "sensitivity": class_sensitivity(labels, probabilities),
        "specificity": class_specificity(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
        "brier": brier_score(labels, probabilities),
        "confusion_matrix": confusion_matrix(labels, probabilities).tolist(),
        "roc": {name: _curve_json(curve) for name, curve in curves.items()},
        "reliability": [asdict(bin_) for bin_ in reliability_bins(labels, probabilities)],
    }
    ready: dict[str, Any] = json_ready(summary)
    return ready


def json_ready(value: Any) -> Any:
    """Replace every NaN and infinity in nested dicts and lists by None, which strict JSON can hold."""
    if isinstance(value, Mapping):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _checked(labels: Labels, probabilities: Floats) -> tuple[NDArray[np.int64], Floats]:
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected `labels` to be (N,) int but got {labels.shape} {labels.dtype}.")
    shape = (len(labels), len(CODES))
    if probabilities.shape != shape or not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(
            f"Expected `probabilities` to be {shape} float but got {probabilities.shape} {probabilities.dtype}."
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(CODES)):
        raise ValueError(
            f"Expected `labels` to be from 0 to {len(CODES) - 1} but got {labels.min()} to {labels.max()}."
        )
    probabilities = probabilities.astype(np.float64)
    good = (probabilities >= 0).all(axis=1) & (np.abs(probabilities.sum(axis=1) - 1) <= ROW_SUM_TOLERANCE)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(
            "Expected `probabilities` to be rows of non-negative numbers that sum to 1 but got "
            f"{probabilities[row].round(4).tolist()} in row {row}."
        )
    return labels.astype(np.int64), probabilities


def _checked_scores(scores: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.bool_]]:
    scores, truth = np.asarray(scores), np.asarray(truth)
    if truth.ndim != 1 or truth.dtype != np.bool_:
        raise ValueError(f"Expected `truth` to be (N,) bool but got {truth.shape} {truth.dtype}.")
    if scores.shape != truth.shape or not np.issubdtype(scores.dtype, np.floating):
        raise ValueError(f"Expected `scores` to be {truth.shape} float but got {scores.shape} {scores.dtype}.")
    if infinite := int((~np.isfinite(scores)).sum()):
        raise ValueError(f"Expected `scores` to be finite but got {infinite} that are not.")
    return scores.astype(np.float64), truth


def _corners(x: Floats, y: Floats, limit: int) -> NDArray[np.intp]:
    """Pick the at most `limit` points that shape the curve most (Ramer 1972; Douglas and Peucker 1973).

    The point farthest from the line so far comes next. By hand because scikit-learn only drops points that
    are collinear, and a curve over thousands of images has thousands of corners.
    """
    kept, heap = [0, len(x) - 1], list[tuple[float, int, int, int]]()

    def offer(first: int, last: int) -> None:
        if last - first < 2:
            return
        run, rise = x[last] - x[first], y[last] - y[first]
        between = slice(first + 1, last)
        away = np.abs((x[between] - x[first]) * rise - (y[between] - y[first]) * run) / math.hypot(run, rise)
        heapq.heappush(heap, (-float(away.max()), first + 1 + int(away.argmax()), first, last))

    offer(0, len(x) - 1)
    while heap and len(kept) < limit:
        _, corner, first, last = heapq.heappop(heap)
        kept.append(corner)
        offer(first, corner)
        offer(corner, last)
    return np.sort(np.array(kept))


def _curve_json(curve: RocCurve) -> dict[str, list[float]] | None:
    if not len(curve.fpr):
        return None
    return {name: getattr(curve, name).round(6).tolist() for name in ("fpr", "tpr", "threshold")}


def _both_present(truth: NDArray[np.bool_]) -> bool:
    return bool(truth.any() and not truth.all())


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
    return ratio


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else math.nan


def _by_code(values: Floats) -> dict[str, float]:
    return dict(zip(CODES, values.tolist(), strict=True))


def _read_only(values: Floats) -> Floats:
    values.setflags(write=False)
    return values
