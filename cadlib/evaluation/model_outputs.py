"""Runs a model on a table of images and caches its outputs.

This is the one way to run a model on many files: evaluations, maps, label review, audits and fits
share the outputs of an image. They are cached on disk, for each image and network.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.pixel_cache import find_pixels
from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.files.cache import Cache, file_facts, key_of
from cadlib.images import read_image
from cadlib.images.preprocess import REDUCING_GAP, InputSpec, to_pixels
from cadlib.model.model import Model
from cadlib.model.neighbours.fingerprint import BYTES, fingerprints
from cadlib.model.novelty import appearance
from cadlib.progress import Progress, no_progress
from cadlib.taxonomy import CODES
from cadlib.thread_pool import map_ahead

BATCH_SIZE = 32
CHUNK_SIZE = 512
"""Images whose outputs are cached in one file.

A killed process loses those of the last file, an interrupted process loses none.
"""
RUNNING = "running the model"
"""What `progress` is called with."""
_FORMAT = 2
"""Part of a folder's name: raise it when what is stored changes."""
_ARRAYS = ("features", "logits", "member_logits", "view_logits", "looks", "fingerprints")
"""Arrays of a cached file and of TableOutputs, in the order of _Output."""
# Threads wait for the processes that decode, so there are more of them than cores.
_READERS = 4

_Floats32 = NDArray[np.float32]
_Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class TableOutputs:
    """The outputs of a model for the N readable images of a table, one row each.

    `features` (N, C), `logits` (N, 8), `member_logits` (N, M, 8) and `view_logits` (N, V, 8),
    float32, are those of `committee.Outputs`: the logits are before temperature and bias. For an
    image that networks of a cross-validation were trained on, `logits` are those of the network
    that was not.

    `looks`, (N, F) float32, is what `novelty.appearance` measures of the network's input, and
    `fingerprints`, (N, 32) uint8, are those of it. All arrays are read-only. `rows`, (N,) int64,
    has the place of each image in the table. `rejected` has the other images of the table, id ->
    reason why it cannot be read. C is 0 if N is 0.
    """

    rows: NDArray[np.int64]
    features: _Floats32
    logits: _Floats32
    member_logits: _Floats32
    view_logits: _Floats32
    looks: _Floats32
    fingerprints: _Bytes
    rejected: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.rows)

    def readable(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of the table that have outputs, numbered from 0."""
        return table.iloc[self.rows].reset_index(drop=True)

    def check_any(self) -> None:
        """Raise DatasetInvalid if no image can be read."""
        if not len(self):
            raise DatasetInvalid(
                f"Expected images that can be read but all {len(self.rejected):,} cannot; "
                "give others."
            )


class _Output(NamedTuple):
    """The outputs for one image: a row of each array of TableOutputs."""

    features: _Floats32
    logits: _Floats32
    member_logits: _Floats32
    view_logits: _Floats32
    looks: _Floats32
    fingerprint: _Bytes


# Gives the arrays of a table without a readable image their shapes.
_NO_OUTPUT = _Output(
    features=np.zeros(0, np.float32),
    logits=np.zeros(len(CODES), np.float32),
    member_logits=np.zeros((1, len(CODES)), np.float32),
    view_logits=np.zeros((1, len(CODES)), np.float32),
    looks=np.zeros(appearance.N_MEASUREMENTS, np.float32),
    fingerprint=np.zeros(BYTES, np.uint8),
)
_Outputs = dict[bytes, _Output]
"""Key of an image file in the cache -> its outputs."""


class _Prepared(NamedTuple):
    """The network's input for one image, (S, S, 3), and what is measured of these pixels."""

    pixels: _Bytes
    looks: _Floats32
    fingerprint: _Bytes


_Decoded = tuple[int, _Prepared | ImageRejected]
"""A row of a table with its prepared image, or the reason why it has none."""


def model_outputs(
    model: Model,
    table: pd.DataFrame,
    progress: Progress = no_progress,
    *,
    batch_size: int = BATCH_SIZE,
    skip_unreadable: bool = False,
) -> TableOutputs:
    """Return the outputs of a model for each image of a table's `path` column, labelled or not.

    The network runs once for an image, even if it is in several tables. After an interruption the
    next call continues where it stopped. `progress` is called with the images done and their
    number. Raise ImageRejected for a file that cannot be read; with `skip_unreadable` list it in
    `TableOutputs.rejected` instead.
    """
    keys, rejections = _keys(table["path"])
    store = _Store(_cache(model))
    store.read(set(keys.values()))
    missing = [row for row, key in keys.items() if key not in store.outputs]
    total = len(table)
    done = total - len(missing)
    if done:
        progress(RUNNING, done, total)
    try:
        for batch in _batches(model.record.input, table, missing, batch_size):
            rejections |= _rejected(batch)
            if rejections and not skip_unreadable:
                # The error is raised below, after the outputs so far were written.
                break
            store.add(_run(model, batch, keys))
            done += len(batch)
            progress(RUNNING, done, total)
    finally:
        # Also after an interruption, so that no image is computed twice.
        store.write()
    if rejections and not skip_unreadable:
        raise rejections[min(rejections)]
    return _in_order(store.outputs, keys, rejections, table["image"], model.folds)


def _keys(paths: "pd.Series[str]") -> tuple[dict[int, bytes], dict[int, ImageRejected]]:
    """Return the key in the cache of the file of each row, and why other rows have none."""
    keys: dict[int, bytes] = {}
    rejections: dict[int, ImageRejected] = {}
    for row, path in enumerate(paths):
        try:
            facts = file_facts(path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            rejections[row] = ImageRejected(
                f"{Path(path).name} could not be read: {reason}. Check the disk or the network."
            )
        else:
            keys[row] = key_of(facts).encode()
    return keys, rejections


def _cache(model: Model) -> Cache:
    """Return the cache of a model's outputs.

    Its name depends on the network, the library that runs it and the way it reads a file.
    """
    record = model.record
    network = key_of(
        _FORMAT,
        [(member.onnx_sha256, member.weights_sha256) for member in record.members],
        record.views,
        record.average,
        onnxruntime.__version__,
        record.input,
        REDUCING_GAP,
        appearance.N_MEASUREMENTS,
    )
    return Cache(f"outputs/{network}", ".npz")


def _batches(
    spec: InputSpec,
    table: pd.DataFrame,
    rows: list[int],
    batch_size: int,
) -> Iterator[list[_Decoded]]:
    """Yield rows of a table with their images, decoded ahead in threads."""
    pixels = find_pixels(table, spec)
    paths = table["path"].tolist()

    def pixels_of(row: int) -> _Bytes:
        if pixels is None:
            return to_pixels(read_image(paths[row]), spec)
        return pixels[row]

    def prepare(row: int) -> _Prepared | ImageRejected:
        try:
            image = pixels_of(row)
        except ImageRejected as reason:
            return reason
        [looks] = appearance.measure(image[None])
        [fingerprint] = fingerprints(image[None])
        return _Prepared(image, looks, fingerprint)

    # The next batch is decoded while the network runs on this one.
    ahead = 2 * batch_size
    images = map_ahead(prepare, rows, workers=_READERS, ahead=ahead)
    decoded = zip(rows, images, strict=True)
    batch = list(islice(decoded, batch_size))
    while batch:
        yield batch
        batch = list(islice(decoded, batch_size))


def _rejected(batch: list[_Decoded]) -> dict[int, ImageRejected]:
    """Return the rows of a batch without an image, with the reasons."""
    return {row: image for row, image in batch if isinstance(image, ImageRejected)}


def _run(
    model: Model,
    batch: list[_Decoded],
    keys: Mapping[int, bytes],
) -> _Outputs:
    """Run the network on the readable images of a batch, and return their outputs by key."""
    readable: dict[bytes, _Prepared] = {}
    for row, image in batch:
        if not isinstance(image, ImageRejected):
            # Copies of a file have one key, so the network reads one of them.
            readable[keys[row]] = image
    if not readable:
        return {}
    pixels = [image.pixels for image in readable.values()]
    outputs = model.see(np.stack(pixels))
    by_key: _Outputs = {}
    for place, (key, image) in enumerate(readable.items()):
        by_key[key] = _Output(
            features=outputs.features[place],
            logits=outputs.logits[place],
            member_logits=outputs.member_logits[place],
            view_logits=outputs.view_logits[place],
            looks=image.looks,
            fingerprint=image.fingerprint,
        )
    return by_key


def _in_order(
    outputs: _Outputs,
    keys: Mapping[int, bytes],
    rejections: Mapping[int, ImageRejected],
    images: "pd.Series[str]",
    folds: Mapping[str, int],
) -> TableOutputs:
    """Return the outputs in the order of the rows; `images` has the id of each row."""
    rejected: dict[str, str] = {}
    for row in sorted(rejections):
        rejected[images.iloc[row]] = str(rejections[row])
    rows = [row for row in keys if row not in rejections]
    outputs_of_rows = []
    for row in rows:
        key = keys[row]
        outputs_of_rows.append(outputs[key])
    arrays = _stacked(outputs_of_rows)
    _hold_out(arrays, images.iloc[rows], folds)
    for array in arrays.values():
        # A frozen dataclass alone does not protect its arrays.
        array.flags.writeable = False
    places = np.array(rows, np.int64)
    return TableOutputs(rows=places, rejected=rejected, **arrays)


def _hold_out(arrays: dict[str, Any], images: "pd.Series[str]", folds: Mapping[str, int]) -> None:
    """Replace the logits of images that networks were trained on, in place.

    They become those of the network that was not. `folds` has its number by the id of the image.
    """
    for row, image in enumerate(images):
        fold = folds.get(image)
        if fold is not None:
            arrays["logits"][row] = arrays["member_logits"][row, fold]


def _stacked(outputs: Sequence[_Output]) -> dict[str, Any]:
    """Return one array for each of _ARRAYS, with a row for each image."""
    if not outputs:
        # np.stack needs at least one array; the slice removes its row again.
        outputs = [_NO_OUTPUT]
        return {name: rows[:0] for name, rows in _stacked(outputs).items()}
    columns = zip(*outputs, strict=True)
    return {name: np.stack(rows) for name, rows in zip(_ARRAYS, columns, strict=True)}


class _Store:
    """The outputs of a network for images, in memory and on disk.

    `outputs` are those that were read or added.
    """

    def __init__(self, cache: Cache) -> None:
        self.outputs: _Outputs = {}
        self._cache = cache
        # Those of `outputs` that are not on disk yet.
        self._fresh: _Outputs = {}

    def read(self, keys: set[bytes]) -> None:
        """Read the outputs of these images, as far as they are on disk."""
        for entry in self._cache.entries():
            outputs = entry.read(lambda place: _read(place, keys))
            self.outputs |= outputs or {}

    def add(self, outputs: _Outputs) -> None:
        """Add outputs, and write to disk when there are CHUNK_SIZE that are not there yet."""
        self.outputs |= outputs
        self._fresh |= outputs
        if len(self._fresh) >= CHUNK_SIZE:
            self.write()

    def write(self) -> None:
        """Write the outputs that are not on disk yet, as one more file."""
        if not self._fresh:
            return
        keys = np.array(list(self._fresh))
        arrays = _stacked(list(self._fresh.values()))
        # Named by its images, so that two processes write the same file or different ones.
        entry = self._cache.entry(keys.tobytes())
        entry.write(lambda file: np.savez(file, keys=keys, **arrays))
        self._fresh = {}


def _read(place: Path, keys: set[bytes]) -> _Outputs:
    """Return the outputs in a file for these images."""
    # np.load leaves a damaged file open that it has opened itself.
    with place.open("rb") as file, np.load(file, allow_pickle=False) as chunk:
        chunk_keys = chunk["keys"].tolist()
        wanted = [(row, key) for row, key in enumerate(chunk_keys) if key in keys]
        # Other arrays of the file are only read for images of this table.
        if not wanted:
            return {}
        # Each access to the file reads a whole array.
        arrays = [chunk[name] for name in _ARRAYS]
    outputs: _Outputs = {}
    for row, key in wanted:
        values = [array[row] for array in arrays]
        outputs[key] = _Output(*values)
    return outputs
