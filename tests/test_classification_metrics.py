import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    classification_report,
    log_loss,
    roc_auc_score,
)
from sklearn.metrics import confusion_matrix as reference_confusion_matrix

from cadlib.metrics import classification, operating_point
from cadlib.metrics.summary import METRICS
from cadlib.taxonomy import CODES, DIAGNOSES

MEL = CODES.index("MEL")
NV = CODES.index("NV")
BCC = CODES.index("BCC")
VASC = CODES.index("VASC")
NO_LABELS = np.empty(0, np.int64)
NO_PROBABILITIES = np.empty((0, 8))


def drawn_sample(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels of every class and probabilities that lean towards them."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(8), rng.integers(0, 8, n - 8)])
    probabilities = rng.dirichlet(np.full(8, 0.5), n) + 0.4 * np.eye(8)[labels]
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def certain_of(*predicted: int) -> np.ndarray:
    return np.eye(8)[list(predicted)]


@pytest.fixture
def sample() -> tuple[np.ndarray, np.ndarray]:
    return drawn_sample(400)


unhurried = settings(max_examples=30, deadline=None)
samples = st.builds(drawn_sample, st.integers(8, 60), st.integers(0, 2**32 - 1))


def test_confusion_matrix_has_the_truth_in_rows():
    matrix = classification.confusion_matrix(np.array([MEL, MEL, NV]), certain_of(MEL, NV, NV))
    assert (matrix[MEL, MEL], matrix[MEL, NV], matrix[NV, MEL], matrix[NV, NV]) == (1, 1, 0, 1)
    assert matrix.sum() == 3


def test_confusion_matrix_is_that_of_scikit_learn(sample):
    labels, probabilities = sample
    expected = reference_confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(8))
    assert np.array_equal(classification.confusion_matrix(labels, probabilities), expected)


def test_accuracies_are_those_of_scikit_learn(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(axis=1)
    assert classification.accuracy(labels, probabilities) == pytest.approx(
        accuracy_score(labels, predicted)
    )
    assert classification.balanced_accuracy(labels, probabilities) == pytest.approx(
        balanced_accuracy_score(labels, predicted)
    )


def test_balanced_accuracy_is_the_mean_over_the_classes_that_are_present():
    labels = np.array([MEL, MEL, NV])
    probabilities = certain_of(MEL, BCC, NV)
    assert classification.balanced_accuracy(labels, probabilities) == pytest.approx((1 / 2 + 1) / 2)


def test_sensitivity_and_specificity_of_a_class_are_recalls_of_scikit_learn(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(axis=1)
    sensitivity = classification.class_sensitivity(labels, probabilities)
    specificity = classification.class_specificity(labels, probabilities)
    for i in range(8):
        report = classification_report(labels == i, predicted == i, output_dict=True)
        assert sensitivity[i] == pytest.approx(report["True"]["recall"])
        assert specificity[i] == pytest.approx(report["False"]["recall"])


def test_auc_is_the_chance_that_a_positive_scores_higher():
    scores = np.array([0.1, 0.4, 0.4, 0.8, 0.3, 0.4])
    truth = np.array([False, False, True, True, True, False])
    won = [float(p > n) + 0.5 * (p == n) for p, n in product(scores[truth], scores[~truth])]
    assert classification.auc(scores, truth) == pytest.approx(np.mean(won))


def test_class_auc_is_one_class_against_the_rest(sample):
    labels, probabilities = sample
    aucs = classification.class_auc(labels, probabilities)
    for i in range(8):
        assert aucs[i] == pytest.approx(roc_auc_score(labels == i, probabilities[:, i]))


def test_malignant_auc_sums_the_malignant_diagnoses(sample):
    labels, probabilities = sample
    malignant = [i for i, diagnosis in enumerate(DIAGNOSES) if diagnosis.malignant]
    assert classification.malignant_auc(labels, probabilities) == pytest.approx(
        roc_auc_score(np.isin(labels, malignant), probabilities[:, malignant].sum(axis=1))
    )


def test_malignant_probability_never_exceeds_one():
    row = np.array([0.1, 0.0, 0.7, 0.1, 0.0, 0.0, 0.0, 0.1]) * (1 + 4e-16)
    assert row.sum() > 1
    assert classification.malignant_probability(row) == 1.0
    assert classification.malignant_probability(np.stack([row, row])).shape == (2,)


def test_an_absent_class_is_not_defined_rather_than_zero():
    labels = np.array([MEL, NV, NV])
    probabilities = certain_of(MEL, NV, NV)
    assert math.isnan(classification.class_auc(labels, probabilities)[VASC])
    assert math.isnan(classification.class_sensitivity(labels, probabilities)[VASC])
    assert classification.class_specificity(labels, probabilities)[VASC] == 1


def test_malignant_auc_of_benign_images_alone_is_not_defined():
    assert math.isnan(classification.malignant_auc(np.array([NV, NV]), certain_of(NV, MEL)))


@pytest.mark.parametrize(
    "metric",
    [
        classification.accuracy,
        classification.balanced_accuracy,
        classification.malignant_auc,
        classification.expected_calibration_error,
        classification.brier_score,
        classification.negative_log_likelihood,
    ],
)
def test_a_metric_over_no_images_is_not_defined(metric):
    assert math.isnan(metric(NO_LABELS, NO_PROBABILITIES))


def test_sensitivity_and_specificity_count_a_score_at_the_threshold_as_positive():
    scores = np.array([0.5, 0.4, 0.5, 0.1, 0.2])
    truth = np.array([True, True, False, False, False])
    assert classification.sensitivity_specificity(scores, truth, 0.5) == pytest.approx(
        (1 / 2, 2 / 3)
    )


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_rates_at_many_thresholds_are_those_at_each(n, seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, n) / 8
    truth = rng.integers(0, 2, n).astype(bool)
    weights = rng.integers(0, 3, (2, n)).astype(float)
    thresholds = np.array([np.inf, 1.0, *sorted(rng.random(5), reverse=True), 0.25, 0.0, -1.0])
    for counts in (None, weights):
        true, false = classification.positive_rates(scores, truth, thresholds, counts)
        for place, threshold in enumerate(thresholds):
            sensitivity, specificity = classification.sensitivity_specificity(
                scores, truth, threshold, counts
            )
            np.testing.assert_allclose(true[..., place], sensitivity)
            np.testing.assert_allclose(1 - false[..., place], specificity)


def test_sensitivity_without_a_positive_is_not_defined():
    sensitivity, specificity = classification.sensitivity_specificity(
        np.array([0.2]), np.array([False]), 0.5
    )
    assert math.isnan(sensitivity)
    assert specificity == 1


def test_predictive_values_and_average_precision_are_those_of_scikit_learn(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(axis=1)
    ppv = classification.class_ppv(labels, probabilities)
    npv = classification.class_npv(labels, probabilities)
    precision = classification.class_average_precision(labels, probabilities)
    for i in range(8):
        report = classification_report(labels == i, predicted == i, output_dict=True)
        assert ppv[i] == pytest.approx(report["True"]["precision"])
        assert npv[i] == pytest.approx(report["False"]["precision"])
        assert precision[i] == pytest.approx(
            average_precision_score(labels == i, probabilities[:, i])
        )


def test_average_precision_counts_equal_scores_at_once():
    scores = np.array([0.5, 0.5, 0.5, 0.1])
    truth = np.array([True, False, True, True])
    expected = average_precision_score(truth, scores)
    assert classification.average_precision(scores, truth) == pytest.approx(expected)


@pytest.mark.parametrize("target", [0.9, 0.95, 0.98, 1.0])
def test_specificity_at_a_sensitivity_is_that_of_the_chosen_operating_point(
    sample, target, monkeypatch
):
    labels, probabilities = sample
    monkeypatch.setattr(operating_point, "TARGET_SENSITIVITY", {"asked": target})
    scores = classification.malignant_probability(probabilities)
    truth = classification.malignant_truth(labels)
    (point,) = operating_point.choose_thresholds(scores, truth)
    measured = classification.malignant_specificity(labels, probabilities, target)
    sensitivity, specificity = classification.sensitivity_specificity(
        scores, truth, point.threshold
    )
    assert measured == pytest.approx(specificity)
    assert sensitivity >= target


@pytest.mark.parametrize("sensitivity", [0.0, 1.1, math.nan])
def test_rejects_an_invalid_sensitivity(sensitivity):
    with pytest.raises(ValueError, match="`sensitivity` to be above 0 and up to 1"):
        classification.specificity_at(np.array([0.1]), np.array([True]), sensitivity)


@unhurried
@given(samples, st.integers(0, 2**32 - 1), st.sampled_from(METRICS))
def test_an_image_counts_as_often_as_its_weight(sample, seed, metric):
    labels, probabilities = sample
    times = np.random.default_rng(seed).integers(1, 4, (3, len(labels)))
    weighted = metric.compute(labels, probabilities, times.astype(np.float64))
    for row, n_times in zip(weighted, times, strict=True):
        expected = metric.compute(
            np.repeat(labels, n_times), np.repeat(probabilities, n_times, axis=0)
        )
        assert row == pytest.approx(expected, nan_ok=True)


def test_an_image_of_weight_zero_is_left_out(sample):
    labels, probabilities = sample
    is_kept = np.arange(400) % 2 == 0
    weighted = classification.class_auc(labels, probabilities, is_kept.astype(np.float64))
    assert weighted == pytest.approx(
        classification.class_auc(labels[is_kept], probabilities[is_kept])
    )
    without = classification.balanced_accuracy(
        labels, probabilities, (labels != MEL).astype(np.float64)
    )
    assert math.isnan(without)


def test_rejects_weights_of_another_length(sample):
    with pytest.raises(ValueError, match=r"`weights` to be \(…, 400\) float64 but got \(399,\)"):
        classification.accuracy(*sample, np.ones(399))


def test_brier_score_is_that_of_scikit_learn(sample):
    labels, probabilities = sample
    expected = brier_score_loss(labels, probabilities, labels=range(8), scale_by_half=False)
    assert classification.brier_score(labels, probabilities) == pytest.approx(expected)


def test_brier_score_of_certain_errors_is_two():
    assert classification.brier_score(np.array([MEL]), certain_of(NV)) == 2


def test_negative_log_likelihood_is_that_of_scikit_learn(sample):
    labels, probabilities = sample
    expected = log_loss(labels, probabilities, labels=range(8))
    assert classification.negative_log_likelihood(labels, probabilities) == pytest.approx(expected)


def test_negative_log_likelihood_of_a_certain_error_is_infinite():
    assert classification.negative_log_likelihood(np.array([MEL]), certain_of(NV)) == np.inf


def test_calibration_error_is_the_weighted_gap_of_the_bins(sample):
    labels, probabilities = sample
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert classification.expected_calibration_error(labels, probabilities) == pytest.approx(
        expected
    )


def test_calibration_error_of_four_predictions_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])
    probabilities = np.pad(probabilities, ((0, 0), (0, 6)))
    error = classification.expected_calibration_error(np.array([MEL, MEL, NV, MEL]), probabilities)
    assert error == pytest.approx(3 / 4 * abs(2 / 3 - 0.8) + 1 / 4 * abs(1 - 0.6))


def test_a_reliability_bin_owns_its_upper_edge():
    row = np.array([[0.2, 0.2, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0]])
    n, _, _ = classification.reliability(np.array([MEL]), row, bins=5)
    assert np.flatnonzero(n).tolist() == [0]


def test_reliability_bins_hold_every_prediction_once(sample):
    n, confidence, right = classification.reliability(*sample)
    assert len(n) == 15
    assert n.sum() == 400
    assert np.array_equal(np.isnan(confidence), n == 0)
    assert np.array_equal(np.isnan(right), n == 0)
    filled = n > 0
    assert (confidence[filled] > np.arange(15)[filled] / 15).all()
    assert (confidence[filled] <= np.arange(1, 16)[filled] / 15).all()


@unhurried
@given(arrays(np.int64, st.integers(2, 40), elements=st.integers(-20, 20)), st.data())
def test_a_monotone_transformation_leaves_auc_unchanged(steps, data):
    scores = steps / 10
    truth = data.draw(arrays(np.bool_, len(steps)))
    before = classification.auc(scores, truth)
    after = classification.auc(np.exp(3 * scores) - 7, truth)
    assert before == pytest.approx(after, nan_ok=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.0], r"`labels` to be \(N,\) int but got \(1,\) float64"),
        ([[0]], r"`labels` to be \(N,\) int but got \(1, 1\)"),
        ([8], "`labels` to be from 0 to 7 but got 8 to 8"),
        ([-1], "`labels` to be from 0 to 7 but got -1"),
        ([0, 1], r"`probabilities` to be \(2, 8\) float but got \(1, 8\)"),
    ],
)
def test_rejects_invalid_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        classification.accuracy(np.array(labels), certain_of(0))


NEGATIVE = np.array([[1.0, *[0] * 7], [2.0, -1.0, *[0] * 6]])


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0], np.full((1, 9), 1 / 9), r"`probabilities` to be \(1, 8\) float but got \(1, 9\)"),
        ([0], np.eye(8, dtype=int)[:1], "`probabilities` to be .* int64"),
        ([0], np.full((1, 8), 12.5), "sum to 1 but got .* in row 0"),
        ([0, 0], NEGATIVE, "non-negative .* in row 1"),
        ([0], np.full((1, 8), np.nan), "sum to 1 but got .*nan"),
    ],
)
def test_rejects_invalid_labels_and_probabilities(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification.accuracy(labels, probabilities)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (np.array([0.5]), np.array([1]), r"`truth` to be \(N,\) bool but got \(1,\) int64"),
        (np.array([0.5, 0.5]), np.array([True]), r"`scores` to be \(1,\) float but got \(2,\)"),
        (np.array([np.nan, 0.5]), np.array([True, False]), "`scores` to be finite but got 1"),
    ],
)
def test_rejects_invalid_scores_and_truth(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        classification.auc(scores, truth)


def test_takes_float32_probabilities_of_a_softmax(sample):
    labels, probabilities = sample
    single = classification.malignant_auc(labels, probabilities.astype(np.float32))
    assert single == pytest.approx(classification.malignant_auc(labels, probabilities), abs=1e-4)


def drawn_gaps(top: np.ndarray, right: np.ndarray, rng: np.random.Generator) -> tuple:
    """The gaps of images in 15 bins, one image a lesion, and of 400 draws."""
    place = np.minimum((np.ceil(top * 15) - 1).astype(int), 14)
    n = len(top)
    sums = np.zeros((n, 15))
    sums[np.arange(n), place] = right - top
    # The counts of drawn images: `rng.multinomial` would take ten times as long.
    drawn = rng.integers(0, n, (400, n)) + n * np.arange(400)[:, None]
    weights = np.bincount(drawn.ravel(), minlength=400 * n).reshape(400, n)
    return sums.mean(axis=0), weights @ sums / n


@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize("too_sure", [0.0, 0.04, 0.3])
def test_the_interval_of_a_calibration_error_covers_the_error_of_endless_images(n, too_sure):
    """Simulated: the true error is that of a million images of the same model, 0 for the one that is calibrated."""
    rng = np.random.default_rng(5)
    population = 0.15 + 0.85 * rng.beta(4, 1.5, 1_000_000)
    place = np.minimum((np.ceil(population * 15) - 1).astype(int), 14)
    falls_short = too_sure * (population - 0.15)
    true = np.abs(np.bincount(place, falls_short)).sum() / len(population)
    covered = 0
    for _ in range(200):
        top = rng.choice(population, n)
        right = rng.random(n) < top - too_sure * (top - 0.15)
        low, high = classification.calibration_error_interval(*drawn_gaps(top, right, rng), 0.95)
        covered += low <= true <= high
    assert covered / 200 >= 0.9


def test_the_interval_of_a_calibration_error_ends_above_0_where_the_error_is_beyond_chance():
    rng = np.random.default_rng(6)
    top = np.full(1000, 0.9)
    low, high = classification.calibration_error_interval(
        *drawn_gaps(top, rng.random(1000) < 0.7, rng), 0.95
    )
    assert 0.15 < low < 0.2 < high < 0.25


def test_the_gaps_of_the_bins_add_up_to_the_calibration_error(sample):
    labels, probabilities = sample
    mixed = np.where(
        np.arange(400) < 300, labels, (labels + 1) % 8
    )  # some bins are too sure, some not enough
    gaps = classification.calibration_gaps(mixed, probabilities)
    assert gaps.shape == (15,)
    assert gaps.min() < 0 < gaps.max()
    assert np.abs(gaps).sum() == pytest.approx(
        classification.expected_calibration_error(mixed, probabilities)
    )
