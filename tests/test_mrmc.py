"""The comparison of modalities agrees with published results and with a plain implementation."""

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from cadlib.errors import StudyInvalid
from cadlib.metrics.mrmc import compare_modalities
from cadlib.metrics.mrmc_covariances import delong_covariances, jackknife_covariances
from cadlib.metrics.study_readings import StudyReadings

VAN_DYKE = Path(__file__).parent / "data" / "van_dyke.csv"


def long_form(scores, malignant, modalities=None, readers=None, cases=None):
    """Return the readings of (T, R, C) scores."""
    n_modalities, n_readers, n_cases = scores.shape
    modalities = modalities or [f"M{place}" for place in range(n_modalities)]
    readers = readers or [f"R{place}" for place in range(n_readers)]
    cases = cases or [f"C{place}" for place in range(n_cases)]
    triples = list(itertools.product(modalities, readers, cases))
    return StudyReadings(
        reader=[reader for _, reader, _ in triples],
        case=[case for _, _, case in triples],
        modality=[modality for modality, _, _ in triples],
        malignant=np.tile(malignant, n_modalities * n_readers),
        score=scores.ravel(),
    )


def van_dyke(as_decisions=False):
    with VAN_DYKE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    malignant = np.array([row["malignant"] == "1" for row in rows])
    scores = np.empty((2, 5, len(rows)))
    for modality, reader in itertools.product(range(2), range(5)):
        column = f"reader{reader + 1}_modality{modality + 1}"
        scores[modality, reader] = [float(row[column]) for row in rows]
    if as_decisions:
        scores = (scores >= 3).astype(float)
    return long_form(scores, malignant, ["1", "2"], list("12345"))


def random_study(seed, n_modalities=2, n_readers=4, n_cases=40, digits=1):
    """Return scores with ties that agree across readers, because cases differ in difficulty."""
    rng = np.random.default_rng(seed)
    malignant = np.arange(n_cases) < n_cases // 3
    difficulty = rng.normal(0, 1, n_cases)
    noise = rng.normal(0, 1, (n_modalities, n_readers, n_cases))
    gain = np.linspace(1, 1.6, n_modalities)[:, None, None]
    scores = gain * malignant + 0.6 * difficulty + noise
    return scores.round(digits), malignant


def close(value, digits):
    """Compare with a value that was printed with a number of digits after the point."""
    return pytest.approx(value, abs=0.500001 * 10**-digits)


# The published results: OR-DBM MRMC 2.51, file inst/IowaResults/VanDyke_trap_area_jackknife_anova.txt
# of RJafroc; and MRMCaov, docs/jss/MRMCaov.tex. Both print the first modality minus the second.


@pytest.fixture(scope="module")
def jackknife():
    return compare_modalities(van_dyke(), covariance_method="jackknife")


def test_the_areas_and_mean_squares_are_the_published_ones(jackknife):
    published = [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
    assert jackknife.values == close(np.array(published), 8)
    squares = jackknife.mean_squares
    assert squares.modality == close(0.00479617, 8)
    assert squares.reader == close(0.00383620, 8)
    assert squares.modality_reader == close(0.00055103, 8)
    assert (jackknife.n_malignant, jackknife.n_benign) == (45, 69)


def test_the_jackknife_components_are_the_published_ones(jackknife):
    components = jackknife.components
    assert components.reader == close(0.0015349993, 10)
    assert components.modality_reader == close(0.0002004025, 10)
    assert components.error == close(0.0008022883, 10)
    assert components.cov1 == close(0.0003466137, 10)
    assert components.cov2 == close(0.0003440748, 10)
    assert components.cov3 == close(0.0002390284, 10)


def test_random_readers_and_cases_have_the_published_test(jackknife):
    analysis = jackknife.random_readers_random_cases
    assert analysis.test.f == close(4.46, 2)
    assert analysis.test.df1 == 1
    assert analysis.test.df2 == close(15.26, 2)
    assert analysis.test.p_value == close(0.0517, 4)
    (difference,) = analysis.differences
    assert difference.difference == close(0.04380032, 8)
    assert difference.standard_error == close(0.02075, 5)
    assert difference.t == close(2.11, 2)
    assert (difference.low, difference.high) == (close(-0.00036, 5), close(0.08796, 5))
    first, second = analysis.means
    assert (first.mean, first.standard_error) == (close(0.89703704, 8), close(0.03317360, 8))
    assert (first.low, first.df, first.high) == (
        close(0.82522360, 8),
        close(12.74, 2),
        close(0.96885048, 8),
    )
    assert (second.low, second.df, second.high) == (
        close(0.89413783, 8),
        close(12.71, 2),
        close(0.98753689, 8),
    )


def test_fixed_readers_have_the_published_test(jackknife):
    analysis = jackknife.fixed_readers_random_cases
    assert analysis.test.f * analysis.test.df1 == close(5.475953, 6)
    assert analysis.test.p_value == close(0.01927984, 8)
    assert math.isinf(analysis.test.df2)
    (difference,) = analysis.differences
    assert difference.standard_error == close(0.01871748, 8)
    assert (difference.low, difference.high) == (close(0.00711473, 8), close(0.08048591, 8))
    first, second = analysis.means
    assert (first.low, first.high) == (close(0.84943008, 8), close(0.94464399, 8))
    assert (second.low, second.high) == (close(0.90795637, 8), close(0.97371835, 8))


def test_fixed_cases_have_the_published_test(jackknife):
    analysis = jackknife.random_readers_fixed_cases
    assert analysis.test.f == close(8.704, 3)
    assert (analysis.test.df1, analysis.test.df2) == (1, 4)
    assert analysis.test.p_value == close(0.04195875, 8)
    (difference,) = analysis.differences
    assert difference.standard_error == close(0.01484629, 8)
    assert (difference.low, difference.high) == (close(0.00258042, 8), close(0.08502022, 8))
    first, second = analysis.means
    assert (first.low, first.df, first.high) == (close(0.82809808, 8), 4, close(0.96597599, 8))
    assert (second.low, second.high) == (close(0.89598936, 8), close(0.98568536, 8))


def test_each_reader_has_the_published_difference(jackknife):
    published = {
        "1": (0.02818035, 0.02551213, 1.1045864, 0.26933885),
        "2": (0.04653784, 0.02630183, 1.7693768, 0.07683102),
        "3": (0.01787440, 0.03120965, 0.5727202, 0.56683414),
        "4": (0.02624799, 0.01729129, 1.5179891, 0.12901715),
        "5": (0.10016103, 0.04405746, 2.2734182, 0.02300099),
    }
    assert jackknife.by_reader.keys() == published.keys()
    for reader, (difference,) in jackknife.by_reader.items():
        expected, error, z, p_value = published[reader]
        assert difference.difference == close(expected, 8)
        assert difference.standard_error == close(error, 8)
        assert difference.t == close(z, 7)
        assert difference.p_value == close(p_value, 8)


def test_delong_covariances_give_the_published_result():
    comparison = compare_modalities(van_dyke(), covariance_method="delong")
    components = comparison.components
    assert components.reader == close(0.0015364254, 10)
    assert components.modality_reader == close(0.0002045840, 10)
    assert components.error == close(0.0007921325, 10)
    assert components.cov1 == close(0.0003420090, 10)
    assert components.cov2 == close(0.0003395265, 10)
    assert components.cov3 == close(0.0002358497, 10)
    analysis = comparison.random_readers_random_cases
    assert analysis.test.f == close(4.484854, 6)
    assert analysis.test.df2 == close(15.06611, 5)
    assert analysis.test.p_value == close(0.05123303, 8)
    (difference,) = analysis.differences
    assert (difference.low, difference.high) == (close(-0.0002665519, 10), close(0.0878671960, 10))
    first, second = analysis.means
    assert (first.low, first.df, first.high) == (
        close(0.8253461, 7),
        close(12.59597, 5),
        close(0.9687280, 7),
    )
    assert (second.low, second.df, second.high) == (
        close(0.8942155, 7),
        close(12.56530, 5),
        close(0.9874592, 7),
    )


def test_sensitivity_gives_the_published_result():
    comparison = compare_modalities(van_dyke(as_decisions=True), "sensitivity")
    components = comparison.components
    assert components.reader == close(0.0049747475, 10)
    assert components.modality_reader == close(0.0007828283, 10)
    assert components.error == close(0.0023681257, 10)
    assert components.cov1 == close(0.0009943883, 10)
    assert components.cov2 == close(0.0010145903, 10)
    assert components.cov3 == close(0.0006604938, 10)
    analysis = comparison.random_readers_random_cases
    assert analysis.test.f == close(6.689493, 6)
    assert analysis.test.df2 == close(15.71732, 5)
    assert analysis.test.p_value == close(0.02008822, 8)
    (difference,) = analysis.differences
    assert (difference.low, difference.high) == (close(0.0175185, 7), close(0.1780371, 7))
    second = analysis.means[1]
    assert (second.low, second.df, second.high) == (close(0.8328691, 7), close(7.575855, 6), 1)


def leave_one_out_covariances(scores, malignant):
    """Return the jackknife covariances of the areas, from scikit-learn's areas without a case."""
    n_cases = len(malignant)
    areas = np.empty((len(scores), n_cases))
    for case in range(n_cases):
        remaining = np.arange(n_cases) != case
        for place, row in enumerate(scores):
            areas[place, case] = roc_auc_score(malignant[remaining], row[remaining])
    return np.cov(areas) * (n_cases - 1) ** 2 / n_cases


def pairwise_covariances(scores, malignant):
    """Return DeLong's covariances of the areas, from a comparison of each pair of cases."""
    of_malignant = []
    of_benign = []
    for row in scores:
        above = np.sign(row[malignant][:, None] - row[~malignant][None, :])
        wins = (1 + above) / 2
        of_malignant.append(wins.mean(axis=1))
        of_benign.append(wins.mean(axis=0))
    malignant_part = np.cov(of_malignant) / malignant.sum()
    benign_part = np.cov(of_benign) / (~malignant).sum()
    return malignant_part + benign_part


@pytest.mark.parametrize("seed", range(3))
def test_covariances_are_those_of_plain_implementations(seed):
    scores, malignant = random_study(seed, n_cases=30)
    rows = scores.reshape(8, 30)
    assert jackknife_covariances(rows, malignant) == pytest.approx(
        leave_one_out_covariances(rows, malignant)
    )
    assert delong_covariances(rows, malignant) == pytest.approx(
        pairwise_covariances(rows, malignant)
    )


def plain_p_value(scores, malignant):
    """Return the p value for random readers and cases, with loops over the printed formulas."""
    n_modalities, n_readers, n_cases = scores.shape
    rows = scores.reshape(-1, n_cases)
    covariances = pairwise_covariances(rows, malignant)
    values = np.array([roc_auc_score(malignant, row) for row in rows])
    values = values.reshape(n_modalities, n_readers)
    same = []
    different = []
    for i, j in itertools.product(range(len(rows)), repeat=2):
        modalities_differ = i // n_readers != j // n_readers
        if i % n_readers == j % n_readers:
            continue
        (different if modalities_differ else same).append(covariances[i, j])
    modality_square = n_readers * values.mean(axis=1).var(ddof=1)
    residual = values - values.mean(axis=1)[:, None] - values.mean(axis=0) + values.mean()
    df = (n_modalities - 1) * (n_readers - 1)
    residual_square = (residual**2).sum() / df
    error = residual_square + n_readers * max(np.mean(same) - np.mean(different), 0)
    df2 = df * error**2 / residual_square**2
    return stats.f.sf(modality_square / error, n_modalities - 1, df2)


@pytest.mark.parametrize("n_modalities", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_test_is_that_of_a_plain_implementation(seed, n_modalities):
    scores, malignant = random_study(seed, n_modalities)
    comparison = compare_modalities(long_form(scores, malignant))
    expected = plain_p_value(scores, malignant)
    assert comparison.random_readers_random_cases.test.p_value == pytest.approx(expected)


def test_fixed_cases_with_two_modalities_are_a_paired_t_test():
    scores, malignant = random_study(5)
    comparison = compare_modalities(long_form(scores, malignant))
    expected = stats.ttest_rel(comparison.values[1], comparison.values[0])
    (difference,) = comparison.random_readers_fixed_cases.differences
    assert difference.t == pytest.approx(expected.statistic)
    assert difference.p_value == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval()
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))


def test_one_reader_has_the_paired_test_of_delong():
    scores, malignant = random_study(3, n_readers=1)
    comparison = compare_modalities(long_form(scores, malignant))
    covariances = pairwise_covariances(scores[:, 0], malignant)
    areas = [roc_auc_score(malignant, row) for row in scores[:, 0]]
    variance = covariances[0, 0] + covariances[1, 1] - 2 * covariances[0, 1]
    z = (areas[1] - areas[0]) / math.sqrt(variance)
    analysis = comparison.fixed_readers_random_cases
    (difference,) = analysis.differences
    assert difference.t == pytest.approx(z)
    assert difference.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert analysis.test.p_value == pytest.approx(difference.p_value)
    assert comparison.by_reader == {"R0": analysis.differences}


def test_one_reader_has_no_variance_between_readers():
    scores, malignant = random_study(3, n_readers=1)
    comparison = compare_modalities(long_form(scores, malignant))
    assert math.isnan(comparison.components.reader)
    assert math.isnan(comparison.components.cov2)
    for analysis in (comparison.random_readers_random_cases, comparison.random_readers_fixed_cases):
        assert math.isnan(analysis.test.p_value)
        assert math.isnan(analysis.differences[0].low)
        assert math.isnan(analysis.means[0].high)


@given(seed=st.integers(0, 10_000), slope=st.floats(0.1, 5))
@settings(max_examples=15, deadline=None)
def test_a_monotone_transform_changes_nothing(seed, slope):
    scores, malignant = random_study(seed, n_readers=3, n_cases=18)
    plain = compare_modalities(long_form(scores, malignant))
    # Each reader uses a scale of their own.
    transformed = scores.copy()
    transformed[:, 0] = np.exp(slope * scores[:, 0])
    transformed[:, 1] = scores[:, 1] ** 3
    changed = compare_modalities(long_form(transformed, malignant))
    assert changed.components == plain.components
    assert changed.random_readers_random_cases == plain.random_readers_random_cases
    assert changed.fixed_readers_random_cases == plain.fixed_readers_random_cases


@given(seed=st.integers(0, 10_000), order=st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_the_order_of_readers_and_cases_does_not_matter(seed, order):
    scores, malignant = random_study(seed, n_readers=3, n_cases=18)
    plain = compare_modalities(long_form(scores, malignant))
    readers = list(range(3))
    cases = list(range(18))
    order.shuffle(readers)
    order.shuffle(cases)
    shuffled_scores = scores[:, readers][:, :, cases]
    shuffled = compare_modalities(
        long_form(
            shuffled_scores,
            malignant[cases],
            readers=[f"R{place}" for place in readers],
            cases=[f"C{place}" for place in cases],
        )
    )
    expected = plain.random_readers_random_cases
    analysis = shuffled.random_readers_random_cases
    assert analysis.test.f == pytest.approx(expected.test.f)
    assert analysis.test.p_value == pytest.approx(expected.test.p_value)
    assert analysis.differences[0].low == pytest.approx(expected.differences[0].low, abs=1e-12)
    for reader, (difference,) in plain.by_reader.items():
        (other,) = shuffled.by_reader[reader]
        assert other.p_value == pytest.approx(difference.p_value)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_swapped_modalities_reverse_the_difference(seed):
    scores, malignant = random_study(seed, n_readers=3, n_cases=18)
    (difference,) = compare_modalities(
        long_form(scores, malignant)
    ).random_readers_random_cases.differences
    (swapped,) = compare_modalities(
        long_form(scores[::-1], malignant)
    ).random_readers_random_cases.differences
    assert swapped.difference == pytest.approx(-difference.difference)
    assert swapped.p_value == pytest.approx(difference.p_value)
    assert (swapped.low, swapped.high) == pytest.approx((-difference.high, -difference.low))


@pytest.mark.parametrize("method", ["delong", "jackknife"])
def test_equal_modalities_have_a_p_value_of_one(method):
    scores, malignant = random_study(1)
    same = np.stack([scores[0], scores[0], scores[0]])
    comparison = compare_modalities(long_form(same, malignant), covariance_method=method)
    for analysis in (
        comparison.random_readers_random_cases,
        comparison.fixed_readers_random_cases,
        comparison.random_readers_fixed_cases,
    ):
        assert analysis.test.p_value == 1
        assert [part.p_value for part in analysis.differences] == [1, 1, 1]
        assert [part.difference for part in analysis.differences] == pytest.approx([0, 0, 0])


def test_opposite_differences_of_two_readers_have_a_p_value_of_one():
    scores, malignant = random_study(2, n_readers=1)
    crossed = np.concatenate([scores, scores[::-1]], axis=1)
    comparison = compare_modalities(long_form(crossed, malignant))
    analysis = comparison.random_readers_fixed_cases
    assert analysis.test.p_value == 1
    assert analysis.differences[0].low == pytest.approx(-analysis.differences[0].high)
    assert analysis.differences[0].high > 0


def test_a_difference_without_any_error_has_no_p_value():
    malignant = np.array([True, True, False, False])
    right = malignant.astype(float)
    scores = np.stack([[1 - right, 1 - right], [right, right]])
    comparison = compare_modalities(long_form(scores, malignant), "sensitivity")
    assert comparison.random_readers_random_cases.differences[0].difference == 1
    assert math.isnan(comparison.random_readers_random_cases.test.p_value)
    assert math.isnan(comparison.fixed_readers_random_cases.differences[0].p_value)
    assert math.isnan(comparison.random_readers_random_cases.means[0].low)


def test_without_a_malignant_case_only_specificity_is_defined():
    scores, _ = random_study(4)
    decisions = (scores > 0).astype(float)
    readings = long_form(decisions, np.zeros(40, bool))
    for metric in ("auc", "sensitivity"):
        comparison = compare_modalities(readings, metric)
        assert np.isnan(comparison.values).all()
        assert math.isnan(comparison.components.error)
        assert math.isnan(comparison.random_readers_random_cases.test.p_value)
    comparison = compare_modalities(readings, "specificity")
    assert comparison.values == pytest.approx(1 - decisions.mean(axis=2))
    assert comparison.random_readers_random_cases.test.p_value > 0


def test_one_malignant_case_has_an_area_but_no_variance():
    scores, _ = random_study(4)
    malignant = np.arange(40) == 0
    comparison = compare_modalities(long_form(scores, malignant))
    assert np.isfinite(comparison.values).all()
    assert math.isnan(comparison.components.cov1)
    assert math.isnan(comparison.fixed_readers_random_cases.test.p_value)


def without(readings, place):
    remaining = np.arange(len(readings.score)) != place
    return StudyReadings(
        reader=readings.reader[remaining],
        case=readings.case[remaining],
        modality=readings.modality[remaining],
        malignant=readings.malignant[remaining],
        score=readings.score[remaining],
    )


def test_a_missing_reading_is_named():
    scores, malignant = random_study(1)
    readings = long_form(scores, malignant)
    # The second modality, the third reader, the eighth case.
    place = 1 * 4 * 40 + 2 * 40 + 7
    with pytest.raises(StudyInvalid, match="reader R2 has no reading of case C7 in modality M1"):
        compare_modalities(without(readings, place))


def test_a_single_modality_is_refused():
    scores, malignant = random_study(1, n_modalities=1)
    with pytest.raises(StudyInvalid, match="at least 2 modalities"):
        compare_modalities(long_form(scores, malignant))


def test_scores_that_are_no_decisions_are_refused_for_sensitivity():
    with pytest.raises(StudyInvalid, match="decisions of 0 or 1"):
        compare_modalities(van_dyke(), "sensitivity")


def study(**changes):
    columns = {
        "reader": ["A", "A", "B", "B"],
        "case": ["1", "2", "1", "2"],
        "modality": ["alone"] * 4,
        "malignant": [True, False, True, False],
        "score": [3.0, 1.0, 2.0, 2.0],
    }
    return StudyReadings(**columns | changes)


def test_readings_are_read_only_copies():
    score = np.array([3.0, 1.0, 2.0, 2.0])
    readings = study(score=score, case=[1, 2, 1, 2])
    score[0] = 9
    assert readings.score[0] == 3
    assert readings.case.tolist() == ["1", "2", "1", "2"]
    with pytest.raises(ValueError, match="read-only"):
        readings.malignant[0] = False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": [1.0, 2.0]}, "`score` to have 4 values"),
        ({"score": [[1.0], [2.0], [3.0], [4.0]]}, "one value a reading"),
        ({"score": [1.0, None, 2.0, 2.0]}, "None for case 2, reader A"),
        ({"score": [1.0, math.nan, 2.0, 2.0]}, "nan for case 2, reader A"),
        ({"malignant": [True, None, True, False]}, "None for case 2, reader A"),
        ({"malignant": [1.0, math.nan, 1.0, 0.0]}, "true or false"),
        ({"malignant": [True, False, False, False]}, "case 1 has True and False"),
        ({"reader": ["A", "", "B", "B"]}, "the reader of each reading but got ''"),
        ({"case": [1.5, 2.0, 1.0, 2.0]}, "the case of each reading but got 1.5"),
        ({"case": ["1", "1", "1", "2"], "malignant": [True, True, True, False]}, "2 readings"),
    ],
)
def test_rejects_readings_that_are_no_study(changes, message):
    with pytest.raises(StudyInvalid, match=message):
        study(**changes)
