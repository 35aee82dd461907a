"""Runs a model on the images of its own split."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.data.splits import SPLITS, select
from cadlib.errors import DatasetInvalid
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.metrics.partial_labels import class_numbers
from cadlib.metrics.summary_schema import MetricsObject
from cadlib.model.model import Model
from cadlib.model.split import not_the_models, split_of_model
from cadlib.progress import Progress
from cadlib.taxonomy import CODES

_Floats32 = NDArray[np.float32]
_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class SplitFeatures:
    """N images of a model's split, one row each.

    `features` (N, C), `logits` (N, 8), `fingerprints` (N, 32) and `looks` (N, F) are those of
    `TableOutputs`. `table` is that of `splits.select`: a data set's, with the lesion group and the
    part of the model's own split. Every image has a diagnosis. `missing` is the number of images of
    the split that are not in the data set.
    """

    table: pd.DataFrame
    features: _Floats32
    logits: _Floats32
    fingerprints: _Bytes
    looks: _Floats32
    missing: int

    def of(self, part: str) -> "SplitFeatures":
        """Return the images of "train", "validation" or "test"."""
        rows = (self.table["split"] == part).to_numpy(bool)
        return SplitFeatures(
            table=self.table[rows].reset_index(drop=True),
            features=self.features[rows],
            logits=self.logits[rows],
            fingerprints=self.fingerprints[rows],
            looks=self.looks[rows],
            missing=self.missing,
        )

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the true diagnosis of each image, (N,), as its place in taxonomy order."""
        return class_numbers(self.table["diagnosis"])


@dataclass(frozen=True)
class Fitted:
    """The results of a fit to such features.

    They are fields of the ModelRecord, sections of metrics.json and files of the model folder.
    """

    fields: Mapping[str, Any]
    metrics: Mapping[str, MetricsObject]
    files: Mapping[str, bytes]


def split_features(
    model: Model,
    folder: Path,
    dataset: Dataset,
    progress: Progress,
) -> SplitFeatures:
    """Run the model in `folder` on all images of its own split that a data set has.

    Raise ModelInvalid when its split.csv is not the one of its record, DatasetInvalid when the data
    set has no image of a part of it or no diagnosis for one, and ImageRejected for a file that
    cannot be read.
    """
    rows = split_of_model(folder, model.record)
    table = select(dataset.table, rows)
    _check(table, rows, model, dataset)
    outputs = model_outputs(model, table, progress)
    return SplitFeatures(
        table=table,
        features=outputs.features,
        logits=outputs.logits,
        fingerprints=outputs.fingerprints,
        looks=outputs.looks,
        missing=len(rows) - len(table),
    )


def _check(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    model: Model,
    dataset: Dataset,
) -> None:
    """Raise DatasetInvalid for a part of the split without images, or an image without diagnosis.

    `rows` are those of the split, `table` has the images of them that the data set has.
    """
    # Fits learn on one part, choose limits on another and are measured on the third.
    absent = set(rows["split"]) - set(table["split"])
    lacking = [part for part in SPLITS if part in absent]
    if lacking:
        names = ", ".join(lacking)
        raise not_the_models(model.record, dataset, f"{names} split")
    # Similar cases are shown with their diagnosis, so that a case without one is of no use.
    labelled = table["diagnosis"].isin(CODES)
    if not labelled.all():
        first = table["image"][~labelled].iloc[0]
        raise DatasetInvalid(
            f"Expected a diagnosis of each image in {dataset.name} but {first} has none; "
            "put the ground-truth CSV beside the images."
        )
