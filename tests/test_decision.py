import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.decision import TARGET_SENSITIVITY, OperatingPoint, choose_operating_points, decide, two_digits

POINT = OperatingPoint("balanced", 0.3, 0.95, 0.7, 100, 200)
SHARES = st.floats(0, 1)


def test_refers_at_the_threshold():
    assert decide(0.3, POINT).action == "refer"


def test_says_below_the_referral_threshold_and_never_no_risk():
    sentence = decide(0.01, POINT).sentence
    assert sentence == (
        "Below the referral threshold: malignant probability 0.01, below the balanced threshold of 0.30"
    )


@given(SHARES, SHARES)
def test_the_numbers_of_the_sentence_never_contradict_it(probability, threshold):
    decision = decide(probability, OperatingPoint("balanced", threshold, 0.95, 0.7, 100, 200))
    ours, theirs = (float(number.lstrip("<>")) for number in re.findall(r"[<>]?\d\.\d+", decision.sentence))
    if decision.action == "refer":
        assert ours >= theirs
    else:
        assert ours <= theirs
        assert "<0.01, below the balanced threshold of <0.01" not in decision.sentence


def test_more_digits_tell_a_probability_just_below_its_threshold():
    point = OperatingPoint("balanced", 0.19537, 0.95, 0.7, 100, 200)
    assert "0.1952, below the balanced threshold of 0.1954" in decide(0.1952, point).sentence


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, 19.5])
def test_an_operating_point_without_a_threshold_from_0_to_1_is_refused(threshold):
    with pytest.raises(ValueError, match="Expected `threshold` of balanced"):
        OperatingPoint("balanced", threshold, 0.95, 0.7, 100, 200)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (0.004, "<0.01"), (0.005, "0.01"), (0.994, "0.99"), (0.996, ">0.99"), (1.0, "1.00")],
)
def test_a_probability_near_zero_or_one_is_not_said_to_be_it(value, text):
    assert two_digits(value) == text


@given(SHARES, SHARES)
def test_raising_the_malignant_probability_never_lowers_the_action(one, other):
    low, high = sorted((one, other))
    if decide(low, POINT).action == "refer":
        assert decide(high, POINT).action == "refer"


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_refuses_what_is_no_probability(value):
    with pytest.raises(ValueError, match="from 0 to 1"):
        decide(value, POINT)


@given(st.lists(st.tuples(SHARES, st.booleans()), min_size=2, max_size=80))
def test_every_operating_point_reaches_its_sensitivity_and_no_higher_threshold_does(cases):
    scores, truth = np.array([s for s, _ in cases]), np.array([t for _, t in cases])
    if truth.all() or not truth.any():
        with pytest.raises(ValueError, match="malignant and benign images"):
            choose_operating_points(scores, truth)
        return
    for point in choose_operating_points(scores, truth):
        target = TARGET_SENSITIVITY[point.name]
        assert point.sensitivity >= target
        assert point.sensitivity == np.mean(scores[truth] >= point.threshold)
        assert point.specificity == np.mean(scores[~truth] < point.threshold)
        above = scores[truth & (scores > point.threshold)]
        assert len(above) / truth.sum() < target
