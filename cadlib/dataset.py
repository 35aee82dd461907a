"""ISIC 2019 images and CSV files, joined into one checked table.

What does not fit together is left out and reported: every Finding says how often, names examples and says
what to do. DatasetInvalid is kept for what leaves nothing to work with. Ids are compared exactly, after
blanks around them are removed; `_downsampled` is part of the id, as in the official CSV files.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import ExifTags, Image, UnidentifiedImageError

from cadlib import images as picture
from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.taxonomy import CODES, UNKNOWN

Progress = Callable[[int, int], None]
"""Called with (done, total), in the caller's thread."""

SEXES = ("female", "male")
SITES = (
    "anterior torso",
    "head/neck",
    "lateral torso",
    "lower extremity",
    "oral/genital",
    "palms/soles",
    "posterior torso",
    "upper extremity",
)
"""The values of `sex` and `anatom_site_general` in ISIC_2019_Training_Metadata.csv."""
MAX_AGE_YEARS = 120
ARCHIVES = {"HAM": "HAM10000", "BCN": "BCN20000", "MSK": "MSK"}
"""First three letters of a lesion_id, or of an archive's own name -> archive (ISIC 2019's three sources)."""

_LABEL_COLUMNS = (*CODES, UNKNOWN)
_METADATA_COLUMNS = ("age_approx", "sex", "anatom_site_general", "lesion_id")
_SOURCE_COLUMNS = ("archive", "lesion_group")
_SOURCE_EXTRAS = ("width_px", "height_px", "geometry")
_COLUMNS = ("image", "path", "diagnosis", *_METADATA_COLUMNS, *_SOURCE_COLUMNS, "width_px", "height_px")
_MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "None")
_EXAMPLES = 5
_EXIF_SIDEWAYS = (5, 6, 7, 8)  # EXIF 2.32, tag Orientation: width and height change places


@dataclass(frozen=True)
class Finding:
    """One kind of mess: how often it came, up to five examples, and what to do about it."""

    kind: str
    count: int
    examples: tuple[str, ...]
    advice: str


@dataclass(frozen=True)
class DatasetReport:
    """What joining found: ids named in the CSV files, image files, usable images, and what did not fit."""

    rows: int
    images: int
    usable: int
    findings: tuple[Finding, ...]

    def count(self, kind: str) -> int:
        """Return how often a kind of finding came; 0 when it did not."""
        return sum(finding.count for finding in self.findings if finding.kind == kind)

    def __str__(self) -> str:
        lines = [
            f"{'ids in CSVs':<14}{self.rows:>8,}",
            f"{'image files':<14}{self.images:>8,}",
            f"{'usable images':<14}{self.usable:>8,}",
        ]
        for finding in self.findings:
            more = ", …" if finding.count > len(finding.examples) else ""
            lines.append(f"\n{finding.count:>8,}  {finding.kind}: {', '.join(finding.examples)}{more}")
            lines.append(f"{'':>8}  {finding.advice}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A checked set of images.

    `table` has one row per usable image, sorted by image id: image, path, diagnosis (a code, "UNK", or
    missing when there is no ground truth), age_approx (years, Float64), sex, anatom_site_general, lesion_id,
    archive, lesion_group, width_px and height_px (Int64, upright). A missing value is <NA> or NaN.
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
    progress: Progress | None = None,
) -> Dataset:
    """Join an image folder with its CSV files; raise DatasetInvalid when nothing usable is left.

    An image is usable when it can be read and, where a ground truth is given, has exactly one diagnosis there.
    `sources` is an optional CSV with image, archive and lesion_group. `verify` decodes every image; without it
    only headers are read, which is fast and misses truncated files.
    """
    found: list[Finding] = []
    files = _find_images(Path(images), found)
    labels = _read_ground_truth(ground_truth, found) if ground_truth else None
    facts = _read_metadata(metadata, found) if metadata else None
    origin = _read_sources(sources, found) if sources else None

    named = [part.index for part in (labels, facts) if part is not None]
    ids = named[0] if named else files.index
    described = ids.union(named[-1]) if named else ids
    _note(
        found,
        "rows without an image",
        described.difference(files.index),
        "Add the missing images to the folder, or go on without these rows.",
    )
    _note(
        found,
        "images without a row",
        files.index.difference(ids),
        "Without a diagnosis an image is left out; add its row to the CSV file, or remove the image."
        if labels is not None
        else "The images are kept without age, sex, site and lesion; add their rows to the metadata.",
    )
    if labels is not None and facts is not None:
        _note(
            found,
            "ground-truth rows without metadata",
            labels.index.difference(facts.index),
            "The images are kept without age, sex, site and lesion; add their rows to the metadata.",
        )
        _note(
            found,
            "metadata rows without ground truth",
            facts.index.difference(labels.index),
            "Without a diagnosis an image is left out; add its row to the ground truth.",
        )

    table = pd.DataFrame({"path": files})
    if labels is None:
        table["diagnosis"] = pd.Series(pd.NA, index=table.index, dtype="str")
    else:
        table = table.join(labels.dropna(), how="inner")
    for columns, part in ((_METADATA_COLUMNS, facts), (_SOURCE_COLUMNS, origin)):
        empty = pd.DataFrame(index=table.index, columns=list(columns), dtype="str")
        table = table.join(empty if part is None else part)
    table["archive"] = table["archive"].fillna(table["lesion_id"].str[:3].map(ARCHIVES)).astype("str")
    table["age_approx"] = table["age_approx"].astype("Float64")

    table = _measure(table, verify, workers, progress, found)
    if labels is None:
        _note(
            found,
            "images without ground truth",
            table.index,
            "No ground-truth CSV was given: the images can be looked at, not trained on or measured.",
        )
    report = DatasetReport(len(described) if named else 0, len(files), len(table), tuple(found))
    if table.empty:
        raise DatasetInvalid(f"Expected usable images in {images} but none is left. Found:\n{report}")
    table = table.rename_axis("image").sort_index().reset_index()
    return Dataset(name or Path(images).name, table[list(_COLUMNS)], report)


def open_dataset(
    folder: Path, *, verify: bool = True, workers: int | None = None, progress: Progress | None = None
) -> Dataset:
    """Join a folder in ISIC's layout: `<set>_Input/`, `*GroundTruth.csv`, `*Metadata.csv`, `sources.csv`.

    The CSV files are optional. Where a folder holds several sets, ISIC_2019_Training is taken.
    """
    folder = Path(folder)
    inputs = _input_folders(folder)
    if not inputs:
        raise DatasetInvalid(
            f"Expected {folder} to hold a folder ISIC_2019_Training_Input with images but it "
            f"{'holds none' if folder.is_dir() else 'does not exist'}. "
            "Give the folder into which the ISIC 2019 archives were unpacked."
        )
    images = next((path for path in inputs if path.name == "ISIC_2019_Training_Input"), inputs[0])
    return join_dataset(
        images,
        _csv_of(images, "GroundTruth"),
        _csv_of(images, "Metadata"),
        next(iter(folder.glob("sources.csv")), None),
        name=folder.resolve().name,
        verify=verify,
        workers=workers,
        progress=progress,
    )


def find_datasets(root: Path) -> list[Path]:
    """Return the folders that open_dataset can open: `root` itself and up to two levels below, sorted."""
    found, level = [], [Path(root)]
    for _ in range(3):
        found += [folder for folder in level if _input_folders(folder)]
        level = [below for folder in level if folder not in found for below in _subfolders(folder)]
    return sorted(found)


def read_csv(path: Path, required: Iterable[str]) -> pd.DataFrame:
    """Read a CSV file as text with blanks removed and missing cells as NaN, indexed by `image`.

    Raises DatasetInvalid when the file cannot be read as a UTF-8 CSV file, is empty, or lacks the column
    `image` or every one of `required`.
    """
    required = tuple(required)
    advice = "Save the table as a comma-separated UTF-8 file with one header line."
    try:
        table = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8-sig")
    except OSError as error:
        raise DatasetInvalid(f"Expected a CSV file at {path} but it cannot be opened: {error.strerror}.") from error
    except pd.errors.EmptyDataError as error:
        raise DatasetInvalid(f"Expected a table in {path} but the file is empty. {advice}") from error
    except (UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DatasetInvalid(f"Expected {path} to be a CSV file but it cannot be read ({error}). {advice}") from error
    came = f"came: {', '.join(map(str, table.columns))[:200]}"
    if not isinstance(table.index, pd.RangeIndex):
        raise DatasetInvalid(f"Expected as many cells a row as columns in {path}'s header but more came; {came}.")
    table.columns = table.columns.str.strip()
    if "image" not in table.columns:
        raise DatasetInvalid(f"Expected a column `image` in {path}; {came}. {advice}")
    if not set(required) & set(table.columns):
        raise DatasetInvalid(f"Expected the columns {', '.join(required)} in {path}; {came}. {advice}")
    if table.empty:
        raise DatasetInvalid(f"Expected rows in {path} but only a header came. {advice}")
    table = table.apply(lambda column: column.str.strip())
    return table.mask(table.isin(_MISSING)).set_index("image")


def _note(found: list[Finding], kind: str, examples: Iterable[str], advice: str) -> None:
    """Add a finding when it has any example."""
    examples = [str(example) for example in examples]
    if examples:
        found.append(Finding(kind, len(examples), tuple(examples[:_EXAMPLES]), advice))


def _subfolders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []  # a folder that may not be looked into holds no data set for this person


def _input_folders(folder: Path) -> list[Path]:
    return [below for below in _subfolders(folder) if below.name.endswith("_Input")]


def _csv_of(images: Path, kind: str) -> Path | None:
    """Return the CSV beside an `<set>_Input` folder: `<set>_<kind>.csv`, else the only `*<kind>.csv`."""
    folder, exact = images.parent, images.name.removesuffix("Input") + f"{kind}.csv"
    files = sorted(folder.glob(f"*{kind}.csv"))
    if folder / exact in files or not files:
        return folder / exact if files else None
    if len(files) > 1:
        raise DatasetInvalid(
            f"Expected one {kind} file in {folder} but {', '.join(f.name for f in files)} came; name one {exact}."
        )
    return files[0]


def _find_images(folder: Path, found: list[Finding]) -> "pd.Series[str]":
    """Return id -> path of the image files in a folder, sorted by id; hidden files do not count."""
    try:
        names = sorted(e.name for e in os.scandir(folder) if e.is_file() and not e.name.startswith("."))
    except OSError as error:
        raise DatasetInvalid(f"Expected a folder of images at {folder} but it cannot be opened: {error.strerror}.") from error
    order = {suffix: rank for rank, suffix in enumerate(picture.SUPPORTED_SUFFIXES)}
    files = pd.DataFrame({"name": pd.Series(names, dtype="str")})
    files["image"] = files["name"].map(lambda name: Path(name).stem.strip())
    files["rank"] = files["name"].map(lambda name: order.get(Path(name).suffix.lower()))
    _note(
        found,
        "files that are no image",
        files.loc[files["rank"].isna(), "name"],
        f"They are not read; images end in {', '.join(picture.SUPPORTED_SUFFIXES)}.",
    )
    files = files.dropna(subset="rank").sort_values(["image", "rank", "name"])
    if files.empty:
        raise DatasetInvalid(
            f"Expected images ({', '.join(picture.SUPPORTED_SUFFIXES)}) in {folder} but none came. "
            "Give the folder that holds the image files themselves."
        )
    again = files["image"].duplicated()
    _note(
        found,
        "several files for one id",
        files.loc[again, "name"],
        f"The first by suffix ({', '.join(picture.SUPPORTED_SUFFIXES)}) is used; remove the others.",
    )
    files = files[~again].set_index("image")
    return files["name"].map(lambda name: str(folder / name))


def _read_known(
    path: Path, known: Iterable[str], required: Iterable[str], found: list[Finding], extras: Iterable[str] = ()
) -> pd.DataFrame:
    """Read a CSV's known columns; report missing and unknown columns and rows without an id."""
    path, known = Path(path), tuple(known)
    table = read_csv(path, known)
    _note(
        found,
        f"missing columns in {path.name}",
        [column for column in required if column not in table.columns],
        "They are taken as empty; compare the header with the official ISIC 2019 file.",
    )
    _note(
        found,
        f"unknown columns in {path.name}",
        [column for column in table.columns if column not in (*known, *extras)],
        "They are not used; look for a misspelt name.",
    )
    nameless = table.index.isna()
    _note(
        found,
        f"rows without an id in {path.name}",
        [f"line {line + 2}" for line in nameless.nonzero()[0]],
        "They are left out; fill in the column `image`.",
    )
    return table[~nameless].reindex(columns=list(known))


def _one_row_an_id(table: pd.DataFrame, name: str, found: list[Finding]) -> pd.DataFrame:
    """Keep one of equal rows of an id; empty the row of an id whose rows contradict each other."""
    again = table.index[table.index.duplicated()].unique()
    distinct = table.reset_index().drop_duplicates().set_index("image")
    contradicting = distinct.index[distinct.index.duplicated()].unique()
    _note(
        found,
        f"repeated ids in {name}",
        again.difference(contradicting),
        "Their rows are equal, the first is used; remove the others.",
    )
    _note(
        found,
        f"contradicting rows for one id in {name}",
        contradicting,
        "None of them is used; find out which is right and remove the others.",
    )
    table = distinct[~distinct.index.duplicated()].copy()
    table.loc[contradicting] = pd.NA
    return table


def _read_ground_truth(path: Path, found: list[Finding]) -> pd.DataFrame:
    """Return image -> diagnosis for every id of the CSV; missing where the row names not exactly one."""
    path = Path(path)
    text = _read_known(path, _LABEL_COLUMNS, CODES, found)
    text = text.drop(columns=[column for column in text.columns if text[column].isna().all()])
    cells = text.apply(pd.to_numeric, errors="coerce")
    broken = cells.isna()
    _note(
        found,
        f"cells that are not numbers in {path.name}",
        [
            f"{text.index[row]} {text.columns[column]} {text.iat[row, column]!r}".replace("nan", "empty")
            for row, column in zip(*broken.to_numpy().nonzero(), strict=True)
        ],
        "Their rows are left out; a cell of the ground truth is 0.0 or 1.0.",
    )
    whole = ~broken.any(axis=1)
    one_hot = whole & cells.isin([0.0, 1.0]).all(axis=1) & (cells.sum(axis=1) == 1.0)
    _note(
        found,
        f"rows that do not name exactly one diagnosis in {path.name}",
        [
            f"{image} ({' + '.join(f'{code} {value:g}' for code, value in row.items() if value) or 'all 0'})"
            for image, row in cells[whole & ~one_hot].iterrows()
        ],
        "They are left out; one column of a row is 1.0 and the others are 0.0.",
    )
    diagnosis = cells.idxmax(axis=1, skipna=True) if whole.all() else cells.fillna(0.0).idxmax(axis=1)
    labels = diagnosis.astype("str").where(one_hot).to_frame("diagnosis")
    return _one_row_an_id(labels, path.name, found)


def _read_metadata(path: Path, found: list[Finding]) -> pd.DataFrame:
    """Return age_approx, sex, anatom_site_general and lesion_id for every id of the CSV."""
    path = Path(path)
    table = _read_known(path, _METADATA_COLUMNS, _METADATA_COLUMNS, found)
    age_years = pd.to_numeric(table["age_approx"], errors="coerce").astype("Float64")
    wrong = table["age_approx"].notna() & ~age_years.between(0, MAX_AGE_YEARS).fillna(False)
    _note(
        found,
        f"ages that are not 0 to {MAX_AGE_YEARS} in {path.name}",
        table.index[wrong] + " " + table.loc[wrong, "age_approx"],
        "The age is taken as unknown; it is given in years.",
    )
    table["age_approx"] = age_years.mask(wrong)
    for column, known in (("sex", SEXES), ("anatom_site_general", SITES)):
        strange = table[column].notna() & ~table[column].isin(known)
        _note(
            found,
            f"unknown values of {column} in {path.name}",
            table.index[strange] + " " + table.loc[strange, column],
            f"They are kept as they are; ISIC 2019 writes {', '.join(known)}.",
        )
    return _one_row_an_id(table, path.name, found)


def _read_sources(path: Path, found: list[Finding]) -> pd.DataFrame:
    """Return archive and lesion_group for every id of an optional sources.csv."""
    path = Path(path)
    table = _read_known(path, _SOURCE_COLUMNS, _SOURCE_COLUMNS, found, _SOURCE_EXTRAS)
    table["archive"] = table["archive"].str[:3].map(ARCHIVES).fillna(table["archive"])
    return _one_row_an_id(table, path.name, found)


def _measure(
    table: pd.DataFrame, verify: bool, workers: int | None, progress: Progress | None, found: list[Finding]
) -> pd.DataFrame:
    """Add width_px and height_px; report and leave out the images that cannot be read."""
    sizes: list[tuple[int, int] | None] = []
    reasons: list[str] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:  # Pillow decodes outside the interpreter's lock
        for done, size in enumerate(pool.map(_decoded_size if verify else _header_size, table["path"]), 1):
            if isinstance(size, str):
                reasons.append(f"{Path(table['path'].iat[done - 1]).name} ({size})")
            sizes.append(None if isinstance(size, str) else size)
            if progress:
                progress(done, len(table))
    _note(
        found,
        "unreadable images",
        reasons,
        "They are left out; fetch these files again.",
    )
    table["width_px"] = pd.array([size[0] if size else None for size in sizes], dtype="Int64")
    table["height_px"] = pd.array([size[1] if size else None for size in sizes], dtype="Int64")
    return table.dropna(subset=["width_px"])


def _decoded_size(path: str) -> tuple[int, int] | str:
    """Return (width, height) in px of the upright image, or why it cannot be read."""
    try:
        image = picture.read_image(path)
    except ImageRejected as error:
        return str(error)
    return image.width_px, image.height_px


def _header_size(path: str) -> tuple[int, int] | str:
    """Return (width, height) in px of the upright image by its header, or why that cannot be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = image.getexif().get(ExifTags.Base.Orientation) in _EXIF_SIDEWAYS
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        return f"its header cannot be read: {error}"
    return (height, width) if sideways else (width, height)
