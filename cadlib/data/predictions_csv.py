"""predictions.csv: what a model said of each image, in ISIC's columns; written by one evaluation, read by another."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cadlib.data.consistency import Findings
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


def predictions_table(
    images: "pd.Series[str]", probabilities: NDArray[np.float64], unknown: ArrayLike = 0.0
) -> pd.DataFrame:
    """Return ISIC's columns (image, the eight codes, UNK) for (N,) ids and (N, 8) probabilities.

    `unknown` is UNK, (N,) or one number, 0 to 1, above one half for a picture that is not known. It is no share of what
    the eight sum to: they are what the model says of the picture if it is known.
    """
    table = pd.DataFrame(probabilities, columns=list(CODES))
    table.insert(0, "image", images.to_numpy())
    return table.assign(**{UNKNOWN: np.broadcast_to(np.asarray(unknown, np.float64), len(table))})


def read_predictions(path: Path) -> pd.DataFrame:
    """Return the eight probabilities of each image, (N, 8) float64 by id, of a file that `evaluate` wrote.

    Raise DatasetInvalid for what is none: a column or a number missing, an id twice, a row that does not sum to 1.
    """
    table = _read_columns(path)
    if missing := [code for code in CODES if code not in table]:
        raise DatasetInvalid(
            f"Expected a column for each of {', '.join(CODES)} in {path} but {missing} lack."
        )
    if table.index.has_duplicates or table.index.hasnans:
        raise DatasetInvalid(
            f"Expected an id of its own in each row of {path} but some are repeated or empty."
        )
    shares: pd.DataFrame = table[list(CODES)].apply(numbers).astype("float64")
    right = (shares >= 0).all(axis=1) & ((shares.sum(axis=1) - 1).abs() <= ROW_SUM_TOLERANCE)
    if not right.all():
        raise DatasetInvalid(
            f"Expected eight probabilities that sum to 1 in each row of {path} but {(~right).sum():,} rows have not, "
            f"the first {right.idxmin()}. Give the predictions.csv that `python -m cadlib evaluate --model NAME "
            "--data DIR --output DIR` writes."
        )
    return shares


def read_unknown(path: Path) -> "pd.Series[float]":
    """Return UNK of each image of such a file, float64 by id, 0 where it has none; raise DatasetInvalid for others."""
    table = _read_columns(path)
    shares = pd.Series(0.0, table.index)
    if UNKNOWN in table:
        shares = numbers(table[UNKNOWN]).astype("float64")
    if not shares.between(0, 1).all():
        raise DatasetInvalid(
            f"Expected {UNKNOWN} from 0 to 1 in each row of {path} but some are not."
        )
    return shares


def _read_columns(path: Path) -> pd.DataFrame:
    """Return the columns of a table of predictions as text, named by their codes, by id."""
    columns = image_columns(path)
    cells = read_text_table(path, lambda column: column in columns.used).cells
    codes = list(columns.classes.values())
    if twice := sorted({code for code in codes if codes.count(code) > 1}):
        raise DatasetInvalid(
            f"Expected one column for each of {', '.join(twice)} in {path}. Remove the others."
        )
    named = cells.set_index(columns.image)[list(columns.classes)].set_axis(codes, axis=1)
    ids = [
        cell if pd.isna(cell) else resolve_id(original_cell(cell), frozenset())
        for cell in named.index
    ]
    return named.set_axis(pd.Index(ids, dtype="str", name="image"))


def join_predictions(
    path: Path, ground_truth: Path, metadata: Path | None = None
) -> tuple[Dataset, NDArray[np.float64]]:
    """Join a predictions.csv with its labels: a dataset, and (N, 8) float64, a row a row of its table.

    A label is a diagnosis, or only malignant or benign.
    There is no image file here: `path` and the size in px are missing. An image without a label stays, uncounted.
    Raise DatasetInvalid when no image of the file has one.
    """
    found, shares = Findings(), read_predictions(path)
    tables = Layout((), ground_truth, metadata).read(shares.index, found)
    told = pd.DataFrame(columns=["diagnosis"]) if tables.labels is None else tables.labels
    labels = complete_labels(told, found)
    table = shares[[]].join(labels)
    if not has_label(table).any():
        raise DatasetInvalid(
            f"Expected images of {path} in {ground_truth} but none of its {len(table):,} has a label."
        )
    found.add(
        "images without ground truth",
        table.index[table["diagnosis"].isna() & table["malignant"].isna()],
    )
    facts = pd.DataFrame(index=table.index, columns=list(METADATA_COLUMNS), dtype="str")
    if tables.facts is not None:
        facts = tables.facts.reindex(table.index)
    table = table.join(facts).assign(archive=archive_of(facts["lesion_id"].astype("str")))
    table["age_approx"] = table["age_approx"].astype("Float64")
    table = table.reset_index().reindex(columns=list(COLUMNS))
    text, sizes = (
        dict.fromkeys(("path", "lesion_group"), "str"),
        dict.fromkeys(("width_px", "height_px"), "Int64"),
    )
    report = DatasetReport(len(labels), len(table), len(table), found.freeze())
    return Dataset(path.name, table.astype(text | sizes), report), shares.to_numpy()
