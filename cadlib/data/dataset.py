"""Images and CSV files, of ISIC 2019 or another layout, joined into one checked table.

What does not fit together is left out and reported; DatasetInvalid is kept for when nothing is left.
"""

import filecmp
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.consistency import Finding, Findings
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

"""Called with (done, total), in the caller's thread."""

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
    """What joining found: ids in the CSV files, image files, usable images, and all that did not fit.

    `unreadable` tells of each image that cannot be read why not, also of those that its finding has no room for.
    `channel_order` is what a sample of the images says about red and blue.
    """

    rows: int
    images: int
    usable: int
    findings: tuple[Finding, ...]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    channel_order: ChannelOrder = UNCHECKED

    def count(self, kind: str) -> int:
        """Return how often a kind of finding came, in whatever file; 0 when it did not come."""
        return sum(
            f.count for f in self.findings if f.kind == kind or f.kind.startswith(f"{kind} in ")
        )

    def __str__(self) -> str:
        sums = {
            "ids in CSV files": self.rows,
            "image files": self.images,
            "usable images": self.usable,
        }
        totals = [f"{count:>8,}  {what}" for what, count in sums.items()]
        return "\n".join([*totals, *map(str, self.findings)])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked set of images.

    `table` has one row per usable image, sorted by id: image, path (absolute), diagnosis (a code, "UNK", or
    missing without a ground truth), malignant ("boolean"; it follows from the diagnosis, or without one is what the
    tables tell, NA where they do not), age_approx (years, Float64), sex, anatom_site_general, lesion_id,
    archive, lesion_group, width_px and height_px (Int64, upright). Text is str; what is missing is NA.
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

    An image is usable when it can be read and, where a ground truth is given, has exactly one diagnosis in
    it. `sources` is a CSV with image, archive and lesion_group. `verify` decodes every image; without it only
    headers are read, which is faster and misses truncated files.
    """
    found, images = Findings(), Path(images)
    _report_faults(list_folder(images), found)
    truth, facts, origin = (
        None if path is None else Path(path) for path in (ground_truth, metadata, sources)
    )
    layout = Layout((images,), truth, facts, origin)
    files = _find_images(images, layout, found)
    tables = layout.read(files.index, found)
    return _join(
        name or images.resolve().name, files, tables, found, verify, workers, progress, where=images
    )


def open_dataset(
    folder: Path,
    *,
    verify: bool = True,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Dataset:
    """Join the images and tables of a folder in any layout that `cadlib.data.layouts` names.

    Raise DatasetInvalid when it has none, when it could be read in two ways, and when nothing usable is left.
    """
    found, folder = Findings(), Path(folder)
    layout = find_layout(folder)
    _report_faults(read_tree(folder, DEPTH), found)
    files = _find_images(folder, layout, found)
    tables = layout.read(files.index, found)
    return _join(
        folder.resolve().name, files, tables, found, verify, workers, progress, where=folder
    )


def find_datasets(root: Path) -> list[Path]:
    """Return the folders that look like a data set for open_dataset: `root` and up to two levels below, sorted."""
    found: list[Path] = []

    def enter(folder: Path) -> bool:
        """Tell whether to look below a folder: not below a data set."""
        if has_layout(folder):
            found.append(folder)
            return False
        return True

    read_tree(Path(root), DEPTH, enter)
    return sorted(found)


def _join(
    name: str,
    files: "pd.Series[str]",
    tables: Tables,
    found: Findings,
    verify: bool,
    workers: int | None,
    progress: Progress,
    where: Path,
) -> Dataset:
    """Join image files, id -> path, with what tables tell of them; raise DatasetInvalid when nothing usable is left."""
    labels, facts, origin = tables.labels, tables.facts, tables.origin
    rows = _compare_ids(files.index, labels, facts, found)
    if labels is not None:
        labels = complete_labels(labels, found)
    if origin is not None:
        found.add("images without a source", files.index.difference(origin.index))

    table = files.to_frame("path")
    if labels is None:
        labels = complete_labels(table.assign(diagnosis=_text(table)), found)
    elif not tables.whole:
        labels = labels.dropna(how="all")
    table = table.join(labels[["diagnosis", "malignant"]], how="inner")
    for columns, part in ((METADATA_COLUMNS, facts), (SOURCE_COLUMNS, origin)):
        table = (
            table.assign(**dict.fromkeys(columns, _text(table)))
            if part is None
            else table.join(part)
        )
    text = [column for column in table if column not in ("malignant", "age_approx")]
    table = table.astype({**dict.fromkeys(text, "str"), "age_approx": "Float64"})
    table["archive"] = table["archive"].fillna(archive_of(table["lesion_id"]))

    table, unreadable = _measure(table, _decoded_size if verify else read_size, workers, progress)
    found.add("unreadable images", unreadable.values())
    order = UNCHECKED if table.empty else check_channel_order(table.reset_index())
    if order.warning:
        where_swapped = f"a sample of {order.checked}"
        found.add("images with red and blue swapped", order.swapped, where_swapped)
    report = DatasetReport(rows, len(files), len(table), found.freeze(), unreadable, order)
    if table.empty:
        raise DatasetInvalid(f"Expected usable images in {where} but none is left:\n{report}")
    return Dataset(name, table.reset_index()[list(COLUMNS)], report)


def _find_images(root: Path, layout: Layout, found: Findings) -> "pd.Series[str]":
    """Return id -> absolute path of the image files of a layout, sorted by id; hidden files and droppings do not count.

    An id is the name of the file without its suffix, or its path below `root` where folders hold different files of
    that name; of files that are the same byte by byte the first is used.
    """
    paths: dict[str, list[Path]] = {}
    for folder in layout.images:
        for image, path in _images_in(folder, layout.tables, found).items():
            paths.setdefault(image, []).append(path)
    distinct = {image: _distinct(several) for image, several in paths.items()}
    spare = [
        path.name
        for image, several in paths.items()
        for path in several
        if path not in distinct[image]
    ]
    found.add("several files for one id", spare)
    found.add(
        "one file name in several folders",
        [image for image, several in distinct.items() if len(several) > 1],
    )
    by_id: dict[str, str] = {}
    for image, several in distinct.items():
        for path in several:
            below = path.with_suffix("").relative_to(root.absolute()).as_posix()
            by_id[image if len(several) == 1 else composed(below)] = str(path)
    if not by_id:
        raise DatasetInvalid(
            f"Expected images ({', '.join(SUPPORTED_SUFFIXES)}) in {root} but none came. "
            "Give the folder that holds the image files themselves."
        )
    return pd.Series(by_id, dtype="str").rename_axis("image").sort_index()


def _report_faults(read: Folder | Tree, found: Findings) -> None:
    """Add the broken links and the unreadable folders to the findings."""
    for kind, title in (
        ("broken link", "broken links"),
        ("unreadable", "folders that cannot be read"),
    ):
        found.add(title, [_shown(str(fault.path)) for fault in read.faults if fault.kind == kind])


def _distinct(files: list[Path]) -> list[Path]:
    """Return the first of all files that are equal byte by byte."""
    kept: list[Path] = []
    for path in files:
        if not any(filecmp.cmp(path, other, shallow=False) for other in kept):
            kept.append(path)
    return kept


def _images_in(folder: Path, tables: frozenset[Path], found: Findings) -> dict[str, Path]:
    """Return the name without suffix -> absolute path of the image files directly in a folder; report other files.

    Not the `tables` among them, for they are read.
    """
    inside = list_folder(folder)
    if closed := [fault for fault in inside.faults if fault.path == folder]:
        raise DatasetInvalid(f"Expected a folder of images at {folder}, but {closed[0].reason}")
    names = list(inside.names)
    foreign = [name for name in names if _shown(name) != name]
    found.add("file names that are not UTF-8", map(_shown, foreign))
    names = [name for name in names if _shown(name) == name]
    suffixes = {name: Path(name).suffix.lower() for name in names}
    pictures = [name for name in names if suffixes[name] in SUPPORTED_SUFFIXES]
    found.add(
        "files that are no image",
        [
            name
            for name in names
            if suffixes[name] not in SUPPORTED_SUFFIXES and folder / name not in tables
        ],
    )
    paths: dict[str, Path] = {}
    spare: list[str] = []
    for name in sorted(pictures, key=lambda name: SUPPORTED_SUFFIXES.index(suffixes[name])):
        image = composed(Path(name).stem)
        if image in paths:
            spare.append(name)
        else:
            paths[image] = folder.absolute() / name
    found.add("several files for one id", spare)
    return paths


def _shown(name: str) -> str:
    """Return a file name with a question mark for each byte that is not UTF-8."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _compare_ids(
    images: "pd.Index[str]",
    labels: pd.DataFrame | None,
    facts: pd.DataFrame | None,
    found: Findings,
) -> int:
    """Report the ids that images, ground truth and metadata do not share; return how many the CSVs have."""
    parts = [part.index for part in (labels, facts) if part is not None]
    ids = parts[0].union(parts[-1]) if parts else images[:0]
    found.add("rows without an image", ids.difference(images))
    if labels is None:
        found.add("unlabelled images", images)
    else:
        found.add("images without ground truth", images.difference(labels.index))
    if labels is not None and facts is not None:
        found.add("ground-truth rows without metadata", labels.index.difference(facts.index))
        found.add("metadata rows without ground truth", facts.index.difference(labels.index))
    elif facts is not None:
        found.add("images without metadata", images.difference(facts.index))
    return len(ids)


def _text(table: pd.DataFrame) -> "pd.Series[str]":
    """Return a column of text in which everything is missing."""
    return pd.Series(pd.NA, index=table.index, dtype="str")


def _measure(
    table: pd.DataFrame,
    size_of: Callable[[str], tuple[int, int]],
    workers: int | None,
    progress: Progress,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Add width_px and height_px, leave out the images that cannot be read, and return why they cannot."""
    sizes: list[tuple[int, int] | ImageRejected] = []

    def measured(path: str) -> tuple[int, int] | ImageRejected:
        try:
            return size_of(path)
        except ImageRejected as error:
            return error

    for size in map_ahead(measured, table["path"], workers=workers):
        sizes.append(size)
        progress("checking images", len(sizes), len(table))
    unreadable = {
        i: str(why)
        for i, why in zip(table.index, sizes, strict=True)
        if isinstance(why, ImageRejected)
    }
    readable = [not isinstance(size, ImageRejected) for size in sizes]
    width_height = [size for size in sizes if not isinstance(size, ImageRejected)]
    table = table[readable].copy()
    table["width_px"] = pd.array([width for width, _ in width_height], dtype="Int64")
    table["height_px"] = pd.array([height for _, height in width_height], dtype="Int64")
    return table, unreadable


def _decoded_size(path: str) -> tuple[int, int]:
    """Return (width, height) in px of the upright image, decoded; raise ImageRejected."""
    return read_image(path).file_px


def short_sides(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return the short side of each image of a data set's table in px, (N,) float64, NaN where it is not known."""
    return table[["width_px", "height_px"]].min(axis=1).to_numpy(np.float64, na_value=np.nan)
