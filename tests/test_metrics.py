import json
import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    classification_report,
    roc_auc_score,
    roc_curve,
)
from sklearn.metrics import confusion_matrix as reference_confusion_matrix

from cadlib import metrics
from cadlib.taxonomy import CODES, DIAGNOSES

MEL, NV, BCC = (CODES.index(code) for code in ("MEL", "NV", "BCC"))
NO_LABELS, NO_PROBABILITIES = np.empty(0, np.int64), np.empty((0, 8))


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
    matrix = metrics.confusion_matrix(np.array([MEL, MEL, NV]), certain_of(MEL, NV, NV))
    assert (matrix[MEL, MEL], matrix[MEL, NV], matrix[NV, MEL], matrix[NV, NV]) == (1, 1, 0, 1)
    assert matrix.sum() == 3


def test_confusion_matrix_is_that_of_scikit_learn(sample):
    labels, probabilities = sample
    expected = reference_confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(8))
    assert np.array_equal(metrics.confusion_matrix(labels, probabilities), expected)


def test_accuracies_are_those_of_scikit_learn(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(axis=1)
    assert metrics.accuracy(labels, probabilities) == pytest.approx(accuracy_score(labels, predicted))
    assert metrics.balanced_accuracy(labels, probabilities) == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_balanced_accuracy_is_the_mean_over_the_classes_that_are_present():
    labels, probabilities = np.array([MEL, MEL, NV]), certain_of(MEL, BCC, NV)
    assert metrics.balanced_accuracy(labels, probabilities) == pytest.approx((1 / 2 + 1) / 2)
    assert metrics.summarise(labels, probabilities)["n_classes"] == 2


def test_sensitivity_and_specificity_of_a_class_are_recalls_of_scikit_learn(sample):
    labels, probabilities = sample
    predicted = probabilities.argmax(axis=1)
    sensitivity = metrics.class_sensitivity(labels, probabilities)
    specificity = metrics.class_specificity(labels, probabilities)
    for i, code in enumerate(CODES):
        report = classification_report(labels == i, predicted == i, output_dict=True)
        assert sensitivity[code] == pytest.approx(report["True"]["recall"])
        assert specificity[code] == pytest.approx(report["False"]["recall"])


def test_auc_is_the_chance_that_a_positive_scores_higher():
    scores = np.array([0.1, 0.4, 0.4, 0.8, 0.3, 0.4])
    truth = np.array([False, False, True, True, True, False])
    won = [float(p > n) + 0.5 * (p == n) for p, n in product(scores[truth], scores[~truth])]
    assert metrics.auc(scores, truth) == pytest.approx(np.mean(won))


def test_class_auc_is_one_class_against_the_rest(sample):
    labels, probabilities = sample
    aucs = metrics.class_auc(labels, probabilities)
    assert list(aucs) == list(CODES)
    for i, code in enumerate(CODES):
        assert aucs[code] == pytest.approx(roc_auc_score(labels == i, probabilities[:, i]))


def test_malignant_auc_sums_the_malignant_diagnoses(sample):
    labels, probabilities = sample
    malignant = [i for i, diagnosis in enumerate(DIAGNOSES) if diagnosis.malignant]
    assert metrics.malignant_auc(labels, probabilities) == pytest.approx(
        roc_auc_score(np.isin(labels, malignant), probabilities[:, malignant].sum(axis=1))
    )


def test_malignant_probability_never_exceeds_one():
    row = np.array([0.1, 0.0, 0.7, 0.1, 0.0, 0.0, 0.0, 0.1]) * (1 + 4e-16)
    assert row.sum() > 1
    assert metrics.malignant_probability(row) == 1.0
    assert metrics.malignant_probability(np.stack([row, row])).shape == (2,)


def test_an_absent_class_is_not_defined_rather_than_zero():
    labels, probabilities = np.array([MEL, NV, NV]), certain_of(MEL, NV, NV)
    assert math.isnan(metrics.class_auc(labels, probabilities)["VASC"])
    assert math.isnan(metrics.class_sensitivity(labels, probabilities)["VASC"])
    assert metrics.class_specificity(labels, probabilities)["VASC"] == 1


def test_malignant_auc_of_benign_images_alone_is_not_defined():
    assert math.isnan(metrics.malignant_auc(np.array([NV, NV]), certain_of(NV, MEL)))


@pytest.mark.parametrize(
    "figure",
    [
        metrics.accuracy,
        metrics.balanced_accuracy,
        metrics.malignant_auc,
        metrics.expected_calibration_error,
        metrics.brier_score,
    ],
)
def test_a_figure_over_no_images_is_not_defined(figure):
    assert math.isnan(figure(NO_LABELS, NO_PROBABILITIES))


def test_sensitivity_and_specificity_count_a_score_at_the_threshold_as_positive():
    scores, truth = np.array([0.5, 0.4, 0.5, 0.1, 0.2]), np.array([True, True, False, False, False])
    assert metrics.sensitivity_specificity(scores, truth, 0.5) == pytest.approx((1 / 2, 2 / 3))


def test_sensitivity_without_a_positive_is_not_defined():
    sensitivity, specificity = metrics.sensitivity_specificity(np.array([0.2]), np.array([False]), 0.5)
    assert math.isnan(sensitivity)
    assert specificity == 1


def test_brier_score_is_that_of_scikit_learn(sample):
    labels, probabilities = sample
    expected = brier_score_loss(labels, probabilities, labels=range(8), scale_by_half=False)
    assert metrics.brier_score(labels, probabilities) == pytest.approx(expected)


def test_brier_score_of_certain_errors_is_two():
    assert metrics.brier_score(np.array([MEL]), certain_of(NV)) == 2


def test_calibration_error_is_the_weighted_gap_of_the_bins(sample):
    labels, probabilities = sample
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    expected = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert metrics.expected_calibration_error(labels, probabilities) == pytest.approx(expected)


def test_calibration_error_of_four_predictions_by_hand():
    probabilities = np.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])
    probabilities = np.pad(probabilities, ((0, 0), (0, 6)))
    error = metrics.expected_calibration_error(np.array([MEL, MEL, NV, MEL]), probabilities)
    assert error == pytest.approx(3 / 4 * abs(2 / 3 - 0.8) + 1 / 4 * abs(1 - 0.6))


def test_a_reliability_bin_owns_its_upper_edge():
    row = np.array([[0.2, 0.2, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0]])
    filled = [i for i, bin_ in enumerate(metrics.reliability_bins(np.array([MEL]), row, bins=5)) if bin_.n]
    assert filled == [0]


def test_reliability_bins_hold_every_prediction_once(sample):
    bins = metrics.reliability_bins(*sample)
    assert len(bins) == 15
    assert sum(bin_.n for bin_ in bins) == 400
    assert all(math.isnan(bin_.confidence) == (bin_.n == 0) for bin_ in bins)
    assert all(bin_.low < bin_.confidence <= bin_.high for bin_ in bins if bin_.n)


def test_a_short_roc_keeps_every_corner():
    scores, truth = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([True, False, True, True, False])
    fpr, tpr, threshold = roc_curve(truth, scores)
    curve = metrics.roc_points(scores, truth)
    assert np.array_equal(curve.fpr, fpr)
    assert np.array_equal(curve.tpr, tpr)
    assert np.array_equal(curve.threshold, threshold)


def test_a_long_roc_is_thinned_without_a_visible_change():
    rng = np.random.default_rng(1)
    truth = rng.random(6000) < 0.4
    scores = rng.normal(truth * 1.2)
    fpr, tpr, _ = roc_curve(truth, scores)
    curve = metrics.roc_points(scores, truth)
    assert len(fpr) > 1000
    assert len(curve.fpr) == 200
    # Distance from each dropped corner to the thinned line, in a plot of 500 pixels: under one.
    assert np.abs(np.interp(fpr + tpr, curve.fpr + curve.tpr, curve.fpr) - fpr).max() < 1 / 500
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(metrics.auc(scores, truth), abs=1e-4)


@unhurried
@given(samples, st.integers(2, 30))
def test_a_roc_runs_from_corner_to_corner_through_points_of_the_data(sample, limit):
    labels, probabilities = sample
    scores, truth = probabilities[:, MEL], labels == MEL
    curve = metrics.roc_points(scores, truth, limit)
    assert len(curve.fpr) <= limit
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(curve.fpr) >= 0).all()
    assert (np.diff(curve.tpr) >= 0).all()
    for fpr, tpr, threshold in zip(curve.fpr, curve.tpr, curve.threshold, strict=True):
        sensitivity, specificity = metrics.sensitivity_specificity(scores, truth, threshold)
        assert (tpr, fpr) == pytest.approx((sensitivity, 1 - specificity))


def test_a_roc_without_positives_has_no_point():
    assert len(metrics.roc_points(np.array([0.1, 0.2]), np.array([False, False])).fpr) == 0


def test_a_roc_is_read_only():
    curve = metrics.roc_points(np.array([0.1, 0.2]), np.array([False, True]))
    with pytest.raises(ValueError, match="read-only"):
        curve.fpr[0] = 1


@unhurried
@given(arrays(np.int64, st.integers(2, 40), elements=st.integers(-20, 20)), st.data())
def test_a_monotone_transformation_leaves_auc_unchanged(steps, data):
    scores, truth = steps / 10, data.draw(arrays(np.bool_, len(steps)))
    before, after = metrics.auc(scores, truth), metrics.auc(np.exp(3 * scores) - 7, truth)
    assert before == pytest.approx(after, nan_ok=True)


@unhurried
@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_figure(sample, random):
    labels, probabilities = sample
    order = random.sample(range(len(labels)), len(labels))
    here, there = (
        metrics.summarise(labels, probabilities),
        metrics.summarise(labels[order], probabilities[order]),
    )
    for key in ("confusion_matrix", "n_by_class", "auc", "roc", "sensitivity", "specificity"):
        assert here[key] == there[key]
    for key in ("balanced_accuracy", "accuracy", "malignant_auc", "ece", "brier"):
        assert here[key] == pytest.approx(there[key])


def test_a_summary_has_every_figure(sample):
    labels, probabilities = sample
    summary = metrics.summarise(labels, probabilities)
    assert summary["n"] == 400
    assert sum(summary["n_by_class"].values()) == 400
    assert summary["n_classes"] == 8
    assert summary["balanced_accuracy"] == metrics.balanced_accuracy(labels, probabilities)
    assert summary["auc"] == metrics.class_auc(labels, probabilities)
    assert summary["ece"] == metrics.expected_calibration_error(labels, probabilities)
    assert summary["confusion_matrix"] == metrics.confusion_matrix(labels, probabilities).tolist()
    assert list(summary["roc"]) == [*CODES, "malignant"]
    assert len(summary["reliability"]) == 15


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [(NO_LABELS, NO_PROBABILITIES), (np.array([NV, NV]), certain_of(NV, MEL)), drawn_sample(50)],
    ids=["no images", "one class", "all classes"],
)
def test_a_summary_is_strict_json(labels, probabilities):
    summary = metrics.summarise(labels, probabilities)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_a_summary_says_none_where_a_figure_is_not_defined():
    summary = metrics.summarise(np.array([NV, NV]), certain_of(NV, MEL))
    assert summary["malignant_auc"] is None
    assert summary["auc"]["NV"] is None
    assert summary["sensitivity"] == dict.fromkeys(CODES) | {"NV": 0.5}
    assert summary["roc"]["malignant"] is None
    assert summary["reliability"][0]["accuracy"] is None


def test_the_first_threshold_of_a_roc_in_json_is_none(sample):
    threshold = metrics.summarise(*sample)["roc"]["malignant"]["threshold"]
    assert threshold[0] is None
    assert None not in threshold[1:]


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.array([0.0]), certain_of(0), r"`labels` to be \(N,\) int but got \(1,\) float64"),
        (np.array([[0]]), certain_of(0), r"`labels` to be \(N,\) int but got \(1, 1\)"),
        (np.array([8]), certain_of(0), "`labels` to be from 0 to 7 but got 8 to 8"),
        (np.array([-1]), certain_of(0), "`labels` to be from 0 to 7 but got -1"),
        (np.array([0, 1]), certain_of(0), r"`probabilities` to be \(2, 8\) float but got \(1, 8\)"),
        (np.array([0]), np.full((1, 9), 1 / 9), r"`probabilities` to be \(1, 8\) float but got \(1, 9\)"),
        (np.array([0]), np.eye(8, dtype=int)[:1], "`probabilities` to be .* int64"),
        (np.array([0]), np.full((1, 8), 12.5), "sum to 1 but got .* in row 0"),
        (np.array([0, 0]), np.array([[1.0] + [0] * 7, [2.0, -1.0] + [0] * 6]), "non-negative .* in row 1"),
        (np.array([0]), np.full((1, 8), np.nan), "sum to 1 but got .*nan"),
    ],
)
def test_rejects_what_are_no_labels_and_probabilities(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        metrics.summarise(labels, probabilities)


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        (np.array([0.5]), np.array([1]), r"`truth` to be \(N,\) bool but got \(1,\) int64"),
        (np.array([0.5, 0.5]), np.array([True]), r"`scores` to be \(1,\) float but got \(2,\)"),
        (np.array([np.nan, 0.5]), np.array([True, False]), "`scores` to be finite but got 1"),
    ],
)
def test_rejects_what_are_no_scores_and_truth(scores, truth, message):
    with pytest.raises(ValueError, match=message):
        metrics.auc(scores, truth)


def test_takes_float32_probabilities_of_a_softmax(sample):
    labels, probabilities = sample
    single = metrics.summarise(labels, probabilities.astype(np.float32))
    assert single["malignant_auc"] == pytest.approx(metrics.malignant_auc(labels, probabilities), abs=1e-4)
