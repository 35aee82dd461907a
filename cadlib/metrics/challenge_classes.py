"""Computes the metrics of a challenge with other classes.

Diagnoses that count as one class are summed before anything is measured, in arrays that stay (N,
8). The first of them holds the sum, and the others hold nothing, as if no image had them. So every
metric of `classification` works without a change, and only the report needs the names of the
classes.
"""

from typing import Any

import numpy as np

from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.partial_labels import PartialLabels
from cadlib.taxonomy import CODES, Classes


def merged_labels(labels: Labels, classes: Classes) -> Labels:
    """Return (N,) labels in taxonomy order, each diagnosis replaced by the first of its class."""
    first_places = [row.argmax() for row in _sums(classes)]
    place_of_code = np.array(first_places, np.int64)
    return place_of_code[labels]


def merged_partial_labels(labels: PartialLabels, classes: Classes) -> PartialLabels:
    """Merge partial labels as `merged_labels` does; images without a diagnosis stay without one."""
    codes = labels.codes.copy()
    diagnosed = labels.diagnosed
    codes[diagnosed] = merged_labels(codes[diagnosed], classes)
    return PartialLabels(codes, labels.malignant)


def merged_probabilities(probabilities: Floats, classes: Classes) -> Floats:
    """Return (N, 8) probabilities with the sum of each class at its first diagnosis.

    The places of its other diagnoses hold 0.
    """
    merged: Floats = probabilities @ _sums(classes)
    return merged


def named(figures: Any, classes: Classes) -> Any:
    """Return metrics of merged arrays by the codes of the classes.

    `figures` has the form of `evaluation.build_metrics`. Each object with a key for each of the
    eight diagnoses gets one for each class, in the challenge's order, and so does the confusion
    matrix.
    """
    if not isinstance(figures, dict):
        return figures
    renamed = {key: named(value, classes) for key, value in figures.items()}
    if "confusion_matrix" in renamed:
        renamed["confusion_matrix"] = _named_matrix(renamed["confusion_matrix"], classes)
    if not renamed.keys() >= set(CODES):
        return renamed
    by_class = {}
    for code, members in zip(classes.codes, classes.members, strict=True):
        by_class[code] = renamed[members[0]]
    others = {key: value for key, value in renamed.items() if key not in CODES}
    return by_class | others


def _named_matrix(matrix: list[list[int]], classes: Classes) -> list[list[int]]:
    """Return the rows and columns of a confusion matrix that belong to the classes."""
    places = [CODES.index(members[0]) for members in classes.members]
    by_row = [matrix[row] for row in places]
    return [[counts[column] for column in places] for counts in by_row]


def _sums(classes: Classes) -> Floats:
    """Return the (8, 8) matrix that adds each diagnosis to the first of its class."""
    matrix = np.zeros((len(CODES), len(CODES)))
    for members in classes.members:
        first = CODES.index(members[0])
        for code in members:
            place = CODES.index(code)
            matrix[place, first] = 1
    return matrix
