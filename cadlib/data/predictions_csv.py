"""Writes and reads predictions.csv: the probabilities of each image.

The file has ISIC's columns. One evaluation writes it, another one reads it.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cadlib.data.consistency import Mismatches
from cadlib.data.dataset import COLUMNS, Dataset, DatasetReport
from cadlib.data.image_ids import resolve_id
from cadlib.data.isic_csv import METADATA_COLUMNS, archive_of, numbers
from cadlib.data.layouts import Layout
from cadlib.data.layouts.one_table import image_columns
from cadlib.data.layouts.table_file import read_text_table
from cadlib.data.malignancy import complete_labels
from cadlib.errors import DatasetInvalid
from cadlib.files.spreadsheets import original_cell
from cadlib.metrics.classification import ROW_SUM_TOLERANCE
from cadlib.metrics.partial_labels import has_label
from cadlib.taxonomy import CODES, UNKNOWN

PREDICTIONS_FILE = "predictions.csv"
_ADVICE = (
    "Use the predictions.csv that `python -m cadlib evaluate --model NAME "
    "--data DIR --output DIR` writes."
)


def predictions_table(
    images: "pd.Series[str]",
    probabilities: NDArray[np.float64],
    unknown: ArrayLike = 0.0,
) -> pd.DataFrame:
    """Return ISIC's columns (image, the eight codes, UNK) for (N,) ids and (N, 8) probabilities.

    `unknown` is UNK, (N,) or one number, 0 to 1; above one half the image is of an unknown kind.
    The eight probabilities still sum to 1: they hold if the image is of a known kind.
    """
    # The order of ISIC's scorer.
    table = pd.DataFrame(probabilities, columns=list(CODES))
    table.insert(0, "image", images.to_numpy())
    shares = np.asarray(unknown, np.float64)
    table[UNKNOWN] = np.broadcast_to(shares, len(table))
    return table


def read_predictions(path: Path) -> pd.DataFrame:
    """Return the eight probabilities of each image, (N, 8) float64 by id, of a predictions.csv.

    Raise DatasetInvalid for another file: a column or a number missing, an id twice, a row that
    does not sum to 1.
    """
    table = _read_columns(path)
    missing = [code for code in CODES if code not in table]
    if missing:
        codes = ", ".join(CODES)
        missing_codes = ", ".join(missing)
        raise DatasetInvalid(
            f"Expected a column for each of {codes} in {path}, "
            f"but {missing_codes} are missing. {_ADVICE}"
        )
    if table.index.has_duplicates or table.index.hasnans:
        raise DatasetInvalid(
            f"Expected an id of its own in each row of {path}, "
            f"but some are repeated or empty. {_ADVICE}"
        )
    numeric = table[list(CODES)].apply(numbers)
    shares: pd.DataFrame = numeric.astype("float64")
    is_right = _are_probabilities(shares)
    if not is_right.all():
        n_wrong = len(shares) - is_right.sum()
        raise DatasetInvalid(
            f"Expected eight probabilities that sum to 1 in each row of {path}, "
            f"but {n_wrong:,} rows have other values, the first {is_right.idxmin()}. {_ADVICE}"
        )
    return shares


def _are_probabilities(shares: pd.DataFrame) -> "pd.Series[bool]":
    """Return the rows without a negative or missing number whose sum is 1."""
    is_positive = shares >= 0
    error = (shares.sum(axis=1) - 1).abs()
    # A file that was written with few digits does not sum to 1 exactly.
    is_whole = error <= ROW_SUM_TOLERANCE
    return is_positive.all(axis=1) & is_whole


def read_unknown(path: Path) -> "pd.Series[float]":
    """Return UNK of each image of a predictions.csv, float64 by id, 0 without such a column.

    Raise DatasetInvalid for another file.
    """
    table = _read_columns(path)
    shares = pd.Series(0.0, table.index)
    if UNKNOWN in table:
        shares = numbers(table[UNKNOWN]).astype("float64")
    if not shares.between(0, 1).all():
        raise DatasetInvalid(
            f"Expected {UNKNOWN} from 0 to 1 in each row of {path}, "
            f"but some rows have other values. {_ADVICE}"
        )
    return shares


def _read_columns(path: Path) -> pd.DataFrame:
    """Return the columns of a table of predictions as text, named by their codes, by id."""
    columns = image_columns(path)
    used = columns.used
    table = read_text_table(path, lambda column: column in used)
    # Several columns may stand for one code, such as MEL and melanoma.
    codes = list(columns.classes.values())
    repeated = set()
    for code in codes:
        if codes.count(code) > 1:
            repeated.add(code)
    if repeated:
        repeated_codes = ", ".join(sorted(repeated))
        raise DatasetInvalid(
            f"Expected one column for each of {repeated_codes} in {path}, but found several. "
            "Keep the right column of each, and remove the others."
        )
    by_image = table.cells.set_index(columns.image)
    named = by_image[list(columns.classes)].set_axis(codes, axis=1)
    ids = [_id(cell) for cell in named.index]
    image_index = pd.Index(ids, dtype="str", name="image")
    return named.set_axis(image_index)


def _id(cell: str | float) -> str | float:
    """Return the id that a cell names. A missing id stays NaN; the caller refuses it."""
    if not isinstance(cell, str):
        return cell
    return resolve_id(original_cell(cell), frozenset())


def join_predictions(
    path: Path,
    ground_truth: Path,
    metadata: Path | None = None,
) -> tuple[Dataset, NDArray[np.float64]]:
    """Join a predictions.csv with its labels: a data set, and (N, 8) float64, a row each.

    A label is a diagnosis, or only malignant or benign. There are no image files here: `path` and
    the size in px are missing. An image without a label stays in the table, but is not counted.
    Raise DatasetInvalid when no image of the file has a label.
    """
    mismatches = Mismatches()
    shares = read_predictions(path)
    layout = Layout((), ground_truth, metadata)
    tables = layout.read(shares.index, mismatches)
    stated = tables.labels
    if stated is None:
        stated = pd.DataFrame(columns=["diagnosis"])
    labels = complete_labels(stated, mismatches)
    # The images of the predictions alone: the ground truth may have the whole data set.
    table = shares[[]].join(labels)
    if not has_label(table).any():
        raise DatasetInvalid(
            f"Expected images of {path} in {ground_truth}, "
            f"but none of its {len(table):,} images has a label. "
            "Use the ground truth of the images that were predicted."
        )
    is_unlabelled = table["diagnosis"].isna() & table["malignant"].isna()
    mismatches.add("images without ground truth", table.index[is_unlabelled])
    table = _with_facts(table, tables.facts)
    report = DatasetReport(
        len(labels),
        len(table),
        len(table),
        mismatches.freeze(),
    )
    return Dataset(path.name, table, report), shares.to_numpy()


def _with_facts(table: pd.DataFrame, facts: pd.DataFrame | None) -> pd.DataFrame:
    """Return a data set's table for labels by id; columns without a value are missing."""
    columns = list(METADATA_COLUMNS)
    if facts is None:
        facts = pd.DataFrame(index=table.index, columns=columns, dtype="str")
    else:
        facts = facts.reindex(table.index)
    lesion_ids = facts["lesion_id"].astype("str")
    table = table.join(facts).assign(archive=archive_of(lesion_ids))
    table["age_approx"] = table["age_approx"].astype("Float64")
    table = table.reset_index().reindex(columns=list(COLUMNS))
    types = {
        "path": "str",
        "lesion_group": "str",
        "width_px": "Int64",
        "height_px": "Int64",
    }
    return table.astype(types)
