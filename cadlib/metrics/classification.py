"""How good predictions are, as pure functions on arrays.

`labels` is (N,) int, the index of the true diagnosis in taxonomy order; `probabilities` is (N, 8) float64,
rows sum to 1, the same order. The predicted diagnosis is the most probable one, the first of equals.

`weights`, (…, N), says how often each image counts: 1 each where it is not given. With the draws of a bootstrap
in its rows, one call computes a figure for all of them: a figure is (…) float64, one by class (…, 8).

A figure that cannot be computed (a class without an image, no image at all) is NaN, never 0. Wrong arguments
raise ValueError. Figures of malignancy also take `PartialLabels`, of which some images have no diagnosis.

scikit-learn has most of these figures for one sample at a time; a thousand draws of every
figure and subgroup would take it ten minutes, so it is the reference in the tests instead.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics.partial_labels import AnyLabels, PartialLabels
from cadlib.taxonomy import CODES, MALIGNANT

RELIABILITY_BINS = 15
"""As many as Guo et al. 2017 take, so that figures compare with the literature."""
ROW_SUM_TOLERANCE = 1e-4
"""Wider than the rounding of a float32 softmax, narrower than that of a bfloat16 one."""

Floats = NDArray[np.float64]
Labels = NDArray[np.integer[Any]]


def confusion_matrix(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Count images by truth (rows) and prediction (columns); (…, 8, 8)."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    pairs = labels * len(CODES) + probabilities.argmax(axis=1)
    counts = _sums(weights, pairs, len(CODES) ** 2)
    return counts.reshape(*counts.shape[:-1], len(CODES), len(CODES))


def accuracy(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Return the fraction of images whose most probable diagnosis is the true one."""
    matrix = confusion_matrix(labels, probabilities, weights)
    return _ratio(np.trace(matrix, axis1=-2, axis2=-1), matrix.sum(axis=(-2, -1)))


def balanced_accuracy(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return the mean sensitivity over the classes that have an image in `labels`.

    With all eight present this is the figure ISIC 2019 ranks by. With fewer it is a mean over fewer and
    compares only with figures over the same classes. A draw that misses one of them is NaN.
    """
    present = (
        np.bincount(labels, minlength=len(CODES)) > 0 if len(labels) else np.zeros(len(CODES), bool)
    )
    return _mean(class_sensitivity(labels, probabilities, weights)[..., present])


def class_sensitivity(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return for each class the fraction of its images that are predicted as it."""
    matrix = confusion_matrix(labels, probabilities, weights)
    return _ratio(_diagonal(matrix), matrix.sum(axis=-1))


def class_specificity(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return for each class the fraction of all other classes' images that are not predicted as it."""
    matrix = confusion_matrix(labels, probabilities, weights)
    others = matrix.sum(axis=(-2, -1))[..., None] - matrix.sum(axis=-1)
    false_positives = matrix.sum(axis=-2) - _diagonal(matrix)
    return _ratio(others - false_positives, others)


def class_ppv(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Return for each class the fraction of the images predicted as it that are it (precision)."""
    matrix = confusion_matrix(labels, probabilities, weights)
    return _ratio(_diagonal(matrix), matrix.sum(axis=-2))


def class_npv(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Return for each class the fraction of the images not predicted as it that are not it."""
    matrix = confusion_matrix(labels, probabilities, weights)
    total = matrix.sum(axis=(-2, -1))[..., None]
    missed = matrix.sum(axis=-1) - _diagonal(matrix)
    negative = total - matrix.sum(axis=-2)
    return _ratio(negative - missed, negative)


def class_auc(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Return for each class the area under the ROC curve of the class against all others."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    return _by_class(auc, labels, probabilities, weights)


def class_average_precision(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return for each class the average precision of the class against all others."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    return _by_class(average_precision, labels, probabilities, weights)


def malignant_probability(probabilities: Floats) -> Floats:
    """Sum the probabilities of the malignant diagnoses; (…, 8) -> (…), 0 to 1."""
    # The sum of a row can exceed 1 by a rounding, which a probability must not.
    total: Floats = np.minimum(
        np.asarray(probabilities, np.float64)[..., MALIGNANT].sum(axis=-1), 1.0
    )
    return total


def malignant_truth(labels: AnyLabels) -> NDArray[np.bool_]:
    """Say of each label whether its diagnosis is malignant; (N,) bool."""
    return labels.malignant if isinstance(labels, PartialLabels) else np.array(MALIGNANT)[labels]


def malignant_auc(
    labels: AnyLabels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return the area under the ROC curve of malignant against benign."""
    scores, truth = malignant_scores(labels, probabilities)
    return auc(scores, truth, weights)


def malignant_average_precision(
    labels: AnyLabels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return the average precision of malignant against benign."""
    scores, truth = malignant_scores(labels, probabilities)
    return average_precision(scores, truth, weights)


def malignant_specificity(
    labels: AnyLabels, probabilities: Floats, sensitivity: float, weights: Floats | None = None
) -> Floats:
    """Return the specificity for malignancy where its sensitivity is at least the one given."""
    scores, truth = malignant_scores(labels, probabilities)
    return specificity_at(scores, truth, sensitivity, weights)


def malignant_scores(labels: AnyLabels, probabilities: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the malignant probability and the truth of each image, (N,) float64 and (N,) bool.

    Raise ValueError for what `checked` refuses; an image of `PartialLabels` needs no diagnosis.
    """
    labels = PartialLabels.of(labels)
    probabilities = checked_probabilities(probabilities, len(labels))
    return malignant_probability(probabilities), labels.malignant


def auc(scores: Floats, truth: NDArray[np.bool_], weights: Floats | None = None) -> Floats:
    """Return the probability that a positive scores above a negative, ties counted half.

    `scores` is (N,) float64, `truth` (N,) bool.
    """
    true, false = _called_positive(scores, truth, weights)
    area = (np.diff(false) * (true[..., 1:] + true[..., :-1]) / 2).sum(axis=-1)
    return _ratio(area, true[..., -1] * false[..., -1])


def average_precision(
    scores: Floats, truth: NDArray[np.bool_], weights: Floats | None = None
) -> Floats:
    """Return the mean precision over the positives, each at its own score; NaN without a positive.

    `scores` is (N,) float64, `truth` (N,) bool. Without interpolation, as scikit-learn has it.
    """
    true, false = _called_positive(scores, truth, weights)
    called = true[..., 1:] + false[..., 1:]
    gained = np.diff(true) * np.divide(
        true[..., 1:], called, out=np.zeros_like(called), where=called > 0
    )
    return _ratio(gained.sum(axis=-1), true[..., -1])


def specificity_at(
    scores: Floats, truth: NDArray[np.bool_], sensitivity: float, weights: Floats | None = None
) -> Floats:
    """Return the specificity at the highest threshold that reaches a sensitivity above 0 and up to 1.

    `scores` is (N,) float64, `truth` (N,) bool. The threshold is chosen anew for each draw.
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"Expected `sensitivity` to be above 0 and up to 1 but got {sensitivity}.")
    true, false = _called_positive(scores, truth, weights)
    allowed = np.floor((1 - sensitivity) * true[..., -1:] + 1e-9)
    first = (true >= true[..., -1:] - allowed).argmax(axis=-1)
    there = np.take_along_axis(false, first[..., None], axis=-1)[..., 0]
    specificity: Floats = np.where(true[..., -1] > 0, 1 - _ratio(there, false[..., -1]), np.nan)[()]
    return specificity


def sensitivity_specificity(
    scores: Floats, truth: NDArray[np.bool_], threshold: float, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return sensitivity and specificity when a score at or above the threshold is called positive.

    `scores` is (N,) float64, `truth` (N,) bool.
    """
    scores, truth, weights = checked_scores(scores, truth, weights)
    positive = (scores >= threshold).astype(np.int64)
    counts = _sums(weights, 2 * truth + positive, 4)
    return (
        _ratio(counts[..., 3], counts[..., 2] + counts[..., 3]),
        _ratio(counts[..., 0], counts[..., 0] + counts[..., 1]),
    )


def positive_rates(
    scores: Floats, truth: NDArray[np.bool_], thresholds: Floats, weights: Floats | None = None
) -> tuple[Floats, Floats]:
    """Return which share of the positives, and of the negatives, is called positive at each of K thresholds: (…, K).

    `scores` is (N,) float64, `truth` (N,) bool. At a threshold and above a case is called positive.
    """
    scores, truth, weights = checked_scores(scores, truth, weights)
    called = np.searchsorted(-np.unique(scores)[::-1], -np.asarray(thresholds), side="right")
    rates = (
        _ratio(
            counts[..., called],
            np.broadcast_to(counts[..., -1:], (*counts.shape[:-1], len(called))),
        )
        for counts in _called_positive(scores, truth, weights)
    )
    true, false = rates
    return true, false


def reliability(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
    bins: int = RELIABILITY_BINS,
) -> tuple[Floats, Floats, Floats]:
    """Sort the predictions into equal-width bins of their top probability (Guo et al., ICML 2017).

    Return, each (…, bins): how many, the mean of their top probability, and the fraction that was right, the
    last two NaN in an empty bin. Bin k holds (k / bins, (k + 1) / bins].
    """
    labels, probabilities, weights = checked(labels, probabilities, weights)
    confidence, right = probabilities.max(axis=1, initial=0), probabilities.argmax(axis=1) == labels
    return _reliability(confidence, right, weights, bins)


def malignant_reliability(
    labels: AnyLabels,
    probabilities: Floats,
    weights: Floats | None = None,
    bins: int = RELIABILITY_BINS,
) -> tuple[Floats, Floats, Floats]:
    """Sort the images into equal-width bins of their malignant probability.

    Return, each (…, bins): how many, the mean of their malignant probability, and the fraction that is malignant, the
    last two NaN in an empty bin. Bin k holds (k / bins, (k + 1) / bins], and the first bin 0 as well.
    """
    scores, truth = malignant_scores(labels, probabilities)
    return _reliability(scores, truth, _checked_weights(weights, len(scores)), bins)


def _reliability(
    confidence: Floats, right: NDArray[np.bool_], weights: Floats, bins: int
) -> tuple[Floats, Floats, Floats]:
    if bins < 1:
        raise ValueError(f"Expected `bins` to be at least 1 but got {bins}.")
    place = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    n = _sums(weights, place, bins)
    return (
        n,
        _ratio(_sums(weights * confidence, place, bins), n),
        _ratio(_sums(weights * right, place, bins), n),
    )


def calibration_gaps(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return for each bin of `reliability` accuracy minus top probability, times its share of the images; (…, bins)."""
    return _gaps(*reliability(labels, probabilities, weights))


def malignant_calibration_gaps(
    labels: AnyLabels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return the same of `malignant_reliability`: malignant fraction minus probability, times the share; (…, bins)."""
    return _gaps(*malignant_reliability(labels, probabilities, weights))


def _gaps(n: Floats, confidence: Floats, right: Floats) -> Floats:
    gaps = np.where(n > 0, right - confidence, 0) * n
    return _ratio(gaps, np.broadcast_to(n.sum(axis=-1, keepdims=True), gaps.shape))


def expected_calibration_error(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return the mean gap between top probability and accuracy, bin by bin (ECE; Guo et al., ICML 2017)."""
    error: Floats = np.abs(calibration_gaps(labels, probabilities, weights)).sum(axis=-1)
    return error


def malignant_calibration_error(
    labels: AnyLabels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return the mean gap between malignant probability and malignant fraction, bin by bin (binary ECE)."""
    error: Floats = np.abs(malignant_calibration_gaps(labels, probabilities, weights)).sum(axis=-1)
    return error


def calibration_error_interval(gaps: Floats, drawn: Floats, level: float) -> tuple[float, float]:
    """Return low and high end of the interval of the calibration error whose images would never end.

    `gaps` is (bins,) of the images, `drawn` (draws, bins) of the draws of a bootstrap. The noise of a bin has no
    sign in an error: it adds to the error of the images, and once more to that of a draw. So the squared noise of
    each bin is taken off its squared gap (Bröcker, Clim. Dyn. 39 (2012) 655; Kumar, Liang and Ma, NeurIPS 2019), of
    the images and of each draw; and as draws stray from the images as images stray from the truth, the deviations of
    the draws from the error of the images are taken off (the basic bootstrap; Davison and Hinkley 1997, section 5.2).
    Where draws moved to no error at all (Hall and Wilson, Biometrics 47 (1991) 757) often come out as far off, the
    low end is 0. Simulated over 60 to 1,000 lesions, a 95 % interval covers the true error in 89 to 97 % of the cases;
    one of the draws' percentiles never covers an error of 0.
    """
    noise = drawn.var(axis=0)

    def without_noise(gaps: Floats) -> Floats:
        less: Floats = np.sqrt(np.maximum(np.square(gaps) - noise, 0)).sum(axis=-1)
        return less

    error, tail = np.abs(gaps).sum(), (1 - level) / 2
    far, near = without_noise(gaps) + error - np.quantile(without_noise(drawn), [1 - tail, tail])
    calibrated = np.abs(drawn - gaps).sum(axis=-1)
    low = 0.0 if error <= np.quantile(calibrated, 1 - tail) else max(float(far), 0.0)
    return low, max(float(near), low)


def brier_score(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    """Return the mean squared distance from the one-hot truth, summed over classes: 0 to 2 (Brier 1950)."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    distances = np.square(probabilities - np.eye(len(CODES))[labels]).sum(axis=1)
    return _ratio(weights @ distances, weights.sum(axis=-1))


def negative_log_likelihood(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    """Return the mean of -log p(true diagnosis), in nats; infinite where a truth had a probability of 0."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    with np.errstate(divide="ignore"):
        losses = -np.log(probabilities[np.arange(len(labels)), labels])
    return _ratio(weights @ losses, weights.sum(axis=-1))


def checked(
    labels: Labels, probabilities: Floats, weights: Floats | None = None
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return the three as the figures need them; raise ValueError for what is none."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected `labels` to be (N,) int but got {labels.shape} {labels.dtype}.")
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(CODES)):
        raise ValueError(
            f"Expected `labels` to be from 0 to {len(CODES) - 1} but got {labels.min()} to {labels.max()}."
        )
    probabilities = checked_probabilities(probabilities, len(labels))
    return labels.astype(np.int64), probabilities, _checked_weights(weights, len(labels))


def checked_probabilities(probabilities: Floats, images: int) -> Floats:
    """Return probabilities of so many images as float64; raise ValueError for what is none."""
    probabilities = np.asarray(probabilities)
    shape = (images, len(CODES))
    if probabilities.shape != shape or not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(
            f"Expected `probabilities` to be {shape} float but got {probabilities.shape} {probabilities.dtype}."
        )
    probabilities = probabilities.astype(np.float64)
    good = (probabilities >= 0).all(axis=1) & (
        np.abs(probabilities.sum(axis=1) - 1) <= ROW_SUM_TOLERANCE
    )
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(
            "Expected `probabilities` to be rows of non-negative numbers that sum to 1 but got "
            f"{probabilities[row].round(4).tolist()} in row {row}."
        )
    return probabilities


def checked_scores(
    scores: Floats, truth: NDArray[np.bool_], weights: Floats | None = None
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Return the three as the figures need them; raise ValueError for what is none."""
    scores, truth = np.asarray(scores), np.asarray(truth)
    if truth.ndim != 1 or truth.dtype != np.bool_:
        raise ValueError(f"Expected `truth` to be (N,) bool but got {truth.shape} {truth.dtype}.")
    if scores.shape != truth.shape or not np.issubdtype(scores.dtype, np.floating):
        raise ValueError(
            f"Expected `scores` to be {truth.shape} float but got {scores.shape} {scores.dtype}."
        )
    if infinite := int((~np.isfinite(scores)).sum()):
        raise ValueError(f"Expected `scores` to be finite but got {infinite} that are not.")
    return scores.astype(np.float64), truth, _checked_weights(weights, len(scores))


def _checked_weights(weights: Floats | None, n: int) -> Floats:
    weights = np.ones(n) if weights is None else np.asarray(weights)
    if weights.shape[-1:] != (n,) or weights.dtype != np.float64:
        raise ValueError(
            f"Expected `weights` to be (…, {n}) float64 but got {weights.shape} {weights.dtype}."
        )
    return weights


def _called_positive(
    scores: Floats, truth: NDArray[np.bool_], weights: Floats | None
) -> tuple[Floats, Floats]:
    """Return true and false positives, (…, K + 1), as the threshold falls through the K distinct scores."""
    scores, truth, weights = checked_scores(scores, truth, weights)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    called = np.take(weights, order, axis=-1)
    every, true = (np.cumsum(counted, axis=-1) for counted in (called, called * truth[order]))
    if len(ends) < len(order):
        every, true = every.take(ends, axis=-1), true.take(ends, axis=-1)
    nothing = np.zeros((*weights.shape[:-1], 1))
    return np.concatenate([nothing, true], axis=-1), np.concatenate(
        [nothing, every - true], axis=-1
    )


def _by_class(figure: Any, labels: Labels, probabilities: Floats, weights: Floats) -> Floats:
    return np.stack(
        [figure(probabilities[:, i], labels == i, weights) for i in range(len(CODES))], axis=-1
    )


def _sums(weights: Floats, place: NDArray[np.integer[Any]], places: int) -> Floats:
    """Sum the weights of the images in each of `places`; (…, N) -> (…, places)."""
    rows = weights.reshape(math.prod(weights.shape[:-1]), len(place))
    sums: Floats = np.array([np.bincount(place, row, places) for row in rows]).reshape(
        *weights.shape[:-1], places
    )
    return sums


def _diagonal(matrix: Floats) -> Floats:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _ratio(part: Floats, whole: Floats) -> Floats:
    whole = np.asarray(whole)
    ratio: Floats = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)[()]
    return ratio


def _mean(values: Floats) -> Floats:
    return _ratio(values.sum(axis=-1), np.full(values.shape[:-1], float(values.shape[-1])))
