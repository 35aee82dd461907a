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
    matrix = confusion_matrix(truth, scores >= threshold, labels=[False, True])
    false_positives = matrix[0, 1] / len(truth)
    true_positives = matrix[1, 1] / len(truth)
    return true_positives - false_positives * threshold / (1 - threshold)


def test_net_benefit_is_that_of_the_table_at_each_threshold(images):
    curve = net_benefit(*images, THRESHOLDS)
    assert curve == pytest.approx([by_table(*images, threshold) for threshold in THRESHOLDS])


def test_a_score_at_the_threshold_is_referred():
    scores = np.array([0.5, 0.2])
    truth = np.array([True, False])
    assert net_benefit(scores, truth, np.array([0.5, 0.51])).tolist() == [0.5, 0.0]


def test_referring_everybody_costs_what_the_benign_are_worth(images):
    curve = decision_curve(*images, np.arange(300), draws=50)
    share = images[1].mean()
    odds = THRESHOLDS / (1 - THRESHOLDS)
    assert curve.refer_all == pytest.approx(share - (1 - share) * odds)
    assert curve.prevalence == share


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
)
def test_the_net_benefit_is_at_most_that_of_finding_every_malignant_lesion(rows, prevalence):
    scores = np.array([score for score, _ in rows])
    truth = np.array([is_malignant for _, is_malignant in rows])
    if truth.any() and not truth.all():
        assert (net_benefit(scores, truth, THRESHOLDS, prevalence) <= prevalence + 1e-12).all()


def test_a_bootstrap_draw_counts_an_image_by_its_weight(images):
    scores, truth = images
    weights = np.random.default_rng(1).integers(0, 3, (2, 300)).astype(np.float64)
    resampled = net_benefit(scores, truth, THRESHOLDS, weights=weights)
    for row, counts in zip(resampled, weights.astype(int), strict=True):
        assert row == pytest.approx(
            net_benefit(scores.repeat(counts), truth.repeat(counts), THRESHOLDS)
        )


def test_the_interval_holds_the_curve_and_is_wider_where_images_are_of_one_lesion(images):
    curve = decision_curve(*images, np.arange(300), draws=300)
    assert ((curve.low <= curve.model) & (curve.model <= curve.high)).all()
    copies = [values.repeat(4) for values in images]
    grouped = decision_curve(*copies, np.arange(300).repeat(4), draws=300)
    ungrouped = decision_curve(*copies, np.arange(1200), draws=300)
    wide = grouped.high - grouped.low
    narrow = ungrouped.high - ungrouped.low
    assert np.median(wide[narrow > 0] / narrow[narrow > 0]) > 1.6


def test_another_prevalence_moves_the_probabilities_and_the_shares_together(images):
    scores, truth = images
    curve = decision_curve(scores, truth, np.arange(300), prevalence=0.05, draws=20)
    moved = np.array([at_prevalence(score, truth.mean(), 0.05) for score in scores])
    referred = np.array([(moved[truth] >= threshold).mean() for threshold in THRESHOLDS])
    needless = np.array([(moved[~truth] >= threshold).mean() for threshold in THRESHOLDS])
    expected = 0.05 * referred - 0.95 * needless * THRESHOLDS / (1 - THRESHOLDS)
    assert curve.model == pytest.approx(expected)
    # At a threshold as high as the prevalence, referring everybody has no net benefit.
    assert curve.refer_all[4] == pytest.approx(0)


@pytest.mark.parametrize(
    ("truth", "prevalence"),
    [([True, True], None), ([False, False], None), ([True, False], 0.0), ([True, False], 1.0)],
)
def test_refuses_data_without_a_decision_curve(truth, prevalence):
    with pytest.raises(ValueError, match="Expected"):
        decision_curve(np.array([0.2, 0.7]), np.array(truth), np.arange(2), prevalence)
