"""Draws a random sample of images with every diagnosis of every archive."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.errors import DatasetInvalid
from cadlib.taxonomy import CODES


def stratified_sample(dataset: Dataset, n: int, seed: int = 0) -> Dataset:
    """Draw `n` labelled images at random, or all when there are fewer, from every stratum.

    A stratum is a diagnosis in an archive. Each stratum gives one image, and the rest are shared
    out by how many more images it has (largest remainder). Raise DatasetInvalid for fewer images
    than strata.
    """
    is_diagnosed = dataset.table["diagnosis"].isin(CODES)
    table = dataset.table[is_diagnosed]
    if table.empty:
        raise DatasetInvalid(
            f"Expected images with a diagnosis in {dataset.name}, "
            f"but found none among {len(dataset.table):,}. Add a ground truth that names "
            "diagnoses; malignant or benign alone is not enough here."
        )
    by_stratum = table.groupby(["diagnosis", "archive"], dropna=False, sort=True)
    strata = by_stratum.ngroup().to_numpy(np.int64)
    sizes = np.bincount(strata)
    n = min(n, len(table))
    least = max(len(sizes), 1)
    if n < least:
        raise DatasetInvalid(
            f"Expected at least {least} images, one for each diagnosis of each archive, "
            f"but got {n}; take a larger sample."
        )
    counts = _sample_sizes(sizes, n)

    rng = np.random.default_rng(seed)
    rows = []
    for stratum, count in enumerate(counts):
        members = np.flatnonzero(strata == stratum)
        shuffled = rng.permutation(members)
        rows.append(shuffled[:count])
    sampled = np.sort(np.concatenate(rows))
    return replace(dataset, table=table.iloc[sampled].reset_index(drop=True))


def _sample_sizes(sizes: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return how many of `n` images each stratum of these sizes gives (largest remainder)."""
    n_strata = len(sizes)
    n_rest = n - n_strata
    n_more = max(sizes.sum() - n_strata, 1)
    more = sizes - 1
    share = n_rest * more / n_more
    whole = share.astype(np.int64)
    counts: NDArray[np.int64] = 1 + whole
    # The smallest difference is the largest remainder.
    largest_remainder_first = np.argsort(whole - share, kind="stable")
    n_left = n - counts.sum()
    counts[largest_remainder_first[:n_left]] += 1
    return counts
