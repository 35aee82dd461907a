import itertools

import msgspec
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score
from statsmodels.stats.multitest import multipletests

from cadlib.metrics import subgroup_gaps as module
from cadlib.metrics.classification import malignant_probability, malignant_truth
from cadlib.metrics.subgroup_gaps import LEAST_LESIONS, gaps, holm


def probabilities_of(labels, sureness, seed=0):
    """Return probabilities that are the better the surer, (N,), a model is."""
    odds = np.exp(
        np.random.default_rng(seed).normal(0, 1, (len(labels), 8))
        + sureness[:, None] * np.eye(8)[labels]
    )
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(0, 8, 800)


@pytest.fixture(scope="module")
def inside():
    return np.random.default_rng(2).random(800) < 0.3


def test_a_subgroup_for_which_the_model_fails_is_marked_and_named(labels, inside):
    probabilities = probabilities_of(labels, np.where(inside, 0.0, 3.0))
    random = np.random.default_rng(3).random(800) < 0.5
    differences = gaps(
        labels, probabilities, np.arange(800), {"bad": inside, "any": random}, 0.4, 999, 200
    )
    by_name = {(gap.group, gap.metric): gap for gap in differences}
    assert len(by_name) == 8
    stored = msgspec.to_builtins(by_name["bad", "specificity"].stored())
    assert stored["figure"] == "specificity"
    for metric in ("balanced_accuracy", "malignant_auc", "specificity"):
        assert by_name["bad", metric].beyond_chance
        assert by_name["bad", metric].difference < -0.2
    assert not any(gap.beyond_chance for gap in differences if gap.group == "any")


def test_the_metrics_of_both_sides_are_those_of_scikit_learn(labels, inside):
    probabilities = probabilities_of(labels, np.full(800, 1.0))
    measured = gaps(labels, probabilities, np.arange(800), {"x": inside}, 0.4, 20, 20)
    gap_of = {gap.metric: gap for gap in measured}
    scores = malignant_probability(probabilities)
    truth = malignant_truth(labels)
    for side, rows in (("subgroup", inside), ("rest", ~inside)):
        predicted = probabilities[rows].argmax(axis=1)
        expected = {
            "balanced_accuracy": balanced_accuracy_score(labels[rows], predicted),
            "malignant_auc": roc_auc_score(truth[rows], scores[rows]),
            "sensitivity": (scores[rows & truth] >= 0.4).mean(),
            "specificity": (scores[rows & ~truth] < 0.4).mean(),
        }
        assert {name: getattr(gap, side) for name, gap in gap_of.items()} == pytest.approx(expected)


def test_only_diagnoses_of_both_sides_are_compared(labels, inside):
    inside = inside & (labels < 3)
    probabilities = probabilities_of(labels, np.full(800, 1.0))
    measured = gaps(labels, probabilities, np.arange(800), {"x": inside}, 0.4, 20, 20)
    gap_of = {gap.metric: gap for gap in measured}
    outside = ~inside & (labels < 3)
    assert gap_of["balanced_accuracy"].kinds == 3
    share = recall_score(
        labels[outside], probabilities[outside].argmax(axis=1), labels=[0, 1, 2], average="macro"
    )
    assert gap_of["balanced_accuracy"].rest == pytest.approx(share)


def test_too_few_lesions_are_not_tested(labels):
    probabilities = probabilities_of(labels, np.full(800, 1.0))
    is_few = np.zeros(800, bool)
    is_few[np.flatnonzero(malignant_truth(labels))[: LEAST_LESIONS - 1]] = True
    assert gaps(labels, probabilities, np.arange(800), {"few": is_few}, 0.4, 20, 20) == ()
    # Many images of one lesion are one lesion.
    many_images = np.where(is_few, 0, np.arange(800))
    is_few[np.flatnonzero(malignant_truth(labels))[:40]] = True
    many_images[is_few] = 5
    assert gaps(labels, probabilities, many_images, {"one": is_few}, 0.4, 20, 20) == ()


def permute_all_of_few_lesions(monkeypatch):
    """Test groups of three lesions, with every permutation."""
    monkeypatch.setattr(module, "LEAST_LESIONS", 3)
    monkeypatch.setattr(module, "ENOUGH", 9999)


def test_the_p_value_is_that_of_all_permutations_of_the_lesions(monkeypatch):
    """Of 8 malignant lesions, 3 inside: all 56 ways are counted by hand."""
    permute_all_of_few_lesions(monkeypatch)
    labels = np.zeros(8, int)
    probabilities = np.full((8, 8), 0.0)
    is_detected = np.array([0, 0, 1, 1, 1, 1, 1, 0], bool)
    probabilities[is_detected, 0] = 1
    probabilities[~is_detected, 1] = 1
    inside = np.arange(8) < 3
    (gap,) = gaps(labels, probabilities, np.arange(8), {"x": inside}, 0.5, 9999, 20)
    choices = [list(rows) for rows in itertools.combinations(range(8), 3)]
    differences = [
        abs(is_detected[rows].mean() - np.delete(is_detected, rows).mean()) for rows in choices
    ]
    at_least_as_large = np.array(differences) >= abs(gap.difference) - 1e-12
    assert gap.p == pytest.approx(np.mean(at_least_as_large), abs=0.05)


def test_the_p_values_of_areas_and_of_two_classes_are_those_of_all_permutations(monkeypatch):
    """Of 6 melanomas and 6 nevi, 3 of each inside, all 400 ways are counted by hand; some scores are the same."""
    permute_all_of_few_lesions(monkeypatch)
    labels = np.repeat([0, 1], 6)
    inside = np.isin(np.arange(12), [0, 1, 2, 6, 9, 10])
    scores = np.array([9, 8, 8, 7, 4, 2, 8, 6, 4, 3, 1, 1]) / 10
    probabilities = np.stack([scores, 1 - scores, *np.zeros((6, 12))], axis=1)
    measured = gaps(labels, probabilities, np.arange(12), {"x": inside}, 0.5, 9999, 20)

    def malignant_auc(rows):
        return roc_auc_score(labels[rows] == 0, scores[rows])

    def balanced_accuracy(rows):
        return balanced_accuracy_score(labels[rows], (scores[rows] <= 0.5).astype(int))

    for metric in (malignant_auc, balanced_accuracy):
        [gap] = [gap for gap in measured if gap.metric == metric.__name__]
        share = share_of_larger_differences(metric, gap.difference)
        assert 0.02 < share < 0.98
        # The tolerance is three standard errors of 9,999 permutations.
        assert gap.p == pytest.approx(share, abs=0.02)


def share_of_larger_differences(metric, difference):
    """Return the share of all ways to take 3 of 6 and 3 of 6 with a difference at least as large."""
    halves = list(itertools.combinations(range(6), 3))
    differences = []
    for melanomas, nevi in itertools.product(halves, halves):
        rows = [*melanomas, *(6 + place for place in nevi)]
        other_rows = np.setdiff1d(np.arange(12), rows)
        differences.append(abs(metric(rows) - metric(other_rows)))
    return np.mean(np.array(differences) >= abs(difference) - 1e-12)


def test_chance_alone_marks_about_one_set_in_twenty():
    """Of sets without a gap at most 5 % have even one mark: 3 of these 60 are expected, 8 have a chance of 1 %."""
    marked = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 8, 300)
        probabilities = probabilities_of(labels, np.full(300, 1.5), seed)
        groups = {str(share): rng.random(300) < share for share in (0.1, 0.3, 0.5)}
        measured = gaps(labels, probabilities, np.arange(300), groups, 0.4, 499, 100)
        marked += any(gap.beyond_chance for gap in measured)
    assert marked <= 7


def test_ten_detected_lesions_are_no_gap():
    """A bootstrap alone would call it one: each of its draws of these ten finds all."""
    labels = np.zeros(400, int)
    probabilities = np.zeros((400, 8))
    is_detected = np.arange(400) >= 40
    probabilities[is_detected, 0] = 1
    probabilities[~is_detected, 1] = 1
    (gap,) = gaps(
        labels, probabilities, np.arange(400), {"ten": np.arange(400) >= 390}, 0.5, 999, 200
    )
    assert (gap.subgroup, gap.rest) == (1, pytest.approx(350 / 390))
    assert not gap.beyond_chance


def test_images_of_one_lesion_are_permuted_together(labels, inside):
    """Four copies of each image add no information."""
    labels = labels[:200]
    inside = inside[:200]
    probabilities = probabilities_of(labels, np.where(inside, 1.0, 1.6))
    one_each = gaps(labels, probabilities, np.arange(200), {"x": inside}, 0.4, 999, 50)
    [single] = [gap for gap in one_each if gap.metric == "sensitivity"]
    four = gaps(
        labels.repeat(4),
        probabilities.repeat(4, 0),
        np.arange(200).repeat(4),
        {"x": inside.repeat(4)},
        0.4,
        999,
        50,
    )
    [copied] = [gap for gap in four if gap.metric == "sensitivity"]
    assert copied.p == pytest.approx(single.p, abs=0.06)


def test_holms_steps_are_those_of_statsmodels():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.9, 0.01]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []
