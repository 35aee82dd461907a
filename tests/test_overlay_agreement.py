"""How far verdicts on saliency maps can be relied on."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from cadlib.metrics.overlay_agreement import (
    VerdictPairs,
    accepted_share,
    agreement,
    equal_share,
    pairs_of_readers,
)

VERDICTS = ("on lesion", "partly", "artefact", "unreadable")


def pairs(first, second, patients=None) -> VerdictPairs:
    n = len(first)
    patients = range(n) if patients is None else patients
    return VerdictPairs(
        np.array(first, object),
        np.array(second, object),
        np.array(list(patients), np.int64),
    )


def test_the_example_of_cohen_has_its_published_kappa():
    """Cohen (1960), table 1: 200 subjects, kappa 0.492."""
    table = np.array([[88, 14, 18], [10, 40, 10], [2, 6, 12]])
    first = []
    second = []
    for row, column in np.ndindex(3, 3):
        first += [VERDICTS[row]] * table[row, column]
        second += [VERDICTS[column]] * table[row, column]
    estimate = agreement(pairs(first, second))
    assert estimate.value == pytest.approx(0.492, abs=5e-4)
    low, high = estimate.interval
    assert low < 0.492 < high
    assert estimate.n == 200


def test_equal_verdicts_agree_fully():
    verdicts = list(VERDICTS) * 3
    estimate = agreement(pairs(verdicts, verdicts))
    assert estimate.value == 1
    assert equal_share(pairs(verdicts, verdicts)).value == 1


def test_one_verdict_alone_has_no_kappa():
    estimate = agreement(pairs(["partly"] * 5, ["partly"] * 5))
    assert math.isnan(estimate.value)
    assert estimate.interval is None


def test_nothing_has_no_agreement():
    empty = pairs([], [])
    assert math.isnan(agreement(empty).value)
    assert math.isnan(equal_share(empty).value)
    assert equal_share(empty).n == 0


def test_one_patient_gives_no_interval():
    estimate = equal_share(pairs(VERDICTS, VERDICTS[::-1], [0, 0, 0, 0]))
    assert estimate.interval is None


def test_an_interval_is_wider_when_patients_have_several_images():
    rng = np.random.default_rng(0)
    patient_of = np.repeat(np.arange(20), 10)
    accepted = rng.random(20)[patient_of] < 0.5
    verdicts = np.where(accepted, "on lesion", "artefact").astype(object)
    clustered = accepted_share(verdicts, patient_of)
    single = accepted_share(verdicts, np.arange(200))
    assert clustered.value == single.value
    assert np.ptp(clustered.interval) > 2 * np.ptp(single.interval)


@given(st.lists(st.tuples(st.sampled_from(VERDICTS), st.sampled_from(VERDICTS)), min_size=2))
def test_kappa_is_that_of_scikit_learn(verdicts):
    first, second = zip(*verdicts, strict=True)
    value = agreement(pairs(first, second, [0] * len(first))).value
    expected = cohen_kappa_score(first, second) if len({*first, *second}) > 1 else math.nan
    assert value == pytest.approx(expected, nan_ok=True)


def test_each_pair_of_readers_is_compared_on_the_maps_that_both_have():
    compared = pairs_of_readers(
        readers=["b", "a", "c", "a", "b"],
        maps=["1", "1", "1", "2", "3"],
        verdicts=["partly", "artefact", "on lesion", "partly", "partly"],
        patients=[7, 7, 7, 8, 9],
    )
    assert list(zip(compared.first, compared.second, strict=True)) == [
        ("artefact", "partly"),
        ("artefact", "on lesion"),
        ("partly", "on lesion"),
    ]
    assert compared.patients.tolist() == [7, 7, 7]


def test_two_verdicts_of_a_reader_on_a_map_are_refused():
    with pytest.raises(ValueError, match="one verdict of a on 1"):
        pairs_of_readers(["a", "a"], ["1", "1"], ["partly", "partly"], [0, 0])
