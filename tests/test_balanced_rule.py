"""The rule that names rare diagnoses more often, for balanced accuracy."""

import msgspec
import numpy as np
import pytest

from cadlib.metrics import balanced_rule, classification
from cadlib.metrics.balanced_rule import POWERS, BalancedRule, Frequencies
from cadlib.metrics.summary import summarise
from cadlib.taxonomy import CODES

SHARES = (0.1, 0.5, 0.15, 0.05, 0.1, 0.02, 0.03, 0.05)


def rule_of(power: float) -> BalancedRule:
    return BalancedRule(power, Frequencies(**dict(zip(CODES, SHARES, strict=True))))


@pytest.fixture(scope="module")
def drawn():
    """Return labels of 4,000 images and calibrated probabilities, by Bayes' rule."""
    rng = np.random.default_rng(0)
    labels = rng.choice(len(CODES), 4000, p=SHARES)
    # A measurement of each diagnosis, higher by 1.5 for the true one, with noise of 1.
    measured = rng.normal(size=(4000, len(CODES))) + 1.5 * np.eye(len(CODES))[labels]
    odds = np.array(SHARES) * np.exp(1.5 * measured)
    return labels, odds / odds.sum(axis=1, keepdims=True)


def test_each_probability_is_divided_by_the_frequency_to_the_power():
    probabilities = np.full((1, 8), 1 / 8)
    divided = np.array(SHARES) ** -0.5
    [adjusted] = rule_of(0.5).adjusted(probabilities)
    np.testing.assert_allclose(adjusted, divided / divided.sum())


def test_a_power_of_0_changes_nothing(drawn):
    _, probabilities = drawn
    np.testing.assert_allclose(rule_of(0.0).adjusted(probabilities), probabilities)


def test_for_bayes_probabilities_the_power_of_1_is_best(drawn):
    labels, probabilities = drawn
    rule = balanced_rule.fit(probabilities, labels)
    # Of a finite sample the best power is 1 or the next one.
    assert rule.power >= 0.75
    before = classification.balanced_accuracy(labels, probabilities)
    after = classification.balanced_accuracy(labels, rule.adjusted(probabilities))
    assert after > before + 0.05
    counts = np.bincount(labels, minlength=8) / len(labels)
    np.testing.assert_allclose(msgspec.structs.astuple(rule.frequencies), counts)


def test_the_best_power_is_taken_and_the_smallest_of_equals(drawn):
    labels, probabilities = drawn
    rule = balanced_rule.fit(probabilities, labels)
    frequencies = rule.frequencies
    accuracies = [
        classification.balanced_accuracy(
            labels, BalancedRule(power, frequencies).adjusted(probabilities)
        )
        for power in POWERS
    ]
    assert rule.power == POWERS[int(np.argmax(accuracies))]
    certain = np.eye(8)[labels]
    assert balanced_rule.fit(certain, labels).power == 0


def test_without_images_of_a_diagnosis_there_is_no_rule():
    labels = np.array([0, 1, 2])
    assert balanced_rule.fit(np.full((3, 8), 1 / 8), labels) is None


def test_the_metrics_have_both_rules(drawn):
    labels, probabilities = drawn
    by_rule = rule_of(1.0).adjusted(probabilities)
    summary = summarise(labels, probabilities, by_rule=by_rule, draws=50)
    expected = float(classification.balanced_accuracy(labels, by_rule))
    assert summary.balanced_accuracy_by_rule == pytest.approx(expected)
    assert summary.balanced_accuracy < summary.balanced_accuracy_by_rule
    low, high = summary.intervals.balanced_accuracy_by_rule
    assert low < expected < high
    alone = summarise(labels, probabilities, draws=50)
    assert alone.balanced_accuracy_by_rule is msgspec.UNSET
