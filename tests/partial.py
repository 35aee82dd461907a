"""Data sets of drawn lesions whose labels tell only malignant or benign."""

from dataclasses import replace

import numpy as np
import pandas as pd

from cadlib.dataset import Dataset
from cadlib.partial_labels import PartialLabels
from cadlib.taxonomy import CODES

DIAGNOSIS_DROPPED = -1


def without_diagnosis(table: pd.DataFrame, rows=slice(None)) -> pd.DataFrame:
    """Return a data set's table of which some rows tell only malignant or benign."""
    table = table.copy()
    table.loc[table.index[rows], "diagnosis"] = None
    return table


def binary(dataset: Dataset) -> Dataset:
    """Return a data set whose labels tell only malignant or benign."""
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
    drawn = np.random.default_rng(seed).dirichlet(np.full(len(CODES), 0.5), len(labels))
    return (drawn + 0.4 * np.eye(len(CODES))[labels]) / 1.4
