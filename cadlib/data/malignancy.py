"""Completes the labels of a data set: each diagnosis is malignant or benign."""

import pandas as pd

from cadlib.data.consistency import Findings
from cadlib.metrics.partial_labels import GROUPS, malignant_of


def complete_labels(labels: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Return labels by id with the columns diagnosis and malignant, which follows from a diagnosis.

    `labels` may have no column `malignant`. A diagnosis that contradicts it is reported, and decides.
    """
    malignant = malignant_of(labels)
    if "malignant" in labels:
        contradicting = (malignant != labels["malignant"].astype("boolean")).fillna(value=False)
        examples = []
        for image, row in labels[contradicting].iterrows():
            examples.append(f"{image} {row['diagnosis']} but {GROUPS[bool(row['malignant'])]}")
        findings.add("diagnoses that contradict malignant or benign", examples)
    return labels[["diagnosis"]].assign(malignant=malignant)
