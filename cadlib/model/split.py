"""Reads a model's own split into training, validation and test images."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset
from cadlib.data.splits import read_split, select
from cadlib.errors import DatasetInvalid, ModelInvalid
from cadlib.model.audit_result import ROLE_IN_FOLDS
from cadlib.model.out_of_fold import read_out_of_fold
from cadlib.model.record import SPLIT_FILE, ModelRecord, find_model, read_record

NO_MATCHING_ID = (
    "No image ID matches the images used for training, calibration or thresholds. "
    "Renamed copies are not detected."
)
"""Only IDs are compared here; `audit` compares files, hashes and pixels as well."""


def find_split(name_or_path: str) -> Path:
    """Return the split.csv of a model, or the path itself where it is a CSV file.

    Raise ModelInvalid where there is neither, and where the split.csv of the model was changed.
    """
    path = Path(name_or_path)
    if path.suffix == ".csv" and path.is_file():
        return path
    folder = find_model(name_or_path)
    # It compares the files of the folder with their hashes.
    read_record(folder)
    return folder / SPLIT_FILE


def split_of_model(folder: Path, record: ModelRecord, *, leaking: bool = False) -> pd.DataFrame:
    """Return split.csv of a model's folder by `splits.read_split`.

    Raise ModelInvalid if it is not the one of its record.
    """
    # A changed split.csv would pass training images off as test images.
    path = folder / SPLIT_FILE
    expected = record.training.split_sha256
    sha256 = None
    if path.exists():
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 != expected:
        actual = "none" if sha256 is None else f"one of {sha256[:16]}…"
        raise ModelInvalid(
            f"Expected {path} with the SHA-256 {expected[:16]}… of the model's record "
            f"but got {actual}; restore the folder. "
            "Without it, the training images of the model are unknown."
        )
    return read_split(path, leaking=leaking)


def part_of_split(folder: Path, record: ModelRecord, dataset: Dataset, part: str) -> Dataset:
    """Return the images of a data set in "train", "validation" or "test" of a model's own split.

    `folder` is the model's. Raise ModelInvalid when its split.csv is not the one of its record, and
    DatasetInvalid when the data set has no image of that part.
    """
    rows = split_of_model(folder, record)
    is_in_part = rows["split"] == part
    rows_of_part = rows[is_in_part]
    table = select(dataset.table, rows_of_part)
    if table.empty:
        raise not_the_models(record, dataset, f"{part} split")
    return replace(dataset, table=table)


def calibration_images(folder: Path, record: ModelRecord, dataset: Dataset) -> Dataset:
    """Return the images of a data set that a model is calibrated on.

    They are the validation images, or all images of the folds of a cross-validated model. Raise
    ModelInvalid and DatasetInvalid as `part_of_split`.
    """
    out_of_fold = read_out_of_fold(folder)
    if out_of_fold is None:
        return part_of_split(folder, record, dataset, "validation")
    rows = split_of_model(folder, record)
    in_folds = rows["image"].isin(out_of_fold.images)
    table = select(dataset.table, rows[in_folds])
    if table.empty:
        raise not_the_models(record, dataset, "folds")
    return replace(dataset, table=table)


def new_to_networks(
    folder: Path,
    record: ModelRecord,
    images: "pd.Series[str]",
) -> NDArray[np.bool_]:
    """Return which images, by their ids, no network of a model was trained on, (N,).

    Each image of the folds of a cross-validation was used to train all networks but one. Raise
    ModelInvalid as `split_of_model` and `read_out_of_fold`.
    """
    out_of_fold = read_out_of_fold(folder) if record.cross_validated else None
    if out_of_fold is None:
        rows = split_of_model(folder, record)
        trained_on = rows["image"][rows["split"] == "train"]
    else:
        trained_on = pd.Series(out_of_fold.images)
    is_new: NDArray[np.bool_] = ~images.isin(trained_on).to_numpy(bool)
    return is_new


def part_in_training(folder: Path, record: ModelRecord, dataset: Dataset) -> tuple[str, bool]:
    """Return how many images of a data set a model was trained or chosen on, as a sentence.

    The second value is whether that makes its metrics on them too good.
    """
    try:
        rows = split_of_model(folder, record)
    except ModelInvalid:
        # The metrics are shown all the same, with this sentence beside them.
        return "It is not known which of these images were used for training.", False
    is_in_dataset = rows["image"].isin(dataset.table["image"])
    counts = rows[is_in_dataset]["split"].value_counts()
    trained = counts.get("train", 0)
    chosen = counts.get("validation", 0)
    if not trained and not chosen:
        return NO_MATCHING_ID, False
    if record.cross_validated:
        in_folds = f"{trained + chosen:,} of these images were used for cross-validation."
        return f"{in_folds} {ROLE_IN_FOLDS}", True
    sentence = (
        f"{trained:,} of these images were used for training and {chosen:,} for choosing the "
        "model, so these results are too optimistic."
    )
    return sentence, True


def not_the_models(record: ModelRecord, dataset: Dataset, part: str) -> DatasetInvalid:
    """Return the error for a data set without an image of a model's "split" or "test split"."""
    n_images = len(dataset.table)
    trained_on = record.training.dataset
    return DatasetInvalid(
        f"Expected images of the {part} of {record.name} in {dataset.name} but none of its "
        f"{n_images:,} images is one; "
        f"give the data set it was trained on, {trained_on}."
    )
