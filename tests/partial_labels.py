"""Data sets of drawn lesions with labels that are only malignant or benign."""

from dataclasses import replace

import numpy as np
import pandas as pd

from cadlib.data.dataset import Dataset
from cadlib.data.layouts import Layout
from cadlib.data.malignancy import complete_labels
from cadlib.metrics.partial_labels import PartialLabels
from cadlib.taxonomy import CODES

DIAGNOSIS_DROPPED = -1


def without_diagnosis(table: pd.DataFrame, rows=slice(None)) -> pd.DataFrame:
    """Return a data set's table in which some rows are only malignant or benign."""
    table = table.copy()
    table.loc[table.index[rows], "diagnosis"] = None
    return table


def binary(dataset: Dataset) -> Dataset:
    """Return a data set with labels that are only malignant or benign."""
    return replace(dataset, table=without_diagnosis(dataset.table))


def mixed(dataset: Dataset) -> Dataset:
    """Return a data set of which every other image has a diagnosis."""
    return replace(dataset, table=without_diagnosis(dataset.table, slice(None, None, 2)))


def benign_only(dataset: Dataset) -> Dataset:
    """Return the benign images of a data set, without a diagnosis."""
    table = without_diagnosis(dataset.table)
    return replace(dataset, table=table[~table["malignant"]].reset_index(drop=True))


def partly(labels: np.ndarray, diagnosed: np.ndarray) -> PartialLabels:
    """Return (N,) labels of which only those in a mask keep their diagnosis."""
    every = PartialLabels.of(labels)
    return PartialLabels(np.where(diagnosed, every.codes, DIAGNOSIS_DROPPED), every.malignant)


def leaning(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return probabilities that lean towards the labels, (N, 8)."""
    random = np.random.default_rng(seed).dirichlet(np.full(len(CODES), 0.5), len(labels))
    return (random + 0.4 * np.eye(len(CODES))[labels]) / 1.4


def change_labels(monkeypatch, change) -> None:
    """Let every data set be read with other labels: `change` takes and returns a table of labels."""
    original = Layout.read

    def read(self, images, mismatches):
        tables = original(self, images, mismatches)
        labels = change(complete_labels(tables.labels, mismatches))
        return replace(tables, labels=labels, whole=True)

    monkeypatch.setattr(Layout, "read", read)


def only_groups(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels that are only malignant or benign."""
    return labels.assign(diagnosis=pd.array([None] * len(labels), dtype="str"))


def every_other_group(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels of which every second is only malignant or benign."""
    return labels.assign(diagnosis=labels["diagnosis"].where(np.arange(len(labels)) % 2 == 0))


def only_benign(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels that are benign or missing."""
    return only_groups(labels).assign(malignant=labels["malignant"].mask(labels["malignant"]))


def no_labels(labels: pd.DataFrame) -> pd.DataFrame:
    """Return labels that are all missing."""
    return only_groups(labels).assign(malignant=pd.array([None] * len(labels), dtype="boolean"))
