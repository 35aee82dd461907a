import itertools

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score
from statsmodels.stats.multitest import multipletests

from cadlib.metrics import subgroup_gaps as module
from cadlib.metrics.classification import malignant_probability, malignant_truth
from cadlib.metrics.subgroup_gaps import LEAST_LESIONS, gaps, holm


def said_of(labels, sureness, seed=0):
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
    probabilities = said_of(labels, np.where(inside, 0.0, 3.0))
    random = np.random.default_rng(3).random(800) < 0.5
    differences = gaps(
        labels, probabilities, np.arange(800), {"bad": inside, "any": random}, 0.4, 999, 200
    )
    by_name = {(gap.group, gap.figure): gap for gap in differences}
    assert len(by_name) == 8
    for figure in ("balanced_accuracy", "malignant_auc", "specificity"):
        assert by_name["bad", figure].beyond_chance
        assert by_name["bad", figure].difference < -0.2
    assert not any(gap.beyond_chance for gap in differences if gap.group == "any")


def test_the_figures_of_both_sides_are_those_of_scikit_learn(labels, inside):
    probabilities = said_of(labels, np.full(800, 1.0))
    found = {
        gap.figure: gap
        for gap in gaps(labels, probabilities, np.arange(800), {"x": inside}, 0.4, 20, 20)
    }
    scores, truth = malignant_probability(probabilities), malignant_truth(labels)
    for side, rows in (("subgroup", inside), ("rest", ~inside)):
        said = probabilities[rows].argmax(axis=1)
        expected = {
            "balanced_accuracy": balanced_accuracy_score(labels[rows], said),
            "malignant_auc": roc_auc_score(truth[rows], scores[rows]),
            "sensitivity": (scores[rows & truth] >= 0.4).mean(),
            "specificity": (scores[rows & ~truth] < 0.4).mean(),
        }
        assert {name: getattr(gap, side) for name, gap in found.items()} == pytest.approx(expected)


def test_only_diagnoses_of_both_sides_are_compared(labels, inside):
    inside = inside & (labels < 3)
    probabilities = said_of(labels, np.full(800, 1.0))
    found = {
        gap.figure: gap
        for gap in gaps(labels, probabilities, np.arange(800), {"x": inside}, 0.4, 20, 20)
    }
    rest = ~inside & (labels < 3)
    assert found["balanced_accuracy"].kinds == 3
    share = recall_score(
        labels[rest], probabilities[rest].argmax(axis=1), labels=[0, 1, 2], average="macro"
    )
    assert found["balanced_accuracy"].rest == pytest.approx(share)


def test_too_few_lesions_are_not_tested(labels):
    probabilities = said_of(labels, np.full(800, 1.0))
    few = np.zeros(800, bool)
    few[np.flatnonzero(malignant_truth(labels))[: LEAST_LESIONS - 1]] = True
    assert gaps(labels, probabilities, np.arange(800), {"few": few}, 0.4, 20, 20) == ()
    many_images = np.where(few, 0, np.arange(800))  # nine images more are one lesion, not nine
    few[np.flatnonzero(malignant_truth(labels))[:40]] = True
    many_images[few] = 5
    assert gaps(labels, probabilities, many_images, {"one": few}, 0.4, 20, 20) == ()


def test_the_p_value_is_that_of_all_ways_to_deal_the_lesions(monkeypatch):
    """Of 8 malignant lesions, 3 inside: all 56 ways are counted by hand."""
    monkeypatch.setattr(module, "LEAST_LESIONS", 3)
    monkeypatch.setattr(module, "ENOUGH", 9999)
    labels = np.zeros(8, int)
    probabilities = np.full((8, 8), 0.0)
    found = np.array([0, 0, 1, 1, 1, 1, 1, 0], bool)
    probabilities[found, 0] = probabilities[~found, 1] = 1
    inside = np.arange(8) < 3
    (gap,) = gaps(labels, probabilities, np.arange(8), {"x": inside}, 0.5, 9999, 20)
    ways = [list(one) for one in itertools.combinations(range(8), 3)]
    apart = [abs(found[one].mean() - np.delete(found, one).mean()) for one in ways]
    assert gap.p == pytest.approx(np.mean(np.array(apart) >= abs(gap.difference) - 1e-12), abs=0.05)


def test_the_p_values_of_areas_and_of_two_kinds_are_those_of_all_ways_to_deal(monkeypatch):
    """Of 6 melanomas and 6 nevi, 3 of each inside, all 400 ways are counted by hand; some scores are the same."""
    monkeypatch.setattr(module, "LEAST_LESIONS", 3)
    monkeypatch.setattr(module, "ENOUGH", 9999)
    labels, inside = np.repeat([0, 1], 6), np.array([1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 1, 0], bool)
    scores = np.array([0.9, 0.8, 0.8, 0.7, 0.4, 0.2, 0.8, 0.6, 0.4, 0.3, 0.1, 0.1])
    probabilities = np.zeros((12, 8))
    probabilities[:, 0], probabilities[:, 1] = scores, 1 - scores
    found = {
        gap.figure: gap
        for gap in gaps(labels, probabilities, np.arange(12), {"x": inside}, 0.5, 9999, 20)
    }
    figures = {
        "malignant_auc": lambda rows: roc_auc_score(labels[rows] == 0, scores[rows]),
        "balanced_accuracy": lambda rows: balanced_accuracy_score(
            labels[rows], (scores[rows] <= 0.5).astype(int)
        ),
    }
    halves = list(itertools.combinations(range(6), 3))
    for name, figure in figures.items():
        apart = []
        for melanomas, nevi in itertools.product(halves, halves):
            rows = [*melanomas, *(6 + place for place in nevi)]
            apart.append(abs(figure(rows) - figure(np.setdiff1d(np.arange(12), rows))))
        share = np.mean(np.array(apart) >= abs(found[name].difference) - 1e-12)
        assert 0.02 < share < 0.98
        assert found[name].p == pytest.approx(
            share, abs=0.02
        )  # three standard errors of 9,999 permutations


def test_chance_alone_marks_about_one_set_in_twenty():
    """Of sets without a gap at most 5 % have even one mark: 3 of these 60 are expected, 8 have a chance of 1 %."""
    marked = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 8, 300)
        probabilities = said_of(labels, np.full(300, 1.5), seed)
        groups = {str(one): rng.random(300) < share for one, share in enumerate((0.1, 0.3, 0.5))}
        marked += any(
            one.beyond_chance
            for one in gaps(labels, probabilities, np.arange(300), groups, 0.4, 499, 100)
        )
    assert marked <= 7


def test_ten_lesions_that_are_all_found_are_no_gap():
    """A bootstrap alone would call it one: each of its draws of these ten finds all."""
    labels = np.zeros(400, int)
    probabilities = np.zeros((400, 8))
    found = np.arange(400) >= 40
    probabilities[found, 0] = probabilities[~found, 1] = 1
    (gap,) = gaps(
        labels, probabilities, np.arange(400), {"ten": np.arange(400) >= 390}, 0.5, 999, 200
    )
    assert (gap.subgroup, gap.rest) == (1, pytest.approx(350 / 390))
    assert not gap.beyond_chance


def test_images_of_one_lesion_are_dealt_together(labels, inside):
    """Four copies of each image tell no more than one."""
    labels, inside = labels[:200], inside[:200]
    probabilities = said_of(labels, np.where(inside, 1.0, 1.6))
    (once,) = [
        g
        for g in gaps(labels, probabilities, np.arange(200), {"x": inside}, 0.4, 999, 50)
        if g.figure == "sensitivity"
    ]
    four = gaps(
        labels.repeat(4),
        probabilities.repeat(4, 0),
        np.arange(200).repeat(4),
        {"x": inside.repeat(4)},
        0.4,
        999,
        50,
    )
    (copied,) = [gap for gap in four if gap.figure == "sensitivity"]
    assert copied.p == pytest.approx(once.p, abs=0.06)


def test_holms_steps_are_those_of_statsmodels():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.9, 0.01]
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])
    assert holm([]) == []
