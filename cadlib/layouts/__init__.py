"""How data sets lie on a disk: where their images are, and which tables tell of them. Told by columns, not by names.

    ISIC 2019      <set>_Input, <set>_GroundTruth.csv (one column a diagnosis), <set>_Metadata.csv
                   https://challenge.isic-archive.com/data/#2019
    ISIC 2018      Task 3: the same with seven classes, AKIEC for AK, and <set>_LesionGroupings.csv
                   https://challenge.isic-archive.com/data/#2018
    HAM10000       HAM10000_metadata.csv (lesion_id, image_id, dx, …), images in one or two folders
                   https://doi.org/10.7910/DVN/DBW86T
    ISIC 2020      one table (image_name, patient_id, …, diagnosis, …) and a folder of images
                   https://challenge2020.isic-archive.com
    ISIC Archive   the table of a download (isic_id, …, diagnosis_1 to diagnosis_5, …) and a folder of images
                   https://api.isic-archive.com
    one's own      a folder of images, and one CSV file with a column that names them

All but the first two are one table whose columns have other names:

    one_table      which columns are known, and reading them
    terms          other words for the diagnoses, sexes and sites of ISIC 2019
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cadlib.errors import DatasetInvalid
from cadlib.findings import Findings
from cadlib.images import SUPPORTED_SUFFIXES
from cadlib.isic_csv import (
    METADATA_COLUMNS,
    SOURCE_COLUMNS,
    read_ground_truth,
    read_header,
    read_metadata,
    read_sources,
)
from cadlib.layouts.one_table import NAMES, columns_of, plain, read_one_table
from cadlib.taxonomy import CODES, ISIC_2018

DEPTH = 2
"""Levels below a folder at which its images are looked for, and below a root its data sets."""


@dataclass(frozen=True, eq=False)
class Tables:
    """What CSV files tell of images, each by id: `labels` (diagnosis), `facts` and `origin`; None where there is none.

    With `whole` an image whose diagnosis is missing in `labels` is kept, else it is left out.
    """

    labels: pd.DataFrame | None
    facts: pd.DataFrame | None
    origin: pd.DataFrame | None
    whole: bool = False


@dataclass(frozen=True)
class Layout:
    """The folders of images of a data set, and its tables: the three of ISIC 2019, and `table` with all the rest.

    `spare` are tables beside them that name images too and are not used.
    """

    images: tuple[Path, ...]
    ground_truth: Path | None = None
    metadata: Path | None = None
    sources: Path | None = None
    table: Path | None = None
    spare: tuple[Path, ...] = ()

    @property
    def tables(self) -> frozenset[Path]:
        """Return the CSV files."""
        used = (self.ground_truth, self.metadata, self.sources, self.table)
        return frozenset((*(path for path in used if path), *self.spare))

    def read(self, images: "pd.Index[str]", found: Findings) -> Tables:
        """Return what the tables tell; raise DatasetInvalid for one that is none."""
        found.add("tables that are not used", [path.name for path in self.spare])
        isic = read_isic(self.ground_truth, self.metadata, self.sources, found)
        if self.table is None:
            return isic
        one = read_one_table(self.table, columns_of(read_header(self.table), self.table), images, found)
        origin = one.reindex(columns=list(SOURCE_COLUMNS)).astype("str") if {*SOURCE_COLUMNS} & {*one} else None
        return Tables(
            one[["diagnosis"]] if "diagnosis" in one else isic.labels,
            one.reindex(columns=list(METADATA_COLUMNS)),
            isic.origin if origin is None else origin,
            whole="diagnosis" in one,
        )


def read_isic(ground_truth: Path | None, metadata: Path | None, sources: Path | None, found: Findings) -> Tables:
    """Return what the CSV files of ISIC 2019 tell, of which any may lack; raise DatasetInvalid for one that is none."""
    return Tables(
        None if ground_truth is None else read_ground_truth(ground_truth, found),
        None if metadata is None else read_metadata(metadata, found),
        None if sources is None else read_sources(sources, found),
    )


def find_layout(folder: Path) -> Layout:
    """Return how the data set in a folder lies; raise DatasetInvalid where there is none, or it could be several.

    A folder `<set>_Input` is that of a challenge; of several ISIC_2019_Training is taken, else the first by name.
    """
    inputs = {below.name: below for below in _input_folders(folder)}
    if inputs:
        return _challenge(folder, inputs.get("ISIC_2019_Training_Input", next(iter(inputs.values()))))
    images = tuple(_image_folders(folder))
    tables = {path: header for path, header in _headers(folder).items() if columns_of(header, path)}
    if images and tables:
        return _own(images, tables)
    lacking = "no image" if tables else "no such file"
    raise DatasetInvalid(
        f"Expected a folder ISIC_2019_Training_Input with images in {folder}, or images and one CSV file with a column "
        f"that names them ({', '.join(NAMES['image'])}), but {lacking if images or tables else 'none'} came. "
        "Give the folder into which the archives of a data set were unpacked."
    )


def has_layout(folder: Path) -> bool:
    """Tell whether a folder looks like a data set: it has an `_Input` folder, or images and a table that names them.

    Images of a data set that lies below it are not its own.
    """
    if _input_folders(folder):
        return True
    named = any({plain(column) for column in header} & {*NAMES["image"]} for header in _headers(folder).values())
    return named and any(not _of_another(images, folder) for images in _image_folders(folder))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted; none where it cannot be opened."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []  # a folder that is not there, or is closed to this user, holds no data set for them


def _of_another(images: Path, folder: Path) -> bool:
    return images != folder and (has_layout(images) or _of_another(images.parent, folder))


def _input_folders(folder: Path) -> list[Path]:
    return [below for below in subfolders(folder) if below.name.endswith("_Input")]


def _challenge(folder: Path, images: Path) -> Layout:
    truth = _csv_of(images, "GroundTruth")
    metadata, groupings = _csv_of(images, "Metadata"), _csv_of(images, "LesionGroupings")
    if truth and not _is_one_hot(header := read_header(truth)) and "diagnosis" in columns_of(header, truth):
        return Layout((images,), table=truth, spare=(metadata,) if metadata else ())
    sources = folder / "sources.csv"
    lesions = None if metadata else groupings
    return Layout((images,), truth, metadata, sources if sources.exists() else None, table=lesions)


def _own(images: tuple[Path, ...], tables: dict[Path, tuple[str, ...]]) -> Layout:
    """Choose between the tables beside images by what they tell: one has the diagnoses, and it may have all."""
    truths = [path for path, header in tables.items() if _is_one_hot(header)]
    labelled = [path for path, header in tables.items() if "diagnosis" in columns_of(header, path)]
    facts = [path for path in tables if path not in (*truths, *labelled)]
    if len(truths) == 1 and not labelled and len(facts) <= 1:
        return Layout(images, ground_truth=truths[0], table=facts[0] if facts else None)
    if len(labelled) == 1 and not truths:
        return Layout(images, table=labelled[0], spare=tuple(facts))
    if len(facts) == 1 and not truths and not labelled:
        return Layout(images, table=facts[0])
    came = "; ".join(f"{path.name} ({', '.join(header)[:80]})" for path, header in tables.items())
    raise DatasetInvalid(
        f"Expected one CSV file that names images in {next(iter(tables)).parent}, or one of several with a diagnosis, "
        f"but came: {came}. Move the others away."
    )


def _is_one_hot(header: tuple[str, ...]) -> bool:
    return "image" in header and len({*CODES, *ISIC_2018.codes} & {*header}) > 1


def _headers(folder: Path) -> dict[Path, tuple[str, ...]]:
    """Return the CSV files directly in a folder with their columns, sorted by name."""
    files = sorted(path for path in folder.glob("*.csv") if not path.name.startswith("."))
    return {path: read_header(path) for path in files}


def _image_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the folder and those below it that hold an image, down to a depth."""
    try:
        with os.scandir(folder) as entries:
            if any(Path(e.name).suffix.lower() in SUPPORTED_SUFFIXES and e.name[0] != "." for e in entries):
                yield folder
    except OSError:
        return  # as in `subfolders`
    if depth:
        for below in subfolders(folder):
            yield from _image_folders(below, depth - 1)


def _csv_of(images: Path, kind: str) -> Path | None:
    """Return the CSV beside `<set>_Input`: `<set>_<kind>.csv`, else the only `*<kind>.csv`, if any.

    The archives of ISIC 2018 unpack into a folder `<set>_<kind>` that holds it.
    """
    exact = images.with_name(images.name.removesuffix("Input") + f"{kind}.csv")
    files = sorted(images.parent.glob(f"*{kind}.csv")) or sorted(images.parent.glob(f"*{kind}/*{kind}.csv"))
    for path in files:
        if path.name == exact.name:
            return path
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DatasetInvalid(f"Expected {exact} but came: {names}. Give the right one this name.")
    return files[0] if files else None
