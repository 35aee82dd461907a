"""A named selection of images of a data set, kept from one day to the next, for measuring or training on it alone.

A subset is one CSV file, to be read and edited by hand: a first line with what it was chosen from and how, as JSON
behind a #, then the column `image` with an id a line.
"""

import csv
import hashlib
import io
import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_data_path

from cadlib.data.consistency import Findings
from cadlib.data.image_ids import composed, resolve_id
from cadlib.errors import DatasetInvalid, SubsetInvalid
from cadlib.files.replace import replace_files
from cadlib.files.spreadsheets import original_cell, safe_cell

if TYPE_CHECKING:  # pandas takes a third of a second; a list of names needs none
    from cadlib.data.dataset import Dataset

SUFFIX = ".csv"
MOST_CHARACTERS = 60
"""Of a name: in UTF-8 and with SUFFIX a file system still takes it."""
_HEAD = {"dataset", "chosen"}


@dataclass(frozen=True)
class Subset:
    """Ids of images of the data set called `dataset`; `chosen` says in words how they were selected.

    A name is 1 to 60 letters, digits, blanks, '.', '_' and '-', a letter or a digit first and last. Raise
    SubsetInvalid for any other, and unless there are images, each once.
    """

    name: str
    dataset: str
    images: tuple[str, ...]
    chosen: str

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "images", tuple(map(composed, self.images)))
        if not self.images:
            raise SubsetInvalid(
                f"Expected images in the subset {self.name} but none came; choose some."
            )
        if not all(self.images):
            raise SubsetInvalid(
                f"Expected an id for each image of the subset {self.name} but an empty one came."
            )
        if len(set(self.images)) < len(self.images):
            twice = next(image for image in self.images if self.images.count(image) > 1)
            raise SubsetInvalid(
                f"Expected each image of the subset {self.name} once but {twice} came again."
            )

    @property
    def sha256(self) -> str:
        """Return the hash of the sorted ids in hexadecimal: the same images have the same, whatever their name."""
        return hashlib.sha256("\n".join(sorted(self.images)).encode()).hexdigest()

    def of(self, dataset: "Dataset") -> "Dataset":
        """Return a data set with these images alone; its report tells which of them are not there.

        It may have another name than `dataset`: a folder is renamed, an id is not. Raise DatasetInvalid when it has
        none of the images.
        """
        at_hand = frozenset(dataset.table["image"])
        # A list that was written by hand may name files.
        chosen = {
            image if image in at_hand else resolve_id(image, at_hand) for image in self.images
        }
        table = dataset.table[dataset.table["image"].isin(chosen)].reset_index(drop=True)
        if table.empty:
            raise DatasetInvalid(
                f"Expected images of the subset {self.name} in {dataset.name} but none of its {len(self.images):,} is "
                f"usable there; they were chosen in {self.dataset}: give that data set."
            )
        found = Findings()
        found.add("images of the subset that are not there", sorted(chosen - {*table["image"]}))
        report = replace(
            dataset.report, usable=len(table), findings=dataset.report.findings + found.freeze()
        )
        return replace(dataset, table=table, report=report)


def subsets_dir() -> Path:
    """Return the folder: the one CADLIB_SUBSETS names where it is set, else in the user's own data."""
    return Path(os.environ.get("CADLIB_SUBSETS") or user_data_path("cadlib") / "subsets")


def list_subsets() -> list[str]:
    """Return the names of the subsets that were saved, sorted."""
    return sorted(path.stem for path in subsets_dir().glob(f"*{SUFFIX}") if _is_name(path.stem))


def read_subset(name: str) -> Subset:
    """Return a subset by its name; raise SubsetInvalid where there is none, or its file cannot be used."""
    path = _path(name)
    try:
        head, _, body = path.read_text(encoding="utf-8-sig").partition("\n")
    except FileNotFoundError:
        raise _unknown(name) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SubsetInvalid(
            f"{path} cannot be read: {error}. Mend the file, or choose its images anew."
        ) from error
    try:
        facts = json.loads(head.removeprefix("#"))
    except ValueError:
        facts = None
    if (
        not isinstance(facts, dict)
        or facts.keys() != _HEAD
        or not all(isinstance(v, str) for v in facts.values())
    ):
        example = _head("isic2019", "melanomas")
        raise SubsetInvalid(
            f"Expected {path} to begin with a line as {example} but got {head[:100]!r}; restore it."
        )
    try:
        rows = list(csv.DictReader(io.StringIO(body), strict=True))
    except csv.Error as error:
        raise SubsetInvalid(
            f"Expected a CSV file behind the first line of {path} but: {error}; mend it."
        ) from error
    if rows and "image" not in rows[0]:
        raise SubsetInvalid(
            f"Expected a column `image` in {path} but got {', '.join(map(str, rows[0]))}; name it so."
        )
    return Subset(name, images=tuple(_id(row["image"]) for row in rows), **facts)


def save_subset(subset: Subset) -> None:
    """Save a subset, whole or not at all, in place of one of its name; raise SubsetInvalid where that fails."""
    path, text = _path(subset.name), io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [["image"], *([safe_cell(image)] for image in subset.images)]
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files(
            path.parent, {path.name: f"{_head(subset.dataset, subset.chosen)}\n{text.getvalue()}"}
        )
    except OSError as error:
        raise SubsetInvalid(
            f"{path} cannot be written: {error}. Make room, or point CADLIB_SUBSETS elsewhere."
        ) from error


def delete_subset(name: str) -> None:
    """Delete a subset, none of its images; raise SubsetInvalid where there is none, or it cannot be deleted."""
    path = _path(name)
    try:
        path.unlink()
    except FileNotFoundError:
        raise _unknown(name) from None
    except OSError as error:
        raise SubsetInvalid(f"{path} cannot be deleted: {error}.") from error


def _head(dataset: str, chosen: str) -> str:
    """Return the first line. A spreadsheet splits it too, so what could begin a formula is written by its number."""
    text = json.dumps({"dataset": dataset, "chosen": chosen}, ensure_ascii=False)
    return "# " + re.sub(r'([,;"] *)([=+@＝＋－＠-])', _by_number, text)


def _by_number(found: re.Match[str]) -> str:
    return f"{found[1]}\\u{ord(found[2]):04x}"


def _id(cell: str | None) -> str:
    return original_cell((cell or "").strip())


def _is_name(name: str) -> bool:
    return len(name) <= MOST_CHARACTERS and bool(re.fullmatch(r"[^\W_]([\w .-]*[^\W_])?", name))


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise SubsetInvalid(
            f"Expected a name of 1 to {MOST_CHARACTERS} letters, digits, blanks, '.', '_' and '-', a letter or a digit "
            f"first and last, but got {name!r}."
        )


def _path(name: str) -> Path:
    _check_name(name)
    return subsets_dir() / f"{name}{SUFFIX}"


def _unknown(name: str) -> SubsetInvalid:
    known = ", ".join(list_subsets()) or "none"
    return SubsetInvalid(
        f"Expected the name of a subset but got {name!r}. Subsets in {subsets_dir()}: {known}."
    )
