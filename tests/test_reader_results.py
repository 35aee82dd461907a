"""Readers alone, the model alone, and readers with the model."""

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score

from cadlib.errors import StudyInvalid
from cadlib.metrics.reader_results import (
    ALONE,
    MODEL,
    WITH_MODEL,
    PairedReadings,
    compare_readers,
)


def flags(values) -> np.ndarray:
    """Return flags as an array, of objects where one is missing."""
    return np.array(values)


def paired(malignant, before, after, model, patient=None, reader=None, case=None):
    n = len(malignant)
    case = case or [f"C{number}" for number in range(n)]
    return PairedReadings(
        patient=np.array(patient or [f"patient of {name}" for name in case]),
        reader=np.array(reader or ["a"] * n),
        case=np.array(case),
        malignant=flags(malignant),
        before=flags(before),
        after=flags(after),
        model=flags(model),
    )


@pytest.fixture
def study() -> PairedReadings:
    """Return 300 readings of 100 cases of 50 patients by three readers."""
    rng = np.random.default_rng(0)
    malignant = np.repeat(rng.random(100) < 0.4, 3)
    right = rng.random((3, 300))
    model_right = np.repeat(rng.random(100) < 0.85, 3)
    return paired(
        malignant,
        np.where(right[0] < 0.7, malignant, ~malignant),
        np.where(right[1] < 0.8, malignant, ~malignant),
        np.where(model_right, malignant, ~malignant),
        patient=[f"P{number // 6}" for number in range(300)],
        reader=["a", "b", "c"] * 100,
        case=[f"C{number // 3}" for number in range(300)],
    )


def test_metrics_are_those_of_scikit_learn(study):
    results = compare_readers(study)
    for decider in (ALONE, MODEL, WITH_MODEL):
        decided = study.decisions(decider)
        metrics = results.metrics[decider]
        assert metrics["sensitivity"].value == pytest.approx(recall_score(study.malignant, decided))
        assert metrics["specificity"].value == pytest.approx(
            recall_score(~study.malignant, ~decided)
        )
        assert metrics["balanced accuracy"].value == pytest.approx(
            balanced_accuracy_score(study.malignant, decided)
        )
        for result in metrics.values():
            low, high = result.interval
            assert low < result.value < high
    assert (results.n_readings, results.n_readers, results.n_patients) == (300, 3, 50)


def test_differences_are_paired(study):
    results = compare_readers(study)
    expected = (
        results.metrics[WITH_MODEL]["sensitivity"].value
        - results.metrics[ALONE]["sensitivity"].value
    )
    difference = results.differences[ALONE, WITH_MODEL]["sensitivity"]
    assert difference.value == pytest.approx(expected)
    low, high = difference.interval
    assert low < expected < high
    assert set(results.differences) == {
        (ALONE, MODEL),
        (ALONE, WITH_MODEL),
        (MODEL, WITH_MODEL),
    }


def test_readers_who_never_change_have_a_difference_of_exactly_0(study):
    same = paired(study.malignant, study.before, study.before, study.model)
    results = compare_readers(same)
    for result in results.differences[ALONE, WITH_MODEL].values():
        # Draws that all agree do not show how far they are from the truth.
        assert (result.value, result.interval) == (0, None)
    assert results.moves.n_to_wrong == results.moves.n_to_correct == 0


def test_moves_are_counted():
    #             right to wrong, wrong to right, stays right, stays wrong
    readings = paired(
        malignant=[True, False, True, False],
        before=[True, True, True, True],
        after=[False, False, True, True],
        model=[False, False, True, True],
    )
    moves = compare_readers(readings).moves
    assert (moves.n_to_wrong, moves.to_wrong.value, moves.to_wrong.n) == (1, 0.5, 2)
    assert (moves.n_to_correct, moves.to_correct.value, moves.to_correct.n) == (1, 0.5, 2)


def test_a_study_without_malignant_cases_has_no_sensitivity():
    readings = paired([False] * 4, [True, False] * 2, [False] * 4, [False] * 4)
    metrics = compare_readers(readings).metrics[ALONE]
    assert math.isnan(metrics["sensitivity"].value)
    assert metrics["sensitivity"].interval is None
    assert metrics["sensitivity"].n == 0
    assert math.isnan(metrics["balanced accuracy"].value)
    assert metrics["specificity"].value == 0.5


def test_one_patient_gives_no_interval():
    readings = paired([True, False], [True, True], [True, False], [True, True], patient=["P", "P"])
    assert compare_readers(readings).metrics[ALONE]["specificity"].interval is None


def test_an_interval_over_patients_is_wider_than_one_over_readings(study):
    by_patient = compare_readers(study).metrics[MODEL]["sensitivity"]
    single = paired(study.malignant, study.before, study.after, study.model)
    by_reading = compare_readers(single).metrics[MODEL]["sensitivity"]
    assert by_patient.value == by_reading.value
    assert np.ptp(by_patient.interval) > 1.2 * np.ptp(by_reading.interval)


TWO = {
    "malignant": [True, False],
    "before": [True, True],
    "after": [True, True],
    "model": [True, True],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"case": ["C", "C"], "reader": ["a", "b"]}, "one truth for each case"),
        ({"patient": ["P", ""]}, "the patient of each reading"),
        ({"malignant": [True, None]}, "true or false as `malignant`"),
        ({"after": [True, None]}, "true or false as `after`"),
    ],
)
def test_readings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(StudyInvalid, match=message):
        paired(**(TWO | changes))


def test_a_reader_who_reads_a_case_twice_is_refused():
    with pytest.raises(StudyInvalid, match="reader a has 2 readings of case C"):
        paired([True] * 2, [True] * 2, [True] * 2, [True] * 2, case=["C", "C"])


def test_two_decisions_of_the_model_on_a_case_are_refused():
    with pytest.raises(StudyInvalid, match="one decision of the model for each case"):
        paired(
            [True, True],
            [True, True],
            [True, True],
            [True, False],
            case=["C", "C"],
            reader=["a", "b"],
        )


def test_a_case_of_two_patients_is_refused():
    with pytest.raises(StudyInvalid, match="one patient for each case"):
        paired(
            [True, True],
            [True, True],
            [True, True],
            [True, True],
            patient=["P", "Q"],
            case=["C", "C"],
            reader=["a", "b"],
        )


def test_unequal_lengths_are_refused():
    with pytest.raises(StudyInvalid, match="values"):
        paired([True, False], [True], [True, True], [True, True])
