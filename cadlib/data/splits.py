"""Train, validation and test sets that share no lesion.

Images of one lesion, and those that may show one picture, form a group, and a group stays in one split: otherwise
a model is measured on lesions it was trained on.
"""

import csv
import logging
import os
import time
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import IO

import imagehash
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cadlib import images
from cadlib.data.layouts.table_file import read_csv
from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.files.cache import READING, cache_dir, keep, standing
from cadlib.files.spreadsheets import original_cell, safe_table
from cadlib.progress import Progress, no_progress
from cadlib.thread_pool import map_ahead

SPLITS = ("train", "validation", "test")
NEAR_DUPLICATE_BITS = 2
"""Greatest Hamming distance between two 64-bit perceptual hashes of what counts as one picture."""
KEEP_SECONDS = 120
"""Between two times that the hashes made so far are written to disk."""

_log = logging.getLogger(__name__)


def perceptual_hashes(
    table: pd.DataFrame, progress: Progress = no_progress, *, workers: int | None = None
) -> "pd.Series[int]":
    """Return the 64-bit perceptual hash (imagehash.phash) of each image as uint64, on the index of `table`.

    Every image is decoded; one that cannot be is left out. Hashes are kept in the user's cache folder, every few
    minutes and also when this is stopped half-way, and reused while path, size and time of change of a file stay
    the same.
    """
    cache = cache_dir() / "perceptual-hashes.csv"
    known = _read_cache(cache)
    stamps = {path: _stamp(path) for path in table["path"]}
    todo = [path for path, stamp in stamps.items() if known.get(path, ("", 0))[0] != stamp]
    for path in todo:
        known.pop(path, None)
    kept = time.monotonic()
    try:
        hashed = map_ahead(_hash, todo, workers=workers)
        for done, (path, value) in enumerate(
            zip(todo, hashed, strict=True), len(stamps) - len(todo) + 1
        ):
            if isinstance(value, int):
                known[path] = (stamps[path], value)
            if time.monotonic() - kept > KEEP_SECONDS:  # a killed process has no last word
                _write_cache(cache, known)
                kept = time.monotonic()
            progress("hashing images", done, len(stamps))
    finally:
        if todo:
            _write_cache(cache, known)
    paths = table["path"][table["path"].isin(known.keys())]
    return pd.Series([known[path][1] for path in paths], paths.index, dtype="uint64", name="phash")


def lesion_groups(
    table: pd.DataFrame,
    hashes: "pd.Series[int] | None" = None,
    pairs: NDArray[np.int64] | None = None,
) -> "pd.Series[int]":
    """Return the group of each image: images joined by lesion_id, lesion_group, near-equal hashes or `pairs`.

    `pairs` is (2, n), numbers of rows of what shows the same by other means. Groups are the connected components of
    those relations, where given, numbered from 0 in the order of their first image id, so that the order of rows
    does not matter.
    """
    n = len(table)
    edges = [] if pairs is None else [pairs]
    if hashes is not None:
        edges.append(_near_pairs(hashes.to_numpy().astype(np.uint64)))
    for column in ("lesion_id", "lesion_group"):
        codes, _ = pd.factorize(table[column])
        rows = np.flatnonzero(codes >= 0)
        first = pd.Series(rows).groupby(codes[rows]).transform("first").to_numpy(np.int64)
        edges.append(np.stack([rows, first]))
    left, right = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(n, n))
    component = pd.Series(connected_components(graph, directed=False)[1], index=table["image"])
    number, _ = pd.factorize(component.sort_index())
    by_image = pd.Series(number, index=component.sort_index().index)
    return pd.Series(by_image[table["image"]].to_numpy(np.int64), table.index, name="lesion_group")


def split(
    table: pd.DataFrame,
    groups: "pd.Series[int]",
    seed: int = 0,
    validation: float = 0.15,
    test: float = 0.15,
) -> "pd.Series[str]":
    """Return "train", "validation" or "test" for each image; a group is never divided.

    Classes keep their shares as well as groups allow. Class by class, rarest first, the largest group goes to
    the split that is furthest from its share (iterative stratification, Sechidis et al., ECML PKDD 2011). A
    class with a single group of its own trains; one with three such groups is in all splits. The same seed
    gives the same split, whatever the order of rows. Raise ValueError for shares that leave nothing to train on
    and for an empty table.
    """
    # Not scikit-learn's StratifiedGroupKFold: its folds are of one size, it refuses classes of few images,
    # and ISIC 2019 takes it 8 s where this takes 0.2 s.
    share = np.array([1.0 - validation - test, validation, test])
    if validation < 0 or test < 0 or share[0] <= 0:
        raise ValueError(
            f"Expected `validation` and `test` to be at least 0 and together below 1 but got {validation} and {test}."
        )
    if table.empty:
        raise ValueError("Expected images to split but the table has no row.")
    dealt = _deal(table, groups, share, seed)
    split_of = dealt.map(dict(enumerate(SPLITS))).astype("str")
    return groups.map(split_of).rename("split")


def cross_validation_folds(
    table: pd.DataFrame, groups: "pd.Series[int]", n_folds: int, seed: int = 0
) -> "pd.Series[int]":
    """Return the fold of each image, 0 to `n_folds` - 1; a group is never divided.

    Folds are of equal size in every class, as well as groups allow, by the same method as `split`. The same seed
    gives the same folds, whatever the order of rows. Raise ValueError for fewer than two folds and an empty table.
    """
    if n_folds < 2:
        raise ValueError(f"Expected at least 2 folds but got {n_folds}.")
    if table.empty:
        raise ValueError("Expected images to deal into folds but the table has no row.")
    equal_shares = np.full(n_folds, 1 / n_folds)
    fold_of_group = _deal(table, groups, equal_shares, seed)
    return groups.map(fold_of_group).rename("fold")


def _deal(
    table: pd.DataFrame, groups: "pd.Series[int]", shares: NDArray[np.float64], seed: int
) -> "pd.Series[int]":
    """Return the part, an index into `shares`, of each group."""
    # In the order of their first image: neither the numbers of groups nor the order of rows may matter.
    first_image = table["image"].groupby(groups).min().sort_values()
    counts = pd.crosstab(groups, table["diagnosis"].fillna("")).loc[first_image.index]
    counts = counts[sorted(counts, key=lambda code: (counts[code].sum(), code))]
    counts = counts.iloc[np.random.default_rng(seed).permutation(len(counts))]
    images_by_class = counts.to_numpy()

    # Rarest class first, and in each class the largest group first.
    rarest = (images_by_class > 0).argmax(axis=1)
    order = np.lexsort((-images_by_class.sum(axis=1), rarest))

    # A part with a share of zero gets nothing.
    open_parts = np.flatnonzero(shares)
    filled = np.zeros((len(shares), images_by_class.shape[1]))
    choice = np.empty(len(counts), dtype=np.int64)
    for group in order:
        fill = filled[open_parts, rarest[group]] / shares[open_parts]
        choice[group] = open_parts[fill.argmin()]
        filled[choice[group]] += images_by_class[group]
    return pd.Series(choice, index=counts.index)


def split_csv(table: pd.DataFrame, groups: "pd.Series[int]", splits: "pd.Series[str]") -> str:
    """Return image, lesion_group and split as the text of a CSV file, sorted by image."""
    rows = pd.DataFrame({"image": table["image"], "lesion_group": groups, "split": splits})
    text: str = safe_table(rows.sort_values("image")).to_csv(index=False, lineterminator="\n")
    return text


def read_split(path: Path, *, leaking: bool = False) -> pd.DataFrame:
    """Read a file of split_csv: image (str), lesion_group (int64), split (str).

    Raises DatasetInvalid for a missing column, an unknown split, a repeated image and, unless a `leaking` split is
    welcome, for a group in two splits.
    """
    rows = read_csv(path, ("lesion_group", "split")).reset_index()
    rows = rows.reindex(columns=["image", "lesion_group", "split"])
    ids = rows["image"].map(original_cell, na_action="ignore").astype("str")
    rows["image"] = ids.str.normalize("NFC")
    checks = {
        f"{', '.join(SPLITS)} as split": rows["split"].isin(SPLITS),
        "a whole number as lesion_group": rows["lesion_group"]
        .astype("str")
        .str.fullmatch(r"\d+", na=False),
        "each image once": rows["image"].notna() & ~rows["image"].duplicated(),
        "a lesion group in one split": leaking
        | (rows.groupby("lesion_group")["split"].transform("nunique") == 1),
    }
    for expected, right in checks.items():
        if not right.all():
            came = rows[~right].iloc[0].to_dict()
            raise DatasetInvalid(
                f"Expected {expected} in {path} but came: {came}. Make the split anew."
            )
    return rows.astype({"lesion_group": "int64"})


def select(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a dataset's table that stand in read_split's `rows`, with their lesion groups and splits."""
    known = rows.set_index("image")
    kept = table[table["image"].isin(known.index)].reset_index(drop=True)
    of_each = known.loc[kept["image"]]
    return kept.assign(
        lesion_group=of_each["lesion_group"].astype("str").array, split=of_each["split"].array
    )


def _near_pairs(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return (2, n) index pairs that link all hashes at most NEAR_DUPLICATE_BITS apart; none is missed.

    Two hashes that differ in k bits agree in one of k + 1 parts of them at least, so only hashes with an equal
    part are compared: 200 times faster than the whole matrix of distances for ISIC 2019.
    """
    distinct, first, where = np.unique(hashes, return_index=True, return_inverse=True)
    pairs = [np.stack([np.arange(len(hashes)), first[where]])]
    edges = np.linspace(0, 64, NEAR_DUPLICATE_BITS + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        part = distinct << (64 - high) >> (64 - high + low)
        order = np.argsort(part, kind="stable")
        part = part[order]
        for gap in range(1, len(order)):
            equal = np.flatnonzero(part[gap:] == part[:-gap])
            if not len(equal):
                break
            left, right = order[equal], order[equal + gap]
            near = np.bitwise_count(distinct[left] ^ distinct[right]) <= NEAR_DUPLICATE_BITS
            pairs.append(np.stack([first[left[near]], first[right[near]]]))
    return np.concatenate(pairs, axis=1)


def _hash(path: str) -> int | ImageRejected:
    try:
        pixels = images.read_image(path).pixels
    except ImageRejected as rejection:
        return rejection
    return int(str(imagehash.phash(Image.fromarray(pixels))), 16)


def _stamp(path: str) -> str:
    facts = os.stat(path)
    return f"{READING} {facts.st_size} {facts.st_mtime_ns}"


def _read_cache(cache: Path) -> dict[str, tuple[str, int]]:
    """Return path -> (stamp, hash); empty where nothing usable is kept."""
    try:
        with standing(cache).open(encoding="utf-8", newline="") as file:
            return {path: (stamp, int(value, 16)) for path, stamp, value in csv.reader(file)}
    except OSError:  # nothing is kept, or the cache cannot be read
        return {}
    except (ValueError, csv.Error) as error:
        _log.warning("Expected perceptual hashes in %s (%s); they are computed anew.", cache, error)
        return {}


def _write_cache(cache: Path, known: dict[str, tuple[str, int]]) -> None:
    """Keep the hashes for the next run."""

    def write(file: IO[bytes]) -> None:
        text = TextIOWrapper(file, encoding="utf-8", newline="")
        rows = ((path, stamp, f"{value:016x}") for path, (stamp, value) in known.items())
        csv.writer(text).writerows(rows)
        text.detach()  # writes what it holds, and leaves the file open

    keep(cache, write)
