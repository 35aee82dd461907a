"""Stores named selections of images, to measure or train on them alone.

A subset is one CSV file that can be read and edited by hand. Its first line has the data set and
the way of selection, as JSON behind a #. Then comes the column `image` with an id a line.
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

from cadlib.data.consistency import Mismatches
from cadlib.data.image_ids import composed, resolve_id
from cadlib.errors import DatasetInvalid, SubsetInvalid
from cadlib.files.replace import replace_files
from cadlib.files.spreadsheets import original_cell, safe_cell

# Importing pandas takes a third of a second, and a list of names does not need it.
if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset

SUFFIX = ".csv"
MOST_CHARACTERS = 60
"""Longest name: file systems accept it in UTF-8 and with SUFFIX."""
# The keys of the first line: neither fewer nor others are accepted.
_HEAD = {"dataset", "chosen"}


@dataclass(frozen=True)
class Subset:
    """Ids of images of the data set `dataset`; `chosen` describes how they were selected.

    A name is 1 to 60 letters, digits, blanks, '.', '_' and '-', a letter or a digit first and
    last. Raise SubsetInvalid for any other name, without images and for a repeated image.
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
                f"Expected images in the subset {self.name}, but it has none. Select some."
            )
        if not all(self.images):
            raise SubsetInvalid(
                f"Expected an id for each image of the subset {self.name}, but one is empty. "
                "Fill it in, or remove the line."
            )
        if len(set(self.images)) < len(self.images):
            twice = next(image for image in self.images if self.images.count(image) > 1)
            raise SubsetInvalid(
                f"Expected each image of the subset {self.name} once, "
                f"but {twice} is repeated. Remove the repetition."
            )

    @property
    def sha256(self) -> str:
        """Return the hash of the sorted ids in hexadecimal; it does not depend on the name."""
        # The order of the images has no meaning, so it must not change the hash.
        ids = sorted(self.images)
        lines = "\n".join(ids)
        encoded = lines.encode()
        digest = hashlib.sha256(encoded)
        return digest.hexdigest()

    def of(self, dataset: "Dataset") -> "Dataset":
        """Return a data set with these images alone; missing ones are listed in its report.

        The data set may have another name than `dataset`: folders are renamed, ids are not. Raise
        DatasetInvalid when it has none of the images.
        """
        present = frozenset(dataset.table["image"])
        selected = set()
        for image in self.images:
            # A list that was written by hand may have names of files.
            if image not in present:
                image = resolve_id(image, present)
            selected.add(image)
        is_selected = dataset.table["image"].isin(selected)
        table = dataset.table[is_selected].reset_index(drop=True)
        if table.empty:
            raise DatasetInvalid(
                f"Expected images of the subset {self.name} in {dataset.name}, "
                f"but none of its {len(self.images):,} images is usable there. "
                f"They were selected in {self.dataset}: open that data set."
            )
        missing = selected - set(table["image"])
        mismatches = Mismatches()
        mismatches.add("images of the subset that are not there", sorted(missing))
        report = replace(
            dataset.report,
            usable=len(table),
            mismatches=dataset.report.mismatches + mismatches.freeze(),
        )
        return replace(dataset, table=table, report=report)


def subsets_dir() -> Path:
    """Return the folder of subsets: CADLIB_SUBSETS where it is set, else in the user's data."""
    folder = os.environ.get("CADLIB_SUBSETS")
    return Path(folder or user_data_path("cadlib") / "subsets")


def list_subsets() -> list[str]:
    """Return the names of the subsets that were saved, sorted."""
    files = subsets_dir().glob(f"*{SUFFIX}")
    names = [path.stem for path in files]
    # A file that was put there by hand may have another name, which no command accepts.
    return sorted(filter(_is_name, names))


def read_subset(name: str) -> Subset:
    """Return a subset by its name; raise SubsetInvalid when it is missing or its file unusable."""
    path = _path(name)
    try:
        # A spreadsheet may have saved the file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _unknown(name) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SubsetInvalid(
            f"{path} cannot be read: {error}. Correct the file, or select its images again."
        ) from error
    head, _, body = text.partition("\n")
    facts = _read_head(path, head)
    images = _read_images(path, body)
    return Subset(name, images=images, **facts)


def _read_head(path: Path, head: str) -> dict[str, str]:
    """Return `dataset` and `chosen` from the first line of a file; raise SubsetInvalid."""
    try:
        facts = json.loads(head.removeprefix("#"))
    except ValueError:
        facts = None
    if not _is_head(facts):
        example = _head("isic2019", "melanomas")
        raise SubsetInvalid(
            f"Expected {path} to begin with a line like {example}, but got {head[:100]!r}. "
            "Restore the line."
        )
    texts: dict[str, str] = facts
    return texts


def _is_head(facts: object) -> bool:
    if not isinstance(facts, dict) or facts.keys() != _HEAD:
        return False
    return all(isinstance(value, str) for value in facts.values())


def _read_images(path: Path, body: str) -> tuple[str, ...]:
    """Return the ids behind the first line of a file; raise SubsetInvalid."""
    try:
        rows = list(csv.DictReader(io.StringIO(body), strict=True))
    except csv.Error as error:
        raise SubsetInvalid(
            f"Expected a CSV file behind the first line of {path}, "
            f"but it cannot be read: {error}. Correct the file."
        ) from error
    if rows and "image" not in rows[0]:
        columns = ", ".join(map(str, rows[0]))
        raise SubsetInvalid(
            f"Expected a column `image` in {path}, but found: {columns}. "
            "Give the column of the ids this name."
        )
    # A spreadsheet keeps the apostrophe that protected an id.
    return tuple(_id(row["image"]) for row in rows)


def save_subset(subset: Subset) -> None:
    """Save a subset, whole or not at all, and replace one of its name.

    Raise SubsetInvalid when the file cannot be written.
    """
    path = _path(subset.name)
    head = _head(subset.dataset, subset.chosen)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["image"])
    for image in subset.images:
        # An id could begin like a formula.
        cell = safe_cell(image)
        writer.writerow([cell])
    content = f"{head}\n{table.getvalue()}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_files(path.parent, {path.name: content})
    except OSError as error:
        raise SubsetInvalid(
            f"{path} cannot be written: {error}. "
            "Free disk space, or set CADLIB_SUBSETS to another folder."
        ) from error


def delete_subset(name: str) -> None:
    """Delete a subset, none of its images.

    Raise SubsetInvalid when it is missing or cannot be deleted.
    """
    path = _path(name)
    try:
        path.unlink()
    except FileNotFoundError:
        raise _unknown(name) from None
    except OSError as error:
        raise SubsetInvalid(
            f"{path} cannot be deleted: {error}. Check the rights of its folder."
        ) from error


def _head(dataset: str, chosen: str) -> str:
    """Return the first line of a file.

    A spreadsheet splits this line too, so characters that could begin a formula are escaped.
    """
    facts = {"dataset": dataset, "chosen": chosen}
    text = json.dumps(facts, ensure_ascii=False)
    escaped = re.sub(r'([,;"] *)([=+@＝＋－＠-])', _escaped, text)
    return f"# {escaped}"


def _escaped(match: re.Match[str]) -> str:
    return f"{match[1]}\\u{ord(match[2]):04x}"


def _id(cell: str | None) -> str:
    return original_cell((cell or "").strip())


def _is_name(name: str) -> bool:
    if len(name) > MOST_CHARACTERS:
        return False
    return re.fullmatch(r"[^\W_]([\w .-]*[^\W_])?", name) is not None


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise SubsetInvalid(
            f"Expected a name of 1 to {MOST_CHARACTERS} letters, digits, blanks, '.', '_' and '-', "
            f"a letter or a digit first and last, but got {name!r}."
        )


def _path(name: str) -> Path:
    _check_name(name)
    return subsets_dir() / f"{name}{SUFFIX}"


def _unknown(name: str) -> SubsetInvalid:
    names = ", ".join(list_subsets()) or "none"
    return SubsetInvalid(
        f"Expected the name of a subset, but got {name!r}. "
        f"Use one of those in {subsets_dir()}: {names}."
    )
