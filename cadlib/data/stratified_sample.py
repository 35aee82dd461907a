"""A smaller set of images that still holds every diagnosis of every archive."""

from dataclasses import replace

import numpy as np

from cadlib.data.dataset import Dataset
from cadlib.errors import DatasetInvalid
from cadlib.taxonomy import CODES


def stratified_sample(dataset: Dataset, n: int, seed: int = 0) -> Dataset:
    """Draw `n` labelled images at random, all where there are no more, so that each stratum is in the sample.

    A stratum is a diagnosis in an archive. Each gives one image, and the rest are shared out by how many more it
    has (largest remainder). Raise DatasetInvalid for fewer images than strata.
    """
    table = dataset.table[dataset.table["diagnosis"].isin(CODES)]
    if table.empty:
        raise DatasetInvalid(
            f"Expected images with a diagnosis in {dataset.name}, but found none among {len(dataset.table):,}. "
            "Add a ground truth that names diagnoses; malignant or benign alone is not enough here."
        )
    strata = (
        table.groupby(["diagnosis", "archive"], dropna=False, sort=True).ngroup().to_numpy(np.int64)
    )
    sizes, n = np.bincount(strata), min(n, len(table))
    if n < max(len(sizes), 1):
        raise DatasetInvalid(
            f"Expected at least {max(len(sizes), 1)} images, one for each diagnosis of each archive, but got {n}; "
            "take a larger sample."
        )
    share = (n - len(sizes)) * (sizes - 1) / max(len(table) - len(sizes), 1)
    taken = 1 + share.astype(np.int64)
    taken[np.argsort(share.astype(np.int64) - share, kind="stable")[: n - taken.sum()]] += 1
    rng = np.random.default_rng(seed)
    rows = [
        rng.permutation(np.flatnonzero(strata == number))[:count]
        for number, count in enumerate(taken)
    ]
    return replace(dataset, table=table.iloc[np.sort(np.concatenate(rows))].reset_index(drop=True))
