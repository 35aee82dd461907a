"""How well the spread of the networks predicts errors: values by hand, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cadlib.metrics.network_spread import (
    COVERAGES,
    disagreement,
    malignant_range,
    measure_spread,
    mutual_information,
    risk_at_coverages,
    risk_coverage_area,
)
from cadlib.metrics.network_spread_table import (
    NOT_MEASURED,
    borderline_text,
    spread_rows,
    spread_table,
)
from cadlib.metrics.partial_labels import NO_DIAGNOSIS, PartialLabels
from cadlib.metrics.summary_schema import NetworkSpread
from cadlib.taxonomy import CODES

MEL = CODES.index("MEL")
NV = CODES.index("NV")


def mel_or_nv(melanoma) -> np.ndarray:
    """Return probabilities, (…, 8), of melanoma, and of nevus for the rest."""
    melanoma = np.asarray(melanoma, np.float64)
    probabilities = np.zeros((*melanoma.shape, len(CODES)))
    probabilities[..., MEL] = melanoma
    probabilities[..., NV] = 1 - melanoma
    return probabilities


# measures of spread


def test_the_range_is_from_the_lowest_to_the_highest_malignant_probability():
    members = mel_or_nv([[0.2, 0.6, 0.3], [0.5, 0.5, 0.5]])
    # Another malignant diagnosis counts as well.
    members[0, 0, CODES.index("BCC")] = 0.1
    members[0, 0, NV] = 0.7
    np.testing.assert_allclose(malignant_range(members), [0.3, 0.0], atol=1e-15)


def test_mutual_information_by_hand():
    members = mel_or_nv([[1.0, 0.0], [0.9, 0.5], [0.3, 0.3]])
    # The mean of 0.9 and 0.5 is 0.7.
    first = 0.9 * np.log(0.9 / 0.7) + 0.1 * np.log(0.1 / 0.3)
    second = 0.5 * np.log(0.5 / 0.7) + 0.5 * np.log(0.5 / 0.3)
    expected = [np.log(2), (first + second) / 2, 0]
    np.testing.assert_allclose(mutual_information(members), expected, atol=1e-15)


def test_mutual_information_is_entropy_of_the_mean_minus_mean_entropy():
    rng = np.random.default_rng(0)
    members = rng.dirichlet(np.ones(8), (20, 5))

    def entropy(shares):
        return -(shares * np.log(shares)).sum(axis=-1)

    expected = entropy(members.mean(axis=1)) - entropy(members).mean(axis=1)
    np.testing.assert_allclose(mutual_information(members), expected, atol=1e-12)


def test_networks_disagree_where_one_refers_and_another_does_not():
    members = mel_or_nv([[0.1, 0.2], [0.1, 0.4], [0.4, 0.6], [0.3, 0.5]])
    # A probability at the threshold is referred.
    assert disagreement(members, 0.4).tolist() == [False, True, False, True]


# risk and coverage


@pytest.mark.parametrize(
    ("uncertainty", "wrong", "expected"),
    [
        # The rates are 0, 1/2 and 1/3.
        ([0.1, 0.2, 0.3], [False, True, False], 5 / 18),
        # Of the two orders of equal images, one gives 5/18 and one 1/9.
        ([0.1, 0.2, 0.2], [False, True, False], 7 / 36),
        ([0.1, 0.2, 0.3], [True, True, True], 1),
        ([0.1, 0.2, 0.3], [False, False, False], 0),
        # The rates are 1, 1/2 and 1/3: the worst order.
        ([0.1, 0.2, 0.3], [True, False, False], 11 / 18),
    ],
)
def test_the_area_under_the_risk_coverage_curve_by_hand(uncertainty, wrong, expected):
    area = risk_coverage_area(np.array(uncertainty), np.array(wrong))
    assert float(area) == pytest.approx(expected, abs=1e-12)


def test_the_area_is_the_mean_error_rate_over_all_coverages():
    rng = np.random.default_rng(1)
    uncertainty = rng.random(200)
    wrong = rng.random(200) < uncertainty
    errors = np.cumsum(wrong[np.argsort(uncertainty)])
    expected = (errors / np.arange(1, 201)).mean()
    assert float(risk_coverage_area(uncertainty, wrong)) == pytest.approx(expected, abs=1e-12)


def test_a_weight_of_two_is_an_image_twice():
    uncertainty = np.array([0.3, 0.1, 0.2, 0.4])
    wrong = np.array([False, True, False, True])
    times = np.array([2, 0, 3, 1])
    weighted = risk_coverage_area(uncertainty, wrong, times.astype(np.float64))
    repeated = risk_coverage_area(np.repeat(uncertainty, times), np.repeat(wrong, times))
    assert float(weighted) == pytest.approx(float(repeated), abs=1e-12)
    curve = risk_at_coverages(uncertainty, wrong, times.astype(np.float64))
    expected = risk_at_coverages(np.repeat(uncertainty, times), np.repeat(wrong, times))
    np.testing.assert_allclose(curve, expected, atol=1e-12)


def test_the_error_rate_at_each_coverage_by_hand():
    # Only the four most uncertain of twenty images are wrong.
    uncertainty = np.arange(20) / 20
    wrong = uncertainty >= 0.8
    risks = dict(zip(COVERAGES, risk_at_coverages(uncertainty, wrong), strict=True))
    assert risks[1.0] == pytest.approx(4 / 20)
    assert risks[0.9] == pytest.approx(2 / 18)
    assert risks[0.8] == pytest.approx(0)
    assert risks[0.05] == pytest.approx(0)


def test_equally_uncertain_images_have_one_error_rate():
    risks = risk_at_coverages(np.zeros(8), np.arange(8) < 2)
    np.testing.assert_allclose(risks, 0.25)


def test_nothing_is_defined_without_a_draw_of_an_image():
    weights = np.zeros((2, 3))
    wrong = np.array([True, False, False])
    assert np.isnan(risk_coverage_area(np.arange(3.0), wrong, weights)).all()
    assert np.isnan(risk_at_coverages(np.arange(3.0), wrong, weights)).all()


# all metrics


@pytest.fixture
def sample():
    """Return labels, probabilities, those of three networks, and lesions of 300 images."""
    rng = np.random.default_rng(2)
    melanoma = rng.random(300)
    is_melanoma = rng.random(300) < melanoma
    labels = PartialLabels.of(np.where(is_melanoma, MEL, NV))
    shifts = rng.normal(0, 0.1, (300, 3))
    members = mel_or_nv(np.clip(melanoma[:, None] + shifts, 0, 1))
    return labels, members.mean(axis=1), members, np.arange(300) // 2


def test_the_areas_are_those_of_scikit_learn(sample):
    labels, probabilities, members, groups = sample
    measured = measure_spread(labels, probabilities, members, 0.3, groups, draws=100)
    malignant = probabilities[:, MEL]
    wrong = (malignant >= 0.3) != labels.malignant
    by_range = roc_auc_score(wrong, np.ptp(members[:, :, MEL], axis=1))
    by_distance = roc_auc_score(wrong, -np.abs(malignant - 0.3))
    assert measured.decision_auroc.spread == pytest.approx(by_range, abs=1e-12)
    assert measured.decision_auroc.peer == pytest.approx(by_distance, abs=1e-12)
    assert measured.decision_auroc.difference == pytest.approx(by_range - by_distance)
    wrong_diagnosis = probabilities.argmax(axis=1) != labels.codes
    by_information = roc_auc_score(wrong_diagnosis, mutual_information(members))
    by_probability = roc_auc_score(wrong_diagnosis, 1 - probabilities.max(axis=1))
    assert measured.diagnosis_auroc.spread == pytest.approx(by_information, abs=1e-12)
    assert measured.diagnosis_auroc.peer == pytest.approx(by_probability, abs=1e-12)
    for pair in (measured.decision_auroc, measured.diagnosis_auroc, measured.aurc):
        low, high = pair.intervals.difference
        assert low < pair.difference < high
    assert measured.n_lesions == 150
    assert measured.risk_coverage.spread["1.00"] == pytest.approx(wrong_diagnosis.mean())
    assert measured.risk_coverage.peer["1.00"] == pytest.approx(wrong_diagnosis.mean())


def small_sample(codes, malignant):
    melanoma = [0.1, 0.35, 0.45, 0.9]
    members = mel_or_nv([[0.1, 0.1], [0.2, 0.5], [0.3, 0.6], [0.9, 0.9]])
    labels = PartialLabels(np.array(codes), np.array(malignant))
    return measure_spread(labels, mel_or_nv(melanoma), members, 0.4, np.arange(4), draws=50)


def test_borderline_results_by_hand():
    measured = small_sample([NV, MEL, MEL, MEL], [False, True, True, True])
    # The second and the third are borderline, and the second is missed.
    borderline = measured.borderline
    assert (borderline.n, borderline.share) == (2, 0.5)
    assert (borderline.error_rate, borderline.error_rate_of_others) == (0.5, 0.0)
    assert measured.wrong_decisions == 1
    # The third is referred, but its top diagnosis is a nevus.
    assert measured.wrong_diagnoses == 2


def test_an_image_without_a_diagnosis_counts_for_the_decision_alone():
    measured = small_sample([NV, NO_DIAGNOSIS, MEL, NV], [False, True, True, False])
    assert (measured.n, measured.n_diagnosed) == (4, 3)
    assert (measured.wrong_decisions, measured.wrong_diagnoses) == (2, 2)
    assert measured.risk_coverage.peer["1.00"] == pytest.approx(2 / 3)


def test_without_an_error_no_area_is_defined_and_the_table_says_so():
    measured = small_sample([NV, NV, MEL, MEL], [False, False, True, True])
    assert measured.wrong_decisions == 0
    assert measured.decision_auroc.spread is None
    assert measured.aurc.spread is not None
    rows = spread_rows(measured)
    assert rows[1][1:] == ("not defined", "not defined", "not defined")


def test_each_row_of_the_table_shows_spread_then_peer_then_difference(sample):
    measured = measure_spread(*sample[:3], 0.3, sample[3], draws=50)
    _, decision, _, area, _, by_90, *_ = spread_rows(measured)
    rows = {decision: measured.decision_auroc, area: measured.aurc}
    for row, pair in rows.items():
        shown = [text.split()[0] for text in row[1:]]
        assert shown == [f"{pair.spread:.3f}", f"{pair.peer:.3f}", f"{pair.difference:+.3f}"]
        assert shown[0] != shown[1]
    shown = [text.split()[0] for text in by_90[1:3]]
    curve = measured.risk_coverage
    assert shown == [f"{curve.spread['0.90']:.3f}", f"{curve.peer['0.90']:.3f}"]
    assert shown[0] != shown[1]


def test_the_table_shows_the_metrics_and_the_images_left_out():
    measured = small_sample([NV, MEL, MEL, NV], [False, True, True, False])
    text = spread_table(NetworkSpread(networks=2, trained_on=7, unseen=measured))
    assert text.startswith(
        "spread of the 2 networks on 4 images of 4 lesions that no network was trained on "
        "(7 other images left out)"
    )
    assert "AUROC, wrong decision (2 of 4)" in text
    assert borderline_text(measured) in text
    nothing = NetworkSpread(networks=2, trained_on=7, unseen=None)
    assert spread_table(nothing) == NOT_MEASURED
