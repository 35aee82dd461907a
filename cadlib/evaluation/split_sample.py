"""Prepares a split's images, or a sample of them, for a measurement.

`robustness` and `saliency_benchmark` measure a model on them.
"""

import hashlib
from collections.abc import Collection

import pandas as pd

from cadlib.data.dataset import Dataset
from cadlib.errors import DatasetInvalid
from cadlib.metrics.conditions_schema import Sample
from cadlib.taxonomy import CODES


def diagnosed_images(dataset: Dataset) -> pd.DataFrame:
    """Return the rows of a data set with one of the eight diagnoses, numbered from 0."""
    is_diagnosed = dataset.table["diagnosis"].isin(CODES)
    return dataset.table[is_diagnosed].reset_index(drop=True)


def readable_images(
    table: pd.DataFrame,
    rejected: Collection[str],
    dataset: Dataset,
) -> pd.DataFrame:
    """Return the rows whose ids are not `rejected`; raise DatasetInvalid where none is left."""
    is_rejected = table["image"].isin(rejected)
    readable = table[~is_rejected]
    if readable.empty:
        raise DatasetInvalid(
            f"Expected labelled images that can be read in {dataset.name} "
            "but got none; give others."
        )
    return readable


def sample_of(table: pd.DataFrame, n_split: int | None, seed: int) -> Sample:
    """Return how the images of a table were drawn from the `n_split` of the split.

    They are the whole split if `n_split` is None.
    """
    return Sample(
        of=len(table) if n_split is None else n_split,
        strata="diagnosis and archive",
        seed=seed,
    )


def image_digest(seed: int, image: str) -> bytes:
    """Return 32 bytes to seed the random draws of an image, the same in every sample with it."""
    text = f"{seed} {image}"
    return hashlib.sha256(text.encode()).digest()
