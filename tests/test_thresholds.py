import math

import numpy as np
import pytest
from msgspec import structs

from cadlib.metrics.classification import malignant_probability, malignant_truth
from cadlib.metrics.decision_curve import curve_of_points, net_benefit
from cadlib.metrics.operating_point import Threshold
from cadlib.metrics.summary import measured_point, summarise
from cadlib.metrics.thresholds import NO_INTERVALS, UNNAMED, TradeOff, trade_offs
from tests.measured import evaluation_metrics


@pytest.fixture(scope="module")
def images():
    """Return labels and probabilities of 300 images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 300)
    odds = np.exp(rng.normal(0, 1, (300, 8)) + 1.5 * np.eye(8)[labels])
    return labels, odds / odds.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def metrics(images):
    """Return their section of metrics.json."""
    point = measured_point(Threshold("balanced", 0.4), *images, np.arange(300))
    return evaluation_metrics(summarise(*images, draws=20), [point])


def test_each_point_has_the_metrics_of_its_threshold(images, metrics):
    scores = malignant_probability(images[1])
    truth = malignant_truth(images[0])
    points = trade_offs(metrics)
    assert [point.threshold for point in points] == sorted(point.threshold for point in points)
    for point in points:
        referred = scores >= point.threshold - 1e-6  # curves have six decimals
        assert point.sensitivity == pytest.approx(referred[truth].mean(), abs=1e-5)
        assert point.specificity == pytest.approx((~referred[~truth]).mean(), abs=1e-5)
        assert (point.n_malignant, point.n_benign) == (truth.sum(), (~truth).sum())
        assert point.precision == pytest.approx(truth[referred].mean(), abs=1e-5)


def test_the_models_operating_points_keep_name_and_intervals(metrics):
    [named] = [point for point in trade_offs(metrics) if point.name != UNNAMED]
    assert (named.name, named.threshold) == ("balanced", 0.4)
    assert named.intervals.sensitivity[0] < named.sensitivity < named.intervals.sensitivity[1]


def test_no_trade_off_without_a_benign_image(images):
    melanomas = images[0] == 0
    alone = evaluation_metrics(summarise(images[0][melanomas], images[1][melanomas], draws=5))
    assert trade_offs(alone) == ()


def test_a_point_has_the_net_benefit_of_its_threshold(images, metrics):
    scores = malignant_probability(images[1])
    truth = malignant_truth(images[0])
    points = [point for point in trade_offs(metrics) if 0.05 < point.threshold < 0.95]
    curve = curve_of_points(points, truth.mean())
    expected = net_benefit(scores + 1e-6, truth, curve.threshold)
    assert curve.model == pytest.approx(expected, abs=1e-4)
    assert [point.net_benefit(truth.mean()) for point in points] == curve.model.tolist()
    assert curve.low is None


def test_a_prevalence_moves_the_threshold_as_it_moves_a_probability():
    point = TradeOff(UNNAMED, 0.5, 0.9, 0.8, 50, 50)
    assert point.threshold_at(0.1) == pytest.approx(0.1)
    assert point.net_benefit(0.1) == pytest.approx(0.1 * 0.9 - 0.9 * 0.2 / 9)


@pytest.mark.parametrize(("specificity", "expected"), [(1.0, 0.1 * 0.4), (0.99, -math.inf)])
def test_a_needless_referral_at_a_threshold_of_1_costs_infinitely_much(specificity, expected):
    point = TradeOff(UNNAMED, 1.0, 0.4, specificity, 50, 50)
    assert point.net_benefit(0.1) == pytest.approx(expected)


def test_referring_nobody_has_no_precision():
    assert math.isnan(TradeOff(UNNAMED, 1.0, 0.0, 1.0, 50, 50).precision)


def test_each_point_has_the_intervals_that_its_threshold_has_by_itself(images):
    metrics = evaluation_metrics(summarise(*images))
    points = [point for point in trade_offs(metrics) if 0.1 < point.threshold < 0.9]
    assert len(points) > 20
    for point in points[::10]:
        alone = measured_point(
            Threshold(UNNAMED, point.threshold - 1e-6), *images, np.arange(300)
        )  # six decimals
        assert alone.sensitivity == pytest.approx(point.sensitivity, abs=1e-5)
        for name in ("sensitivity", "specificity"):
            assert getattr(point.intervals, name) == pytest.approx(
                getattr(alone.intervals, name), abs=1e-4
            )


def test_metrics_of_an_earlier_version_have_points_without_intervals(metrics):
    curve = structs.replace(metrics.roc["malignant"], tpr_interval=None, fpr_interval=None)
    earlier = trade_offs(structs.replace(metrics, roc={**metrics.roc, "malignant": curve}))
    assert len(earlier) == len(trade_offs(metrics))
    assert all(point.intervals == NO_INTERVALS for point in earlier if point.name == UNNAMED)
