"""What a data set holds twice, and where its labels contradict each other."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data import splits
from cadlib.data.contradictions import CONTRADICTIONS
from cadlib.data.dataset import Dataset
from cadlib.errors import DatasetInvalid
from cadlib.metrics.partial_labels import label_words, labels_contradict
from cadlib.progress import Progress, no_progress

Rows = NDArray[np.int64]

"""Called with (what is done, done, total), in the caller's thread."""

MAX_SHOWN = 5
_IN_DOUBT = {"near-duplicates": ", by their hash; look at them"}


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The images of a data set that are one lesion or one picture.

    `table` is that of the data set, numbered from 0, without the `unreadable` images, and with sha256 (of the file)
    and phash (uint64). `groups` has, for each of CONTRADICTIONS, the rows of two or more images that are one by it.
    """

    name: str
    table: pd.DataFrame
    unreadable: tuple[str, ...]
    groups: dict[str, tuple[Rows, ...]]

    def contradictions(self, kind: str) -> tuple[Rows, ...]:
        """Return the groups of a kind of which two images have labels that contradict each other."""
        labels = label_words(self.table)
        return tuple(
            rows for rows in self.groups[kind] if labels_contradict(labels.iloc[rows].dropna())
        )

    def named(self, rows: Rows) -> str:
        """Return the images of some rows with their diagnoses, as text."""
        images = self.table.iloc[rows]
        return ", ".join(
            f"{image} {'without a label' if pd.isna(code) else code}"
            for image, code in zip(images["image"], label_words(images), strict=True)
        )

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.table):,} images, {len(self.unreadable):,} not readable"]
        for kind in CONTRADICTIONS[1:]:
            groups = self.groups[kind]
            lines.append(f"{len(groups):>8,}  {kind}, {sum(map(len, groups)):,} images")
        for kind in CONTRADICTIONS:
            against = self.contradictions(kind)
            lines.append(
                f"{len(against):>8,}  labels that contradict each other: {kind}{_IN_DOUBT.get(kind, '')}"
            )
            lines += [f"{'':>8}  {self.named(rows)}" for rows in against[:MAX_SHOWN]]
            lines += [f"{'':>8}  …"] * (len(against) > MAX_SHOWN)
        return "\n".join(lines)


def find_duplicates(dataset: Dataset, progress: Progress) -> Duplicates:
    """Look for images of one lesion, identical files and near-duplicates, as far apart as a split joins them.

    Raise DatasetInvalid when no image can be read.
    """
    hashes = splits.perceptual_hashes(dataset.table, progress)
    if not len(hashes):
        raise DatasetInvalid(
            f"Expected images in {dataset.name} that can be read but none can; fetch them again."
        )
    unreadable = tuple(dataset.table["image"].drop(hashes.index))
    table = dataset.table.loc[hashes.index].reset_index(drop=True)
    digests = file_hashes(table["path"], progress)
    table = table.assign(phash=hashes.to_numpy(), sha256=digests)
    alone = table.assign(lesion_id=None, lesion_group=None)
    one = (table["lesion_id"], table["sha256"], splits.lesion_groups(alone, table["phash"]))
    groups = {kind: together(of) for kind, of in zip(CONTRADICTIONS, one, strict=True)}
    return Duplicates(dataset.name, table, unreadable, groups)


def file_hashes(paths: "pd.Series[str]", progress: Progress = no_progress) -> list[str]:
    """Return the SHA-256 of each file, in hexadecimal."""
    digests = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for digest in pool.map(_digest, paths):
            digests.append(digest)
            progress("hashing files", len(digests), len(paths))
    return digests


def together(names: "pd.Series[str] | pd.Series[int]") -> tuple[Rows, ...]:
    """Return the row numbers of each value that comes twice or more often; a missing value is none."""
    codes, _ = pd.factorize(names)
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    return tuple(rows.astype(np.int64) for rows in groups if len(rows) > 1 and codes[rows[0]] >= 0)


def _digest(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 - the path of a table's cell as it is
        return hashlib.file_digest(file, "sha256").hexdigest()
