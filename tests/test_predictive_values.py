import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cadlib.metrics.operating_point import OperatingPoint, PointIntervals
from cadlib.metrics.predictive_values import Outcomes, PredictiveValues, at_prevalence

SHARES = st.floats(0.001, 0.999)


def point(
    sensitivity: float, specificity: float, intervals: PointIntervals | None = None
) -> OperatingPoint:
    nobody = PointIntervals(None, None)
    return OperatingPoint(
        "balanced", 0.3, sensitivity, specificity, 300, 700, "test", intervals or nobody
    )


def test_the_predictive_values_are_those_of_a_worked_table():
    # 1,000 patients, 100 of them malignant: 90 found, 10 missed, 180 of 900 referred needlessly
    values = PredictiveValues(point(0.9, 0.8), 0.1)
    assert values.positive == pytest.approx(90 / 270)
    assert values.negative == pytest.approx(720 / 730)
    assert values.of(1000) == Outcomes(detected=90, missed=10, needless=180, spared=720)
    assert values.one_missed_in == pytest.approx(100)


@given(sensitivity=SHARES, specificity=SHARES, prevalence=SHARES, patients=st.integers(1, 500))
def test_every_patient_is_counted_once(sensitivity, specificity, prevalence, patients):
    cases = PredictiveValues(point(sensitivity, specificity), prevalence).of(patients)
    counts = (
        cases.detected,
        cases.missed,
        cases.needless,
        cases.spared,
    )
    assert sum(counts) == patients
    exact = (
        prevalence * sensitivity,
        prevalence * (1 - sensitivity),
        (1 - prevalence) * (1 - specificity),
    )
    assert all(
        abs(count - patients * share) < 1 for count, share in zip(counts, exact, strict=False)
    )


@given(sensitivity=SHARES, specificity=SHARES, lower=SHARES, higher=SHARES)
def test_more_disease_raises_the_ppv_and_lowers_the_npv(sensitivity, specificity, lower, higher):
    lower, higher = sorted((lower, higher))
    low = PredictiveValues(point(sensitivity, specificity), lower)
    high = PredictiveValues(point(sensitivity, specificity), higher)
    assert low.positive <= high.positive + 1e-12
    assert low.negative >= high.negative - 1e-12


def test_an_interval_holds_its_metric_and_is_missing_where_the_point_has_none():
    values = PredictiveValues(point(0.9, 0.8, PointIntervals((0.85, 0.94), (0.75, 0.84))), 0.1)
    (low_positive, high_positive), (low_negative, high_negative) = values.intervals
    assert low_positive < values.positive < high_positive
    assert low_negative < values.negative < high_negative
    assert low_positive == pytest.approx(0.085 / (0.085 + 0.9 * 0.25))
    assert (
        PredictiveValues(point(0.9, 0.8, PointIntervals((0.85, 0.94), None)), 0.1).intervals is None
    )


def test_without_a_referral_the_ppv_is_not_defined():
    nobody = PredictiveValues(point(0.0, 1.0), 0.1)
    assert math.isnan(nobody.positive)
    assert nobody.negative == pytest.approx(0.9)
    assert PredictiveValues(point(1.0, 0.0), 0.1).one_missed_in == math.inf


@pytest.mark.parametrize("prevalence", [0.0, 1.0, -0.1, 5, math.nan])
def test_rejects_an_invalid_prevalence(prevalence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        PredictiveValues(point(0.9, 0.8), prevalence)
    with pytest.raises(ValueError, match="between 0 and 1"):
        at_prevalence(0.5, 0.3, prevalence)


@given(probability=st.floats(0, 1), measured=SHARES, here=SHARES)
def test_a_probability_moves_with_the_odds_of_the_prevalence(probability, measured, here):
    assert at_prevalence(probability, measured, measured) == pytest.approx(probability)
    moved = at_prevalence(probability, measured, here)
    assert (moved >= probability - 1e-9) if here >= measured else (moved <= probability + 1e-9)
    assert at_prevalence(moved, here, measured) == pytest.approx(probability, abs=1e-6)


def test_even_odds_become_rare_at_a_low_prevalence():
    # prior odds 1 to 1 become 1 to 99: even odds become 1 to 99
    assert at_prevalence(0.5, 0.5, 0.01) == pytest.approx(0.01)
