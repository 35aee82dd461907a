import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score, roc_curve

from cadlib.metrics.classification import auc, sensitivity_specificity
from cadlib.metrics.curves import precision_recall_of_roc, precision_recall_points, roc_points
from cadlib.metrics.summary_schema import StoredRoc


@st.composite
def scored(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    truth = np.concatenate([[True, False], rng.random(draw(st.integers(0, 60))) < 0.4])
    return rng.normal(truth * 1.0).round(1), truth


def test_a_short_roc_keeps_every_corner():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    truth = np.array([True, False, True, True, False])
    fpr, tpr, threshold = roc_curve(truth, scores)
    curve = roc_points(scores, truth)
    assert np.array_equal(curve.fpr, fpr)
    assert np.array_equal(curve.tpr, tpr)
    assert np.array_equal(curve.threshold, threshold)


def test_a_long_roc_is_thinned_without_a_visible_change():
    rng = np.random.default_rng(1)
    truth = rng.random(6000) < 0.4
    scores = rng.normal(truth * 1.2)
    fpr, tpr, _ = roc_curve(truth, scores)
    curve = roc_points(scores, truth)
    assert len(fpr) > 1000
    assert len(curve.fpr) == 200
    # Distance from each dropped corner to the thinned line, in a plot of 500 pixels: under one.
    assert np.abs(np.interp(fpr + tpr, curve.fpr + curve.tpr, curve.fpr) - fpr).max() < 1 / 500
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(auc(scores, truth), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(scored(), st.integers(2, 30))
def test_a_roc_runs_from_corner_to_corner_through_points_of_the_data(sample, limit):
    scores, truth = sample
    curve = roc_points(scores, truth, limit)
    assert len(curve.fpr) <= limit
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    assert (np.diff(curve.fpr) >= 0).all()
    assert (np.diff(curve.tpr) >= 0).all()
    for fpr, tpr, threshold in zip(curve.fpr, curve.tpr, curve.threshold, strict=True):
        sensitivity, specificity = sensitivity_specificity(scores, truth, threshold)
        assert (tpr, fpr) == pytest.approx((sensitivity, 1 - specificity))


def test_a_roc_without_positives_has_no_point():
    assert len(roc_points(np.array([0.1, 0.2]), np.array([False, False])).fpr) == 0


def test_a_roc_is_read_only():
    curve = roc_points(np.array([0.1, 0.2]), np.array([False, True]))
    with pytest.raises(ValueError, match="read-only"):
        curve.fpr[0] = 1


def test_precision_and_recall_are_those_of_scikit_learn_at_each_kept_threshold():
    rng = np.random.default_rng(1)
    truth = rng.random(3000) < 0.2
    scores = rng.normal(truth * 1.2)
    curve = precision_recall_points(scores, truth)
    assert len(curve.recall) <= 200
    for recall, precision, threshold in zip(
        curve.recall, curve.precision, curve.threshold, strict=True
    ):
        referred = scores >= threshold
        assert recall == pytest.approx(recall_score(truth, referred))
        assert precision == pytest.approx(precision_score(truth, referred))
    assert curve.recall[-1] == 1
    assert curve.positives == truth.mean()
    assert (np.diff(curve.recall) >= 0).all()


def test_without_a_positive_there_is_no_precision_recall_curve():
    curve = precision_recall_points(np.array([0.1, 0.7]), np.array([False, False]))
    assert len(curve.recall) == len(curve.precision) == len(curve.threshold) == curve.positives == 0


def test_the_points_of_a_roc_have_the_precision_of_their_thresholds():
    rng = np.random.default_rng(1)
    truth = rng.random(500) < 0.2
    scores = rng.normal(truth * 1.2)
    roc = roc_points(scores, truth)
    stored = StoredRoc(
        fpr=tuple(roc.fpr.tolist()),
        tpr=tuple(roc.tpr.tolist()),
        threshold=(None, *roc.threshold[1:].tolist()),
    )
    curve = precision_recall_of_roc(stored, int(truth.sum()), int((~truth).sum()))
    for recall, precision, threshold in zip(
        curve.recall, curve.precision, curve.threshold, strict=True
    ):
        referred = scores >= threshold
        expected = recall_score(truth, referred), precision_score(truth, referred, zero_division=0)
        assert (recall, precision) == pytest.approx(expected)
    assert len(precision_recall_of_roc(None, 0, 500).recall) == 0
