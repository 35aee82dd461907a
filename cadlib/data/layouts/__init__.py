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
    ISIC 2024      one table (isic_id, target, patient_id, …, iddx_full, iddx_1 to iddx_5) and a folder of images
                   https://challenge2024.isic-archive.com
    one's own      a folder of images, and one table with a column that names them

One reader reads every table:

    table_file     encoding, delimiter and cells of a file
    columns        which column holds what, whatever it is called
    label_columns  the diagnosis, and benign or malignant
    one_table      all that a table holds of its images
    terms          other words for the diagnoses, sexes and sites of ISIC 2019
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cadlib.data.consistency import Findings
from cadlib.data.folder_walk import list_folder, read_tree
from cadlib.data.isic_csv import METADATA_COLUMNS, SOURCE_COLUMNS
from cadlib.data.layouts.columns import NAMES, Columns, names_images, shown_names
from cadlib.data.layouts.one_table import LABEL_COLUMNS, ImageTable, image_columns, read_table
from cadlib.data.layouts.table_file import (
    TableRefused,
    is_table_name,
    read_columns,
    unread_table,
)
from cadlib.errors import DatasetInvalid
from cadlib.images import SUPPORTED_SUFFIXES

DEPTH = 2
"""Levels below a folder at which its images are looked for, and below a root its data sets."""
_NO_TABLE_OF_IMAGES = ("attribution.csv",)
"""Tables that data sets bring beside those of their images: authors and licences."""


@dataclass(frozen=True, eq=False)
class Tables:
    """What CSV files tell of images, each by id: `labels`, `facts` and `origin`; None where there is none.

    `labels` has `diagnosis` and, where a table states it, `malignant` (boolean, NA where neither is known). With
    `whole` an image whose diagnosis is missing in `labels` is kept, else it is left out.
    """

    labels: pd.DataFrame | None
    facts: pd.DataFrame | None
    origin: pd.DataFrame | None
    whole: bool = False


@dataclass(frozen=True)
class UnusedTable:
    """A table in the folder of a data set that is not read, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name} ({self.reason})"


@dataclass(frozen=True)
class Layout:
    """The folders of images of a data set, and its tables.

    `ground_truth` has the labels. `metadata` or `table` has age, sex, site and lesion; without them the ground truth
    may have these. `spare` are the other tables in the folder.
    """

    images: tuple[Path, ...]
    ground_truth: Path | None = None
    metadata: Path | None = None
    sources: Path | None = None
    table: Path | None = None
    spare: tuple[UnusedTable, ...] = ()

    @property
    def tables(self) -> frozenset[Path]:
        """Return the files that are tables, used or not."""
        used = (self.ground_truth, self.metadata, self.sources, self.table)
        return frozenset((*(path for path in used if path), *(one.path for one in self.spare)))

    def read(self, images: "pd.Index[str]", found: Findings) -> Tables:
        """Return what the tables tell; raise DatasetInvalid for one that is none."""
        found.add("tables that are not used", self.spare)
        truth = _read(self.ground_truth, images, found, ("diagnosis",))
        metadata = _read(self.metadata, images, found, METADATA_COLUMNS)
        table = _read(self.table, images, found, ())
        sources = _read(self.sources, images, found, SOURCE_COLUMNS)

        patients = metadata or table
        labelled = truth or table
        labels = labelled.part(LABEL_COLUMNS) if labelled else None
        if patients and truth:
            _report_unused(self.metadata or self.table, patients, LABEL_COLUMNS, found)
            _report_unused(self.ground_truth, truth, METADATA_COLUMNS, found)
        facts = patients.rows.reindex(columns=list(METADATA_COLUMNS)) if patients else None
        if patients is None and truth and truth.part(METADATA_COLUMNS) is not None:
            facts = truth.rows.reindex(columns=list(METADATA_COLUMNS))
        whole = labels is not None and labelled is not None and not labelled.one_hot
        return Tables(labels, facts, _origin(sources, patients, truth), whole)


def _read(
    path: Path | None, images: "pd.Index[str]", found: Findings, expected: tuple[str, ...]
) -> ImageTable | None:
    return None if path is None else read_table(path, images, found, expected)


def _report_unused(
    path: Path | None, table: ImageTable, columns: tuple[str, ...], found: Findings
) -> None:
    unused = table.part(columns)
    if path is not None and unused is not None:
        found.add("columns that another table has", list(unused), path.name)


def _origin(*tables: ImageTable | None) -> pd.DataFrame | None:
    """Return archive and lesion group of the first table that has one of them."""
    for table in tables:
        if table is not None and table.part(SOURCE_COLUMNS) is not None:
            return table.rows.reindex(columns=list(SOURCE_COLUMNS)).astype("str")
    return None


def find_layout(folder: Path) -> Layout:
    """Return how the data set in a folder lies; raise DatasetInvalid where there is none, or it could be several.

    A folder `<set>_Input` is that of a challenge; of several ISIC_2019_Training is taken, else the first by name.
    """
    inputs = {below.name: below for below in _input_folders(folder)}
    if inputs:
        return _challenge(
            folder, inputs.get("ISIC_2019_Training_Input", next(iter(inputs.values())))
        )
    images = tuple(_image_folders(folder))
    tables, unused = _tables_in(folder)
    if images and tables:
        return _own(images, tables, unused)
    lacking = "no image" if tables else "no such file"
    raise DatasetInvalid(
        f"Expected a folder ISIC_2019_Training_Input with images in {folder}, or images and one CSV file with a column "
        f"that names them ({shown_names(NAMES['image'])}), but {lacking if images or tables else 'none'} came"
        f"{_named((*unused, *_beside_images(folder, images)))}. "
        "Give the folder into which the archives of a data set were unpacked."
    )


def has_layout(folder: Path) -> bool:
    """Tell whether a folder looks like a data set: it has an `_Input` folder, or images and a table that names them.

    Images of a data set that lies below it are not its own.
    """
    if _input_folders(folder):
        return True
    named = any(_names_images(path) for path in _table_files(folder))
    return named and any(not _of_another(images, folder) for images in _image_folders(folder))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that may hold data, sorted; none where it cannot be opened."""
    return list(list_folder(folder).folders)


def _of_another(images: Path, folder: Path) -> bool:
    return images != folder and (has_layout(images) or _of_another(images.parent, folder))


def _input_folders(folder: Path) -> list[Path]:
    return [below for below in subfolders(folder) if below.name.endswith("_Input")]


def _challenge(folder: Path, images: Path) -> Layout:
    truth = _csv_of(images, "GroundTruth")
    metadata, groupings = _csv_of(images, "Metadata"), _csv_of(images, "LesionGroupings")
    sources = folder / "sources.csv"
    lesions = None if metadata else groupings
    if truth is None:
        truth = _labels_beside(images, metadata)
        metadata = None if metadata == truth else metadata
    layout = Layout(
        (images,), truth, metadata, sources if sources.exists() else None, table=lesions
    )
    return replace(layout, spare=_unused_beside(images, layout))


def _labels_beside(images: Path, metadata: Path | None) -> Path | None:
    """Return the table with labels of a challenge folder without a ground truth by name."""
    tables, _ = _tables_in(images.parent)
    labelled = {path: columns for path, columns in tables.items() if columns.has_labels}
    labelled = {path: columns for path, columns in labelled.items() if _is_of(images, path)}
    if metadata in labelled:
        return metadata
    if len(labelled) > 1:
        raise _several(labelled)
    return next(iter(labelled), None)


def _is_of(images: Path, path: Path) -> bool:
    """Tell whether a table beside `<set>_Input` is not one of another set there."""
    sets = [below.name.removesuffix("Input") for below in _input_folders(images.parent)]
    owner = next((name for name in sets if path.name.startswith(name)), None)
    return owner in (None, images.name.removesuffix("Input"))


def _unused_beside(images: Path, layout: Layout) -> tuple[UnusedTable, ...]:
    """Return the tables beside the images of a challenge that are not used."""
    tables, unused = _tables_in(images.parent)
    names = f"{images.name.removesuffix('Input')}GroundTruth.csv, …Metadata.csv or sources.csv"
    spare = [UnusedTable(path, f"its name is not {names}") for path in tables]
    spare += [one for one in unused if one.path not in tables]
    return tuple(one for one in spare if one.path not in layout.tables and _is_of(images, one.path))


def _own(
    images: tuple[Path, ...], tables: dict[Path, Columns], unused: tuple[UnusedTable, ...]
) -> Layout:
    """Choose between the tables beside images by their columns: one has the labels, and may have all."""
    labelled = {path: columns for path, columns in tables.items() if columns.has_labels}
    facts = [path for path in tables if path not in labelled]
    if len(labelled) == 1:
        truth, columns = next(iter(labelled.items()))
        has_facts = {*METADATA_COLUMNS} & {*columns.facts} or columns.site_levels
        if len(facts) == 1 and not has_facts:
            return Layout(images, truth, table=facts[0], spare=unused)
        spare = [UnusedTable(path, f"it has no labels; {truth.name} has them") for path in facts]
        return Layout(images, truth, spare=(*spare, *unused))
    if len(facts) == 1 and not labelled:
        return Layout(images, table=facts[0], spare=unused)
    raise _several(tables)


def _several(tables: dict[Path, Columns]) -> DatasetInvalid:
    came = "; ".join(f"{path.name} ({', '.join(read_columns(path))[:80]})" for path in tables)
    return DatasetInvalid(
        f"Expected one CSV file that names images in {next(iter(tables)).parent}, or one of several with a diagnosis, "
        f"but came: {came}. Move the others away."
    )


def _table_files(folder: Path) -> list[Path]:
    """Return the files directly in a folder whose names are those of tables, sorted."""
    return [path for path in list_folder(folder).files if is_table_name(path.name)]


def _tables_in(folder: Path) -> tuple[dict[Path, Columns], tuple[UnusedTable, ...]]:
    """Return the tables of images directly in a folder with their columns, and the other tables."""
    tables, unused = {}, []
    for path in _table_files(folder):
        if path.name.lower() in _NO_TABLE_OF_IMAGES:
            continue
        try:
            tables[path] = image_columns(path)
        except TableRefused as error:
            # A text file that names no image is a licence or a note, and no table.
            if path.suffix.lower() != ".txt":
                unused.append(UnusedTable(path, error.reason))
    for path in list_folder(folder).files:
        reason = unread_table(path.name)
        if reason:
            unused.append(UnusedTable(path, reason))
    return tables, tuple(unused)


def _names_images(path: Path) -> bool:
    try:
        return any(map(names_images, read_columns(path)))
    except TableRefused:
        return False


def _beside_images(folder: Path, images: tuple[Path, ...]) -> tuple[UnusedTable, ...]:
    """Return the tables that lie in the folders of images below the folder that was given."""
    return tuple(
        UnusedTable(path, f"it lies in {below.relative_to(folder)}: move it to {folder.name}")
        for below in images
        if below != folder
        for path in _table_files(below)
        if _names_images(path)
    )


def _named(unused: tuple[UnusedTable, ...]) -> str:
    return f" (not used: {'; '.join(map(str, unused))})" if unused else ""


def _image_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the folder and those below it that hold an image, down to a depth."""
    for inside in read_tree(folder, depth).folders:
        if any(name.lower().endswith(SUPPORTED_SUFFIXES) for name in inside.names):
            yield inside.path


def _csv_of(images: Path, kind: str) -> Path | None:
    """Return the table beside `<set>_Input`: `<set>_<kind>.csv`, else the only `*<kind>.csv`, if any.

    The archives of ISIC 2018 unpack into a folder `<set>_<kind>` that holds it.
    """
    exact = images.with_name(images.name.removesuffix("Input") + f"{kind}.csv")
    below = [inside for inside in subfolders(images.parent) if inside.name.endswith(kind)]
    for folders in ([images.parent], below):
        files = [path for folder in folders for path in _table_files(folder)]
        files = [path for path in files if path.stem.endswith(kind)]
        if files:
            break
    exact_first = sorted(files, key=lambda path: path.name != exact.name)
    for path in exact_first:
        if path.stem == exact.stem:
            return path
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DatasetInvalid(f"Expected {exact} but came: {names}. Give the right one this name.")
    return files[0] if files else None
