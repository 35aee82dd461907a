"""What a model sees of the images of its own split: the features its linear head reads, and its logits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.cache import cache_dir, keep_array
from cadlib.dataset import Dataset
from cadlib.duplicates import Say
from cadlib.engine import Seen
from cadlib.errors import DatasetInvalid
from cadlib.model import Model
from cadlib.neighbours import fingerprints
from cadlib.novelty import appearance
from cadlib.own_split import not_the_models, own_split
from cadlib.pixels import cached_pixels
from cadlib.splits import SPLITS, select
from cadlib.taxonomy import CODES

BATCH_SIZE = 32


@dataclass(frozen=True, eq=False)
class SplitFeatures:
    """N images of a model's split, a row each: `features` (N, C) and `logits` (N, 8) float32, `fingerprints` (N, 32).

    `looks`, (N, F) float32, is what `novelty.appearance` measures of the pixels. `table` is that of `splits.select`: a
    data set's, with the lesion group and the part of the model's own split. Every image has a diagnosis. `missing`
    images of the split were not there.
    """

    table: pd.DataFrame
    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    fingerprints: NDArray[np.uint8]
    looks: NDArray[np.float32]
    missing: int

    def of(self, part: str) -> "SplitFeatures":
        """Return those of "train", "validation" or "test"."""
        rows = (self.table["split"] == part).to_numpy(bool)
        table = self.table[rows].reset_index(drop=True)
        features, logits, prints = self.features[rows], self.logits[rows], self.fingerprints[rows]
        return SplitFeatures(table, features, logits, prints, self.looks[rows], self.missing)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Return the true diagnosis of each image, (N,), as its place in taxonomy order."""
        return self.table["diagnosis"].map(CODES.index).to_numpy(np.int64)


@dataclass(frozen=True)
class Fitted:
    """What was fitted on such features: fields of the ModelRecord, sections of metrics.json, files of the folder."""

    fields: Mapping[str, Any]
    figures: Mapping[str, Any]
    files: Mapping[str, bytes]


def split_features(model: Model, folder: Path, dataset: Dataset, say: Say) -> SplitFeatures:
    """Show the model in `folder` all images of its own split that a data set has.

    Raise ModelInvalid when its split.csv is not the one of its record, DatasetInvalid when the data set has no image of
    a part of it or no diagnosis for one, and ImageRejected for a file that cannot be read.
    """
    rows = own_split(folder, model.record)
    table = select(dataset.table, rows)
    if lacking := [part for part in SPLITS if part in set(rows["split"]) - set(table["split"])]:
        raise not_the_models(model.record, dataset, f"{', '.join(lacking)} split")
    if not (labelled := table["diagnosis"].isin(CODES)).all():
        raise DatasetInvalid(
            f"Expected a diagnosis of each image in {dataset.name} but {table['image'][~labelled].iloc[0]} has none; "
            "put the ground-truth CSV beside the images."
        )
    batches = (
        (seen.features, seen.logits, fingerprints(pixels), appearance.measure(pixels))
        for pixels, seen in see_in_batches(model, table, say)
    )
    features, logits, prints, looks = map(np.concatenate, zip(*batches, strict=True))
    return SplitFeatures(table, features, logits, prints, looks, len(rows) - len(table))


def cached_features(model: Model, table: pd.DataFrame, say: Say) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what a model sees in each image of a table's `path` column, labelled or not: (N, C) and logits, (N, 8).

    Made once and kept on disk. Raise ImageRejected for a file that cannot be read and DatasetInvalid when the disk has
    no room.
    """
    pixels = cached_pixels(table, model.record.input, partial(say, "caching pixels"))
    name = f"{pixels.path.stem}-{model.record.onnx_sha256[:8]}{model.record.weights_sha256[:8]}"
    paths = [cache_dir() / "features" / f"{name}{end}.npy" for end in ("", "-logits")]
    if not all(path.exists() for path in paths):
        seen = ((batch.features, batch.logits) for _, batch in see_in_batches(model, table, say))
        for path, arrays in zip(paths, zip(*seen, strict=True), strict=True):
            keep_array(path, np.concatenate(arrays))
    features, logits = (np.load(path, allow_pickle=False) for path in paths)
    return features, logits


def see_in_batches(model: Model, table: pd.DataFrame, say: Say) -> Iterator[tuple[NDArray[np.uint8], Seen]]:
    """Yield the pixels of the images of a table's `path` column, some at a time, with what the model sees in them."""
    pixels = cached_pixels(table, model.record.input, partial(say, "caching pixels"))
    for first in range(0, len(pixels), BATCH_SIZE):
        batch = pixels[first : first + BATCH_SIZE]
        yield batch, model.see(batch)
        say("asking the model", first + len(batch), len(pixels))
