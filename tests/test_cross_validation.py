"""Tests of the metrics of the folds of a cross-validation."""

import numpy as np
import pytest
from msgspec import structs

from cadlib.metrics.balanced_rule import BalancedRule, Frequencies
from cadlib.metrics.cross_validation import FoldMetrics, measure_folds
from cadlib.model.card.formats import cross_validation_table
from cadlib.taxonomy import CODES

RULE = BalancedRule(0.5, Frequencies(*[1 / 8] * 8))


def certain(codes: list[str]) -> np.ndarray:
    """Return probabilities that name these diagnoses."""
    shares = np.full((len(codes), 8), 0.01)
    for row, code in enumerate(codes):
        shares[row, CODES.index(code)] = 0.93
    return shares


def numbers(codes: list[str]) -> np.ndarray:
    return np.array([CODES.index(code) for code in codes])


def test_each_fold_is_measured_on_its_own_images():
    truth = numbers(["MEL", "NV", "MEL", "NV", "MEL", "NV"])
    named = certain(["MEL", "NV", "NV", "NV", "NV", "MEL"])
    folds = np.array([0, 0, 1, 1, 2, 2])
    measured = measure_folds(folds, ["a", "b", "c"], truth, named, RULE)
    assert [fold.balanced_accuracy for fold in measured.folds] == [1, 0.5, 0]
    assert [fold.malignant_auc for fold in measured.folds] == [1, 0.5, 0]
    assert [fold.melanoma_auc for fold in measured.folds] == [1, 0.5, 0]
    assert [(fold.fold, fold.backbone, fold.n) for fold in measured.folds] == [
        (0, "a", 2),
        (1, "b", 2),
        (2, "c", 2),
    ]
    assert measured.mean("malignant_auc") == pytest.approx(0.5)
    assert measured.deviation("malignant_auc") == pytest.approx(0.5)


def test_the_balanced_rule_names_rare_diagnoses_more_often():
    frequencies = Frequencies(*[0.01 if code == "DF" else 0.99 / 7 for code in CODES])
    probabilities = np.full((1, 8), 0.05)
    probabilities[0, CODES.index("NV")] = 0.4
    probabilities[0, CODES.index("DF")] = 0.3
    rule = BalancedRule(1.0, frequencies)
    [fold] = measure_folds(np.array([0]), ["a"], numbers(["DF"]), probabilities, rule).folds
    assert (fold.balanced_accuracy, fold.balanced_accuracy_by_rule) == (0, 1)


def test_what_a_fold_cannot_show_is_not_defined():
    measured = measure_folds(np.array([0]), ["a"], numbers(["NV"]), certain(["NV"]), None)
    assert measured.folds[0].malignant_auc is None
    assert measured.folds[0].balanced_accuracy_by_rule is None
    assert measured.mean("malignant_auc") is None
    assert measured.deviation("balanced_accuracy_by_rule") is None
    assert measured.deviation("balanced_accuracy") == 0
    assert "not defined (not defined)" in cross_validation_table(measured)


def test_the_table_ends_with_mean_and_standard_deviation():
    fold = FoldMetrics(
        fold=0,
        backbone="net",
        n=1200,
        balanced_accuracy=0.6,
        balanced_accuracy_by_rule=0.7,
        malignant_auc=0.9,
        melanoma_auc=0.85,
    )
    measured = measure_folds(np.array([0]), ["a"], numbers(["NV"]), certain(["NV"]), None)
    other = structs.replace(fold, fold=1, balanced_accuracy=0.64)
    lines = cross_validation_table(structs.replace(measured, folds=(fold, other))).splitlines()
    assert lines[2] == "| 0 | net | 1,200 | 0.600 | 0.700 | 0.900 | 0.850 |"
    assert lines[-1].startswith(
        "| mean (standard deviation) |  |  | 0.620 (0.028) | 0.700 (0.000) |"
    )
