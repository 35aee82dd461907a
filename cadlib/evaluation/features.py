"""Runs a model's network on images and caches its features and logits."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

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
"""Images whose features are cached in one file.

A killed process loses those of the last file, an interrupted process loses none.
"""
ASKING = "asking the model"


_Floats32 = NDArray[np.float32]
_Pixels = NDArray[np.uint8]


class _Row(NamedTuple):
    """Features, (C,), logits, (8,), and looks, (F,), of an image, float32."""

    features: _Floats32
    logits: _Floats32
    looks: _Floats32


_Decoded = tuple[int, _Pixels | ImageRejected]
"""A row of a table with its pixels, or the reason why it has none."""


@dataclass(frozen=True, eq=False)
class TableFeatures:
    """The N images of a table, one row each, as in SplitFeatures.

    `features` are (N, C), `logits` (N, 8) and `looks` (N, F), float32.
    """

    features: _Floats32
    logits: _Floats32
    looks: _Floats32


@dataclass(frozen=True, eq=False)
class SplitFeatures:
    """N images of a model's split, one row each.

    `features` (N, C) and `logits` (N, 8) are float32, `fingerprints` are (N, 32) uint8. `looks`,
    (N, F) float32, is what `novelty.appearance` measures of the pixels. `table` is that of
    `splits.select`: a data set's, with the lesion group and the part of the model's own split.
    Every image has a diagnosis. `missing` is the number of images of the split that are not in the
    data set.
    """

    table: pd.DataFrame
    features: _Floats32
    logits: _Floats32
    fingerprints: _Pixels
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
        diagnoses = self.table["diagnosis"]
        places = diagnoses.map(CODES.index)
        return places.to_numpy(np.int64)


@dataclass(frozen=True)
class Fitted:
    """The results of a fit to such features.

    They are fields of the ModelRecord, sections of metrics.json and files of the model folder.
    """

    fields: Mapping[str, Any]
    figures: Mapping[str, Any]
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
    rows = own_split(folder, model.record)
    table = select(dataset.table, rows)
    _check(table, rows, model, dataset)
    pixels = cached_pixels(table, model.record.input, progress)
    prints = np.concatenate([fingerprints(batch) for batch in pixels.batches()])
    outputs = cached_features(model, table, progress)
    return SplitFeatures(
        table=table,
        features=outputs.features,
        logits=outputs.logits,
        fingerprints=prints,
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
    absent = set(rows["split"]) - set(table["split"])
    lacking = [part for part in SPLITS if part in absent]
    if lacking:
        names = ", ".join(lacking)
        raise not_the_models(model.record, dataset, f"{names} split")
    labelled = table["diagnosis"].isin(CODES)
    if not labelled.all():
        first = table["image"][~labelled].iloc[0]
        raise DatasetInvalid(
            f"Expected a diagnosis of each image in {dataset.name} but {first} has none; "
            "put the ground-truth CSV beside the images."
        )


def cached_features(
    model: Model,
    table: pd.DataFrame,
    progress: Progress,
    rejected: dict[str, str] | None = None,
) -> TableFeatures:
    """Return the features of each image of a table's `path` column, labelled or not.

    The network runs once for an image, even if it is in several tables. After an interruption the
    next call continues where it stopped. A file that cannot be read is put into `rejected`,
    id -> reason, and has no row; without `rejected` it raises ImageRejected. Raise DatasetInvalid
    if no file can be read.
    """
    folder = _folder(model)
    keys = [_key(path) for path in table["path"]]
    outputs = _read(folder, set(keys))
    missing = _missing(keys, outputs)
    decoded = _decoded(table, missing, model.record.input)
    total = len(keys)
    done = total - len(missing)
    if done:
        progress(ASKING, done, total)
    # Rows that are not on disk yet.
    fresh: dict[bytes, _Row] = {}
    try:
        for batch in _batches(decoded):
            pixels = _readable(batch, keys, table["image"], rejected)
            fresh |= _computed(model, pixels)
            if len(fresh) >= CHUNK_SIZE:
                _keep(folder, fresh)
                outputs |= fresh
                fresh = {}
            done += len(batch)
            progress(ASKING, done, total)
    finally:
        # Also after an interruption, so that no row is computed twice.
        _keep(folder, fresh)
    outputs |= fresh
    return _in_order(outputs, keys)


def _missing(keys: list[bytes], outputs: Mapping[bytes, _Row]) -> list[int]:
    """Return the rows of the images without an output."""
    return [row for row, key in enumerate(keys) if key not in outputs]


def _in_order(outputs: Mapping[bytes, _Row], keys: list[bytes]) -> TableFeatures:
    """Return the rows of these images; raise DatasetInvalid if there is none."""
    # A rejected image has no output.
    rows = [outputs[key] for key in keys if key in outputs]
    if not rows:
        raise DatasetInvalid(
            f"Expected images that can be read but all {len(keys):,} cannot; give others."
        )
    return _stacked(rows)


def _readable(
    batch: list[_Decoded],
    keys: list[bytes],
    images: "pd.Series[str]",
    rejected: dict[str, str] | None,
) -> dict[bytes, _Pixels]:
    """Return the pixels of a batch by their keys, and put the other images into `rejected`.

    `keys` and `images` have the key and the id of each row. Without `rejected` raise ImageRejected.
    """
    readable = {}
    for row, pixels in batch:
        if not isinstance(pixels, ImageRejected):
            readable[keys[row]] = pixels
        elif rejected is None:
            raise pixels
        else:
            rejected[images.iloc[row]] = str(pixels)
    return readable


def _key(path: str) -> bytes:
    """Return the key of a file in the cache."""
    digest = hashlib.sha256(file_facts(path))
    return digest.hexdigest().encode()


def _folder(model: Model) -> Path:
    """Return the folder of a model's features.

    Its name is a digest of the network and of how it reads a file.
    """
    record = model.record
    facts = (
        record.onnx_sha256,
        record.weights_sha256,
        record.input,
        REDUCING_GAP,
        appearance.N_FIGURES,
    )
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()
    return cache_dir() / "features" / digest[:32]


def _decoded(
    table: pd.DataFrame,
    rows: list[int],
    spec: InputSpec,
) -> Iterator[_Decoded]:
    """Yield rows of a table with their pixels, from `cached_pixels` if possible, else the files."""
    pixels = found_pixels(table, spec)
    paths = table["path"].tolist()

    def decode(row: int) -> _Pixels | ImageRejected:
        try:
            if pixels is not None:
                return pixels[row]
            return to_pixels(read_image(paths[row]), spec)
        except ImageRejected as reason:
            return reason

    return zip(rows, map_ahead(decode, rows), strict=True)


def _batches(decoded: Iterator[_Decoded]) -> Iterator[list[_Decoded]]:
    batch = list(islice(decoded, BATCH_SIZE))
    while batch:
        yield batch
        batch = list(islice(decoded, BATCH_SIZE))


def _computed(
    model: Model,
    pixels: Mapping[bytes, _Pixels],
) -> dict[bytes, _Row]:
    """Run the network on the pixels of images, by their keys."""
    if not pixels:
        return {}
    images = list(pixels.values())
    batch = np.stack(images)
    outputs = model.see(batch)
    looks = appearance.measure(batch)
    rows = map(_Row, outputs.features, outputs.logits, looks)
    return dict(zip(pixels, rows, strict=True))


def _stacked(rows: Sequence[_Row]) -> TableFeatures:
    features = [row.features for row in rows]
    logits = [row.logits for row in rows]
    looks = [row.looks for row in rows]
    return TableFeatures(
        features=np.stack(features),
        logits=np.stack(logits),
        looks=np.stack(looks),
    )


def _read(
    folder: Path,
    keys: set[bytes],
) -> dict[bytes, _Row]:
    """Return the cached rows of these images."""
    cached: dict[bytes, _Row] = {}
    for path in kept_files(folder, ".npz"):
        with np.load(path, allow_pickle=False) as chunk:
            chunk_keys = chunk["keys"].tolist()
            wanted = [(row, key) for row, key in enumerate(chunk_keys) if key in keys]
            # Other arrays of the file are only read for images of this table.
            if not wanted:
                continue
            # Each access to the file reads a whole array.
            features = chunk["features"]
            logits = chunk["logits"]
            looks = chunk["looks"]
            for row, key in wanted:
                cached[key] = _Row(features[row], logits[row], looks[row])
    return cached


def _keep(folder: Path, fresh: dict[bytes, _Row]) -> None:
    """Cache rows as one more file.

    It is named by its images, so that two processes write the same file or different ones.
    """
    if not fresh:
        return
    keys = np.array(list(fresh))
    stacked = _stacked(list(fresh.values()))
    digest = hashlib.sha256(keys.tobytes()).hexdigest()

    def write(file: IO[bytes]) -> None:
        np.savez(
            file,
            keys=keys,
            features=stacked.features,
            logits=stacked.logits,
            looks=stacked.looks,
        )

    keep(folder / f"{digest[:32]}.npz", write)
