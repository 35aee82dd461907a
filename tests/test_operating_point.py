import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.metrics.operating_point import (
    TARGET_SENSITIVITY,
    OperatingPoint,
    PointIntervals,
    Threshold,
    choose_thresholds,
    decide,
    two_digits,
)

MEASURED = {
    "n_malignant": 100,
    "n_benign": 200,
    "split": "test",
    "intervals": PointIntervals((0.9, 0.98), None),
}


def point_at(threshold: float, sensitivity: float = 0.95) -> OperatingPoint:
    return OperatingPoint("balanced", threshold, sensitivity, 0.7, **MEASURED)


POINT = point_at(0.3)
SHARES = st.floats(0, 1)


def test_refers_at_the_threshold():
    assert decide(0.3, POINT).action == "refer"


def test_the_sentence_states_below_the_referral_threshold_and_never_no_risk():
    sentence = decide(0.01, POINT).sentence
    assert sentence == (
        "Below the referral threshold: malignant probability 0.01 (referral threshold 0.30, balanced)"
    )


@given(SHARES, SHARES)
def test_the_numbers_of_the_sentence_never_contradict_it(probability, threshold):
    decision = decide(probability, point_at(threshold))
    numbers = re.findall(r"[<>]?\d\.\d+", decision.sentence)
    shown_probability, shown_threshold = [float(number.lstrip("<>")) for number in numbers]
    if decision.action == "refer":
        assert shown_probability >= shown_threshold
    else:
        assert shown_probability <= shown_threshold
        assert "<0.01 (referral threshold <0.01" not in decision.sentence


def test_more_digits_show_a_probability_just_below_its_threshold():
    point = point_at(0.19537)
    assert "0.1952 (referral threshold 0.1954, balanced)" in decide(0.1952, point).sentence


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, 19.5])
def test_a_threshold_that_is_not_from_0_to_1_is_refused(threshold):
    with pytest.raises(ValueError, match="Expected `threshold` of balanced"):
        Threshold("balanced", threshold)
    with pytest.raises(ValueError, match="Expected `threshold` of balanced"):
        point_at(threshold)


@pytest.mark.parametrize("sensitivity", [float("nan"), 95])
def test_an_operating_point_that_was_not_measured_is_refused(sensitivity):
    with pytest.raises(ValueError, match="Expected `sensitivity` of balanced"):
        point_at(0.3, sensitivity)
    with pytest.raises(ValueError, match="malignant and benign images"):
        OperatingPoint("balanced", 0.3, 0.95, 0.7, **{**MEASURED, "n_benign": 0})
    with pytest.raises(ValueError, match="validation or test but got 'train'"):
        OperatingPoint("balanced", 0.3, 0.95, 0.7, **{**MEASURED, "split": "train"})


@pytest.mark.parametrize("ends", [(0.9,), (0.9, 0.8), (0.9, float("nan")), (90, 95)])
def test_an_interval_is_two_fractions_in_their_order(ends):
    with pytest.raises(ValueError, match="interval of `specificity`"):
        PointIntervals(None, ends)


def test_an_operating_point_is_read_back_from_its_json():
    assert msgspec.json.decode(msgspec.json.encode(POINT), type=OperatingPoint) == POINT


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (0.004, "<0.01"),
        (0.005, "0.01"),
        (0.994, "0.99"),
        (0.996, ">0.99"),
        (1.0, "1.00"),
    ],
)
def test_a_probability_near_0_or_1_is_not_rounded_to_it(value, text):
    assert two_digits(value) == text


@given(SHARES, SHARES)
def test_raising_the_malignant_probability_never_lowers_the_action(first, second):
    low, high = sorted((first, second))
    if decide(low, POINT).action == "refer":
        assert decide(high, POINT).action == "refer"


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_refuses_an_invalid_probability(value):
    with pytest.raises(ValueError, match="from 0 to 1"):
        decide(value, POINT)


@given(st.lists(st.tuples(SHARES, st.booleans()), min_size=2, max_size=80))
def test_every_operating_point_reaches_its_sensitivity_and_no_higher_threshold_does(cases):
    scores = np.array([s for s, _ in cases])
    truth = np.array([t for _, t in cases])
    if truth.all() or not truth.any():
        with pytest.raises(ValueError, match="malignant and benign images"):
            choose_thresholds(scores, truth)
        return
    for point in choose_thresholds(scores, truth):
        target = TARGET_SENSITIVITY[point.name]
        assert np.mean(scores[truth] >= point.threshold) >= target
        above = scores[truth & (scores > point.threshold)]
        assert len(above) / truth.sum() < target
