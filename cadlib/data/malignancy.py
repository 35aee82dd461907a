"""Adds malignant or benign to the labels of a data set."""

import pandas as pd

from cadlib.data.consistency import Mismatches
from cadlib.metrics.partial_labels import GROUPS, malignant_of


def complete_labels(labels: pd.DataFrame, mismatches: Mismatches) -> pd.DataFrame:
    """Return labels by id with the columns diagnosis and malignant, which follows from it.

    `labels` may have no column `malignant`. Where a diagnosis contradicts this column, it is
    reported, and the diagnosis decides.
    """
    malignant = malignant_of(labels)
    if "malignant" in labels:
        stated = labels["malignant"].astype("boolean")
        # Where one of them is missing there is no contradiction.
        is_contradicting = (malignant != stated).fillna(value=False)
        examples = []
        for image, row in labels[is_contradicting].iterrows():
            diagnosis = row["diagnosis"]
            is_malignant = bool(row["malignant"])
            examples.append(f"{image} {diagnosis} but {GROUPS[is_malignant]}")
        mismatches.add("diagnoses that contradict malignant or benign", examples)
    completed = labels[["diagnosis"]]
    return completed.assign(malignant=malignant)
