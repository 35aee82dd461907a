"""Does the split of a model leak? Every two of its splits compared: lesions, files, hashes, pixels and features.

What counts as a leak is in `validation.LEAKS`. The model's own features are made to be alike for alike lesions, so the
pairs that are nearest by them are no proof of anything but pairs to look at, in the sheet; they count as a leak where
the detail of the pixels says the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.data.dataset import Dataset
from cadlib.data.duplicates import Duplicates, Rows, find_duplicates, together
from cadlib.data.pixel_cache import cached_pixels
from cadlib.data.pixel_similarity import Details, details_in, likeness, shows_the_same
from cadlib.data.splits import NEAR_DUPLICATE_BITS, SPLITS
from cadlib.evaluation.features import cached_features
from cadlib.model import card
from cadlib.model.audit_result import LEAKS, MAX_NAMED, LeakAudit, claim
from cadlib.model.model import Model
from cadlib.model.record import (
    CARD_FILE,
    METRICS_FILE,
    ModelRecord,
    read_checked_json,
    write_folder,
)
from cadlib.model.split import not_the_models, own_split
from cadlib.progress import Progress

BLOCK_CELLS = 4_000_000
"""Pairs that are compared at a time; each takes about 20 bytes."""
HASH_BITS = 64
SHOWN_BITS = 10
NEAREST_SHOWN = 5
PAIR_COLUMNS = {
    "left": "int64", "right": "int64", "bits": "int64", "cosine": "float32", "likeness": "float32", "same": "bool",
}  # fmt: skip
_SHORT = {
    "shared_lesions": "one lesion id",
    "shared_groups": "one lesion group",
    "identical_files": "identical files",
    "near_duplicates": "near-equal hashes",
    "same_pictures": "the same by pixels",
}


@dataclass(frozen=True, eq=False)
class SplitAudit:
    """What the audit of a model's split found; `str()` is the text for a terminal.

    `table` has the images of the split, as `Duplicates` has those of the data set, with split and split_group.
    `pairs` has those across splits that leak, and for each image the nearest of each other split: left and right
    (rows of `table`), bits (between hashes, 0 to 64), cosine (between features) and likeness (of details), -1 to 1,
    and same: whether they show the same by `likeness.shows_the_same`.
    `hash_distances` counts all pairs across splits by bits, (65,). `missing` images of the split were not there.
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
        """Return the pairs that show the same, by hash or by pixels, the likest first."""
        leaks = (self.pairs["bits"] <= NEAR_DUPLICATE_BITS) | self.pairs["same"]
        return self.pairs[leaks].sort_values("likeness", ascending=False)

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
        lines += [f"{getattr(result, name):>8,}  {what}" for name, what in LEAKS.items()]
        lines += [f"{'':>8}  {one}" for one in result.named]
        distances = ", ".join(
            f"{n:,} at {bits}" for bits, n in enumerate(self.hash_distances[: SHOWN_BITS + 1]) if n
        )
        lines += [
            "",
            f"hashes across splits, pairs by bits that differ (up to {SHOWN_BITS}): {distances or 'none'}",
        ]
        for by, what in (
            ("cosine", "the model's features, to look at"),
            ("likeness", "the detail of their pixels"),
        ):
            lines.append(f"nearest across splits by {what}:")
            lines += [
                f"{value:>8.3f}  {images_in_splits(self.table, couple)}"
                for pairs in [self.nearest(by, NEAREST_SHOWN)]
                for value, couple in zip(pairs[by], couples(pairs), strict=True)
            ]
        return "\n".join([*lines, "", f"{self.model_id}: {claim(result)}"])


def audit_split(model: Model, folder: Path, dataset: Dataset, progress: Progress) -> SplitAudit:
    """Compare the splits of the model in `folder` on the images of a data set.

    Raise ModelInvalid when its split.csv is not the one of its record, and DatasetInvalid when the data set has no
    image of it.
    """
    rows = own_split(folder, model.record, leaking=True)
    duplicates = find_duplicates(dataset, progress)
    known = rows.rename(columns={"lesion_group": "split_group"})
    table = duplicates.table.merge(known, on="image", how="inner")
    if table.empty:
        raise not_the_models(model.record, dataset, "split")
    pairs, distances = _across(_see(model, table, progress), table["split"], progress)
    result = _result(model.record, duplicates, table, pairs)
    return SplitAudit(
        model.record.model_id, duplicates, table, pairs, distances, len(rows) - len(table), result
    )


def images_in_splits(table: pd.DataFrame, rows: Sequence[int]) -> str:
    """Return the images of some rows of SplitAudit's table with their splits, as text."""
    chosen = table.iloc[list(rows)]
    return ", ".join(
        f"{image} ({part})" for image, part in zip(chosen["image"], chosen["split"], strict=True)
    )


def couples(pairs: pd.DataFrame) -> list[list[int]]:
    """Return (left, right) of each row of SplitAudit's pairs."""
    return [
        [int(left), int(right)] for left, right in zip(pairs["left"], pairs["right"], strict=True)
    ]


def write_into(folder: Path, record: ModelRecord, result: LeakAudit) -> None:
    """Put a result into model.json and the card of a model folder, all whole or none; may raise OSError."""
    audited = replace(record, audit=result)
    figures = read_checked_json(folder, METRICS_FILE)
    write_folder(folder, audited, {CARD_FILE: card.render(audited, figures)})


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is compared of N images: hashes (N,) uint64, features (N, C) of length 1, details."""

    hashes: NDArray[np.uint64]
    features: NDArray[np.float32]
    details: Details

    def of(self, rows: Rows) -> "_Seen":
        return _Seen(self.hashes[rows], self.features[rows], self.details.of(rows))


def _see(model: Model, table: pd.DataFrame, progress: Progress) -> _Seen:
    pixels = cached_pixels(table, model.record.input, progress)
    details = details_in(pixels.batches())
    features = cached_features(model, table, progress).features
    lengths: NDArray[np.float32] = np.linalg.norm(features, axis=1, keepdims=True)
    features /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return _Seen(table["phash"].to_numpy(np.uint64), features, details)


def _across(
    seen: "_Seen", parts: "pd.Series[str]", progress: Progress
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the pairs of SplitAudit, and its hash distances."""
    rows = {part: np.flatnonzero(parts == part) for part in SPLITS}
    couples = [(rows[one], rows[other]) for one, other in combinations(SPLITS, 2) if len(rows[one])]
    distances = np.zeros(HASH_BITS + 1, np.int64)
    found = [pd.DataFrame({name: np.zeros(0, dtype) for name, dtype in PAIR_COLUMNS.items()})]
    done, total = 0, sum(len(right) for _, right in couples)
    for left, right in couples:
        those, size = seen.of(left), max(1, BLOCK_CELLS // len(left))
        for first in range(0, len(right), size):
            block = right[first : first + size]
            pairs, counts = _compared(those, seen.of(block))
            found.append(pairs.assign(left=left[pairs["left"]], right=block[pairs["right"]]))
            distances += counts
            done += len(block)
            progress("comparing images", done, total)
    return pd.concat(found, ignore_index=True), distances


def _compared(left: "_Seen", right: "_Seen") -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Compare each image with each of another split; return what leaks, the nearest of each, and all distances."""
    bits = np.bitwise_count(left.hashes[:, None] ^ right.hashes)
    cosine = left.features @ right.features.T
    alike = likeness(left.details, right.details)
    nearest, likest = (_highest(scores) for scores in (cosine, alike))
    same = shows_the_same(alike, left.details, right.details, nearest)
    kept = np.nonzero((bits <= NEAR_DUPLICATE_BITS) | same | nearest | likest)
    columns = (*kept, *(values[kept] for values in (bits, cosine, alike, same)))
    pairs = pd.DataFrame(dict(zip(PAIR_COLUMNS, columns, strict=True))).astype(PAIR_COLUMNS)
    return pairs, np.bincount(bits.ravel(), minlength=HASH_BITS + 1)


def _highest(scores: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark one highest score of each column."""
    marked = np.zeros(scores.shape, bool)
    marked[scores.argmax(axis=0), np.arange(scores.shape[1])] = True
    return marked


def _result(
    record: ModelRecord, duplicates: Duplicates, table: pd.DataFrame, pairs: pd.DataFrame
) -> LeakAudit:
    parts = table["split"]
    found: dict[str, list[list[int]]] = {
        "shared_lesions": _spread(table["lesion_id"], parts),
        "shared_groups": [
            *_spread(table["split_group"], parts),
            *_spread(table["lesion_group"], parts),
        ],
        "identical_files": [
            list(couple)
            for rows in together(table["sha256"])
            for couple in combinations(rows.tolist(), 2)
            if parts.iloc[list(couple)].nunique() > 1
        ],
        "near_duplicates": couples(pairs[pairs["bits"] <= NEAR_DUPLICATE_BITS]),
        "same_pictures": couples(pairs[pairs["same"]]),
    }
    named = [
        f"{_SHORT[name]}: {images_in_splits(table, one)}"
        for name, leaks in found.items()
        for one in leaks
    ]
    return LeakAudit(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        dataset=duplicates.name,
        split_sha256=record.training.split_sha256,
        images={part: int((parts == part).sum()) for part in SPLITS},
        **{name: len(rows) for name, rows in found.items()},
        contradictions={kind: len(duplicates.contradictions(kind)) for kind in CONTRADICTIONS},
        named=tuple(named[:MAX_NAMED]),
    )


def _spread(names: "pd.Series[str]", parts: "pd.Series[str]") -> list[list[int]]:
    """Return the rows of each name whose images stand in several splits."""
    return [rows.tolist() for rows in together(names) if parts.iloc[rows].nunique() > 1]
