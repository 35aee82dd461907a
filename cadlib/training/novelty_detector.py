"""Fits the novelty detector of a model and counts unknown images.

The section `novelty` of metrics.json is an `UnknownCounts`: of all images, of each size and
archive, and of each diagnosis.
"""

from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import short_sides
from cadlib.evaluation.features import Fitted, SplitFeatures
from cadlib.metrics.conditions_schema import UnknownCount, UnknownCounts
from cadlib.metrics.summary_schema import Split
from cadlib.model.calibration import SMALL_PX
from cadlib.model.model import Model
from cadlib.model.novelty import Looks, NoveltyFacts
from cadlib.model.record import NOVELTY_FILE

KNOWN_SHARE = 0.995
"""Share of the validation images within the limit."""


def fit(_model: Model, features: SplitFeatures, split: Split) -> Fitted:
    """Learn the looks of the training images, and choose the limit on validation.

    Count the unknown images of a split.
    """
    validation = features.of("validation")
    reported = features.of(split)
    looks = Looks.learn(features.of("train").looks)
    validation_distances = looks.distances(validation.looks)
    limit = float(np.quantile(validation_distances, KNOWN_SHARE))
    data = looks.pack()
    checksum = sha256(data).hexdigest()
    n_train = len(looks.stored)
    n_validation = len(validation.looks)
    facts = NoveltyFacts(limit, KNOWN_SHARE, n_train, n_validation, checksum)
    unknown = looks.distances(reported.looks) > limit
    counts = UnknownCounts(split=split, unknown=_count(unknown, reported.table))
    return Fitted({"novelty": facts}, {"novelty": counts}, {NOVELTY_FILE: data})


def _count(unknown: NDArray[np.bool_], table: pd.DataFrame) -> dict[str, UnknownCount]:
    """Return how many images of each kind there are, and how many of them are `unknown`."""
    counts = {}
    for name, rows in _kinds(table):
        n_images = int(rows.sum())
        n_unknown = int(unknown[rows].sum())
        counts[name] = UnknownCount(n=n_images, unknown=n_unknown)
    return counts


def _kinds(table: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the name and the rows of every kind of image in the table."""
    all_rows = np.ones(len(table), bool)
    yield "all", all_rows
    # Size and archive change the looks of an image; a diagnosis should not.
    small = short_sides(table) < SMALL_PX
    if not small.all():
        yield f"short side ≥ {SMALL_PX} px", ~small
    if small.any():
        yield f"short side < {SMALL_PX} px", small
    for archive, rows in _rows_by_value(table["archive"]):
        yield f"archive {archive}", rows
    yield from _rows_by_value(table["diagnosis"])


def _rows_by_value(column: pd.Series) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each value of a column, in order, with its rows."""
    values = sorted(column.dropna().unique())
    for value in values:
        # Comparison of a missing value may be missing too: such a row is not selected.
        equal = column == value
        has_value = equal.to_numpy(bool, na_value=False)
        yield str(value), has_value
