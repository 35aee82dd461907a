"""Refuses data sets in which no image has a usable label."""

from cadlib.data.dataset import Dataset
from cadlib.errors import DatasetInvalid
from cadlib.metrics.partial_labels import has_label
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
"""Kinds of mismatches that explain why an image has no label."""


def check_labelled(dataset: Dataset, *, malignant_alone: bool = False) -> None:
    """Raise DatasetInvalid when no image has a label, with the mismatches that explain it.

    With `malignant_alone` a label that is only malignant or benign counts, too.
    """
    is_diagnosed = dataset.table["diagnosis"].isin(CODES)
    if is_diagnosed.any():
        return
    alternative = ""
    if malignant_alone:
        alternative = ", or labelled as malignant or benign,"
        if has_label(dataset.table).any():
            return
    codes = ", ".join(CODES)
    message = (
        f"Expected images with one of the diagnoses {codes}{alternative} in "
        f"{dataset.name}, but none of its {len(dataset.table):,} images has one. "
        "Correct the labels."
    )
    for mismatch in dataset.report.mismatches:
        # A kind of mismatch ends with the name of its file.
        kind, _, _ = mismatch.kind.partition(" in ")
        if kind in _REASONS:
            message += f"\n{mismatch}"
    raise DatasetInvalid(message)
