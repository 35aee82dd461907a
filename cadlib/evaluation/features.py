"""What a model sees of the images of its own split: the features its linear head reads, and its logits."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.data.pixel_cache import cached_pixels, found_pixels
from cadlib.data.splits import SPLITS, select
from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.files.cache import cache_dir, file_facts, keep, kept_files
from cadlib.images import read_image
from cadlib.images.preprocess import REDUCING_GAP, InputSpec, to_pixels
from cadlib.model.model import Model
from cadlib.model.neighbours import fingerprints
from cadlib.model.novelty import appearance
from cadlib.model.split import not_the_models, own_split
from cadlib.progress import Progress
from cadlib.taxonomy import CODES
from cadlib.thread_pool import map_ahead

BATCH_SIZE = 32
CHUNK_SIZE = 512
"""Images whose features are kept in a file. A killed process loses those of the last, one that is stopped none."""
ASKING = "asking the model"

_Row = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Features, (C,), logits, (8,), and looks, (F,), of an image."""


@dataclass(frozen=True, eq=False)
class TableFeatures:
    """The N images of a table, a row each, as in SplitFeatures: `features` (N, C), `logits` (N, 8), `looks` (N, F)."""

    features: NDArray[np.float32]
    logits: NDArray[np.float32]
    looks: NDArray[np.float32]


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


def split_features(
    model: Model, folder: Path, dataset: Dataset, progress: Progress
) -> SplitFeatures:
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
    pixels = cached_pixels(table, model.record.input, progress)
    prints = np.concatenate([fingerprints(some) for some in pixels.batches()])
    seen = cached_features(model, table, progress)
    return SplitFeatures(
        table, seen.features, seen.logits, prints, seen.looks, len(rows) - len(table)
    )


def cached_features(
    model: Model, table: pd.DataFrame, progress: Progress, rejected: dict[str, str] | None = None
) -> TableFeatures:
    """Return what a model sees in each image of a table's `path` column, labelled or not.

    A model is asked once about an image, whichever tables it stands in. What came before a break is kept, and the next
    call goes on from there. A file that cannot be read is put into `rejected`, id -> reason, and has no row; without
    `rejected` it raises ImageRejected. Raise DatasetInvalid where none can be read.
    """
    folder = cache_dir() / "features" / _name(model)
    keys = [hashlib.sha256(file_facts(path)).hexdigest().encode() for path in table["path"]]
    known, fresh = _read(folder, {*keys}), dict[bytes, _Row]()
    missing = [row for row, key in enumerate(keys) if key not in known]
    done, decoded = len(keys) - len(missing), _decoded(table, missing, model.record.input)
    if done:
        progress(ASKING, done, len(keys))
    try:
        while batch := list(islice(decoded, BATCH_SIZE)):
            readable = dict[bytes, NDArray[np.uint8]]()
            for row, pixels in batch:
                if not isinstance(pixels, ImageRejected):
                    readable[keys[row]] = pixels
                elif rejected is None:
                    raise pixels
                else:
                    rejected[table["image"].iloc[row]] = str(pixels)
            if readable:
                batch_pixels = np.stack([*readable.values()])
                seen, looks = model.see(batch_pixels), appearance.measure(batch_pixels)
                fresh |= zip(
                    readable, zip(seen.features, seen.logits, looks, strict=True), strict=True
                )
            if len(fresh) >= CHUNK_SIZE:
                _keep(folder, fresh)
                known |= fresh
                fresh = {}
            done += len(batch)
            progress(ASKING, done, len(keys))
    finally:
        _keep(folder, fresh)
    known |= fresh
    if not known:
        raise DatasetInvalid(
            f"Expected images that can be read but all {len(keys):,} cannot; give others."
        )
    return TableFeatures(
        *map(np.stack, zip(*(known[key] for key in keys if key in known), strict=True))
    )


def _name(model: Model) -> str:
    """Return the name of all that rests on a model's network and on how it reads a file."""
    record = model.record
    facts = (
        record.onnx_sha256,
        record.weights_sha256,
        record.input,
        REDUCING_GAP,
        appearance.N_FIGURES,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _decoded(
    table: pd.DataFrame, rows: list[int], spec: InputSpec
) -> Iterator[tuple[int, NDArray[np.uint8] | ImageRejected]]:
    """Yield rows of a table with their pixels: those of `cached_pixels` where that made them, else of the files."""
    pixels, paths = found_pixels(table, spec), table["path"].tolist()

    def decode(row: int) -> NDArray[np.uint8] | ImageRejected:
        try:
            return to_pixels(read_image(paths[row]), spec) if pixels is None else pixels[row]
        except ImageRejected as reason:
            return reason

    return zip(rows, map_ahead(decode, rows), strict=True)


def _read(folder: Path, keys: set[bytes]) -> dict[bytes, _Row]:
    """Return what was kept of these images."""
    found = dict[bytes, _Row]()
    for path in kept_files(folder, ".npz"):
        with np.load(path, allow_pickle=False) as chunk:
            if rows := [
                (row, key) for row, key in enumerate(chunk["keys"].tolist()) if key in keys
            ]:
                features, logits, looks = (chunk[name] for name in ("features", "logits", "looks"))
                found |= ((key, (features[row], logits[row], looks[row])) for row, key in rows)
    return found


def _keep(folder: Path, fresh: dict[bytes, _Row]) -> None:
    """Keep what was seen as one more file, named by its images, so that two processes write the same or apart."""
    if fresh:
        keys, (features, logits, looks) = (
            np.array([*fresh]),
            map(np.stack, zip(*fresh.values(), strict=True)),
        )
        path = folder / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:32]}.npz"
        keep(
            path,
            lambda file: np.savez(file, keys=keys, features=features, logits=logits, looks=looks),
        )
