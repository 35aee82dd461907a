"""The CSV files of ISIC 2019 and 2018, read and checked once: afterwards an id has one row and a cell a known type.

What does not fit goes into Findings. Ids are compared exactly, after blanks around them are removed;
`_downsampled` is part of the id, as in the official files.
"""

import csv
from pathlib import Path

import pandas as pd

from cadlib.errors import DatasetInvalid
from cadlib.findings import Findings
from cadlib.patient import MAX_AGE_YEARS, SEXES, SITES
from cadlib.taxonomy import ISIC_2018, ISIC_2019, UNKNOWN

METADATA_COLUMNS = ("age_approx", "sex", "anatom_site_general", "lesion_id")
SOURCE_COLUMNS = ("archive", "lesion_group")
ARCHIVES = {"HAM": "HAM10000", "BCN": "BCN20000", "MSK": "MSK"}
"""How a lesion_id, or an archive's own name, begins -> one of the three archives of ISIC 2019."""

_EMPTY = ("", "NA", "N/A", "NaN", "nan", "null", "None")
_SOURCE_EXTRAS = ("width_px", "height_px", "geometry")  # said of a file by its maker, here read from the file


def read_header(path: Path) -> tuple[str, ...]:
    """Return the columns of a CSV file, stripped; none where it cannot be read, which `read_csv` will tell."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return tuple(column.strip() for column in next(csv.reader(file), ()))
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()


def read_csv(path: Path, required: tuple[str, ...], image: str = "image") -> pd.DataFrame:
    """Read a CSV file as text, stripped, with missing cells as NaN, indexed by its column `image`.

    Raises DatasetInvalid when the file is no readable UTF-8 CSV file, has no row, or lacks the column `image`
    or every one of the `required` columns.
    """
    advice = "Save the table as a comma-separated UTF-8 file with one header line."
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DatasetInvalid(f"Expected a CSV file at {path} but it cannot be opened: {reason}.") from error
    except pd.errors.EmptyDataError as error:
        raise DatasetInvalid(f"Expected a table in {path} but the file is empty. {advice}") from error
    except (UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DatasetInvalid(f"Expected a CSV file at {path} but came: {error}. {advice}") from error
    table.columns = table.columns.str.strip()
    came = ", ".join(table.columns)[:200]
    if table.columns.has_duplicates:
        raise DatasetInvalid(f"Expected each column of {path} once but came: {came}. {advice}")
    if not isinstance(table.index, pd.RangeIndex):  # what pandas makes of rows longer than the header
        raise DatasetInvalid(f"Expected rows of {path} as long as its header but longer came. {advice}")
    if image not in table:
        raise DatasetInvalid(f"Expected a column `{image}` in {path} but came: {came}. {advice}")
    if not set(required) & set(table.columns):
        raise DatasetInvalid(f"Expected columns {', '.join(required)} in {path} but came: {came}. {advice}")
    if table.empty:
        raise DatasetInvalid(f"Expected rows in {path} but only a header came. {advice}")
    for column in table.columns:
        table[column] = table[column].str.strip()
    return table.mask(table.isin(_EMPTY)).set_index(image).rename_axis("image")


def read_ground_truth(path: Path, found: Findings) -> pd.DataFrame:
    """Return image -> diagnosis (a code or "UNK") for every id; missing where no one diagnosis stands.

    A table with AKIEC has the seven columns of ISIC 2018 Task 3, whose classes are those of ISIC 2019 by other codes;
    that AKIEC is taken as AK is reported.
    Raises DatasetInvalid, as do the two below, for a file that is no such table.
    """
    classes = ISIC_2018 if "AKIEC" in read_header(path) else ISIC_2019
    text = _read_known(path, classes.codes, (UNKNOWN,), found)
    numbers = text.apply(pd.to_numeric, errors="coerce")
    broken = numbers.isna()
    found.add(
        "cells that are not numbers",
        [
            f"{image} {code} {'empty' if pd.isna(cell) else repr(cell)}"
            for image, row, wrong in zip(text.index, text.to_numpy(), broken.to_numpy(), strict=True)
            for code, cell, bad in zip(text.columns, row, wrong, strict=True)
            if bad
        ],
        path.name,
    )
    numeric = ~broken.any(axis=1)
    one_hot = numbers.isin([0.0, 1.0]).all(axis=1) & (numbers.sum(axis=1) == 1.0)
    found.add(
        "rows without exactly one diagnosis",
        [
            f"{image} ({' + '.join(f'{code} {value:g}' for code, value in row.items() if value) or 'all 0'})"
            for image, row in numbers[numeric & ~one_hot].iterrows()
        ],
        path.name,
    )
    diagnosis = numbers.fillna(0.0).idxmax(axis=1).astype("str").where(one_hot)
    found.add("AKIEC taken as AK", diagnosis.index[diagnosis == "AKIEC"], path.name)
    diagnosis = diagnosis.replace("AKIEC", "AK")
    return one_row_an_id(diagnosis.to_frame("diagnosis"), path, found)


def read_metadata(path: Path, found: Findings) -> pd.DataFrame:
    """Return image -> age_approx (years, Float64), sex, anatom_site_general and lesion_id for every id."""
    table = _read_known(path, METADATA_COLUMNS, (), found)
    table = table.reindex(columns=list(METADATA_COLUMNS)).astype("str")
    table["age_approx"] = checked_ages(table["age_approx"], path, found)
    sex, site = table["sex"], table["anatom_site_general"]
    found.add("unknown sexes", cells(sex[sex.notna() & ~sex.isin(SEXES)]), path.name)
    found.add("unknown sites", cells(site[site.notna() & ~site.isin(SITES)]), path.name)
    return one_row_an_id(table, path, found)


def read_sources(path: Path, found: Findings) -> pd.DataFrame:
    """Return image -> archive and lesion_group for every id of an optional sources.csv."""
    table = _read_known(path, SOURCE_COLUMNS, _SOURCE_EXTRAS, found)
    table = table.reindex(columns=list(SOURCE_COLUMNS)).astype("str")
    table["archive"] = archive_of(table["archive"]).fillna(table["archive"])
    return one_row_an_id(table, path, found)


def checked_ages(column: "pd.Series[str]", path: Path, found: Findings) -> "pd.Series[float]":
    """Return ages in years, Float64; what is none is reported and missing."""
    age_years = pd.to_numeric(column, errors="coerce")
    wrong = column.notna() & ~age_years.between(0, MAX_AGE_YEARS)
    found.add("ages outside 0 to 120 years", cells(column[wrong]), path.name)
    return age_years.mask(wrong).astype("Float64")


def archive_of(names: "pd.Series[str]") -> "pd.Series[str]":
    """Return the archive for lesion ids or archives' own names; missing where it cannot be told."""
    return names.str[:3].map(ARCHIVES).astype("str")


def _read_known(path: Path, wanted: tuple[str, ...], welcome: tuple[str, ...], found: Findings) -> pd.DataFrame:
    """Read the wanted and welcome columns; report missing and unknown columns and rows without an id."""
    table = read_csv(path, wanted)
    known = [column for column in (*wanted, *welcome) if column in table]
    found.add("missing columns", [column for column in wanted if column not in table], path.name)
    found.add("unknown columns", [column for column in table if column not in known], path.name)
    return rows_with_an_id(table, path, found)[known]


def rows_with_an_id(table: pd.DataFrame, path: Path, found: Findings) -> pd.DataFrame:
    """Return the rows whose image is named, and report the others; raise DatasetInvalid where none is."""
    nameless = table.index.isna()
    if nameless.all():
        raise DatasetInvalid(f"Expected ids of images in {path} but every cell of that column is empty. Fill it in.")
    found.add("rows without an id", [f"row {row}" for row, bad in enumerate(nameless, 1) if bad], path.name)
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
