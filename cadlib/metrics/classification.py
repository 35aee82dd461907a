"""Computes classification metrics from arrays of labels and probabilities.

`labels` is (N,) int, the index of the true diagnosis in taxonomy order. `probabilities` is (N, 8)
float64 in the same order, and each row sums to 1. The predicted diagnosis is the most probable one;
the first one wins a tie.

`weights`, (…, N), holds how often each image counts; the default is once each. With the draws of a
bootstrap in its rows, one call computes a metric for all draws: a metric is (…) float64, a metric
by class (…, 8).

A metric that cannot be computed (a class without an image, no image at all) is NaN, never 0. Wrong
arguments raise ValueError. Metrics of malignancy also take `PartialLabels`, where some images have
no diagnosis.

scikit-learn computes most of these metrics for one sample at a time. A thousand draws of every
metric and subgroup would take it ten minutes, so it is the reference in the tests instead.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics.partial_labels import AnyLabels, PartialLabels
from cadlib.taxonomy import CODES, MALIGNANT

RELIABILITY_BINS = 15
"""The number that Guo et al. 2017 use, so that results compare with the literature."""
ROW_SUM_TOLERANCE = 1e-4
"""Wider than the rounding of a float32 softmax, narrower than that of a bfloat16 one."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Labels = NDArray[np.integer[Any]]


def confusion_matrix(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Count images by truth (rows) and prediction (columns); (…, 8, 8)."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    n_classes = len(CODES)
    predictions = probabilities.argmax(axis=1)
    # Each pair of truth and prediction has one number, so one count per number fills the matrix.
    pairs = labels * n_classes + predictions
    n_pairs = n_classes**2
    counts = _sums(weights, pairs, n_pairs)
    leading_shape = counts.shape[:-1]
    return counts.reshape(*leading_shape, n_classes, n_classes)


def accuracy(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the fraction of images whose most probable diagnosis is the true one."""
    matrix = confusion_matrix(labels, probabilities, weights)
    correct = np.trace(matrix, axis1=-2, axis2=-1)
    total = matrix.sum(axis=(-2, -1))
    return ratio(correct, total)


def balanced_accuracy(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the mean sensitivity over the classes that have an image in `labels`.

    With all eight classes present, ISIC 2019 ranks by this metric. With fewer it is a mean over
    fewer and compares only with results over the same classes. A draw without one of them is NaN.
    """
    if len(labels):
        n_by_class = np.bincount(labels, minlength=len(CODES))
        present = n_by_class > 0
    else:
        # `bincount` refuses an empty array of floats, which is what an empty list becomes.
        present = np.zeros(len(CODES), bool)
    sensitivities = class_sensitivity(labels, probabilities, weights)
    return _mean(sensitivities[..., present])


def class_sensitivity(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return for each class the fraction of its images that are predicted as this class."""
    matrix = confusion_matrix(labels, probabilities, weights)
    # A row of the matrix holds all images of one true diagnosis.
    positives = matrix.sum(axis=-1)
    return ratio(_diagonal(matrix), positives)


def class_specificity(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return for each class the share of other classes' images that are not predicted as it."""
    matrix = confusion_matrix(labels, probabilities, weights)
    n_images = matrix.sum(axis=(-2, -1))
    total = n_images[..., None]
    negatives = total - matrix.sum(axis=-1)
    predicted_positive = matrix.sum(axis=-2)
    false_positives = predicted_positive - _diagonal(matrix)
    true_negatives = negatives - false_positives
    return ratio(true_negatives, negatives)


def class_ppv(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return for each class the share of images predicted as it that belong to it (precision)."""
    matrix = confusion_matrix(labels, probabilities, weights)
    # A column of the matrix holds all images with one predicted diagnosis.
    predicted_positive = matrix.sum(axis=-2)
    return ratio(_diagonal(matrix), predicted_positive)


def class_npv(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return for each class the share of images not predicted as it that do not belong to it."""
    matrix = confusion_matrix(labels, probabilities, weights)
    n_images = matrix.sum(axis=(-2, -1))
    total = n_images[..., None]
    positives = matrix.sum(axis=-1)
    false_negatives = positives - _diagonal(matrix)
    predicted_negative = total - matrix.sum(axis=-2)
    true_negatives = predicted_negative - false_negatives
    return ratio(true_negatives, predicted_negative)


def class_auc(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return for each class the area under the ROC curve of the class against all others."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    return _by_class(auc, labels, probabilities, weights)


def class_average_precision(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return for each class the average precision of the class against all others."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    return _by_class(average_precision, labels, probabilities, weights)


def malignant_probability(probabilities: Floats) -> Floats:
    """Sum the probabilities of the malignant diagnoses; (…, 8) -> (…), 0 to 1."""
    every = np.asarray(probabilities, np.float64)
    malignant_sum = every[..., MALIGNANT].sum(axis=-1)
    # Rounding can lift the sum of a row above 1, which a probability must not exceed.
    total: Floats = np.minimum(malignant_sum, 1.0)
    return total


def malignant_truth(labels: AnyLabels) -> Bools:
    """Return whether the diagnosis of each label is malignant; (N,) bool."""
    if isinstance(labels, PartialLabels):
        return labels.malignant
    return np.array(MALIGNANT)[labels]


def malignant_auc(
    labels: AnyLabels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the area under the ROC curve of malignant against benign."""
    scores, truth = malignant_scores(labels, probabilities)
    return auc(scores, truth, weights)


def malignant_average_precision(
    labels: AnyLabels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the average precision of malignant against benign."""
    scores, truth = malignant_scores(labels, probabilities)
    return average_precision(scores, truth, weights)


def malignant_specificity(
    labels: AnyLabels,
    probabilities: Floats,
    sensitivity: float,
    weights: Floats | None = None,
) -> Floats:
    """Return the specificity for malignancy where its sensitivity is at least `sensitivity`."""
    scores, truth = malignant_scores(labels, probabilities)
    return specificity_at(scores, truth, sensitivity, weights)


def malignant_scores(labels: AnyLabels, probabilities: Floats) -> tuple[Floats, Bools]:
    """Return the malignant probability and the truth of each image, (N,) float64 and (N,) bool.

    Raise ValueError for what `checked` refuses; an image of `PartialLabels` needs no diagnosis.
    """
    labels = PartialLabels.of(labels)
    probabilities = checked_probabilities(probabilities, len(labels))
    scores = malignant_probability(probabilities)
    return scores, labels.malignant


def auc(scores: Floats, truth: Bools, weights: Floats | None = None) -> Floats:
    """Return the probability that a positive scores above a negative, ties counted half.

    `scores` is (N,) float64, `truth` (N,) bool.
    """
    true, false = called_positive(scores, truth, weights)
    # The trapezoidal rule, in place: with many draws each of these arrays is large.
    areas = np.diff(false)
    areas *= true[..., 1:] + true[..., :-1]
    areas /= 2
    area = areas.sum(axis=-1)
    positives = true[..., -1]
    negatives = false[..., -1]
    return ratio(area, positives * negatives)


def average_precision(
    scores: Floats,
    truth: Bools,
    weights: Floats | None = None,
) -> Floats:
    """Return the mean precision over the positives, each at its own score; NaN without a positive.

    `scores` is (N,) float64, `truth` (N,) bool. There is no interpolation, as in scikit-learn.
    """
    true, false = called_positive(scores, truth, weights)
    true_positives = true[..., 1:]
    # The first place, where nothing is called positive, has no precision.
    called = true_positives + false[..., 1:]
    no_precision = np.zeros_like(called)
    precision = np.divide(true_positives, called, out=no_precision, where=called > 0)
    gained = np.diff(true)
    gained *= precision
    return ratio(gained.sum(axis=-1), true[..., -1])


def specificity_at(
    scores: Floats,
    truth: Bools,
    sensitivity: float,
    weights: Floats | None = None,
) -> Floats:
    """Return the specificity at the highest threshold that reaches a sensitivity, above 0 to 1.

    `scores` is (N,) float64, `truth` (N,) bool. Each draw has a threshold of its own.
    """
    if not 0 < sensitivity <= 1:
        raise ValueError(f"Expected `sensitivity` to be above 0 and up to 1 but got {sensitivity}.")
    true, false = called_positive(scores, truth, weights)
    positives = true[..., -1:]
    negatives = false[..., -1]
    # The small term keeps a whole number of allowed misses whole in spite of rounding.
    allowed_misses = np.floor((1 - sensitivity) * positives + 1e-9)
    reached = true >= positives - allowed_misses
    first = reached.argmax(axis=-1)
    false_positives = np.take_along_axis(false, first[..., None], axis=-1)[..., 0]
    specificity = 1 - ratio(false_positives, negatives)
    # Without a positive every threshold reaches the sensitivity, so none is chosen.
    defined: Floats = np.where(true[..., -1] > 0, specificity, np.nan)
    # The empty index turns an array without axes into a number.
    result: Floats = defined[()]
    return result


def sensitivity_specificity(
    scores: Floats,
    truth: Bools,
    threshold: float,
    weights: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Return sensitivity and specificity when a score from the threshold on is called positive.

    `scores` is (N,) float64, `truth` (N,) bool.
    """
    scores, truth, weights = checked_scores(scores, truth, weights)
    positive = (scores >= threshold).astype(np.int64)
    # The four cells of the table of truth and call in one pass over the images.
    counts = _sums(weights, 2 * truth + positive, 4)
    true_negatives = counts[..., 0]
    false_positives = counts[..., 1]
    false_negatives = counts[..., 2]
    true_positives = counts[..., 3]
    sensitivity = ratio(true_positives, false_negatives + true_positives)
    specificity = ratio(true_negatives, true_negatives + false_positives)
    return sensitivity, specificity


def positive_rates(
    scores: Floats,
    truth: Bools,
    thresholds: Floats,
    weights: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Return the share of positives, and of negatives, called positive at K thresholds: (…, K).

    `scores` is (N,) float64, `truth` (N,) bool. At a threshold and above a case is called positive.
    """
    scores, truth, weights = checked_scores(scores, truth, weights)
    # `searchsorted` needs rising values, and the counts are in the order of falling scores.
    falling_scores = np.unique(scores)[::-1]
    called = np.searchsorted(-falling_scores, -np.asarray(thresholds), side="right")
    true, false = called_positive(scores, truth, weights)
    return _rates_at(true, called), _rates_at(false, called)


def _rates_at(counts: Floats, called: NDArray[np.intp]) -> Floats:
    """Return the share of all that is called positive at each of K places: (…, K + 1) -> (…, K)."""
    part = counts[..., called]
    # At the last place every image is called positive, so it holds the number of all.
    whole = np.broadcast_to(counts[..., -1:], part.shape)
    return ratio(part, whole)


def reliability(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
    bins: int = RELIABILITY_BINS,
) -> tuple[Floats, Floats, Floats]:
    """Sort the predictions into equal-width bins of their top probability (Guo et al., ICML 2017).

    Return the count, the mean top probability and the fraction of correct predictions, each
    (…, bins). The last two are NaN in an empty bin. Bin k holds (k / bins, (k + 1) / bins].
    """
    labels, probabilities, weights = checked(labels, probabilities, weights)
    # With `initial`, the maximum of no image at all raises no error.
    confidence = probabilities.max(axis=1, initial=0)
    predictions = probabilities.argmax(axis=1)
    right = predictions == labels
    return _reliability(confidence, right, weights, bins)


def malignant_reliability(
    labels: AnyLabels,
    probabilities: Floats,
    weights: Floats | None = None,
    bins: int = RELIABILITY_BINS,
) -> tuple[Floats, Floats, Floats]:
    """Sort the images into equal-width bins of their malignant probability.

    Return the count, the mean malignant probability and the fraction of malignant images, each
    (…, bins). The last two are NaN in an empty bin. Bin k holds (k / bins, (k + 1) / bins], and the
    first bin 0 as well.
    """
    scores, truth = malignant_scores(labels, probabilities)
    # Every image has a truth here, also one without a diagnosis.
    every_weight = _checked_weights(weights, len(scores))
    return _reliability(scores, truth, every_weight, bins)


def _reliability(
    confidence: Floats,
    right: Bools,
    weights: Floats,
    bins: int,
) -> tuple[Floats, Floats, Floats]:
    if bins < 1:
        raise ValueError(f"Expected `bins` to be at least 1 but got {bins}.")
    # Only the inner edges: the first and the last bin then hold 0 and 1 whatever the rounding.
    inner_edges = np.linspace(0, 1, bins + 1)[1:-1]
    place = np.digitize(confidence, inner_edges, right=True)
    n = _sums(weights, place, bins)
    confidence_sums = _sums(weights * confidence, place, bins)
    right_sums = _sums(weights * right, place, bins)
    return n, ratio(confidence_sums, n), ratio(right_sums, n)


def calibration_gaps(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return accuracy minus top probability by bin of `reliability`, times its share of images.

    The shape is (…, bins).
    """
    n, confidence, right = reliability(labels, probabilities, weights)
    return _gaps(n, confidence, right)


def malignant_calibration_gaps(
    labels: AnyLabels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return malignant fraction minus malignant probability by bin, times its share of images.

    The bins are those of `malignant_reliability`; the shape is (…, bins).
    """
    # The gaps keep their sign, because the interval needs their noise.
    n, confidence, right = malignant_reliability(labels, probabilities, weights)
    return _gaps(n, confidence, right)


def _gaps(n: Floats, confidence: Floats, right: Floats) -> Floats:
    # An empty bin has no gap; its NaN would spread to the sum.
    gaps = np.where(n > 0, right - confidence, 0)
    weighted_gaps = gaps * n
    total = n.sum(axis=-1, keepdims=True)
    return ratio(weighted_gaps, np.broadcast_to(total, weighted_gaps.shape))


def expected_calibration_error(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the mean gap between top probability and accuracy over bins.

    This is the ECE of Guo et al., ICML 2017.
    """
    gaps = calibration_gaps(labels, probabilities, weights)
    error: Floats = np.abs(gaps).sum(axis=-1)
    return error


def malignant_calibration_error(
    labels: AnyLabels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the mean gap between malignant probability and fraction over bins (binary ECE)."""
    gaps = malignant_calibration_gaps(labels, probabilities, weights)
    error: Floats = np.abs(gaps).sum(axis=-1)
    return error


def calibration_error_interval(gaps: Floats, drawn: Floats, level: float) -> tuple[float, float]:
    """Return low and high end of the interval of the calibration error on endlessly many images.

    `gaps` is (bins,) of the images, `drawn` (draws, bins) of the draws of a bootstrap.

    Noise in a bin has no sign in an error: it adds to the error of the images, and once more to
    that of a draw. So the squared noise of each bin is subtracted from its squared gap (Bröcker,
    Clim. Dyn. 39 (2012) 655; Kumar, Liang and Ma, NeurIPS 2019), for the images and for each draw.

    Draws deviate from the images as the images deviate from the truth. So the deviations of the
    draws are subtracted from the error of the images (the basic bootstrap; Davison and Hinkley
    1997, section 5.2).

    The low end is 0 where draws moved to no error at all (Hall and Wilson, Biometrics 47 (1991)
    757) often come out as far off. In simulations of 60 to 1,000 lesions, a 95 % interval covers
    the true error in 89 to 97 % of the cases; an interval of the draws' percentiles never covers an
    error of 0.
    """
    # The spread of a bin over the draws estimates the noise of its gap.
    noise = drawn.var(axis=0)
    tail = (1 - level) / 2
    error = np.abs(gaps).sum()
    drawn_errors = _error_without_noise(drawn, noise)
    # The basic bootstrap swaps the ends: the highest draws give the low end.
    far_deviation, near_deviation = np.quantile(drawn_errors, [1 - tail, tail])
    centre = _error_without_noise(gaps, noise) + error
    far = float(centre - far_deviation)
    near = float(centre - near_deviation)
    calibrated = np.abs(drawn - gaps).sum(axis=-1)
    # Noise alone gives a calibrated model such errors, so a smaller one is no evidence.
    usual_error = np.quantile(calibrated, 1 - tail)
    low = 0.0 if error <= usual_error else max(far, 0.0)
    return low, max(near, low)


def _error_without_noise(gaps: Floats, noise: Floats) -> Floats:
    """Return the calibration error of gaps with the noise of each bin subtracted."""
    # A gap smaller than its noise counts as none: a negative square has no root.
    squares = np.maximum(np.square(gaps) - noise, 0)
    error: Floats = np.sqrt(squares).sum(axis=-1)
    return error


def brier_score(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the mean squared distance from the one-hot truth, summed over classes.

    It is 0 to 2 (Brier 1950).
    """
    labels, probabilities, weights = checked(labels, probabilities, weights)
    truth = np.eye(len(CODES))[labels]
    differences = probabilities - truth
    distances = np.square(differences).sum(axis=1)
    weighted_sum = weights @ distances
    total = weights.sum(axis=-1)
    return ratio(weighted_sum, total)


def negative_log_likelihood(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the mean of -log p(true diagnosis), in nats; infinite where a true p is 0."""
    labels, probabilities, weights = checked(labels, probabilities, weights)
    rows = np.arange(len(labels))
    true_probabilities = probabilities[rows, labels]
    # A true diagnosis of probability 0 is a valid answer, and its loss is infinite.
    with np.errstate(divide="ignore"):
        losses = -np.log(true_probabilities)
    weighted_sum = weights @ losses
    total = weights.sum(axis=-1)
    return ratio(weighted_sum, total)


def checked(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Return labels, probabilities and weights for the metrics; raise ValueError for wrong ones."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected `labels` to be (N,) int but got {labels.shape} {labels.dtype}.")
    if len(labels):
        lowest = labels.min()
        highest = labels.max()
        if lowest < 0 or highest >= len(CODES):
            raise ValueError(
                f"Expected `labels` to be from 0 to {len(CODES) - 1} but got {lowest} to {highest}."
            )
    probabilities = checked_probabilities(probabilities, len(labels))
    weights = _checked_weights(weights, len(labels))
    return labels.astype(np.int64), probabilities, weights


def checked_probabilities(probabilities: Floats, images: int) -> Floats:
    """Return probabilities of `images` images as float64; raise ValueError for wrong ones."""
    probabilities = np.asarray(probabilities)
    shape = (images, len(CODES))
    has_shape = probabilities.shape == shape
    is_float = np.issubdtype(probabilities.dtype, np.floating)
    if not has_shape or not is_float:
        raise ValueError(
            f"Expected `probabilities` to be {shape} float "
            f"but got {probabilities.shape} {probabilities.dtype}."
        )
    # Before the sums: those of float16 or float32 would be rounded once more.
    probabilities = probabilities.astype(np.float64)
    non_negative = (probabilities >= 0).all(axis=1)
    row_sums = probabilities.sum(axis=1)
    # A comparison with NaN is false, so a row with NaN is refused as well.
    deviations = np.abs(row_sums - 1)
    sum_to_one = deviations <= ROW_SUM_TOLERANCE
    is_valid = non_negative & sum_to_one
    if not is_valid.all():
        invalid_rows = np.flatnonzero(~is_valid)
        row = int(invalid_rows[0])
        # Four decimals show an error of the tolerance and keep eight numbers short.
        values = probabilities[row].round(4).tolist()
        raise ValueError(
            "Expected `probabilities` to be rows of non-negative numbers that sum to 1 but got "
            f"{values} in row {row}."
        )
    return probabilities


def checked_scores(
    scores: Floats,
    truth: Bools,
    weights: Floats | None = None,
) -> tuple[Floats, Bools, Floats]:
    """Return scores, truth and weights for the metrics; raise ValueError for wrong ones."""
    scores = np.asarray(scores)
    truth = np.asarray(truth)
    if truth.ndim != 1 or truth.dtype != np.bool_:
        raise ValueError(f"Expected `truth` to be (N,) bool but got {truth.shape} {truth.dtype}.")
    if scores.shape != truth.shape or not np.issubdtype(scores.dtype, np.floating):
        raise ValueError(
            f"Expected `scores` to be {truth.shape} float but got {scores.shape} {scores.dtype}."
        )
    # NaN and infinity have no place in an order of thresholds.
    infinite = int((~np.isfinite(scores)).sum())
    if infinite:
        raise ValueError(f"Expected `scores` to be finite but got {infinite} that are not.")
    weights = _checked_weights(weights, len(scores))
    return scores.astype(np.float64), truth, weights


def _checked_weights(weights: Floats | None, n: int) -> Floats:
    if weights is None:
        return np.ones(n)
    weights = np.asarray(weights)
    if weights.shape[-1:] != (n,) or weights.dtype != np.float64:
        raise ValueError(
            f"Expected `weights` to be (…, {n}) float64 but got {weights.shape} {weights.dtype}."
        )
    return weights


def called_positive(
    scores: Floats,
    truth: Bools,
    weights: Floats | None,
) -> tuple[Floats, Floats]:
    """Return true and false positives at thresholds that fall through the K distinct scores.

    Both are (…, K + 1): at the first threshold nothing is called positive.
    """
    scores, truth, weights = checked_scores(scores, truth, weights)
    # Falling, because each step calls the next lower score positive as well.
    order = np.argsort(-scores, kind="stable")
    steps = np.diff(scores[order], append=-np.inf)
    # The last image of each distinct score: equal scores are called positive together.
    ends = np.flatnonzero(steps)
    called = np.take(weights, order, axis=-1)
    true_called = called * truth[order]
    every = np.cumsum(called, axis=-1)
    true = np.cumsum(true_called, axis=-1)
    # The weights of single images are not needed any more, and they are large.
    del called, true_called
    # Without ties these copies would be as large as the arrays themselves.
    if len(ends) < len(order):
        every = every.take(ends, axis=-1)
        true = true.take(ends, axis=-1)
    false = every - true
    return _from_nothing(true), _from_nothing(false)


def _from_nothing(counts: Floats) -> Floats:
    """Put a 0 before the counts, where nothing is called positive; (…, K) -> (…, K + 1)."""
    *leading_shape, _ = counts.shape
    nothing = np.zeros((*leading_shape, 1))
    return np.concatenate([nothing, counts], axis=-1)


def _by_class(
    metric: Any,
    labels: Labels,
    probabilities: Floats,
    weights: Floats,
) -> Floats:
    values = []
    for place in range(len(CODES)):
        truth = labels == place
        value = metric(probabilities[:, place], truth, weights)
        values.append(value)
    return np.stack(values, axis=-1)


def _sums(weights: Floats, place: NDArray[np.integer[Any]], places: int) -> Floats:
    """Sum the weights of the images in each of `places`; (…, N) -> (…, places)."""
    leading_shape = weights.shape[:-1]
    # `bincount` takes one row of weights at a time.
    n_rows = math.prod(leading_shape)
    rows = weights.reshape(n_rows, len(place))
    sums = np.array([np.bincount(place, row, places) for row in rows])
    shaped: Floats = sums.reshape(*leading_shape, places)
    return shaped


def _diagonal(matrix: Floats) -> Floats:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def ratio(part: Floats, whole: Floats) -> Floats:
    """Divide elementwise; NaN where the whole is 0."""
    whole = np.asarray(whole)
    undefined = np.full(whole.shape, np.nan)
    is_defined = whole > 0
    quotient: Floats = np.divide(part, whole, out=undefined, where=is_defined)
    # The empty index turns an array without axes into a number.
    number: Floats = quotient[()]
    return number


def _mean(values: Floats) -> Floats:
    """Return the mean over the last axis; NaN where it is empty."""
    *leading_shape, n_values = values.shape
    total = values.sum(axis=-1)
    count = np.full(leading_shape, float(n_values))
    return ratio(total, count)
