"""Computes the metrics of a challenge with other classes.

Diagnoses that count as one class are summed before anything is measured, in arrays that stay (N,
8). The first of them holds the sum, and the others hold nothing, as if no image had them. So every
metric of `classification` works without a change, and only the report needs the names of the
classes.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np
from msgspec.structs import replace

from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.partial_labels import PartialLabels
from cadlib.metrics.summary_schema import BY_CLASS, FullSummary
from cadlib.taxonomy import CODES, Classes

Value = TypeVar("Value")
Matrix: TypeAlias = tuple[tuple[int, ...], ...]


def merged_labels(labels: Labels, classes: Classes) -> Labels:
    """Return (N,) labels in taxonomy order, each diagnosis replaced by the first of its class."""
    # Each row of the matrix has a single 1, in the column of the first diagnosis of its class.
    first_places = [row.argmax() for row in _sums(classes)]
    place_of_code = np.array(first_places, np.int64)
    return place_of_code[labels]


def merged_partial_labels(labels: PartialLabels, classes: Classes) -> PartialLabels:
    """Merge partial labels as `merged_labels` does; images without a diagnosis stay without one."""
    codes = labels.codes.copy()
    diagnosed = labels.diagnosed
    # NO_DIAGNOSIS is -1, which as an index would stand for the last diagnosis.
    codes[diagnosed] = merged_labels(codes[diagnosed], classes)
    return PartialLabels(codes, labels.malignant)


def merged_probabilities(probabilities: Floats, classes: Classes) -> Floats:
    """Return (N, 8) probabilities with the sum of each class at its first diagnosis.

    The places of its other diagnoses hold 0.
    """
    sums = _sums(classes)
    merged: Floats = probabilities @ sums
    return merged


def named(summary: FullSummary, classes: Classes) -> FullSummary:
    """Return the metrics of merged arrays by the codes of the classes, in the challenge's order.

    The confusion matrix gets a row and a column for each class.
    """
    ends = {}
    changes: dict[str, Any] = {"n_by_class": _named_values(summary.n_by_class, classes)}
    for name in BY_CLASS:
        changes[name] = _named_values(getattr(summary, name), classes)
        ends[name] = _named_values(getattr(summary.intervals, name), classes)
    changes["intervals"] = replace(summary.intervals, **ends)
    # In merged arrays only the first diagnosis of a class has images, so no other row is needed.
    changes["confusion_matrix"] = _named_matrix(summary.confusion_matrix, classes)
    # Malignancy is no class, so its curve keeps its name.
    roc = _named_values(summary.roc, classes)
    changes["roc"] = {**roc, "malignant": summary.roc["malignant"]}
    return replace(summary, **changes)


def _named_values(values: Mapping[str, Value], classes: Classes) -> dict[str, Value]:
    """Return the values of merged classes, which are at their first diagnosis, by their codes."""
    by_class = {}
    # The sum of a class stands at its first diagnosis; the others are empty.
    for code, members in zip(classes.codes, classes.members, strict=True):
        by_class[code] = values[members[0]]
    return by_class


def _named_matrix(matrix: Matrix, classes: Classes) -> Matrix:
    """Return the rows and columns of a confusion matrix that belong to the classes."""
    places = [CODES.index(members[0]) for members in classes.members]
    rows = []
    for row in places:
        counts = [matrix[row][column] for column in places]
        rows.append(tuple(counts))
    return tuple(rows)


def _sums(classes: Classes) -> Floats:
    """Return the (8, 8) matrix that adds each diagnosis to the first of its class."""
    n_codes = len(CODES)
    shape = (n_codes, n_codes)
    matrix = np.zeros(shape)
    for members in classes.members:
        first = CODES.index(members[0])
        for code in members:
            place = CODES.index(code)
            matrix[place, first] = 1
    return matrix
