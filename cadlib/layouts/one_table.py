"""One CSV file that tells all of a data set: of HAM10000, ISIC 2020, the ISIC Archive, or one's own.

A column is known by its usual names. Nothing is guessed: two columns that could be the same are an error, and a word
that is not certain to be a term of ISIC 2019 is reported and taken as missing.
"""

from pathlib import Path, PurePosixPath

import pandas as pd

from cadlib.errors import DatasetInvalid
from cadlib.findings import Findings
from cadlib.images import SUPPORTED_SUFFIXES
from cadlib.isic_csv import archive_of, cells, checked_ages, one_row_an_id, read_csv, rows_with_an_id
from cadlib.layouts.terms import DIAGNOSES_BY_WORD, SEXES_BY_WORD, SITES_BY_WORD, words

NAMES = {
    "image": (
        *("image", "image_id", "image_name", "isic_id", "filename", "file_name", "file"),
        *("path", "file_path", "filepath", "image_path"),
    ),
    "diagnosis": ("diagnosis", "dx", "label", "class", "diagnosis_3"),
    "age_approx": ("age_approx", "age", "age_years"),
    "sex": ("sex", "gender"),
    "anatom_site_general": (
        *("anatom_site_general", "anatom_site_general_challenge", "localization", "location"),
        *("site", "anatomical_site", "body_site"),
    ),
    "lesion_id": ("lesion_id", "lesion"),
    "archive": ("archive", "source"),
    "lesion_group": ("lesion_group", "patient_id", "patient"),  # the lesions of a patient stay together
}
"""A column of a dataset's table -> how it is called elsewhere, in lower case, with _ for blanks and hyphens."""
_TERMS = {
    "diagnosis": (DIAGNOSES_BY_WORD, "diagnoses that are none of the eight"),
    "sex": (SEXES_BY_WORD, "sexes that are neither female nor male"),
    "anatom_site_general": (SITES_BY_WORD, "sites that are none of ISIC 2019"),
}
_WELCOME = (
    *("dx_type", "dataset", "diagnosis_confirm_type", "benign_malignant", "target"),
    *("attribution", "copyright_license", "image_type", "diagnosis_1", "diagnosis_2", "diagnosis_4", "diagnosis_5"),
    *("width_px", "height_px", "geometry"),
)  # of HAM10000, ISIC 2018, ISIC 2020 and the ISIC Archive, and what is read from the file itself


def columns_of(header: tuple[str, ...], path: Path) -> dict[str, str]:
    """Return the columns of a dataset's table that a header has -> their names there; empty without an image column.

    Raise DatasetInvalid where two columns could be the same.
    """
    by_name: dict[str, list[str]] = {}
    for column in header:
        by_name.setdefault(plain(column), []).append(column)
    came = {known: [c for name in names for c in by_name.get(name, ())] for known, names in NAMES.items()}
    if not came["image"]:
        return {}
    for known, columns in came.items():
        if len(columns) > 1:
            raise DatasetInvalid(
                f"Expected one column of {path} for {known} ({', '.join(NAMES[known])}) but came: "
                f"{', '.join(columns)}. Keep the one that is meant, and rename or remove the others."
            )
    return {known: columns[0] for known, columns in came.items() if columns}


def read_one_table(path: Path, columns: dict[str, str], images: "pd.Index[str]", found: Findings) -> pd.DataFrame:
    """Return image -> what `columns` has of a dataset's table, for every id; the ids of `images` where a cell has one.

    A cell names an image by its id, its file name, or a path that ends with it. Raise DatasetInvalid for a file that
    is no table.
    """
    table = read_csv(path, (columns["image"],), columns["image"])
    known = {column: name for name, column in columns.items()}
    strange = [column for column in table if column not in known and plain(str(column)) not in _WELCOME]
    found.add("unknown columns", strange, path.name)
    table = rows_with_an_id(table, path, found).rename(columns=known)
    table = table[[name for name in columns if name != "image"]]
    at_hand = frozenset(images)
    table.index = pd.Index([_id_of(cell, at_hand) for cell in table.index], dtype="str", name="image")
    for name, (terms, kind) in _TERMS.items():
        if name in table:
            table[name] = _termed(table[name], terms, kind, path, found)
    if "age_approx" in table:
        known_ages = table["age_approx"].where(words(table["age_approx"]).notna())
        table["age_approx"] = checked_ages(known_ages, path, found)
    if "archive" in table:
        table["archive"] = archive_of(table["archive"]).fillna(table["archive"])
    table = one_row_an_id(table, path, found)
    if "diagnosis" in table:
        found.add("images without a diagnosis", table.index[table["diagnosis"].isna()], path.name)
    return table


def _termed(
    column: "pd.Series[str]", terms: dict[str, str], kind: str, path: Path, found: Findings
) -> "pd.Series[str]":
    """Return ISIC 2019's terms for the words of a column; report the words that are none."""
    said = words(column)
    found.add("AKIEC taken as AK", column.index[said == "akiec"], path.name)
    termed = said.map(terms).astype("str")
    found.add(kind, cells(column[said.notna() & termed.isna()]), path.name)
    return termed


def plain(column: str) -> str:
    """Return the name of a column in lower case, with _ for blanks and hyphens."""
    return "_".join(column.lower().replace("-", " ").split())


def _id_of(cell: str, at_hand: frozenset[str]) -> str:
    """Return the id that a cell names: the longest end of its path that is one, else the cell without its suffix."""
    path = PurePosixPath(cell.replace("\\", "/"))
    path = path.with_suffix("") if path.suffix.lower() in SUPPORTED_SUFFIXES else path
    ends = ("/".join(path.parts[first:]) for first in range(len(path.parts)))
    return next((end for end in ends if end in at_hand), str(path))
