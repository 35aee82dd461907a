"""Reads one table of images: diagnoses, patients, lesions and sources.

A word that is not certain to be a term of ISIC 2019 is reported and taken as missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cadlib.data.consistency import Findings
from cadlib.data.image_ids import changed_by_spreadsheet, resolve_id
from cadlib.data.isic_csv import (
    METADATA_COLUMNS,
    SOURCE_COLUMNS,
    archive_of,
    cells,
    checked_ages,
    one_row_an_id,
    rows_with_an_id,
)
from cadlib.data.layouts.columns import NAMES, Columns, columns_of, shown_names
from cadlib.data.layouts.label_columns import read_labels
from cadlib.data.layouts.table_file import (
    WINDOWS,
    TableRefused,
    TextTable,
    read_columns,
    read_text_table,
)
from cadlib.data.layouts.terms import SEXES_BY_WORD, SITES_BY_WORD, archive_site, words

LABEL_COLUMNS = ("diagnosis", "malignant")


@dataclass(frozen=True, eq=False)
class ImageTable:
    """What a table holds of images: `rows` has an id an image, and the columns that the table has.

    These are of LABEL_COLUMNS, METADATA_COLUMNS and SOURCE_COLUMNS. `one_hot` tells that its only
    labels are 0 and 1 in one column a diagnosis.
    """

    rows: pd.DataFrame
    one_hot: bool

    def part(self, columns: Sequence[str]) -> pd.DataFrame | None:
        """Return those of some columns that the table has; None where it has none of them."""
        present = [column for column in columns if column in self.rows]
        return self.rows[present] if present else None


def read_table(
    path: Path, images: "pd.Index[str]", found: Findings, expected: Sequence[str] = ()
) -> ImageTable:
    """Read what a table holds of images, for every id in it.

    A cell names an image by its id, its file name, or a path that ends with one, of `images`.
    Those of the `expected` columns of a data set's table that are missing are reported. Raise
    TableRefused for a file that is no table of images or has none of the expected columns, and
    DatasetInvalid for a table that can be read in two ways.
    """
    columns = image_columns(path)
    if not columns.one_hot and "diagnosis" not in expected:
        # One flag alone is a label only where the table is given as that of the labels.
        flags = tuple(columns.classes)
        columns = replace(columns, classes={}, unknown=(*columns.unknown, *flags))
    table = read_text_table(path, lambda column: column in columns.used)
    _report_file(table, columns, expected, found)
    text = rows_with_an_id(table.cells.set_index(columns.image), path, found)
    short = table.short_rows[table.cells[columns.image].notna().to_numpy()]
    at_hand = frozenset(images)
    text.index = pd.Index(
        [resolve_id(cell, at_hand) for cell in text.index], dtype="str", name="image"
    )
    outside = text.index[~text.index.isin(images)].unique()
    found.add("ids changed by a spreadsheet", changed_by_spreadsheet(outside, images), path.name)

    found.add("rows shorter than the header", text.index[short], path.name)
    labels = read_labels(
        TextTable(path, table.columns, text, short, table.encoding), columns, found
    )
    rows = pd.concat([labels, _facts(text, columns, path, found)], axis=1)
    rows = one_row_an_id(rows, path, found)
    one_hot = bool(columns.classes) and not columns.diagnoses and "malignant" not in rows
    if "diagnosis" in rows and not one_hot:
        _report_unlabelled(rows, path, found)
    return ImageTable(rows, one_hot)


def image_columns(path: Path) -> Columns:
    """Return the columns of a table; raise TableRefused where none of them names images."""
    header = read_columns(path)
    columns = columns_of(header, path)
    if columns is None:
        came = ", ".join(header)[:200]
        names = shown_names(NAMES["image"])
        raise TableRefused(
            path,
            f"no column names the images; its columns: {came}",
            f"a column that names images ({names}) in {{path}}",
        )
    return columns


def _report_file(
    table: TextTable, columns: Columns, expected: Sequence[str], found: Findings
) -> None:
    """Report an encoding that is not certain, and columns that are missing or unknown."""
    path = table.path
    if table.encoding == WINDOWS:
        found.add("tables read as Windows-1252", [path.name])
    present = {*columns.facts}
    if columns.has_labels or columns.classes:
        present.add("diagnosis")
    if columns.site_levels:
        present.add("anatom_site_general")
    if expected and not present & {*expected}:
        came = ", ".join(table.columns)[:200]
        raise TableRefused(
            path, f"its columns: {came}", f"columns for {', '.join(expected)} in {{path}}"
        )
    found.add("missing columns", [name for name in expected if name not in present], path.name)
    found.add("unknown columns", [c for c in columns.unknown if c in table.columns], path.name)


def _facts(text: pd.DataFrame, columns: Columns, path: Path, found: Findings) -> pd.DataFrame:
    """Return the columns of METADATA_COLUMNS and SOURCE_COLUMNS that the table has."""
    facts = {}
    for name in (*METADATA_COLUMNS, *SOURCE_COLUMNS):
        if name in columns.facts:
            facts[name] = text[columns.facts[name]]
    if "age_approx" in facts:
        ages = facts["age_approx"]
        facts["age_approx"] = checked_ages(ages.where(words(ages).notna()), path, found)
    if "sex" in facts:
        kind = "sexes that are neither female nor male"
        facts["sex"] = _termed(facts["sex"], SEXES_BY_WORD, kind, path, found)
    kind = "sites that are none of ISIC 2019"
    if "anatom_site_general" in facts:
        sites = facts["anatom_site_general"]
        facts["anatom_site_general"] = _termed(sites, SITES_BY_WORD, kind, path, found)
    elif columns.site_levels:
        levels = text[list(columns.site_levels)].itertuples(index=False)
        joined = [":".join(cell for cell in row if isinstance(cell, str)) for row in levels]
        paths = pd.Series(joined, text.index, dtype="str")
        sites = paths.map(archive_site).astype("str")
        found.add(kind, cells(paths[(paths != "") & sites.isna()]), path.name)
        facts["anatom_site_general"] = sites
    if "archive" in facts:
        facts["archive"] = archive_of(facts["archive"]).fillna(facts["archive"])
    return pd.DataFrame(facts, index=text.index)


def _termed(
    column: "pd.Series[str]", terms: dict[str, str], kind: str, path: Path, found: Findings
) -> "pd.Series[str]":
    """Return ISIC 2019's terms for the words of a column; report the words that are none."""
    plain_words = words(column)
    termed = plain_words.map(terms).astype("str")
    found.add(kind, cells(column[plain_words.notna() & termed.isna()]), path.name)
    return termed


def _report_unlabelled(rows: pd.DataFrame, path: Path, found: Findings) -> None:
    unnamed = rows["diagnosis"].isna()
    partly = unnamed & False
    if "malignant" in rows:
        partly = unnamed & rows["malignant"].notna()
    found.add("images with only benign or malignant", rows.index[partly], path.name)
    found.add("images without a diagnosis", rows.index[unnamed & ~partly], path.name)
