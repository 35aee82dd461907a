"""Refuses data sets in which no image has a usable label."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.dataset import Dataset
from cadlib.errors import DatasetInvalid
from cadlib.taxonomy import CODES

_REASONS = (
    "tables that are not used",
    "unknown columns",
    "diagnoses that are none of the eight",
    "cells that are not numbers",
    "rows without exactly one diagnosis",
    "contradicting rows for one id",
    "diagnoses that contradict each other",
    "diagnoses and benign/malignant that contradict each other",
    "benign/malignant columns of other numbers",
    "words that are neither benign nor malignant",
    "indeterminate lesions",
    "images with only benign or malignant",
    "images without a diagnosis",
    "images without ground truth",
    "unlabelled images",
)
"""Kinds of findings that tell why an image has no label."""


def has_label(table: pd.DataFrame, *, malignant_alone: bool = False) -> NDArray[np.bool_]:
    """Return which rows of a dataset's table have one of the eight diagnoses, (N,).

    With `malignant_alone` also those that are known to be benign or malignant.
    """
    labelled = table["diagnosis"].isin(CODES).to_numpy(bool)
    if malignant_alone and "malignant" in table:
        labelled = labelled | table["malignant"].notna().to_numpy(bool)
    return labelled


def check_labelled(dataset: Dataset, *, malignant_alone: bool = False) -> None:
    """Raise DatasetInvalid where no image has a label, with the findings that tell why.

    `malignant_alone` as in `has_label`.
    """
    if has_label(dataset.table, malignant_alone=malignant_alone).any():
        return
    findings = dataset.report.findings
    reasons = [str(f) for f in findings if f.kind.partition(" in ")[0] in _REASONS]
    raise DatasetInvalid(
        f"Expected images with one of the diagnoses {', '.join(CODES)} in {dataset.name}, but none "
        f"of its {len(dataset.table):,} images has one. Correct the labels."
        + "".join(f"\n{reason}" for reason in reasons)
    )
