"""Checks the cells and rows of a table: one row an id, known types.

What does not fit goes into Findings.
"""

import re
from pathlib import Path

import pandas as pd

from cadlib.data.consistency import Findings
from cadlib.errors import DatasetInvalid
from cadlib.images.patient import MAX_AGE_YEARS

METADATA_COLUMNS = ("age_approx", "sex", "anatom_site_general", "lesion_id")
SOURCE_COLUMNS = ("archive", "lesion_group")
ARCHIVES = {"HAM": "HAM10000", "BCN": "BCN20000", "MSK": "MSK"}
"""How a lesion_id, or an archive's own name, begins -> one of the three archives of ISIC 2019."""

_DECIMAL_COMMA = re.compile(r"^([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)$")


def numbers(column: "pd.Series[str]") -> "pd.Series[float]":
    """Return a column as numbers, also with a decimal comma; NaN where a cell is none."""
    if column.str.contains(",", regex=False).any():
        column = column.str.replace(_DECIMAL_COMMA, r"\1.\2", regex=True)
    return pd.to_numeric(column, errors="coerce")


def checked_ages(column: "pd.Series[str]", path: Path, found: Findings) -> "pd.Series[float]":
    """Return ages in years, Float64; what is none is reported and missing."""
    age_years = numbers(column)
    wrong = column.notna() & ~age_years.between(0, MAX_AGE_YEARS)
    found.add("ages outside 0 to 120 years", cells(column[wrong]), path.name)
    return age_years.mask(wrong).astype("Float64")


def archive_of(names: "pd.Series[str]") -> "pd.Series[str]":
    """Return the archive for lesion ids or archives' own names; missing where it cannot be told."""
    return names.str[:3].map(ARCHIVES).astype("str")


def rows_with_an_id(table: pd.DataFrame, path: Path, found: Findings) -> pd.DataFrame:
    """Return the rows whose image is named, and report the others; raise DatasetInvalid where none is."""
    nameless = table.index.isna()
    if nameless.all():
        raise DatasetInvalid(
            f"Expected ids of images in {path} but every cell of that column is empty. Fill it in."
        )
    found.add(
        "rows without an id",
        [f"row {row}" for row, bad in enumerate(nameless, 1) if bad],
        path.name,
    )
    return table[table.index.notna()].copy()


def cells(column: "pd.Series[str]") -> list[str]:
    """Return a column's cells as examples of a finding."""
    return [f"{image} {value!r}" for image, value in column.items()]


def one_row_an_id(table: pd.DataFrame, path: Path, found: Findings) -> pd.DataFrame:
    """Return one row an id, sorted; where rows of an id contradict each other, a cell is what they all say."""
    rows = table.groupby(level=0)
    agree = rows.nunique(dropna=False) == 1
    contradicting = agree.index[~agree.all(axis=1)]
    repeated = table.index[table.index.duplicated()].unique()
    found.add("repeated ids", repeated.difference(contradicting), path.name)
    found.add("contradicting rows for one id", contradicting, path.name)
    return rows.first().where(agree)
