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


def test_a_model_compared_with_itself_has_no_difference(labels):
    first_model = answers(labels, 1.0)
    comparison = compare(labels, first_model, first_model, np.arange(400), draws=100)
    for part in comparison.metrics.values():
        assert part.difference == 0
        assert part.better is None
    for test in comparison.tests.values():
        assert test.only_first == test.only_second == 0
        assert test.exact == 1


def test_a_better_model_is_better_by_every_metric_in_both_orders(labels):
    worse = answers(labels, 1.0)
    better = answers(labels, 3.0, seed=2)
    comparison = compare(labels, worse, better, np.arange(400), draws=200)
    reversed_comparison = compare(labels, better, worse, np.arange(400), draws=200)
    for name in ("balanced_accuracy", "malignant_auc", "melanoma_auc", "brier", "specificity"):
        assert (comparison.metrics[name].better, reversed_comparison.metrics[name].better) == (
            "second",
            "first",
        )
        assert comparison.metrics[name].difference == pytest.approx(
            -reversed_comparison.metrics[name].difference
        )
    assert comparison.metrics["brier"].difference < 0
    assert comparison.tests["right"].exact < 1e-6


def test_the_metrics_are_those_of_scikit_learn(labels):
    first_model = answers(labels, 1.0)
    second_model = answers(labels, 2.0, seed=2)
    metrics = compare(labels, first_model, second_model, np.arange(400), draws=20).metrics
    assert metrics["melanoma_auc"].first == pytest.approx(
        roc_auc_score(labels == 0, first_model.probabilities[:, 0])
    )
    assert metrics["brier"].second == pytest.approx(
        brier_score_loss(labels, second_model.probabilities, scale_by_half=False)
    )
    truth = classification.malignant_truth(labels)
    referred = classification.malignant_probability(second_model.probabilities) >= 0.3
    assert metrics["sensitivity"].second == pytest.approx(referred[truth].mean())
    assert metrics["specificity"].second == pytest.approx((~referred[~truth]).mean())
    assert (
        melanoma_auc(labels, first_model.probabilities)
        == classification.class_auc(labels, first_model.probabilities)[CODES.index("MEL")]
    )


def test_each_model_refers_at_its_own_threshold(labels):
    first_model = answers(labels, 1.0, threshold=0.3)
    never = Answers(first_model.probabilities, 1.0)
    comparison = compare(labels, first_model, never, np.arange(400), draws=20)
    assert comparison.metrics["sensitivity"].second == 0
    assert comparison.metrics["specificity"].second == 1
    assert comparison.tests["malignant referred"].only_second == 0
    assert comparison.tests["benign not referred"].only_first == 0
    assert (
        comparison.tests["malignant referred"].n + comparison.tests["benign not referred"].n
        == comparison.n
        == 400
    )


def test_the_interval_is_paired(labels):
    """Two models that share their noise differ by less than the metric of either is sure."""
    first_model = answers(labels, 1.0)
    second_model = Answers(0.95 * first_model.probabilities + 0.05 * np.eye(8)[labels], 0.3)
    independent = answers(labels, 1.0, seed=3)
    lesions = np.arange(400)
    paired = compare(labels, first_model, second_model, lesions, draws=300).metrics[
        "balanced_accuracy"
    ]
    unpaired = compare(labels, first_model, independent, lesions, draws=300).metrics[
        "balanced_accuracy"
    ]
    assert np.ptp(paired.interval) < 0.6 * np.ptp(unpaired.interval)


def test_images_of_one_lesion_make_the_interval_wider(labels):
    model_a = answers(labels[:100], 1.0)
    model_b = answers(labels[:100], 2.0, seed=2)
    four = [Answers(np.repeat(model.probabilities, 4, axis=0), 0.3) for model in (model_a, model_b)]
    grouped = compare(np.repeat(labels[:100], 4), *four, np.repeat(np.arange(100), 4), draws=300)
    alone = compare(np.repeat(labels[:100], 4), *four, np.arange(400), draws=300)
    for name in ("malignant_auc", "brier"):
        assert np.ptp(grouped.metrics[name].interval) > 1.5 * np.ptp(alone.metrics[name].interval)
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
    first = np.repeat([True, False], [1, 7])
    second = np.repeat([False, True], [1, 7])
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
    sums = np.array(sums)
    larger = np.mean(sums > reached)
    equal = np.mean(sums == reached)
    assert outcome.exact == pytest.approx(larger + equal)
    assert outcome.mid_p == pytest.approx(larger + equal / 2)


def test_undefined_metrics_are_none_in_json():
    labels = np.zeros(12, int)  # melanomas alone
    model = answers(labels, 1.0)
    comparison = compare(labels, model, model, np.arange(12), draws=50)
    parsed = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
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
