import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from cadlib.metrics import classification
from cadlib.metrics.summary import BEFORE_CALIBRATION, METRICS, bootstrap, summarise
from cadlib.metrics.summary_schema import FullSummary
from cadlib.model.metrics_file import metrics_json
from cadlib.taxonomy import CODES

MEL = CODES.index("MEL")
NV = CODES.index("NV")
NOTHING = np.empty(0, np.int64), np.empty((0, 8))


def lean(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Probabilities that lean towards the labels."""
    random = np.random.default_rng(seed).dirichlet(np.full(8, 0.5), len(labels))
    return (random + 0.4 * np.eye(8)[labels]) / 1.4


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return np.concatenate([np.arange(8), np.random.default_rng(0).integers(0, 8, 392)])


@pytest.fixture(scope="module")
def summary(labels) -> FullSummary:
    return summarise(labels, lean(labels), uncalibrated=lean(labels, seed=1))


def test_a_summary_has_every_metric_as_metrics_computes_it(labels, summary):
    assert (summary.n, summary.n_lesions, summary.n_classes) == (400, 400, 8)
    assert sum(summary.n_by_class.values()) == 400
    for metric in METRICS:
        expected = metric.compute(labels, lean(labels))
        value = getattr(summary, metric.name)
        assert (list(value.values()) if metric.keys else value) == pytest.approx(expected.tolist())
        assert list(value) == list(metric.keys) if metric.keys else isinstance(value, float)
    assert summary.ece_uncalibrated == classification.expected_calibration_error(
        labels, lean(labels, seed=1)
    )
    matrix = classification.confusion_matrix(labels, lean(labels))
    assert np.array_equal(summary.confusion_matrix, matrix)
    assert list(summary.roc) == [*CODES, "malignant"]
    assert len(summary.reliability) == 15


def test_every_metric_has_an_interval_about_it(summary):
    for metric in (*METRICS, *BEFORE_CALIBRATION):
        values = getattr(summary, metric.name)
        intervals = getattr(summary.intervals, metric.name)
        pairs = (
            [(values[k], intervals[k]) for k in metric.keys]
            if metric.keys
            else [(values, intervals)]
        )
        for value, (low, high) in pairs:
            assert low < high
            assert low <= value
            assert (
                value <= high or "ece" in metric.name
            )  # the noise of its bins adds to a calibration error


def test_the_interval_of_a_fraction_is_that_of_its_binomial():
    labels = np.full(2000, NV)
    probabilities = np.eye(8)[np.where(np.arange(2000) % 10 < 7, NV, MEL)]
    low, high = summarise(labels, probabilities).intervals.accuracy
    assert high - low == pytest.approx(2 * norm.ppf(0.975) * np.sqrt(0.7 * 0.3 / 2000), rel=0.15)


def test_lesions_are_drawn_not_images():
    """Four equal images of each lesion add no information: the interval is that of a quarter of the images."""
    lesions = np.repeat(np.arange(500), 4)
    probabilities = np.eye(8)[np.where(lesions % 10 < 7, NV, MEL)]
    labels = np.full(2000, NV)
    by_lesion = summarise(labels, probabilities, lesions).intervals.accuracy
    by_image = summarise(labels, probabilities).intervals.accuracy
    assert np.diff(by_lesion) == pytest.approx(2 * np.diff(by_image), rel=0.2)


def test_a_bootstrap_draw_has_as_many_complete_lesions():
    lesions = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate(list(bootstrap(lesions, 120)))
    assert weights.shape == (120, 6)
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert (weights[:, 0] == weights[:, 1]).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.25)


def test_the_same_images_have_the_same_intervals(labels, summary):
    assert summarise(labels, lean(labels), uncalibrated=lean(labels, seed=1)) == summary


def test_too_few_lesions_have_no_interval():
    labels = np.array([NV] * 60 + [MEL] * 3)
    intervals = summarise(labels, lean(labels)).intervals
    assert intervals.sensitivity["MEL"] is None
    assert intervals.malignant_auc is None
    assert intervals.sensitivity["NV"] is not None


def test_draws_that_all_agree_make_no_interval():
    summary = summarise(np.full(4, NV), np.eye(8)[[MEL] * 4])
    assert summary.accuracy == 0
    assert summary.intervals.accuracy is None


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_metric(seed, random):
    labels = np.random.default_rng(seed).integers(0, 8, 50)
    order = random.sample(range(50), 50)
    here = summarise(labels, lean(labels), draws=1)
    there = summarise(labels[order], lean(labels)[order], draws=1)
    for key in (
        "confusion_matrix",
        "n_by_class",
        "auc",
        "roc",
        "sensitivity",
        "specificity",
        "ppv",
        "npv",
    ):
        assert getattr(here, key) == getattr(there, key)
    for key in ("balanced_accuracy", "accuracy", "malignant_auc", "ece", "brier"):
        assert getattr(here, key) == pytest.approx(getattr(there, key))


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [NOTHING, (np.array([NV, NV]), np.eye(8)[[NV, MEL]])],
    ids=["no images", "one class"],
)
def test_a_summary_is_strict_json_where_metrics_are_not_defined(labels, probabilities):
    summary = summarise(labels, probabilities)
    assert msgspec.convert(json.loads(metrics_json(summary)), FullSummary) == summary
    assert summary.malignant_auc is None
    assert summary.auc["NV"] is None
    assert summary.roc["malignant"] is None
    assert summary.reliability[0].accuracy is None


def test_a_class_without_an_image_is_none_rather_than_zero():
    summary = summarise(np.array([NV, NV]), np.eye(8)[[NV, MEL]])
    assert summary.sensitivity == dict.fromkeys(CODES) | {"NV": 0.5}


def test_the_first_threshold_of_a_roc_in_json_is_none(summary):
    threshold = summary.roc["malignant"].threshold
    assert threshold[0] is None
    assert None not in threshold[1:]
