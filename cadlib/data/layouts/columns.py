"""Knows the columns of a table by the names that data sets give them.

Two columns that could be the same are refused with both names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    "lesion_group": ("lesion_group", "patient_id", "patient"),  # a patient's lesions stay together
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
"""The ISIC Archive's sites, from the widest to the narrowest."""

_SHOWN = 7
_PREFIX = re.compile(r"(?:diagnosis|dx|label|class)[\s_.:/-]+")
_WELCOME = (
    *("dx_type", "dataset", "diagnosis_confirm_type"),
    *("attribution", "copyright_license", "image_type"),
    *("diagnosis_2", "diagnosis_4", "diagnosis_5", "iddx_2", "iddx_4", "iddx_5"),
    *("width_px", "height_px", "geometry", "pixels_x", "pixels_y"),
)
"""Columns of the known data sets that are not used; what is read from the file itself is last."""
_WELCOME_PREFIXES = ("tbp_", "mel_mitotic_", "mel_thick_", "clin_size_")
"""Of ISIC 2024."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what they hold.

    `image` names the images. `facts` has a column of a data set's table -> its name here.
    `diagnoses` name a diagnosis in words, `classes` (column -> code of ISIC 2019) hold 0 or 1,
    `malignancy` says benign or malignant, and `unknown` are all that are not known.
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
        """Tell whether there is one column a diagnosis; a single one is none of several."""
        return len(self.classes) > 1

    @property
    def has_labels(self) -> bool:
        """Tell whether a column has diagnoses, or benign and malignant."""
        return bool(self.diagnoses or self.malignancy or self.one_hot)

    @property
    def used(self) -> frozenset[str]:
        """Return the columns that are read."""
        several = (self.diagnoses, self.classes, self.malignancy, self.site_levels)
        return frozenset(
            (self.image, *self.facts.values(), *(one for each in several for one in each))
        )


def plain(column: str) -> str:
    """Return the name of a column in lower case, with _ for blanks and hyphens."""
    return "_".join(column.lower().replace("-", " ").split())


def shown_names(names: tuple[str, ...]) -> str:
    """Return the first names for a message."""
    more = ", …" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def names_images(column: str) -> bool:
    """Tell whether a column names images."""
    return plain(column) in NAMES["image"]


def columns_of(header: tuple[str, ...], path: Path) -> Columns | None:
    """Return the columns of a header; None where none of them names images.

    Raise DatasetInvalid where two columns could be the same.
    """
    by_name: dict[str, list[str]] = {}
    for column in header:
        by_name.setdefault(plain(column), []).append(column)

    facts = {}
    for name, names in NAMES.items():
        only = _only(name, names, by_name, path)
        if only is not None:
            facts[name] = only
    if "image" not in facts:
        return None
    image = facts.pop("image")

    diagnoses = _all(DIAGNOSIS_NAMES, by_name)
    classes, malignancy = _value_columns(header, path)
    if len(classes) == 1 and diagnoses:
        classes = {}  # a flag beside the diagnosis says nothing of the other classes
    site_levels = () if "anatom_site_general" in facts else _all(SITE_LEVEL_NAMES, by_name)
    columns = Columns(image, facts, diagnoses, classes, malignancy, site_levels)
    unknown = [c for c in header if c not in columns.used and not _is_welcome(plain(c))]
    return Columns(image, facts, diagnoses, classes, malignancy, site_levels, tuple(unknown))


def _is_welcome(name: str) -> bool:
    return name in (*_WELCOME, *SITE_LEVEL_NAMES) or name.startswith(_WELCOME_PREFIXES)


def _all(names: tuple[str, ...], by_name: dict[str, list[str]]) -> tuple[str, ...]:
    return tuple(column for name in names for column in by_name.get(name, ()))


def _only(
    name: str, names: tuple[str, ...], by_name: dict[str, list[str]], path: Path
) -> str | None:
    columns = _all(names, by_name)
    if len(columns) > 1:
        raise several_columns(path, name, names, columns)
    return columns[0] if columns else None


def several_columns(
    path: Path, name: str, names: tuple[str, ...], columns: tuple[str, ...]
) -> DatasetInvalid:
    """Return the error for columns that could each be the one that is meant."""
    return DatasetInvalid(
        f"Expected one column of {path} for {name} ({shown_names(names)}) but came: "
        f"{', '.join(columns)}. Keep the one that is meant, and rename or remove the others."
    )


def _value_columns(header: tuple[str, ...], path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the columns with 0 or 1 for a diagnosis -> its code, and those for malignancy."""
    by_token: dict[str, list[str]] = {}
    for column in header:
        by_token.setdefault(class_word(column), []).append(column)
    classes: dict[str, str] = {}
    malignancy = []
    for token, columns in by_token.items():
        is_malignancy = token.replace(" ", "_") in MALIGNANCY_NAMES
        if token not in DIAGNOSES_BY_WORD and not is_malignancy:
            malignancy += [column for column in columns if plain(column) in MALIGNANCY_NAMES]
            continue
        if len(columns) > 1:
            raise several_columns(path, token, (token,), tuple(columns))
        if is_malignancy:
            malignancy += columns
        else:
            classes[columns[0]] = DIAGNOSES_BY_WORD[token]
    return classes, tuple(malignancy)


def class_word(column: str) -> str:
    """Return what a column of 0 and 1 stands for, in lower case and without `diagnosis_`.

    >>> class_word("dx_MEL")
    'mel'
    """
    word = (
        _PREFIX.sub("", column.strip().lower(), count=1)
        if _PREFIX.match(column.lower())
        else column
    )
    return re.sub(r"[\s_-]+", " ", word.lower()).strip()
