"""Finds the images and tables of a data set.

A table is recognised by its columns, not by its name. Known layouts:

    ISIC 2019      <set>_Input, <set>_GroundTruth.csv (one column a diagnosis), <set>_Metadata.csv
                   https://challenge.isic-archive.com/data/#2019
    ISIC 2018      Task 3: the same with seven classes, AKIEC for AK, and <set>_LesionGroupings.csv
                   https://challenge.isic-archive.com/data/#2018
    HAM10000       HAM10000_metadata.csv (lesion_id, image_id, dx, …), images in one or two folders
                   https://doi.org/10.7910/DVN/DBW86T
    ISIC 2020      one table (image_name, patient_id, …, diagnosis, …) and a folder of images
                   https://challenge2020.isic-archive.com
    ISIC Archive   the table of a download (isic_id, …, diagnosis_1 to diagnosis_5, …) and a folder
                   of images
                   https://api.isic-archive.com
    ISIC 2024      one table (isic_id, target, patient_id, …, iddx_full, iddx_1 to iddx_5) and a
                   folder of images
                   https://challenge2024.isic-archive.com
    one's own      a folder of images, and one table with a column that names them

One reader reads every table:

    table_file     encoding, delimiter and cells of a file
    columns        the meaning of each column, under any of its names
    label_columns  the diagnosis, and benign or malignant
    one_table      the whole content of a table of images
    terms          other words for the diagnoses, sexes and sites of ISIC 2019
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from cadlib.data.consistency import Mismatches
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
"""Levels below a folder that are searched for its images, and below a root for data sets."""
_NO_TABLE_OF_IMAGES = ("attribution.csv",)
"""Other tables that data sets bring: authors and licences."""


@dataclass(frozen=True, eq=False)
class Tables:
    """The content of CSV files by image id: `labels`, `facts` and `origin`; None where missing.

    `labels` has `diagnosis` and, where a table states it, `malignant` (boolean, NA where neither is
    stated). With `whole` an image whose diagnosis is missing in `labels` stays in the data set,
    else it is left out.
    """

    labels: pd.DataFrame | None
    facts: pd.DataFrame | None
    origin: pd.DataFrame | None
    whole: bool = False


@dataclass(frozen=True)
class UnusedTable:
    """A table in the folder of a data set that is not read, and the reason."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path.name} ({self.reason})"


@dataclass(frozen=True)
class Layout:
    """The folders of images of a data set, and its tables.

    `ground_truth` has the labels. `metadata` or `table` has age, sex, site and lesion; without
    them the ground truth may have these. `spare` are the other tables in the folder.
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
        tables = {unused.path for unused in self.spare}
        for path in (self.ground_truth, self.metadata, self.sources, self.table):
            if path:
                tables.add(path)
        return frozenset(tables)

    def read(self, images: "pd.Index[str]", mismatches: Mismatches) -> Tables:
        """Return the content of the tables; raise DatasetInvalid for a file that is no table."""
        mismatches.add("tables that are not used", self.spare)
        truth = _read(self.ground_truth, images, mismatches, ("diagnosis",))
        metadata = _read(self.metadata, images, mismatches, METADATA_COLUMNS)
        table = _read(self.table, images, mismatches, ())
        sources = _read(self.sources, images, mismatches, SOURCE_COLUMNS)

        patients = metadata or table
        if patients and truth:
            patients_path = self.metadata or self.table
            _report_unused(patients_path, patients, LABEL_COLUMNS, mismatches)
            _report_unused(
                self.ground_truth,
                truth,
                METADATA_COLUMNS,
                mismatches,
            )
        labels = None
        whole = False
        labelled = truth or table
        if labelled:
            labels = labelled.part(LABEL_COLUMNS)
            # In a one-hot table an image without a label is an error of the table.
            whole = labels is not None and not labelled.one_hot
        facts = _facts(patients, truth)
        origin = _origin(sources, patients, truth)
        return Tables(labels, facts, origin, whole)


def _read(
    path: Path | None,
    images: "pd.Index[str]",
    mismatches: Mismatches,
    expected: tuple[str, ...],
) -> ImageTable | None:
    return None if path is None else read_table(path, images, mismatches, expected)


def _report_unused(
    path: Path | None,
    table: ImageTable,
    columns: tuple[str, ...],
    mismatches: Mismatches,
) -> None:
    unused = table.part(columns)
    if path is not None and unused is not None:
        mismatches.add("columns that another table has", list(unused), path.name)


def _facts(patients: ImageTable | None, truth: ImageTable | None) -> pd.DataFrame | None:
    """Return METADATA_COLUMNS of the table of patients, or of a ground truth that has some."""
    columns = list(METADATA_COLUMNS)
    if patients:
        return patients.rows.reindex(columns=columns)
    if truth is None:
        return None
    # A table of labels alone has no facts, not missing ones.
    part = truth.part(METADATA_COLUMNS)
    if part is None:
        return None
    return truth.rows.reindex(columns=columns)


def _origin(*tables: ImageTable | None) -> pd.DataFrame | None:
    """Return archive and lesion group of the first table that has one of them."""
    for table in tables:
        if table is not None and table.part(SOURCE_COLUMNS) is not None:
            return table.rows.reindex(columns=list(SOURCE_COLUMNS)).astype("str")
    return None


def find_layout(folder: Path) -> Layout:
    """Return the layout of the data set in a folder.

    A folder `<set>_Input` belongs to a challenge. Of several, ISIC_2019_Training is taken, else
    the first by name. Raise DatasetInvalid where there is no layout, or more than one is possible.
    """
    inputs = {below.name: below for below in _input_folders(folder)}
    # The training and the test set of a challenge may lie in one folder.
    if inputs:
        first = next(iter(inputs.values()))
        return _challenge(
            folder,
            inputs.get("ISIC_2019_Training_Input", first),
        )
    images = tuple(_image_folders(folder))
    tables, unused = _tables_in(folder)
    if images and tables:
        return _own(images, tables, unused)
    raise _no_layout(folder, images, tables, unused)


def _no_layout(
    folder: Path,
    images: tuple[Path, ...],
    tables: dict[Path, Columns],
    unused: tuple[UnusedTable, ...],
) -> DatasetInvalid:
    """Return the error for a folder without images or without a table of them."""
    if tables:
        problem = "there is no image"
    elif images:
        problem = "there is no such file"
    else:
        problem = "there is neither"
    not_used = _named((*unused, *_beside_images(folder, images)))
    image_names = shown_names(NAMES["image"])
    return DatasetInvalid(
        f"Expected a folder ISIC_2019_Training_Input with images in {folder}, "
        f"or images and one CSV file with a column that names them ({image_names}), "
        f"but {problem}{not_used}. "
        "Select the folder into which the archives of a data set were unpacked."
    )


def has_layout(folder: Path) -> bool:
    """Return whether a folder looks like a data set.

    It has an `_Input` folder, or images and a table that names them. Images of a data set that
    lies below it do not count.
    """
    if _input_folders(folder):
        return True
    tables = _table_files(folder)
    if not any(map(_names_images, tables)):
        return False
    # The folders of images come one by one: the first one of its own ends the search.
    return any(not _of_another(images, folder) for images in _image_folders(folder))


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that may hold data, sorted; none where it cannot be opened."""
    return list(list_folder(folder).folders)


def _of_another(images: Path, folder: Path) -> bool:
    """Return whether a folder of images belongs to a data set below `folder`."""
    if images == folder:
        return False
    if has_layout(images):
        return True
    return _of_another(images.parent, folder)


def _input_folders(folder: Path) -> list[Path]:
    return [below for below in subfolders(folder) if below.name.endswith("_Input")]


def _challenge(folder: Path, images: Path) -> Layout:
    """Return the layout of a challenge with the folder `images`, `<set>_Input`."""
    truth = _csv_of(images, "GroundTruth")
    metadata = _csv_of(images, "Metadata")
    groupings = _csv_of(images, "LesionGroupings")
    # Metadata has the lesions, too, and a layout reads one table of patients only.
    lesions = None if metadata else groupings
    if truth is None:
        truth = _labels_beside(images, metadata)
        metadata = None if metadata == truth else metadata
    sources: Path | None = folder / "sources.csv"
    if sources and not sources.exists():
        sources = None
    layout = Layout(
        (images,),
        truth,
        metadata,
        sources,
        lesions,
    )
    spare = _unused_beside(images, layout)
    return replace(layout, spare=spare)


def _labels_beside(images: Path, metadata: Path | None) -> Path | None:
    """Return the table with labels of a challenge folder without a ground truth by name."""
    tables, _ = _tables_in(images.parent)
    own = {path: columns for path, columns in tables.items() if _is_of(images, path)}
    labelled = {path: columns for path, columns in own.items() if columns.has_labels}
    # The table of patients may have the labels as well, as in ISIC 2020.
    if metadata in labelled:
        return metadata
    if len(labelled) > 1:
        raise _several(labelled)
    return next(iter(labelled), None)


def _is_of(images: Path, path: Path) -> bool:
    """Return whether a table beside `<set>_Input` may belong to this set, not to another one."""
    own_prefix = images.name.removesuffix("Input")
    input_folders = _input_folders(images.parent)
    for below in input_folders:
        prefix = below.name.removesuffix("Input")
        if path.name.startswith(prefix):
            return prefix == own_prefix
    # The name of a table of one's own says nothing.
    return True


def _unused_beside(images: Path, layout: Layout) -> tuple[UnusedTable, ...]:
    """Return the tables beside the images of a challenge that are not used."""
    tables, unused = _tables_in(images.parent)
    prefix = images.name.removesuffix("Input")
    names = f"{prefix}GroundTruth.csv, …Metadata.csv, …LesionGroupings.csv or sources.csv"
    spare = [UnusedTable(path, f"its name is not {names}") for path in tables]
    spare += [table for table in unused if table.path not in tables]
    own = [table for table in spare if _is_of(images, table.path)]
    return tuple(table for table in own if table.path not in layout.tables)


def _own(
    images: tuple[Path, ...],
    tables: dict[Path, Columns],
    unused: tuple[UnusedTable, ...],
) -> Layout:
    """Choose between the tables beside images by their columns.

    One table has the labels, and may have all other columns.
    """
    labelled = [path for path, columns in tables.items() if columns.has_labels]
    facts = [path for path in tables if path not in labelled]
    # Images without labels can still be viewed.
    if len(facts) == 1 and not labelled:
        return Layout(images, table=facts[0], spare=unused)
    if len(labelled) != 1:
        raise _several(tables)

    truth = labelled[0]
    # Of several tables without labels none can be preferred.
    if len(facts) == 1 and not _has_facts(tables[truth]):
        return Layout(images, truth, table=facts[0], spare=unused)
    reason = f"it has no labels; {truth.name} has them"
    spare = [UnusedTable(path, reason) for path in facts]
    return Layout(images, truth, spare=(*spare, *unused))


def _has_facts(columns: Columns) -> bool:
    """Return whether a table has age, sex, site or lesion."""
    # The ISIC Archive has the site in several columns, from which it is read.
    if columns.site_levels:
        return True
    return any(name in columns.facts for name in METADATA_COLUMNS)


def _several(tables: dict[Path, Columns]) -> DatasetInvalid:
    """Return the error for a choice between several tables."""
    folder = next(iter(tables)).parent
    descriptions = []
    for path in tables:
        # A one-hot table may have many columns, and a message is one paragraph.
        columns = ", ".join(read_columns(path))[:80]
        descriptions.append(f"{path.name} ({columns})")
    tables_shown = "; ".join(descriptions)
    return DatasetInvalid(
        f"Expected one CSV file that names images in {folder}, "
        "or several of which one has a diagnosis, "
        f"but found: {tables_shown}. Move the other tables to another folder."
    )


def _table_files(folder: Path) -> list[Path]:
    """Return the files directly in a folder whose names are those of tables, sorted."""
    return [path for path in list_folder(folder).files if is_table_name(path.name)]


def _tables_in(folder: Path) -> tuple[dict[Path, Columns], tuple[UnusedTable, ...]]:
    """Return the tables of images directly in a folder with their columns, and the other tables."""
    tables = {}
    unused = []
    for path in _table_files(folder):
        name = path.name.lower()
        if name in _NO_TABLE_OF_IMAGES:
            continue
        try:
            tables[path] = image_columns(path)
        except TableRefused as error:
            # A text file that names no image is a licence or a note, not a table.
            if path.suffix.lower() != ".txt":
                unused.append(UnusedTable(path, error.reason))
    for path in list_folder(folder).files:
        reason = unread_table(path.name)
        if reason:
            unread = UnusedTable(path, reason)
            unused.append(unread)
    return tables, tuple(unused)


def _names_images(path: Path) -> bool:
    try:
        return any(map(names_images, read_columns(path)))
    except TableRefused:
        return False


def _beside_images(folder: Path, images: tuple[Path, ...]) -> tuple[UnusedTable, ...]:
    """Return the tables that lie in folders of images below `folder`."""
    misplaced: list[UnusedTable] = []
    for below in images:
        if below == folder:
            continue
        reason = f"it lies in {below.relative_to(folder)}: move it to {folder.name}"
        tables = [path for path in _table_files(below) if _names_images(path)]
        misplaced += [UnusedTable(path, reason) for path in tables]
    return tuple(misplaced)


def _named(unused: tuple[UnusedTable, ...]) -> str:
    if not unused:
        return ""
    names = "; ".join(map(str, unused))
    return f" (not used: {names})"


def _image_folders(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Yield the folder and the folders below it that hold an image, down to a depth."""
    tree = read_tree(folder, depth)
    for inside in tree.folders:
        if any(name.lower().endswith(SUPPORTED_SUFFIXES) for name in inside.names):
            yield inside.path


def _csv_of(images: Path, kind: str) -> Path | None:
    """Return the table beside `<set>_Input`: `<set>_<kind>.csv`, else the only `*<kind>.csv`.

    The archives of ISIC 2018 unpack into a folder `<set>_<kind>` that holds it. Return None without
    such a table, and raise DatasetInvalid for a choice between several.
    """
    stem = images.name.removesuffix("Input") + kind
    exact = images.with_name(f"{stem}.csv")
    files = _tables_of_kind([images.parent], kind)
    if not files:
        below = subfolders(images.parent)
        folders = [path for path in below if path.name.endswith(kind)]
        files = _tables_of_kind(folders, kind)
    for path in files:
        if path.name == exact.name:
            return path
    # The suffix may be in capitals, or that of another table.
    for path in files:
        if path.stem == stem:
            return path
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DatasetInvalid(
            f"Expected {exact}, but found: {names}. Give the right file this name."
        )
    if not files:
        return None
    return files[0]


def _tables_of_kind(folders: list[Path], kind: str) -> list[Path]:
    """Return the tables `*<kind>` directly in some folders."""
    tables: list[Path] = []
    for folder in folders:
        tables += [path for path in _table_files(folder) if path.stem.endswith(kind)]
    return tables
