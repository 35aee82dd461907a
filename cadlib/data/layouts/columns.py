"""Recognises the columns of a table by their names.

Two columns that could be the same are refused with both names.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cadlib.data.layouts.terms import DIAGNOSES_BY_WORD
from cadlib.errors import DatasetInvalid

NAMES = {
    "image": (
        *("image", "image_id", "image_name", "isic_id", "filename", "file_name", "file"),
        *("path", "file_path", "filepath", "image_path"),
        *("imageid", "imagename", "imagepath", "isicid", "image_file", "image_filename"),
        *("img", "img_id", "bcn_filename"),
    ),
    "age_approx": ("age_approx", "age", "age_years"),
    "sex": ("sex", "gender"),
    "anatom_site_general": (
        *("anatom_site_general", "anatom_site_general_challenge", "localization", "location"),
        *("site", "anatomical_site", "body_site"),
    ),
    "lesion_id": ("lesion_id", "lesion"),
    "archive": ("archive", "source"),
    # The lesions of a patient stay in one split.
    "lesion_group": ("lesion_group", "patient_id", "patient"),
}
"""Column of a data set's table -> its names elsewhere, as `plain` returns them."""
DIAGNOSIS_NAMES = ("diagnosis", "dx", "label", "class", "diagnosis_3", "iddx_3")
"""Columns that name a diagnosis, or say benign or malignant."""
MALIGNANCY_NAMES = (
    *("malignant", "is_malignant", "benign", "is_benign", "malignancy"),
    *("benign_malignant", "benign_or_malignant", "target"),
    *("diagnosis_1", "iddx_1", "iddx_full"),
)
"""Columns that say benign or malignant: of ISIC 2020 and 2024, the ISIC Archive, or one's own."""
SITE_LEVEL_NAMES = tuple(f"anatom_site_{level}" for level in range(1, 6))
"""Sites of the ISIC Archive, from the widest to the narrowest."""

# Enough to recognise a column's usual names; a message is no list of all of them.
_SHOWN = 7
_PREFIX = re.compile(r"(?:diagnosis|dx|label|class)[\s_.:/-]+")
_WELCOME = (
    *("dx_type", "dataset", "diagnosis_confirm_type"),
    *("attribution", "copyright_license", "image_type"),
    *("diagnosis_2", "diagnosis_4", "diagnosis_5", "iddx_2", "iddx_4", "iddx_5"),
    *("width_px", "height_px", "geometry", "pixels_x", "pixels_y"),
)
"""Columns of public data sets that are not used; those read from the image file are last."""
_WELCOME_PREFIXES = ("tbp_", "mel_mitotic_", "mel_thick_", "clin_size_")
"""Of ISIC 2024."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what they hold.

    `image` names the images. `facts` has a column of a data set's table -> its name here.
    `diagnoses` name a diagnosis in words, `classes` (column -> code of ISIC 2019) hold 0 or 1,
    `malignancy` says benign or malignant, and `unknown` are all other columns.
    """

    image: str
    facts: Mapping[str, str]
    diagnoses: tuple[str, ...]
    classes: Mapping[str, str]
    malignancy: tuple[str, ...]
    site_levels: tuple[str, ...]
    unknown: tuple[str, ...] = field(default=())

    @property
    def one_hot(self) -> bool:
        """Return whether there is one column a diagnosis; a single column does not count."""
        return len(self.classes) > 1

    @property
    def has_labels(self) -> bool:
        """Return whether a column has diagnoses, or benign and malignant."""
        return bool(self.diagnoses or self.malignancy or self.one_hot)

    @property
    def used(self) -> frozenset[str]:
        """Return the columns that are read."""
        columns = {self.image}
        columns.update(self.facts.values())
        columns.update(self.diagnoses)
        columns.update(self.classes)
        columns.update(self.malignancy)
        columns.update(self.site_levels)
        return frozenset(columns)


def plain(column: str) -> str:
    """Return the name of a column in lower case, with _ for blanks and hyphens."""
    lower = column.lower()
    with_blanks = lower.replace("-", " ")
    words = with_blanks.split()
    return "_".join(words)


def shown_names(names: tuple[str, ...]) -> str:
    """Return the first names for a message."""
    shown = ", ".join(names[:_SHOWN])
    if len(names) > _SHOWN:
        return f"{shown}, …"
    return shown


def names_images(column: str) -> bool:
    """Return whether a column names images."""
    return plain(column) in NAMES["image"]


def columns_of(header: tuple[str, ...], path: Path) -> Columns | None:
    """Return the columns of a header; None where none of them names images.

    Raise DatasetInvalid where two columns could be the same.
    """
    by_name = _grouped(header, plain)
    facts = _fact_columns(by_name, path)
    if "image" not in facts:
        return None
    image = facts.pop("image")

    diagnoses = _all(DIAGNOSIS_NAMES, by_name)
    classes, malignancy = _value_columns(header, path)
    if len(classes) == 1 and diagnoses:
        # A flag beside the diagnosis says nothing about the other classes.
        classes = {}
    site_levels: tuple[str, ...] = ()
    # The ISIC Archive has levels beside ISIC 2019's site; that site is the one asked for.
    if "anatom_site_general" not in facts:
        site_levels = _all(SITE_LEVEL_NAMES, by_name)
    columns = Columns(
        image,
        facts,
        diagnoses,
        classes,
        malignancy,
        site_levels,
    )
    unknown = _unknown(header, columns.used)
    return replace(columns, unknown=unknown)


def _grouped(header: tuple[str, ...], key: Callable[[str], str]) -> dict[str, list[str]]:
    """Return key -> the columns that have it, in the order of the header."""
    groups: dict[str, list[str]] = {}
    for column in header:
        name = key(column)
        group = groups.setdefault(name, [])
        group.append(column)
    return groups


def _unknown(header: tuple[str, ...], used: frozenset[str]) -> tuple[str, ...]:
    """Return the columns that are neither read nor known from public data sets."""
    unused = [column for column in header if column not in used]
    return tuple(column for column in unused if not _is_welcome(plain(column)))


def _fact_columns(by_name: dict[str, list[str]], path: Path) -> dict[str, str]:
    """Return the keys of NAMES that the table has -> the column; raise DatasetInvalid for two."""
    facts = {}
    for name, names in NAMES.items():
        column = _only(name, names, by_name, path)
        if column is not None:
            facts[name] = column
    return facts


def _is_welcome(name: str) -> bool:
    if name.startswith(_WELCOME_PREFIXES):
        return True
    return name in (*_WELCOME, *SITE_LEVEL_NAMES)


def _all(names: tuple[str, ...], by_name: dict[str, list[str]]) -> tuple[str, ...]:
    columns: list[str] = []
    for name in names:
        columns += by_name.get(name, [])
    return tuple(columns)


def _only(
    name: str,
    names: tuple[str, ...],
    by_name: dict[str, list[str]],
    path: Path,
) -> str | None:
    columns = _all(names, by_name)
    if len(columns) > 1:
        raise several_columns(path, name, names, columns)
    return columns[0] if columns else None


def several_columns(
    path: Path,
    name: str,
    names: tuple[str, ...],
    columns: tuple[str, ...],
) -> DatasetInvalid:
    """Return the error for a table in which several columns could have one meaning."""
    found_columns = ", ".join(columns)
    return DatasetInvalid(
        f"Expected one column of {path} for {name} ({shown_names(names)}), "
        f"but found: {found_columns}. "
        "Keep the right column, and rename or remove the others."
    )


def _value_columns(header: tuple[str, ...], path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the columns with 0 or 1 for a diagnosis -> its code, and those for malignancy."""
    by_word = _grouped(header, class_word)
    classes: dict[str, str] = {}
    malignancy: list[str] = []
    for word, columns in by_word.items():
        name = word.replace(" ", "_")
        is_malignancy = name in MALIGNANCY_NAMES
        is_class = word in DIAGNOSES_BY_WORD
        if not is_class and not is_malignancy:
            # The whole name may still be one for malignancy: `diagnosis_1` is "1" here.
            malignancy += [column for column in columns if plain(column) in MALIGNANCY_NAMES]
            continue
        # `MEL` and `dx_MEL` in one table could differ, and none of them is preferred.
        if len(columns) > 1:
            raise several_columns(path, word, (word,), tuple(columns))
        if is_malignancy:
            malignancy += columns
        else:
            classes[columns[0]] = DIAGNOSES_BY_WORD[word]
    return classes, tuple(malignancy)


def class_word(column: str) -> str:
    """Return the meaning of a column of 0 and 1, in lower case and without `diagnosis_`.

    >>> class_word("dx_MEL")
    'mel'
    """
    word = column.lower()
    if _PREFIX.match(word):
        stripped = word.strip()
        word = _PREFIX.sub("", stripped, count=1)
    single_blanks = re.sub(r"[\s_-]+", " ", word)
    return single_blanks.strip()
