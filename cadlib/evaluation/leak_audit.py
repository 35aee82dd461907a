"""Audits whether the split of a model leaks between its parts.

Every two parts are compared: lesions, files, hashes, pixels and features. `audit_result.LEAKS`
lists what counts as a leak. The model's own features are trained to be alike for alike lesions, so
the nearest pairs by features are no proof of a leak, only pairs to look at, in the report sheet;
they count as a leak if the details of their pixels agree, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.data.dataset import Dataset
from cadlib.data.duplicates import Duplicates, Rows, find_duplicates, together
from cadlib.data.pixel_cache import cached_pixels
from cadlib.data.pixel_similarity import Details, details_in, shows_the_same, similarity
from cadlib.data.splits import NEAR_DUPLICATE_BITS, SPLITS
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.model import card, metrics_file
from cadlib.model.audit_result import LEAKS, MAX_NAMED, LeakAudit, claim
from cadlib.model.model import Model
from cadlib.model.record import (
    CARD_FILE,
    ModelRecord,
    write_folder,
)
from cadlib.model.split import not_the_models, split_of_model
from cadlib.progress import Progress

BLOCK_CELLS = 4_000_000
"""Pairs that are compared at a time; each needs about 20 bytes."""
HASH_BITS = 64
SHOWN_BITS = 10
NEAREST_SHOWN = 5
PAIR_COLUMNS = {
    "left": "int64",
    "right": "int64",
    "bits": "int64",
    "cosine": "float32",
    "likeness": "float32",
    "same": "bool",
}
_SHORT = {
    "shared_lesions": "one lesion id",
    "shared_groups": "one lesion group",
    "identical_files": "identical files",
    "near_duplicates": "near-equal hashes",
    "same_pictures": "the same by pixels",
}


@dataclass(frozen=True, eq=False)
class SplitAudit:
    """The result of the audit of a model's split; `str()` is the text for a terminal.

    `table` has the images of the split, in the form of `Duplicates`, with split and split_group.
    `pairs` has the pairs across splits that leak, and for each image the nearest one of each other
    split, with the columns
    left and right, rows of `table`;
    bits, that differ between the hashes, 0 to 64;
    cosine, between the features, and likeness, of the details, -1 to 1;
    same, whether they show the same by `pixel_similarity.shows_the_same`.
    `hash_distances` counts all pairs across splits by bits, (65,). `missing` is the number of
    images of the split that are not in the data set.
    """

    model_id: str
    duplicates: Duplicates
    table: pd.DataFrame
    pairs: pd.DataFrame
    hash_distances: NDArray[np.int64]
    missing: int
    result: LeakAudit

    @property
    def leaking_pairs(self) -> pd.DataFrame:
        """Return the pairs that show the same, by hash or by pixels, the most alike first."""
        near_hashes = self.pairs["bits"] <= NEAR_DUPLICATE_BITS
        leaks = near_hashes | self.pairs["same"]
        leaking = self.pairs[leaks]
        return leaking.sort_values("likeness", ascending=False)

    def nearest(self, by: str, n: int) -> pd.DataFrame:
        """Return the n pairs with the highest cosine or likeness, the highest first."""
        return self.pairs.nlargest(n, by)

    def __str__(self) -> str:
        result = self.result
        counts = ", ".join(f"{n:,} {part}" for part, n in result.images.items())
        lines = [
            str(self.duplicates),
            "",
            f"{self.model_id}, its split: {counts}, {self.missing:,} not at hand",
        ]
        for name, description in LEAKS.items():
            count = getattr(result, name)
            lines.append(f"{count:>8,}  {description}")
        lines += [f"{'':>8}  {leak}" for leak in result.named]
        lines += ["", self._distances_line()]
        lines += self._nearest_lines("cosine", "the model's features, to look at")
        lines += self._nearest_lines("likeness", "the detail of their pixels")
        lines += ["", f"{self.model_id}: {claim(result)}"]
        return "\n".join(lines)

    def _distances_line(self) -> str:
        counts = []
        n_shown = SHOWN_BITS + 1
        for bits, n in enumerate(self.hash_distances[:n_shown]):
            if n:
                counts.append(f"{n:,} at {bits}")
        distances = ", ".join(counts) or "none"
        return f"hashes across splits, pairs by bits that differ (up to {SHOWN_BITS}): {distances}"

    def _nearest_lines(self, by: str, description: str) -> list[str]:
        lines = [f"nearest across splits by {description}:"]
        pairs = self.nearest(by, NEAREST_SHOWN)
        rows_of_pairs = couples(pairs)
        for value, couple in zip(pairs[by], rows_of_pairs, strict=True):
            images = images_in_splits(self.table, couple)
            lines.append(f"{value:>8.3f}  {images}")
        return lines


def audit_split(
    model: Model,
    folder: Path,
    dataset: Dataset,
    progress: Progress,
) -> SplitAudit:
    """Compare the splits of the model in `folder` on the images of a data set.

    Raise ModelInvalid when its split.csv is not the one of its record, and DatasetInvalid when the
    data set has no image of it.
    """
    split = split_of_model(folder, model.record, leaking=True)
    # The table of the duplicates has a lesion_group of its own.
    split = split.rename(columns={"lesion_group": "split_group"})
    duplicates = find_duplicates(dataset, progress)
    table = duplicates.table.merge(split, on="image", how="inner")
    if table.empty:
        raise not_the_models(model.record, dataset, "split")
    images = _described(model, table, progress)
    pairs, distances = _across(images, table["split"], progress)
    return SplitAudit(
        model_id=model.record.model_id,
        duplicates=duplicates,
        table=table,
        pairs=pairs,
        hash_distances=distances,
        missing=len(split) - len(table),
        result=_result(model.record, duplicates, table, pairs),
    )


def images_in_splits(table: pd.DataFrame, rows: Sequence[int]) -> str:
    """Return the images of some rows of SplitAudit's table with their splits, as text."""
    chosen = table.iloc[list(rows)]
    names = []
    for image, part in zip(chosen["image"], chosen["split"], strict=True):
        names.append(f"{image} ({part})")
    return ", ".join(names)


def couples(pairs: pd.DataFrame) -> list[list[int]]:
    """Return (left, right) of each row of SplitAudit's pairs."""
    rows = []
    for left, right in zip(pairs["left"], pairs["right"], strict=True):
        couple = [int(left), int(right)]
        rows.append(couple)
    return rows


def write_into(
    folder: Path,
    record: ModelRecord,
    result: LeakAudit,
) -> None:
    """Write a result into model.json and the card of a model folder, both whole or neither.

    May raise OSError.
    """
    audited = msgspec.structs.replace(record, audit=result)
    metrics = metrics_file.measured(folder, record)
    text = card.render(audited, metrics)
    write_folder(folder, audited, {CARD_FILE: text})


@dataclass(frozen=True, eq=False)
class _Images:
    """The properties of N images that are compared.

    `hashes` are (N,) uint64, `features` (N, C) float32 of length 1.
    """

    hashes: NDArray[np.uint64]
    features: NDArray[np.float32]
    details: Details

    def of(self, rows: Rows) -> "_Images":
        return _Images(
            hashes=self.hashes[rows],
            features=self.features[rows],
            details=self.details.of(rows),
        )


def _described(
    model: Model,
    table: pd.DataFrame,
    progress: Progress,
) -> _Images:
    # The pixels come first, because the model reads those that were cached.
    pixels = cached_pixels(table, model.record.input, progress)
    details = details_in(pixels.batches())
    outputs = model_outputs(model, table, progress)
    features = outputs.features
    lengths: NDArray[np.float32] = np.linalg.norm(features, axis=1, keepdims=True)
    # Features of only zeros have no direction; the smallest float32 avoids a division by 0.
    smallest = np.finfo(np.float32).tiny
    divisors = np.maximum(lengths, smallest, dtype=np.float32)
    directions = np.divide(features, divisors, dtype=np.float32)
    return _Images(
        hashes=table["phash"].to_numpy(np.uint64),
        features=directions,
        details=details,
    )


def _across(
    images: _Images,
    parts: "pd.Series[str]",
    progress: Progress,
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the pairs of SplitAudit, and its hash distances."""
    rows_of_parts = _rows_of_parts(parts)
    total = sum(len(right_rows) for _, right_rows in rows_of_parts)
    done = 0
    distances = np.zeros(HASH_BITS + 1, np.int64)
    blocks = [_no_pairs()]
    for left_rows, right_rows in rows_of_parts:
        left_images = images.of(left_rows)
        # All pairs at once would need gigabytes for some ten thousand images.
        block_size = max(1, BLOCK_CELLS // len(left_rows))
        for first in range(0, len(right_rows), block_size):
            block = right_rows[first : first + block_size]
            pairs, counts = _compared(left_images, images.of(block))
            # The comparison numbers the images that it gets; these are their rows in the table.
            pairs = pairs.assign(left=left_rows[pairs["left"]], right=block[pairs["right"]])
            blocks.append(pairs)
            distances += counts
            done += len(block)
            progress("comparing images", done, total)
    return pd.concat(blocks, ignore_index=True), distances


def _rows_of_parts(parts: "pd.Series[str]") -> list[tuple[Rows, Rows]]:
    """Return the rows of each two parts of the split that are compared."""
    rows_of_parts = []
    for left, right in combinations(SPLITS, 2):
        left_rows = np.flatnonzero(parts == left)
        right_rows = np.flatnonzero(parts == right)
        # The number of left rows is a divisor in `_across`.
        if not len(left_rows):
            continue
        both = (left_rows, right_rows)
        rows_of_parts.append(both)
    return rows_of_parts


def _no_pairs() -> pd.DataFrame:
    """Return the table of pairs without a row."""
    columns = {}
    for name, dtype in PAIR_COLUMNS.items():
        columns[name] = np.zeros(0, dtype)
    return pd.DataFrame(columns)


def _compared(
    left: _Images,
    right: _Images,
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Compare each image of a split with each of another.

    Return the pairs that leak or are nearest to each other, and all distances of hashes, (65,).
    """
    different_bits = left.hashes[:, None] ^ right.hashes
    bits = np.bitwise_count(different_bits)
    cosine = left.features @ right.features.T
    alike = similarity(left.details, right.details)
    nearest = _highest(cosine)
    most_alike = _highest(alike)
    # By details alone some images of one kind look the same, so they have to be nearest, too.
    same = shows_the_same(alike, left.details, right.details, nearest)
    near_hashes = bits <= NEAR_DUPLICATE_BITS
    reported = near_hashes | same | nearest | most_alike
    # (left, right) places of the pairs in the (N, M) arrays.
    cells = np.nonzero(reported)
    left_places, right_places = cells
    columns = {
        "left": left_places,
        "right": right_places,
        "bits": bits[cells],
        "cosine": cosine[cells],
        "likeness": alike[cells],
        "same": same[cells],
    }
    pairs = pd.DataFrame(columns)
    pairs = pairs.astype(PAIR_COLUMNS)
    # Two hashes differ in 0 to HASH_BITS bits.
    distances = np.bincount(bits.ravel(), minlength=HASH_BITS + 1)
    return pairs, distances


def _highest(scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark one highest score of each column."""
    marked = np.zeros(scores.shape, bool)
    rows = scores.argmax(axis=0)
    columns = np.arange(scores.shape[1])
    marked[rows, columns] = True
    return marked


def _result(
    record: ModelRecord,
    duplicates: Duplicates,
    table: pd.DataFrame,
    pairs: pd.DataFrame,
) -> LeakAudit:
    leaks = _leaks(table, pairs)
    named = []
    for name, rows_of_leaks in leaks.items():
        for rows in rows_of_leaks:
            images = images_in_splits(table, rows)
            named.append(f"{_SHORT[name]}: {images}")
    counts = {}
    for part in SPLITS:
        counts[part] = int((table["split"] == part).sum())
    contradictions = {}
    for kind in CONTRADICTIONS:
        contradictions[kind] = len(duplicates.contradictions(kind))
    return LeakAudit(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset=duplicates.name,
        split_sha256=record.training.split_sha256,
        images=counts,
        shared_lesions=len(leaks["shared_lesions"]),
        shared_groups=len(leaks["shared_groups"]),
        identical_files=len(leaks["identical_files"]),
        near_duplicates=len(leaks["near_duplicates"]),
        same_pictures=len(leaks["same_pictures"]),
        contradictions=contradictions,
        named=tuple(named[:MAX_NAMED]),
        leaks=bool(named),
    )


def _leaks(
    table: pd.DataFrame,
    pairs: pd.DataFrame,
) -> dict[str, list[list[int]]]:
    """Return the rows of the images of each leak, by the kind of leak as in LEAKS."""
    parts = table["split"]
    near_duplicates = pairs[pairs["bits"] <= NEAR_DUPLICATE_BITS]
    return {
        "shared_lesions": _in_several_parts(table["lesion_id"], parts),
        "shared_groups": [
            *_in_several_parts(table["split_group"], parts),
            *_in_several_parts(table["lesion_group"], parts),
        ],
        "identical_files": _identical_files(table),
        "near_duplicates": couples(near_duplicates),
        "same_pictures": couples(pairs[pairs["same"]]),
    }


def _identical_files(table: pd.DataFrame) -> list[list[int]]:
    """Return each two rows of different splits whose files are identical."""
    across = []
    # Copies in one split count twice there, but leak nothing.
    for rows in together(table["sha256"]):
        for couple in combinations(rows.tolist(), 2):
            pair = list(couple)
            parts = table["split"].iloc[pair]
            left_part, right_part = parts
            if left_part != right_part:
                across.append(pair)
    return across


def _in_several_parts(
    names: "pd.Series[str]",
    parts: "pd.Series[str]",
) -> list[list[int]]:
    """Return the rows of each name whose images are in several splits."""
    in_several = []
    for rows in together(names):
        n_parts = parts.iloc[rows].nunique()
        if n_parts > 1:
            in_several.append(rows.tolist())
    return in_several
