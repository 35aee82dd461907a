import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar as reference

from cadlib.metrics import classification
from cadlib.metrics.model_comparison import Answers, Difference, compare, mcnemar, melanoma_auc
from cadlib.taxonomy import CODES


def answers(labels, sureness, seed=0, threshold=0.3):
    """Return a model that is the better the surer it is."""
    odds = np.exp(
        np.random.default_rng(seed).normal(0, 1, (len(labels), 8)) + sureness * np.eye(8)[labels]
    )
    return Answers(odds / odds.sum(axis=1, keepdims=True), threshold)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(0, 8, 400)


def test_a_model_compared_with_itself_differs_in_nothing(labels):
    one = answers(labels, 1.0)
    comparison = compare(labels, one, one, np.arange(400), draws=100)
    assert all(part.difference == 0 and part.better is None for part in comparison.figures.values())
    assert all(
        test.exact == test.only_first + test.only_second + 1 == 1
        for test in comparison.tests.values()
    )


def test_a_better_model_is_called_better_by_every_figure_and_the_other_way_round(labels):
    worse, better = answers(labels, 1.0), answers(labels, 3.0, seed=2)
    comparison = compare(labels, worse, better, np.arange(400), draws=200)
    back = compare(labels, better, worse, np.arange(400), draws=200)
    for name in ("balanced_accuracy", "malignant_auc", "melanoma_auc", "brier", "specificity"):
        assert (comparison.figures[name].better, back.figures[name].better) == ("second", "first")
        assert comparison.figures[name].difference == pytest.approx(-back.figures[name].difference)
    assert comparison.figures["brier"].difference < 0
    assert comparison.tests["right"].exact < 1e-6


def test_the_figures_are_those_of_scikit_learn(labels):
    one, other = answers(labels, 1.0), answers(labels, 2.0, seed=2)
    found = compare(labels, one, other, np.arange(400), draws=20).figures
    assert found["melanoma_auc"].first == pytest.approx(
        roc_auc_score(labels == 0, one.probabilities[:, 0])
    )
    assert found["brier"].second == pytest.approx(
        brier_score_loss(labels, other.probabilities, scale_by_half=False)
    )
    truth = classification.malignant_truth(labels)
    referred = classification.malignant_probability(other.probabilities) >= 0.3
    assert found["sensitivity"].second == pytest.approx(referred[truth].mean())
    assert found["specificity"].second == pytest.approx((~referred[~truth]).mean())
    assert (
        melanoma_auc(labels, one.probabilities)
        == classification.class_auc(labels, one.probabilities)[CODES.index("MEL")]
    )


def test_each_model_refers_at_its_own_threshold(labels):
    one = answers(labels, 1.0, threshold=0.3)
    never = Answers(one.probabilities, 1.0)
    comparison = compare(labels, one, never, np.arange(400), draws=20)
    assert (comparison.figures["sensitivity"].second, comparison.figures["specificity"].second) == (
        0,
        1,
    )
    assert comparison.tests["malignant referred"].only_second == 0
    assert comparison.tests["benign not referred"].only_first == 0
    assert (
        comparison.tests["malignant referred"].n + comparison.tests["benign not referred"].n
        == comparison.n
        == 400
    )


def test_the_interval_is_paired(labels):
    """Two models that share their noise differ by less than the figure of either is sure."""
    one = answers(labels, 1.0)
    other = Answers(0.95 * one.probabilities + 0.05 * np.eye(8)[labels], 0.3)
    found = compare(labels, one, other, np.arange(400), draws=300).figures["balanced_accuracy"]
    apart = compare(labels, one, answers(labels, 1.0, seed=3), np.arange(400), draws=300).figures[
        "balanced_accuracy"
    ]
    assert np.ptp(found.interval) < 0.6 * np.ptp(apart.interval)


def test_images_of_one_lesion_make_the_interval_wider(labels):
    one, other = answers(labels[:100], 1.0), answers(labels[:100], 2.0, seed=2)
    four = [Answers(np.repeat(model.probabilities, 4, axis=0), 0.3) for model in (one, other)]
    grouped = compare(np.repeat(labels[:100], 4), *four, np.repeat(np.arange(100), 4), draws=300)
    alone = compare(np.repeat(labels[:100], 4), *four, np.arange(400), draws=300)
    for name in ("malignant_auc", "brier"):
        assert np.ptp(grouped.figures[name].interval) > 1.5 * np.ptp(alone.figures[name].interval)
    assert grouped.tests["right"].exact > alone.tests["right"].exact


@pytest.mark.parametrize(
    ("only_first", "only_second", "both"), [(3, 12, 20), (0, 5, 1), (7, 7, 3), (0, 0, 9), (1, 0, 0)]
)
def test_with_an_image_a_lesion_the_test_is_mcnemars(only_first, only_second, both):
    first = np.repeat([True, False, True], [only_first, only_second, both])
    second = np.repeat([False, True, True], [only_first, only_second, both])
    outcome = mcnemar(first, second, np.arange(len(first)), np.ones(len(first), bool))
    assert (outcome.n, outcome.only_first, outcome.only_second) == (
        len(first),
        only_first,
        only_second,
    )
    expected = reference([[both, only_first], [only_second, 0]], exact=True).pvalue
    assert outcome.exact == pytest.approx(expected)


def test_the_mid_p_value_is_that_of_the_literature():
    """Fagerland et al. 2013, table 1 as they discuss it: 1 against 7 discordant pairs, exact 0.0703, mid-p 0.0391."""
    first, second = np.repeat([True, False], [1, 7]), np.repeat([False, True], [1, 7])
    outcome = mcnemar(first, second, np.arange(8), np.ones(8, bool))
    assert (round(outcome.exact, 4), round(outcome.mid_p, 4)) == (0.0703, 0.0391)


def test_the_test_by_lesion_equals_enumerating_all_signs():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(9), [1, 2, 3, 1, 4, 2, 1, 3, 2])
    first, second = rng.random((2, len(groups))) < [[0.4], [0.7]]
    balances = np.bincount(groups, second.astype(int) - first)
    sums = [abs(np.dot(signs, balances)) for signs in itertools.product((-1, 1), repeat=9)]
    outcome = mcnemar(first, second, groups, np.ones(len(groups), bool))
    reached = abs(balances.sum())
    assert outcome.exact == pytest.approx(np.mean([one >= reached for one in sums]))
    assert outcome.mid_p == pytest.approx(
        np.mean([(one > reached) + (one == reached) / 2 for one in sums])
    )


def test_undefined_metrics_are_none_in_json():
    labels = np.zeros(12, int)  # melanomas alone
    one = answers(labels, 1.0)
    parsed = json.loads(
        json.dumps(compare(labels, one, one, np.arange(12), draws=50).to_json(), allow_nan=False)
    )
    assert parsed["figures"]["malignant_auc"]["first"] is None
    assert parsed["figures"]["specificity"]["interval"] is None
    assert parsed["tests"]["benign not referred"] == {
        "n": 0,
        "only_first": 0,
        "only_second": 0,
        "exact": 1,
        "mid_p": 1,
    }


def test_a_difference_that_chance_can_have_made_is_for_neither():
    assert Difference(0.5, 0.6, 0.1, (-0.01, 0.2)).better is None
    assert Difference(0.5, 0.6, 0.1, None).better is None
