"""Draws a random sample of images with every diagnosis of every archive."""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.errors import DatasetInvalid
from cadlib.taxonomy import CODES

Rows = NDArray[np.int64]
"""Numbers of rows or strata, or how many of them, (N,)."""


def stratified_sample(dataset: Dataset, n: int, seed: int = 0) -> Dataset:
    """Draw `n` labelled images at random, or all when there are fewer, from every stratum.

    A stratum is a diagnosis in an archive. Each stratum gives one image, and the rest are shared
    out by how many more images it has (largest remainder). Raise DatasetInvalid for fewer images
    than strata.
    """
    table = _diagnosed(dataset)
    # Images of an unknown archive are a stratum of their own.
    by_stratum = table.groupby(
        ["diagnosis", "archive"],
        dropna=False,
        sort=True,
    )
    strata = by_stratum.ngroup().to_numpy(np.int64)
    sizes = np.bincount(strata)
    n = min(n, len(table))
    least = max(len(sizes), 1)
    if n < least:
        raise DatasetInvalid(
            f"Expected at least {least} images, one for each diagnosis of each archive, "
            f"but got {n}. Take a larger sample."
        )
    counts: Rows = _sample_sizes(sizes, n)
    drawn = _drawn_rows(strata, counts, seed)
    rows = table.iloc[drawn]
    return replace(dataset, table=rows.reset_index(drop=True))


def _diagnosed(dataset: Dataset) -> pd.DataFrame:
    """Return the rows that have a diagnosis; raise DatasetInvalid where there is none."""
    is_diagnosed = dataset.table["diagnosis"].isin(CODES)
    table = dataset.table[is_diagnosed]
    if table.empty:
        raise DatasetInvalid(
            f"Expected images with a diagnosis in {dataset.name}, "
            f"but found none among {len(dataset.table):,}. Add a ground truth that names "
            "diagnoses; malignant or benign alone is not enough here."
        )
    return table


def _drawn_rows(
    strata: NDArray[np.integer],
    counts: Rows,
    seed: int,
) -> Rows:
    """Draw as many rows of each stratum as `counts` says, sorted; `strata` has one per row."""
    rng = np.random.default_rng(seed)
    drawn = []
    for stratum, count in enumerate(counts):
        members = np.flatnonzero(strata == stratum)
        shuffled = rng.permutation(members)
        drawn.append(shuffled[:count])
    rows: Rows = np.concatenate(drawn)
    # In the order of the table, as a reader expects.
    return np.sort(rows)


def _sample_sizes(sizes: Rows, n: int) -> Rows:
    """Return how many of `n` images each stratum of these sizes gives (largest remainder)."""
    n_strata = len(sizes)
    n_rest = n - n_strata
    # Every stratum gave one image: the rest is shared out by the images that are left in each.
    more = sizes - 1
    n_more = max(sizes.sum() - n_strata, 1)
    share = n_rest * more / n_more
    whole = share.astype(np.int64)
    counts: Rows = 1 + whole
    # The smallest difference is the largest remainder.
    largest_remainder_first = np.argsort(whole - share, kind="stable")
    n_left = n - counts.sum()
    counts[largest_remainder_first[:n_left]] += 1
    return counts
