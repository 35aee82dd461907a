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
"""Kinds of findings that tell why an image has no label."""


def check_labelled(dataset: Dataset, *, malignant_alone: bool = False) -> None:
    """Raise DatasetInvalid where no image has a label, with the findings that tell why.

    With `malignant_alone` a label that tells only malignant or benign counts, too.
    """
    diagnosed = dataset.table["diagnosis"].isin(CODES)
    labelled = has_label(dataset.table) if malignant_alone else diagnosed
    if labelled.any():
        return
    findings = dataset.report.findings
    reasons = [str(f) for f in findings if f.kind.partition(" in ")[0] in _REASONS]
    alternative = ", or labelled as malignant or benign," if malignant_alone else ""
    raise DatasetInvalid(
        f"Expected images with one of the diagnoses {', '.join(CODES)}{alternative} in "
        f"{dataset.name}, but none of its {len(dataset.table):,} images has one. "
        "Correct the labels." + "".join(f"\n{reason}" for reason in reasons)
    )
