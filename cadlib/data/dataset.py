"""Joins the images and tables of a data set.

Images and rows that do not fit are left out and reported. DatasetInvalid is raised only when
nothing usable is left.
"""

import filecmp
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.consistency import Mismatch, Mismatches
from cadlib.data.folder_walk import Folder, Tree, list_folder, read_tree
from cadlib.data.image_ids import composed
from cadlib.data.isic_csv import METADATA_COLUMNS, SOURCE_COLUMNS, archive_of
from cadlib.data.layouts import DEPTH, Layout, Tables, find_layout, has_layout
from cadlib.data.malignancy import complete_labels
from cadlib.data.swapped_channels import UNCHECKED, ChannelOrder, check_channel_order
from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.images import SUPPORTED_SUFFIXES, read_image, read_size
from cadlib.progress import Progress, no_progress
from cadlib.thread_pool import map_ahead

COLUMNS = (
    "image",
    "path",
    "diagnosis",
    "malignant",
    *METADATA_COLUMNS,
    *SOURCE_COLUMNS,
    "width_px",
    "height_px",
)


@dataclass(frozen=True)
class DatasetReport:
    """The result of joining: ids in the CSV files, image files, usable images and all mismatches.

    `unreadable` maps each unreadable image to the reason, also where the examples of its mismatch
    leave the image out. `channel_order` is the result for red and blue in a sample of the images.
    """

    rows: int
    images: int
    usable: int
    mismatches: tuple[Mismatch, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    channel_order: ChannelOrder = UNCHECKED

    def count(self, kind: str) -> int:
        """Return how often a kind of mismatch occurs in all files; 0 when it does not occur."""
        total = 0
        # `Mismatches.add` puts the name of the file behind the kind.
        kind_in_a_file = f"{kind} in "
        for mismatch in self.mismatches:
            if mismatch.kind == kind or mismatch.kind.startswith(kind_in_a_file):
                total += mismatch.count
        return total

    def __str__(self) -> str:
        sums = {
            "ids in CSV files": self.rows,
            "image files": self.images,
            "usable images": self.usable,
        }
        lines = [f"{count:>8,}  {label}" for label, count in sums.items()]
        lines.extend(str(mismatch) for mismatch in self.mismatches)
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked set of images.

    `table` has one row per usable image, sorted by id. Its columns:

    - image: the id
    - path: absolute
    - diagnosis: a code or "UNK"; missing without a ground truth
    - malignant ("boolean"): follows from the diagnosis. Without a diagnosis it is the value in the
      tables, NA where they have none
    - age_approx: years, Float64
    - sex, anatom_site_general, lesion_id, archive, lesion_group
    - width_px and height_px: Int64, of the upright image

    Text columns have the dtype str; a missing value is NA.
    """

    name: str
    table: pd.DataFrame
    report: DatasetReport


def join_dataset(
    images: Path,
    ground_truth: Path | None = None,
    metadata: Path | None = None,
    sources: Path | None = None,
    *,
    name: str | None = None,
    verify: bool = True,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Dataset:
    """Join an image folder with its CSV files; raise DatasetInvalid when nothing usable is left.

    An image is usable when it can be read and, with a ground truth, has exactly one diagnosis in
    it. `sources` is a CSV with image, archive and lesion_group. `verify` decodes every image;
    without it only headers are read, which is faster and misses truncated files.
    """
    mismatches = Mismatches()
    images = Path(images)
    _report_faults(list_folder(images), mismatches)
    layout = Layout(
        (images,),
        _optional_path(ground_truth),
        _optional_path(metadata),
        _optional_path(sources),
    )
    files = _find_images(images, layout, mismatches)
    tables = layout.read(files.index, mismatches)
    return _join(
        name or images.resolve().name,
        files,
        tables,
        mismatches,
        verify,
        workers,
        progress,
        where=images,
    )


def _optional_path(path: Path | None) -> Path | None:
    return None if path is None else Path(path)


def open_dataset(
    folder: Path,
    *,
    verify: bool = True,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Dataset:
    """Join the images and tables of a folder in any layout that `cadlib.data.layouts` names.

    Raise DatasetInvalid when the folder has no layout, when it could be read in two ways, and when
    nothing usable is left.
    """
    mismatches = Mismatches()
    folder = Path(folder)
    layout = find_layout(folder)
    # Also folders without an image: they may have one that cannot be read.
    _report_faults(read_tree(folder, DEPTH), mismatches)
    files = _find_images(folder, layout, mismatches)
    tables = layout.read(files.index, mismatches)
    return _join(
        folder.resolve().name,
        files,
        tables,
        mismatches,
        verify,
        workers,
        progress,
        where=folder,
    )


def find_datasets(root: Path) -> list[Path]:
    """Return the folders that look like a data set for open_dataset, sorted.

    These are `root` and folders up to two levels below it.
    """
    datasets: list[Path] = []

    def enter(folder: Path) -> bool:
        """Collect a data set, and return whether to search below the folder: not below one."""
        if has_layout(folder):
            datasets.append(folder)
            return False
        return True

    read_tree(Path(root), DEPTH, enter)
    return sorted(datasets)


def _join(
    name: str,
    files: "pd.Series[str]",
    tables: Tables,
    mismatches: Mismatches,
    verify: bool,
    workers: int | None,
    progress: Progress,
    where: Path,
) -> Dataset:
    """Join image files, id -> path, with the tables; raise DatasetInvalid when none is usable."""
    n_ids = _compare_ids(files.index, tables.labels, tables.facts, mismatches)
    joined = _join_tables(files, tables, mismatches)
    size_of = _decoded_size if verify else read_size
    # After the join, so that images without a label are not decoded.
    table, unreadable = _measure(joined, size_of, workers, progress)
    mismatches.add("unreadable images", unreadable.values())
    order = _check_colours(table, mismatches)
    report = DatasetReport(
        n_ids,
        len(files),
        len(table),
        mismatches.freeze(),
        unreadable,
        order,
    )
    if table.empty:
        raise DatasetInvalid(f"Expected usable images in {where}, but none is left:\n{report}")
    numbered = table.reset_index()
    return Dataset(name, numbered[list(COLUMNS)], report)


def _join_tables(
    files: "pd.Series[str]",
    tables: Tables,
    mismatches: Mismatches,
) -> pd.DataFrame:
    """Return path, labels, facts and origin of the images, by id.

    With a ground truth, images without a row in it are left out.
    """
    labels = tables.labels
    if labels is not None:
        labels = complete_labels(labels, mismatches)
    if tables.origin is not None:
        without_source = files.index.difference(tables.origin.index)
        mismatches.add("images without a source", without_source)

    table = files.to_frame("path")
    if labels is None:
        unlabelled = table.assign(diagnosis=_text(table))
        labels = complete_labels(unlabelled, mismatches)
    elif not tables.whole:
        # In a one-hot ground truth a row without a label is faulty and was reported.
        labels = labels.dropna(how="all")
    table = table.join(labels[["diagnosis", "malignant"]], how="inner")
    table = _with_columns(table, METADATA_COLUMNS, tables.facts)
    table = _with_columns(table, SOURCE_COLUMNS, tables.origin)
    table = _typed(table)
    # The names of ISIC's lesions begin with their archive.
    by_lesion = archive_of(table["lesion_id"])
    table["archive"] = table["archive"].fillna(by_lesion)
    return table


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns have the types of `Dataset`, also those without a value."""
    # `malignant` is boolean already.
    text = [column for column in table if column not in ("malignant", "age_approx")]
    types = dict.fromkeys(text, "str")
    types["age_approx"] = "Float64"
    return table.astype(types)


def _with_columns(
    table: pd.DataFrame,
    columns: tuple[str, ...],
    part: pd.DataFrame | None,
) -> pd.DataFrame:
    """Return the table joined with `part`, or with empty `columns` where there is no part."""
    if part is not None:
        return table.join(part)
    empty = dict.fromkeys(columns, _text(table))
    return table.assign(**empty)


def _check_colours(table: pd.DataFrame, mismatches: Mismatches) -> ChannelOrder:
    """Check red and blue in a sample of the images, and report images that look swapped."""
    # Without an image there is no sample to check.
    if table.empty:
        return UNCHECKED
    order = check_channel_order(table.reset_index())
    if order.warning:
        where = f"a sample of {order.checked}"
        mismatches.add("images with red and blue swapped", order.swapped, where)
    return order


def _find_images(
    root: Path,
    layout: Layout,
    mismatches: Mismatches,
) -> "pd.Series[str]":
    """Return id -> absolute path of the image files of a layout, sorted by id.

    Hidden files and files that systems leave behind are skipped. An id is the name of the file
    without its suffix, or its path below `root` where folders hold different files of that name.
    Of files that are equal byte by byte the first is used.
    """
    paths: dict[str, list[Path]] = {}
    for folder in layout.images:
        inside = _images_in(folder, layout.tables, mismatches)
        for image, path in inside.items():
            files = paths.setdefault(image, [])
            files.append(path)
    distinct = {image: _distinct(files) for image, files in paths.items()}
    _report_same_names(paths, distinct, mismatches)

    by_id: dict[str, str] = {}
    for image, files in distinct.items():
        for path in files:
            # Different files of one name are told apart by their folders.
            name = image if len(files) == 1 else _id_by_path(path, root)
            by_id[name] = str(path)
    if not by_id:
        suffixes = ", ".join(SUPPORTED_SUFFIXES)
        raise DatasetInvalid(
            f"Expected images ({suffixes}) in {root}, but found none. "
            "Select the folder that holds the image files themselves."
        )
    by_image = pd.Series(by_id, dtype="str").rename_axis("image")
    return by_image.sort_index()


def _id_by_path(path: Path, root: Path) -> str:
    """Return the path of an image below a folder, without its suffix, as its id."""
    stem = path.with_suffix("")
    # The paths of images are absolute.
    absolute_root = root.absolute()
    below = stem.relative_to(absolute_root)
    # With slashes on every system, so that a table names it everywhere.
    name = below.as_posix()
    return composed(name)


def _report_same_names(
    paths: dict[str, list[Path]],
    distinct: dict[str, list[Path]],
    mismatches: Mismatches,
) -> None:
    """Report copies of a file, and names that different files share, in several folders."""
    spare = []
    for image, files in paths.items():
        spare += [path.name for path in files if path not in distinct[image]]
    mismatches.add("several files for one id", spare)
    shared = [image for image, files in distinct.items() if len(files) > 1]
    mismatches.add("one file name in several folders", shared)


def _report_faults(read: Folder | Tree, mismatches: Mismatches) -> None:
    """Add the broken links and the unreadable folders to the mismatches."""
    broken = []
    unreadable = []
    for fault in read.faults:
        path = _shown(str(fault.path))
        if fault.kind == "broken link":
            broken.append(path)
        else:
            unreadable.append(path)
    mismatches.add("broken links", broken)
    mismatches.add("folders that cannot be read", unreadable)


def _distinct(files: list[Path]) -> list[Path]:
    """Return the files without those that equal an earlier one byte by byte."""
    # filecmp compares sizes first, so most different files are not read.
    distinct: list[Path] = []
    for path in files:
        is_copy = any(filecmp.cmp(path, other, shallow=False) for other in distinct)
        if not is_copy:
            distinct.append(path)
    return distinct


def _images_in(
    folder: Path,
    tables: frozenset[Path],
    mismatches: Mismatches,
) -> dict[str, Path]:
    """Return the name without suffix -> absolute path of the image files directly in a folder.

    Other files are reported, except the `tables`, which are read elsewhere.
    """
    names = _image_names(folder, tables, mismatches)
    # A stable sort: with several files for one id, the first of SUPPORTED_SUFFIXES wins.
    names.sort(key=_suffix_rank)
    paths: dict[str, Path] = {}
    spare: list[str] = []
    for name in names:
        image = composed(Path(name).stem)
        if image in paths:
            spare.append(name)
        else:
            paths[image] = folder.absolute() / name
    mismatches.add("several files for one id", spare)
    return paths


def _image_names(
    folder: Path,
    tables: frozenset[Path],
    mismatches: Mismatches,
) -> list[str]:
    """Return the names of the image files directly in a folder; report the other files."""
    inside = list_folder(folder)
    for fault in inside.faults:
        # A fault of an entry is reported elsewhere; only one of the folder itself ends the run.
        if fault.path == folder:
            raise DatasetInvalid(f"Expected a folder of images at {folder}, but {fault.reason}")
    images = []
    others = []
    not_utf8 = []
    for name in inside.names:
        if _shown(name) != name:
            not_utf8.append(_shown(name))
        elif _suffix(name) in SUPPORTED_SUFFIXES:
            images.append(name)
        elif folder / name not in tables:
            others.append(name)
    mismatches.add("file names that are not UTF-8", not_utf8)
    mismatches.add("files that are no image", others)
    return images


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _suffix_rank(name: str) -> int:
    return SUPPORTED_SUFFIXES.index(_suffix(name))


def _shown(name: str) -> str:
    """Return a file name with a question mark for each byte that is not UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _compare_ids(
    images: "pd.Index[str]",
    labels: pd.DataFrame | None,
    facts: pd.DataFrame | None,
    mismatches: Mismatches,
) -> int:
    """Report the ids that images, ground truth and metadata do not share.

    Return how many ids the CSV files have.
    """
    # An empty index of the same type: the images themselves are in no CSV file.
    ids = images[:0]
    for part in (labels, facts):
        if part is not None:
            ids = ids.union(part.index)
    mismatches.add("rows without an image", ids.difference(images))
    if labels is None:
        mismatches.add("unlabelled images", images)
    else:
        unlabelled = images.difference(labels.index)
        mismatches.add("images without ground truth", unlabelled)
    if labels is not None and facts is not None:
        _compare_tables(labels, facts, mismatches)
    elif facts is not None:
        without_facts = images.difference(facts.index)
        mismatches.add("images without metadata", without_facts)
    return len(ids)


def _compare_tables(
    labels: pd.DataFrame,
    facts: pd.DataFrame,
    mismatches: Mismatches,
) -> None:
    """Report the ids that ground truth and metadata do not share."""
    labels_alone = labels.index.difference(facts.index)
    facts_alone = facts.index.difference(labels.index)
    mismatches.add("ground-truth rows without metadata", labels_alone)
    mismatches.add("metadata rows without ground truth", facts_alone)


def _text(table: pd.DataFrame) -> "pd.Series[str]":
    """Return a text column with only missing values, on the index of the table."""
    return pd.Series(pd.NA, index=table.index, dtype="str")


def _measure(
    table: pd.DataFrame,
    size_of: Callable[[str], tuple[int, int]],
    workers: int | None,
    progress: Progress,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the readable images with width_px and height_px, and the others -> the reason."""
    size_or_error = partial(_size_or_error, size_of)
    sizes = map_ahead(size_or_error, table["path"], workers=workers)
    widths = []
    heights = []
    unreadable = {}
    for done, (image, size) in enumerate(zip(table.index, sizes, strict=True), start=1):
        if isinstance(size, ImageRejected):
            unreadable[image] = str(size)
        else:
            width, height = size
            widths.append(width)
            heights.append(height)
        progress("checking images", done, len(table))
    is_unreadable = table.index.isin(unreadable)
    # A copy, so that the new columns do not change the caller's table.
    readable = table[~is_unreadable].copy()
    readable["width_px"] = pd.array(widths, dtype="Int64")
    readable["height_px"] = pd.array(heights, dtype="Int64")
    return readable, unreadable


def _size_or_error(
    size_of: Callable[[str], tuple[int, int]],
    path: str,
) -> tuple[int, int] | ImageRejected:
    # An error that leaves a thread of the pool would end the whole run.
    try:
        return size_of(path)
    except ImageRejected as error:
        return error


def _decoded_size(path: str) -> tuple[int, int]:
    """Return (width, height) in px of the upright image, decoded; raise ImageRejected."""
    return read_image(path).file_px


def short_sides(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return the short side of each image of a data set's table in px.

    The result is (N,) float64, with NaN where the size is missing.
    """
    sides = table[["width_px", "height_px"]]
    shortest = sides.min(axis=1)
    return shortest.to_numpy(np.float64, na_value=np.nan)
