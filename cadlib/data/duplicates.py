"""Finds duplicate images and conflicting labels in a data set."""

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

MAX_SHOWN = 5
_IN_DOUBT = {"near-duplicates": ", by their hash; look at them"}


@dataclass(frozen=True, eq=False)
class Duplicates:
    """The images of a data set that show one lesion or are copies of one image.

    `table` is the table of the data set, numbered from 0, without the `unreadable` images, and
    with sha256 (of the file) and phash (uint64). `groups` maps each kind in CONTRADICTIONS to
    groups of rows; the two or more images of a group are one by that kind.
    """

    name: str
    table: pd.DataFrame
    unreadable: tuple[str, ...]
    groups: dict[str, tuple[Rows, ...]]

    def contradictions(self, kind: str) -> tuple[Rows, ...]:
        """Return the groups of a kind with two labels that contradict each other."""
        labels = label_words(self.table)
        contradicting = []
        for rows in self.groups[kind]:
            group_labels = labels.iloc[rows]
            # An image without a label contradicts none.
            present = group_labels.dropna()
            if labels_contradict(present):
                contradicting.append(rows)
        return tuple(contradicting)

    def named(self, rows: Rows) -> str:
        """Return the images of some rows with their diagnoses, as text."""
        images = self.table.iloc[rows]
        labels = label_words(images)
        texts = []
        for image, label in zip(images["image"], labels, strict=True):
            text = "without a label" if pd.isna(label) else label
            texts.append(f"{image} {text}")
        return ", ".join(texts)

    def __str__(self) -> str:
        n_images = len(self.table)
        n_unreadable = len(self.unreadable)
        lines = [f"{self.name}: {n_images:,} images, {n_unreadable:,} not readable"]
        for kind in CONTRADICTIONS[1:]:
            groups = self.groups[kind]
            n_in_groups = sum(map(len, groups))
            lines.append(f"{len(groups):>8,}  {kind}, {n_in_groups:,} images")
        for kind in CONTRADICTIONS:
            lines += self._contradiction_lines(kind)
        return "\n".join(lines)

    def _contradiction_lines(self, kind: str) -> list[str]:
        """Return the number of contradictions of a kind, and the first of them, a line each."""
        groups = self.contradictions(kind)
        doubt = _IN_DOUBT.get(kind, "")
        title = f"labels that contradict each other: {kind}{doubt}"
        lines = [f"{len(groups):>8,}  {title}"]
        for rows in groups[:MAX_SHOWN]:
            images = self.named(rows)
            lines.append(f"{'':>8}  {images}")
        if len(groups) > MAX_SHOWN:
            lines.append(f"{'':>8}  …")
        return lines


def find_duplicates(dataset: Dataset, progress: Progress) -> Duplicates:
    """Find images of one lesion, identical files and near-duplicates.

    Near-duplicates are at most as far apart as images that a split joins. Raise DatasetInvalid
    when no image can be read.
    """
    hashes = splits.perceptual_hashes(dataset.table, progress)
    if not len(hashes):
        raise DatasetInvalid(
            f"Expected images in {dataset.name} that can be read, but none can be. "
            "Download or copy them again."
        )
    # Unreadable images have no hash.
    unreadable = tuple(dataset.table["image"].drop(hashes.index))
    table = dataset.table.loc[hashes.index].reset_index(drop=True)
    digests = file_hashes(table["path"], progress)
    table = table.assign(phash=hashes.to_numpy(), sha256=digests)

    # Without the ids of lesions only the hashes join images.
    without_ids = table.assign(lesion_id=None, lesion_group=None)
    near = splits.lesion_groups(without_ids, table["phash"])
    keys = (table["lesion_id"], table["sha256"], near)
    groups = {}
    for kind, key in zip(CONTRADICTIONS, keys, strict=True):
        groups[kind] = together(key)
    return Duplicates(dataset.name, table, unreadable, groups)


def file_hashes(paths: "pd.Series[str]", progress: Progress = no_progress) -> list[str]:
    """Return the SHA-256 of each file, in hexadecimal."""
    digests = []
    # Threads are enough: hashing releases the GIL.
    n_threads = os.cpu_count()
    n_files = len(paths)
    with ThreadPoolExecutor(n_threads) as pool:
        for digest in pool.map(_digest, paths):
            digests.append(digest)
            done = len(digests)
            progress("hashing files", done, n_files)
    return digests


def together(names: "pd.Series[str] | pd.Series[int]") -> tuple[Rows, ...]:
    """Return the row numbers of each value that occurs more than once.

    Missing values are skipped.
    """
    codes, _ = pd.factorize(names)
    # Stable, so that the rows of a group stay in their order.
    order = np.argsort(codes, kind="stable")
    sorted_codes = codes[order]
    steps = np.diff(sorted_codes)
    starts = np.flatnonzero(steps) + 1
    groups = []
    for rows in np.split(order, starts):
        if len(rows) < 2:
            continue
        first_row = rows[0]
        code = codes[first_row]
        # A missing value has the code -1.
        if code >= 0:
            group = rows.astype(np.int64)
            groups.append(group)
    return tuple(groups)


def _digest(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 - the path of a table's cell as it is
        digest = hashlib.file_digest(file, "sha256")
    return digest.hexdigest()
