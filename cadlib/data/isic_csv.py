"""Checks the cells and rows of a table.

Problems are added to Mismatches.
"""

import re
from pathlib import Path

import pandas as pd

from cadlib.data.consistency import Mismatches
from cadlib.errors import DatasetInvalid
from cadlib.images.patient import MAX_AGE_YEARS

METADATA_COLUMNS = ("age_approx", "sex", "anatom_site_general", "lesion_id")
SOURCE_COLUMNS = ("archive", "lesion_group")
ARCHIVES = {"HAM": "HAM10000", "BCN": "BCN20000", "MSK": "MSK"}
"""First letters of a lesion_id, or of an archive's own name -> archive of ISIC 2019."""

_DECIMAL_COMMA = re.compile(r"^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$")


def numbers(column: "pd.Series[str]") -> "pd.Series[float]":
    """Return a column as numbers, also with a decimal comma; NaN where a cell is no number."""
    has_comma = column.str.contains(",", regex=False)
    # The replacement takes seconds for half a million cells.
    if has_comma.any():
        column = column.str.replace(_DECIMAL_COMMA, r"\1.\2", regex=True)
    return pd.to_numeric(column, errors="coerce")


def checked_ages(
    column: "pd.Series[str]",
    path: Path,
    mismatches: Mismatches,
) -> "pd.Series[float]":
    """Return ages in years, Float64; other cells are reported and become missing."""
    age_years = numbers(column)
    # NaN is in no range.
    is_age = age_years.between(0, MAX_AGE_YEARS)
    is_wrong = column.notna() & ~is_age
    wrong = cells(column[is_wrong])
    mismatches.add("ages outside 0 to 120 years", wrong, path.name)
    return age_years.mask(is_wrong).astype("Float64")


def archive_of(names: "pd.Series[str]") -> "pd.Series[str]":
    """Return the archive for lesion ids or archives' own names; missing where it is unknown."""
    beginnings = names.str[:3]
    archives = beginnings.map(ARCHIVES)
    return archives.astype("str")


def rows_with_an_id(
    table: pd.DataFrame,
    path: Path,
    mismatches: Mismatches,
) -> pd.DataFrame:
    """Return the rows that name an image, and report the others; raise DatasetInvalid for none."""
    is_nameless = table.index.isna()
    if is_nameless.all():
        raise DatasetInvalid(
            f"Expected ids of images in {path} but every cell of that column is empty. Fill it in."
        )
    rows = [f"row {row}" for row, is_bad in enumerate(is_nameless, 1) if is_bad]
    mismatches.add("rows without an id", rows, path.name)
    return table[table.index.notna()].copy()


def cells(column: "pd.Series[str]") -> list[str]:
    """Return a column's cells as examples of a mismatch."""
    return [f"{image} {value!r}" for image, value in column.items()]


def one_row_an_id(
    table: pd.DataFrame,
    path: Path,
    mismatches: Mismatches,
) -> pd.DataFrame:
    """Return one row an id, sorted; a cell is missing where the rows of an id contradict."""
    rows = table.groupby(level=0)
    # A missing cell and a value contradict each other, too.
    n_values = rows.nunique(dropna=False)
    agrees = n_values == 1
    is_consistent = agrees.all(axis=1)
    contradicting = agrees.index[~is_consistent]
    is_repeated = table.index.duplicated()
    repeated = table.index[is_repeated].unique()
    equal = repeated.difference(contradicting)
    mismatches.add("repeated ids", equal, path.name)
    mismatches.add("contradicting rows for one id", contradicting, path.name)
    first_rows = rows.first()
    return first_rows.where(agrees)
