"""The looks of a model's training images, from where on a picture is not known, and how many images are not.

`novelty` in metrics.json: `split`, which images these are, and under `unknown` the number `n` of images and how many of
them are called `unknown`: of all, of each size and archive, of each diagnosis.
"""

from collections.abc import Iterator
from hashlib import sha256

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import short_sides
from cadlib.evaluation.features import Fitted, SplitFeatures
from cadlib.model.calibration import SMALL_PX
from cadlib.model.model import Model
from cadlib.model.novelty import Looks, NoveltyFacts
from cadlib.model.record import NOVELTY_FILE

KNOWN_SHARE = 0.995
"""Of the validation images, which the limit calls known."""


def fit(_model: Model, seen: SplitFeatures, split: str) -> Fitted:
    """Learn the looks of the training images, choose the limit on validation, and count the unknown of a split."""
    validation, reported = seen.of("validation"), seen.of(split)
    looks = Looks.learn(seen.of("train").looks)
    limit = float(np.quantile(looks.distances(validation.looks), KNOWN_SHARE))
    data = looks.pack()
    facts = NoveltyFacts(
        limit, KNOWN_SHARE, len(looks.stored), len(validation.looks), sha256(data).hexdigest()
    )
    unknown = looks.distances(reported.looks) > limit
    found = {
        name: {"n": int(rows.sum()), "unknown": int(unknown[rows].sum())}
        for name, rows in _kinds(reported.table)
    }
    return Fitted(
        {"novelty": facts}, {"novelty": {"split": split, "unknown": found}}, {NOVELTY_FILE: data}
    )


def _kinds(table: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the name and the rows of every kind of which there is an image."""
    small = short_sides(table) < SMALL_PX
    yield "all", np.ones(len(table), bool)
    for name, rows in (
        (f"short side ≥ {SMALL_PX} px", ~small),
        (f"short side < {SMALL_PX} px", small),
    ):
        if rows.any():
            yield name, rows
    for what, column in (("archive ", table["archive"]), ("", table["diagnosis"])):
        for value in sorted(column.dropna().unique()):
            yield f"{what}{value}", (column == value).to_numpy(bool, na_value=False)
