"""The figures of a challenge with other classes, from predictions of the eight diagnoses.

Diagnoses that count as one are summed before anything is measured, in arrays that stay (N, 8): the first of them
holds the sum, the others hold nothing, as if no image were of them. So every figure of `metrics` works as it is, and
only its report has to be named anew.
"""

from typing import Any

import numpy as np

from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.partial_labels import PartialLabels
from cadlib.taxonomy import CODES, Classes


def merged_labels(labels: Labels, classes: Classes) -> Labels:
    """Return (N,) labels in taxonomy order with each diagnosis replaced by the first of its class."""
    return np.array([row.argmax() for row in _sums(classes)], np.int64)[labels]


def merged_partial_labels(labels: PartialLabels, classes: Classes) -> PartialLabels:
    """Return the same of partial labels; an image without a diagnosis stays without one."""
    codes = labels.codes.copy()
    codes[labels.diagnosed] = merged_labels(codes[labels.diagnosed], classes)
    return PartialLabels(codes, labels.malignant)


def merged_probabilities(probabilities: Floats, classes: Classes) -> Floats:
    """Return (N, 8) probabilities with the sum of each class in the place of its first diagnosis, 0 in the others."""
    merged: Floats = probabilities @ _sums(classes)
    return merged


def named(figures: Any, classes: Classes) -> Any:
    """Return figures of merged arrays, as `evaluation.build_metrics` has them, by the codes of the classes.

    Whatever has a key for each of the eight diagnoses gets one for each class, in the challenge's order, and so does
    the confusion matrix.
    """
    if not isinstance(figures, dict):
        return figures
    here = {key: named(value, classes) for key, value in figures.items()}
    if "confusion_matrix" in here:
        kept = [CODES.index(first) for first, *_ in classes.members]
        here["confusion_matrix"] = [
            [here["confusion_matrix"][row][column] for column in kept] for row in kept
        ]
    if not here.keys() >= set(CODES):
        return here
    by_class = {
        code: here[first] for code, (first, *_) in zip(classes.codes, classes.members, strict=True)
    }
    return by_class | {key: value for key, value in here.items() if key not in CODES}


def _sums(classes: Classes) -> Floats:
    """Return the (8, 8) matrix that adds each diagnosis to the first of its class."""
    matrix = np.zeros((len(CODES), len(CODES)))
    for members in classes.members:
        for code in members:
            matrix[CODES.index(code), CODES.index(members[0])] = 1
    return matrix
