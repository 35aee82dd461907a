"""Reads one table of images: diagnoses, patients, lesions and sources.

A word that is not certain to be a term of ISIC 2019 is reported and taken as missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cadlib.data.consistency import Mismatches
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
_SITES = "sites that are none of ISIC 2019"
"""Kind of the mismatch for unknown sites."""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """The content of a table of images: `rows` is indexed by image id, one row an image.

    Its columns are those of LABEL_COLUMNS, METADATA_COLUMNS and SOURCE_COLUMNS that the table has.
    `one_hot` is true where the only labels are 0 and 1 in one column a diagnosis.
    """

    rows: pd.DataFrame
    one_hot: bool

    def part(self, columns: Sequence[str]) -> pd.DataFrame | None:
        """Return the `columns` that the table has; None where it has none of them."""
        present = [column for column in columns if column in self.rows]
        if not present:
            return None
        return self.rows[present]


def read_table(
    path: Path,
    images: "pd.Index[str]",
    mismatches: Mismatches,
    expected: Sequence[str] = (),
) -> ImageTable:
    """Read the content of a table of images, for every id in it.

    A cell names an image by its id, its file name, or a path that ends with one, of `images`.
    Missing columns of `expected`, columns of a data set's table, are reported. Raise TableRefused
    for a file that is no table of images or has none of the expected columns, and DatasetInvalid
    for a table that can be read in two ways.
    """
    columns = _expected_columns(path, expected)
    used = columns.used
    table = read_text_table(path, lambda column: column in used)
    _report_file(table, columns, expected, mismatches)
    by_image = _by_image(table, columns.image, images, mismatches)
    text = by_image.cells
    short = text.index[by_image.short_rows]
    mismatches.add("rows shorter than the header", short, path.name)

    labels = read_labels(by_image, columns, mismatches)
    facts = _facts(text, columns, path, mismatches)
    rows = pd.concat([labels, facts], axis=1)
    # Only now: the rows of an image may state its diagnosis and its age in different rows.
    rows = one_row_an_id(rows, path, mismatches)
    has_classes = bool(columns.classes) and not columns.diagnoses
    one_hot = has_classes and "malignant" not in rows
    if "diagnosis" in rows and not one_hot:
        _report_unlabelled(rows, path, mismatches)
    return ImageTable(rows, one_hot)


def _expected_columns(path: Path, expected: Sequence[str]) -> Columns:
    """Return the columns of a table, without a flag that is no label there."""
    columns = image_columns(path)
    if columns.one_hot or "diagnosis" in expected:
        return columns
    # One flag alone is a label only in a table that is passed as ground truth.
    flags = tuple(columns.classes)
    unknown = (*columns.unknown, *flags)
    return replace(columns, classes={}, unknown=unknown)


def _by_image(
    table: TextTable,
    image_column: str,
    images: "pd.Index[str]",
    mismatches: Mismatches,
) -> TextTable:
    """Return the rows of a table that name an image, indexed by image id."""
    path = table.path
    text = rows_with_an_id(table.cells.set_index(image_column), path, mismatches)
    # A row without an id cannot be joined; it was reported.
    has_id = table.cells[image_column].notna().to_numpy()
    present = frozenset(images)
    ids = [resolve_id(cell, present) for cell in text.index]
    text.index = pd.Index(ids, dtype="str", name="image")

    is_outside = ~text.index.isin(images)
    outside = text.index[is_outside].unique()
    changed = changed_by_spreadsheet(outside, images)
    mismatches.add("ids changed by a spreadsheet", changed, path.name)
    return replace(table, cells=text, short_rows=table.short_rows[has_id])


def image_columns(path: Path) -> Columns:
    """Return the columns of a table; raise TableRefused when none of them names images."""
    header = read_columns(path)
    columns = columns_of(header, path)
    if columns is None:
        shown = ", ".join(header)[:200]
        names = shown_names(NAMES["image"])
        raise TableRefused(
            path,
            f"no column names the images; its columns: {shown}",
            f"a column that names images ({names}) in {{path}}",
        )
    return columns


def _report_file(
    table: TextTable,
    columns: Columns,
    expected: Sequence[str],
    mismatches: Mismatches,
) -> None:
    """Report an uncertain encoding, and columns that are missing or unknown."""
    path = table.path
    if table.encoding == WINDOWS:
        mismatches.add("tables read as Windows-1252", [path.name])
    present = _present(columns)
    if expected and present.isdisjoint(expected):
        names = ", ".join(table.columns)[:200]
        expected_names = ", ".join(expected)
        raise TableRefused(
            path,
            f"its columns are: {names}",
            f"columns for {expected_names} in {{path}}",
        )
    missing = [name for name in expected if name not in present]
    mismatches.add("missing columns", missing, path.name)
    unknown = [column for column in columns.unknown if column in table.columns]
    mismatches.add("unknown columns", unknown, path.name)


def _present(columns: Columns) -> set[str]:
    """Return the columns of a data set's table that a table has under any name."""
    present = set(columns.facts)
    if columns.has_labels or columns.classes:
        present.add("diagnosis")
    if columns.site_levels:
        present.add("anatom_site_general")
    return present


def _facts(
    text: pd.DataFrame,
    columns: Columns,
    path: Path,
    mismatches: Mismatches,
) -> pd.DataFrame:
    """Return the columns of METADATA_COLUMNS and SOURCE_COLUMNS that the table has."""
    facts = {}
    for name in (*METADATA_COLUMNS, *SOURCE_COLUMNS):
        column = columns.facts.get(name)
        if column is not None:
            facts[name] = text[column]
    if "age_approx" in facts:
        facts["age_approx"] = _ages(facts["age_approx"], path, mismatches)
    if "sex" in facts:
        kind = "sexes that are neither female nor male"
        facts["sex"] = _termed(facts["sex"], SEXES_BY_WORD, kind, path, mismatches)
    if "anatom_site_general" in facts:
        sites = facts["anatom_site_general"]
        facts["anatom_site_general"] = _termed(
            sites,
            SITES_BY_WORD,
            _SITES,
            path,
            mismatches,
        )
    elif columns.site_levels:
        levels = text[list(columns.site_levels)]
        facts["anatom_site_general"] = _archive_sites(levels, path, mismatches)
    if "archive" in facts:
        names = facts["archive"]
        # An archive of one's own keeps its name.
        facts["archive"] = archive_of(names).fillna(names)
    return pd.DataFrame(facts, index=text.index)


def _ages(
    column: "pd.Series[str]",
    path: Path,
    mismatches: Mismatches,
) -> "pd.Series[float]":
    """Return ages in years; a word such as "unknown" is missing and not reported as wrong."""
    is_stated = words(column).notna()
    stated = column.where(is_stated)
    return checked_ages(stated, path, mismatches)


def _archive_sites(
    levels: pd.DataFrame,
    path: Path,
    mismatches: Mismatches,
) -> "pd.Series[str]":
    """Return the sites of ISIC 2019 for the ISIC Archive's levels; report unknown ones."""
    joined = []
    for row in levels.itertuples(index=False):
        # A missing level is not text.
        texts = [cell for cell in row if isinstance(cell, str)]
        site_path = ":".join(texts)
        joined.append(site_path)
    site_paths = pd.Series(joined, levels.index, dtype="str")
    sites = site_paths.map(archive_site).astype("str")
    # Without any level the site is missing, not unknown.
    has_path = site_paths != ""
    is_unknown = has_path & sites.isna()
    mismatches.add(_SITES, cells(site_paths[is_unknown]), path.name)
    return sites


def _termed(
    column: "pd.Series[str]",
    terms: dict[str, str],
    kind: str,
    path: Path,
    mismatches: Mismatches,
) -> "pd.Series[str]":
    """Return ISIC 2019's terms for the words of a column; report unknown words."""
    plain_words = words(column)
    termed = plain_words.map(terms).astype("str")
    is_unknown = plain_words.notna() & termed.isna()
    mismatches.add(kind, cells(column[is_unknown]), path.name)
    return termed


def _report_unlabelled(
    rows: pd.DataFrame,
    path: Path,
    mismatches: Mismatches,
) -> None:
    is_unnamed = rows["diagnosis"].isna()
    unlabelled = rows.index[is_unnamed]
    if "malignant" in rows:
        is_partial = is_unnamed & rows["malignant"].notna()
        partial = rows.index[is_partial]
        unlabelled = rows.index[is_unnamed & ~is_partial]
        mismatches.add("images with only benign or malignant", partial, path.name)
    mismatches.add("images without a diagnosis", unlabelled, path.name)
