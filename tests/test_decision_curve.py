import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from cadlib.metrics.decision_curve import THRESHOLDS, decision_curve, net_benefit
from cadlib.metrics.predictive_values import at_prevalence


@pytest.fixture(scope="module")
def images():
    """Return scores and truth of 300 images, the scores calibrated."""
    rng = np.random.default_rng(0)
    scores = rng.beta(1, 2, 300)
    return scores, rng.random(300) < scores


def by_table(scores, truth, threshold):
    """The formula of Vickers and Elkin, of a confusion matrix by scikit-learn."""
    (_, needless), (_, found) = confusion_matrix(truth, scores >= threshold, labels=[False, True])
    return found / len(truth) - needless / len(truth) * threshold / (1 - threshold)


def test_net_benefit_is_that_of_the_table_at_each_threshold(images):
    found = net_benefit(*images, THRESHOLDS)
    assert found == pytest.approx([by_table(*images, threshold) for threshold in THRESHOLDS])


def test_a_score_at_the_threshold_is_referred():
    scores, truth = np.array([0.5, 0.2]), np.array([True, False])
    assert net_benefit(scores, truth, np.array([0.5, 0.51])).tolist() == [0.5, 0.0]


def test_referring_everybody_costs_what_the_benign_are_worth(images):
    curve = decision_curve(*images, np.arange(300), draws=50)
    share, odds = images[1].mean(), THRESHOLDS / (1 - THRESHOLDS)
    assert curve.refer_all == pytest.approx(share - (1 - share) * odds)
    assert curve.prevalence == share


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
)
def test_nobody_gains_more_than_finding_every_malignant_lesion(rows, prevalence):
    scores, truth = np.array([score for score, _ in rows]), np.array([one for _, one in rows])
    if truth.any() and not truth.all():
        assert (net_benefit(scores, truth, THRESHOLDS, prevalence) <= prevalence + 1e-12).all()


def test_a_draw_counts_its_images_as_often_as_it_drew_them(images):
    scores, truth = images
    weights = np.random.default_rng(1).integers(0, 3, (2, 300)).astype(np.float64)
    drawn = net_benefit(scores, truth, THRESHOLDS, weights=weights)
    for row, counts in zip(drawn, weights.astype(int), strict=True):
        assert row == pytest.approx(
            net_benefit(scores.repeat(counts), truth.repeat(counts), THRESHOLDS)
        )


def test_the_interval_holds_the_curve_and_is_wider_where_images_are_of_one_lesion(images):
    curve = decision_curve(*images, np.arange(300), draws=300)
    assert ((curve.low <= curve.model) & (curve.model <= curve.high)).all()
    again = decision_curve(
        *(values.repeat(4) for values in images), np.arange(300).repeat(4), draws=300
    )
    alone = decision_curve(*(values.repeat(4) for values in images), np.arange(1200), draws=300)
    wide, narrow = again.high - again.low, alone.high - alone.low
    assert np.median(wide[narrow > 0] / narrow[narrow > 0]) > 1.6


def test_another_prevalence_moves_the_probabilities_and_the_shares_together(images):
    scores, truth = images
    curve = decision_curve(scores, truth, np.arange(300), prevalence=0.05, draws=20)
    moved = np.array([at_prevalence(score, truth.mean(), 0.05) for score in scores])
    found, needless = (
        np.array([(moved[part] >= threshold).mean() for threshold in THRESHOLDS])
        for part in (truth, ~truth)
    )
    expected = 0.05 * found - 0.95 * needless * THRESHOLDS / (1 - THRESHOLDS)
    assert curve.model == pytest.approx(expected)
    assert curve.refer_all[4] == pytest.approx(
        0
    )  # at a threshold as high as the prevalence, everybody is worth nobody


@pytest.mark.parametrize(
    ("truth", "prevalence"),
    [([True, True], None), ([False, False], None), ([True, False], 0.0), ([True, False], 1.0)],
)
def test_refuses_data_without_a_decision_curve(truth, prevalence):
    with pytest.raises(ValueError, match="Expected"):
        decision_curve(np.array([0.2, 0.7]), np.array(truth), np.arange(2), prevalence)
