"""A model's own split: which images it was trained on, and which are left to measure it."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pandas as pd

from cadlib.data.dataset import Dataset
from cadlib.data.splits import read_split, select
from cadlib.errors import DatasetInvalid, ModelInvalid
from cadlib.model.record import SPLIT_FILE, ModelRecord

NO_MATCHING_ID = "No image ID matches the images used for training, calibration or thresholds. Renamed copies are not detected."
"""Only IDs are compared here; `audit` compares files, hashes and pixels as well."""


def own_split(folder: Path, record: ModelRecord, *, leaking: bool = False) -> pd.DataFrame:
    """Return split.csv of a model's folder by `splits.read_split`; raise ModelInvalid if it is not its record's."""
    path = folder / SPLIT_FILE
    if (
        not path.exists()
        or (sha256 := hashlib.sha256(path.read_bytes()).hexdigest()) != record.training.split_sha256
    ):
        came = f"one of {sha256[:16]}…" if path.exists() else "none"
        raise ModelInvalid(
            f"Expected {path} with the SHA-256 {record.training.split_sha256[:16]}… of the model's record but got "
            f"{came}; restore the folder. Without it nobody can tell which images the model was trained on."
        )
    return read_split(path, leaking=leaking)


def part_of_split(folder: Path, record: ModelRecord, dataset: Dataset, part: str) -> Dataset:
    """Return the images of a dataset that stand in "train", "validation" or "test" of a model's own split.

    `folder` is the model's. Raise ModelInvalid when its split.csv is not the one of its record, and DatasetInvalid
    when the dataset has no image of that part.
    """
    rows = own_split(folder, record)
    table = select(dataset.table, rows[rows["split"] == part])
    if table.empty:
        raise not_the_models(record, dataset, f"{part} split")
    return replace(dataset, table=table)


def part_in_training(folder: Path, record: ModelRecord, dataset: Dataset) -> tuple[str, bool]:
    """Say how many images of a dataset had a part in training a model, and whether that flatters its figures."""
    try:
        rows = own_split(folder, record)
    except ModelInvalid:
        return "Which of them the model was trained on is not known.", False
    parts = rows[rows["image"].isin(dataset.table["image"])]["split"].value_counts()
    trained, chosen = parts.get("train", 0), parts.get("validation", 0)
    if not trained and not chosen:
        return NO_MATCHING_ID, False
    learnt = (
        f"{trained:,} of them are images it was trained on, and {chosen:,} those it was chosen on"
    )
    return f"{learnt}: these figures flatter it.", True


def not_the_models(record: ModelRecord, dataset: Dataset, part: str) -> DatasetInvalid:
    """Return the error of a dataset without an image of a model's "split", or of its "test split"."""
    return DatasetInvalid(
        f"Expected images of the {part} of {record.name} in {dataset.name} but none of its {len(dataset.table):,} "
        f"images is one; give the data set it was trained on, {record.training.dataset}."
    )
