"""Splits images into train, validation and test sets without shared lesions.

Images of one lesion, and near-duplicates, form a group, and a group stays in one split. Otherwise
a model would be measured on lesions of its training set.
"""

import csv
import os
import time
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

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
from cadlib.files.cache import READING, CacheEntry, cache_dir
from cadlib.files.spreadsheets import original_cell, safe_table
from cadlib.progress import Progress, no_progress
from cadlib.thread_pool import map_ahead

SPLITS = ("train", "validation", "test")
NEAR_DUPLICATE_BITS = 2
"""Largest Hamming distance of the 64-bit perceptual hashes of near-duplicates."""
KEEP_SECONDS = 120
"""Interval at which the hashes computed so far are written to disk."""


_CachedHashes = dict[str, tuple[str, int]]
"""Path -> (stamp of the file, hash)."""


def perceptual_hashes(
    table: pd.DataFrame,
    progress: Progress = no_progress,
    *,
    workers: int | None = None,
) -> "pd.Series[int]":
    """Return the 64-bit perceptual hash of each image (imagehash.phash).

    The result is uint64, on the index of `table`.

    Every image is decoded; unreadable images are left out. The hashes are stored in the user's
    cache folder every few minutes, and also when this function is interrupted. They are reused
    while path, size and modification time of a file stay the same.
    """
    cache = CacheEntry(cache_dir() / "perceptual-hashes.csv")
    hashes = cache.read(_read_hashes) or {}
    stamps = {path: _stamp(path) for path in table["path"]}
    todo = []
    for path, stamp in stamps.items():
        if not _is_current(hashes, path, stamp):
            todo.append(path)
    # A file that changed must not keep its former hash when it can no longer be read.
    for path in todo:
        hashes.pop(path, None)
    try:
        _hash_files(todo, stamps, hashes, cache, progress, workers)
    finally:
        # Also after Ctrl-C, so that the next run continues from here.
        if todo:
            _write_hashes(cache, hashes)
    is_hashed = table["path"].isin(hashes.keys())
    paths = table["path"][is_hashed]
    values_by_row = [hashes[path][1] for path in paths]
    return pd.Series(values_by_row, paths.index, dtype="uint64", name="phash")


def _hash_files(
    todo: list[str],
    stamps: dict[str, str],
    hashes: _CachedHashes,
    cache: CacheEntry,
    progress: Progress,
    workers: int | None,
) -> None:
    """Add the hashes of the files `todo` to `hashes`, and write them to the cache at times."""
    last_write = time.monotonic()
    done = len(stamps) - len(todo)
    values = map_ahead(_hash, todo, workers=workers)
    for path, value in zip(todo, values, strict=True):
        done += 1
        if isinstance(value, int):
            hashes[path] = (stamps[path], value)
        # A killed process does not reach the final write of the caller.
        if time.monotonic() - last_write > KEEP_SECONDS:
            _write_hashes(cache, hashes)
            last_write = time.monotonic()
        progress("hashing images", done, len(stamps))


def _is_current(hashes: _CachedHashes, path: str, stamp: str) -> bool:
    """Return whether the cache has a hash of the file as it is now."""
    cached_stamp, _ = hashes.get(path, ("", 0))
    return cached_stamp == stamp


def lesion_groups(
    table: pd.DataFrame,
    hashes: "pd.Series[int] | None" = None,
    pairs: NDArray[np.int64] | None = None,
) -> "pd.Series[int]":
    """Return the group of each image, joined by lesion_id, lesion_group, hashes or `pairs`.

    Near-equal `hashes` join two images. `pairs` is (2, n), row numbers of images that show the
    same by other means. Groups are the connected components of these relations, as far as they
    are present, numbered from 0 without a gap, in the order of their first image id. So the order
    of rows does not matter.
    """
    edges = []
    if pairs is not None:
        edges.append(pairs)
    if hashes is not None:
        values = hashes.to_numpy()
        near_pairs = _near_pairs(values.astype(np.uint64))
        edges.append(near_pairs)
    for column in ("lesion_id", "lesion_group"):
        equal_pairs = _equal_pairs(table[column])
        edges.append(equal_pairs)
    all_edges = np.concatenate(edges, axis=1)
    labels = _components(all_edges, len(table))

    # The labels of components follow the rows; the numbers of groups follow the image ids.
    component = pd.Series(labels, index=table["image"])
    component = component.sort_index()
    number, _ = pd.factorize(component)
    by_image = pd.Series(number, index=component.index)
    group = by_image[table["image"]].to_numpy(np.int64)
    return pd.Series(group, table.index, name="lesion_group")


def _components(pairs: NDArray[np.int64], n: int) -> NDArray[np.int32]:
    """Return the connected component, (n,), of each of `n` nodes joined by (2, n_pairs) pairs."""
    left, right = pairs
    is_joined = np.ones(len(left), dtype=bool)
    graph = coo_array((is_joined, (left, right)), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    components: NDArray[np.int32] = labels
    return components


def _equal_pairs(names: "pd.Series[str]") -> NDArray[np.int64]:
    """Return (2, n) pairs that link each row with a name to the first row of that name."""
    codes, _ = pd.factorize(names)
    # A missing name has the code -1.
    rows = np.flatnonzero(codes >= 0)
    by_code = pd.Series(rows).groupby(codes[rows])
    first = by_code.transform("first").to_numpy(np.int64)
    return np.stack([rows, first])


def split(
    table: pd.DataFrame,
    groups: "pd.Series[int]",
    seed: int = 0,
    validation: float = 0.15,
    test: float = 0.15,
) -> "pd.Series[str]":
    """Return "train", "validation" or "test" for each image; a group is never divided.

    Classes keep their shares as well as groups allow. Class by class, rarest first, the largest
    group goes to the split that is furthest from its share (iterative stratification, Sechidis et
    al., ECML PKDD 2011). The only group of a class goes to the training set; a class with three
    groups is in all splits. The same seed gives the same split, whatever the order of rows. Raise
    ValueError for shares that leave no training set and for an empty table.
    """
    # Not scikit-learn's StratifiedGroupKFold: its folds are of one size, it refuses classes of
    # few images, and ISIC 2019 takes it 8 s where this takes 0.2 s.
    share = np.array([1.0 - validation - test, validation, test])
    if validation < 0 or test < 0 or share[0] <= 0:
        raise ValueError(
            "Expected `validation` and `test` to be at least 0 and together below 1 "
            f"but got {validation} and {test}."
        )
    if table.empty:
        raise ValueError("Expected images to split but the table has no row.")
    part_of_group = _deal(table, groups, share, seed)
    names = dict(enumerate(SPLITS))
    split_of_group = part_of_group.map(names).astype("str")
    return groups.map(split_of_group).rename("split")


def cross_validation_folds(
    table: pd.DataFrame,
    groups: "pd.Series[int]",
    n_folds: int,
    seed: int = 0,
) -> "pd.Series[int]":
    """Return the fold of each image, 0 to `n_folds` - 1; a group is never divided.

    Folds are of equal size in every class, as well as groups allow, by the same method as
    `split`. The same seed gives the same folds, whatever the order of rows. Raise ValueError for
    fewer than two folds and an empty table.
    """
    if n_folds < 2:
        raise ValueError(f"Expected at least 2 folds but got {n_folds}.")
    if table.empty:
        raise ValueError("Expected images to deal into folds but the table has no row.")
    equal_shares = np.full(n_folds, 1 / n_folds)
    fold_of_group = _deal(table, groups, equal_shares, seed)
    return groups.map(fold_of_group).rename("fold")


def _deal(
    table: pd.DataFrame,
    groups: "pd.Series[int]",
    shares: NDArray[np.float64],
    seed: int,
) -> "pd.Series[int]":
    """Return the part, an index into `shares`, of each group."""
    counts = _shuffled_counts(table, groups, seed)
    images_by_class = counts.to_numpy()

    # Rarest class first, and in each class the largest group first.
    rarest = (images_by_class > 0).argmax(axis=1)
    group_sizes = images_by_class.sum(axis=1)
    order = np.lexsort((-group_sizes, rarest))

    # A part with a share of zero gets nothing.
    open_parts = np.flatnonzero(shares)
    open_shares = shares[open_parts]
    n_classes = images_by_class.shape[1]
    filled = np.zeros((len(shares), n_classes))
    choice = np.empty(len(counts), dtype=np.int64)
    for group in order:
        fill = filled[open_parts, rarest[group]] / open_shares
        part = open_parts[fill.argmin()]
        choice[group] = part
        filled[part] += images_by_class[group]
    return pd.Series(choice, index=counts.index)


def _shuffled_counts(
    table: pd.DataFrame,
    groups: "pd.Series[int]",
    seed: int,
) -> pd.DataFrame:
    """Return the images of each group in each class, the rarest class first, groups shuffled."""
    # The seed alone decides: groups are first put into the order of their first image, so that
    # neither the numbers of groups nor the order of rows matter.
    first_image = table["image"].groupby(groups).min()
    by_first_image = first_image.sort_values().index
    classes = table["diagnosis"].fillna("")
    counts = pd.crosstab(groups, classes)
    counts = counts.loc[by_first_image]

    def frequency(code: Any) -> tuple[int, str]:
        n_images = int(counts[code].sum())
        # The code decides between classes of the same size, not the order of the columns.
        return n_images, code

    by_frequency = sorted(counts, key=frequency)
    counts = counts[by_frequency]
    rng = np.random.default_rng(seed)
    n_groups = len(counts)
    order = rng.permutation(n_groups)
    return counts.iloc[order]


def split_csv(
    table: pd.DataFrame,
    groups: "pd.Series[int]",
    splits: "pd.Series[str]",
) -> str:
    """Return image, lesion_group and split as the text of a CSV file, sorted by image."""
    columns = {
        "image": table["image"],
        "lesion_group": groups,
        "split": splits,
    }
    rows = pd.DataFrame(columns)
    by_image = safe_table(rows.sort_values("image"))
    text: str = by_image.to_csv(index=False, lineterminator="\n")
    return text


def read_split(path: Path, *, leaking: bool = False) -> pd.DataFrame:
    """Read a file of split_csv: image (str), lesion_group (int64), split (str).

    Raise DatasetInvalid for a missing column, an unknown split, a repeated image and, unless a
    `leaking` split is allowed, for a group in two splits.
    """
    rows = read_csv(path, ("lesion_group", "split")).reset_index()
    rows = rows.reindex(columns=["image", "lesion_group", "split"])
    ids = rows["image"].map(original_cell, na_action="ignore").astype("str")
    rows["image"] = ids.str.normalize("NFC")
    for expected, is_right in _split_checks(rows, leaking=leaking).items():
        if not is_right.all():
            first_wrong = rows[~is_right].iloc[0].to_dict()
            raise DatasetInvalid(
                f"Expected {expected} in {path}, but found: {first_wrong}. Make the split again."
            )
    return rows.astype({"lesion_group": "int64"})


def _split_checks(rows: pd.DataFrame, *, leaking: bool) -> dict[str, "pd.Series[bool]"]:
    """Return what is expected of a row -> the rows that fulfil it."""
    group_text = rows["lesion_group"].astype("str")
    has_own_image = rows["image"].notna() & ~rows["image"].duplicated()
    splits_of_group = rows.groupby("lesion_group")["split"].transform("nunique")
    return {
        f"{', '.join(SPLITS)} as split": rows["split"].isin(SPLITS),
        "a whole number as lesion_group": group_text.str.fullmatch(r"\d+", na=False),
        "each image once": has_own_image,
        "a lesion group in one split": leaking | (splits_of_group == 1),
    }


def select(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a data set's table whose images are in read_split's `rows`.

    Their lesion groups and splits are those of `rows`.
    """
    by_image = rows.set_index("image")
    is_selected = table["image"].isin(by_image.index)
    selected = table[is_selected]
    selected = selected.reset_index(drop=True)
    # The rows of the split in the order of the table.
    split_rows = by_image.loc[selected["image"]]
    groups = split_rows["lesion_group"].astype("str")
    splits = split_rows["split"]
    # Arrays, because the two tables have different indexes.
    return selected.assign(
        lesion_group=groups.array,
        split=splits.array,
    )


def _near_pairs(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return (2, n) index pairs that link all hashes at most NEAR_DUPLICATE_BITS apart.

    Two hashes that differ in k bits have k + 1 parts of which at least one is equal, so only
    hashes with an equal part are compared. For ISIC 2019 this is 200 times faster than the whole
    matrix of distances.
    """
    distinct, first, place = np.unique(hashes, return_index=True, return_inverse=True)
    # Equal hashes are linked to the first of them.
    rows = np.arange(len(hashes))
    pairs = [np.stack([rows, first[place]])]
    edges = np.linspace(0, 64, NEAR_DUPLICATE_BITS + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        part = distinct << (64 - high) >> (64 - high + low)
        near = _near_in_part(distinct, part)
        pairs.append(first[near])
    return np.concatenate(pairs, axis=1)


def _near_in_part(hashes: NDArray[np.uint64], part: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return (2, n) index pairs of near hashes that are equal in a part, (N,) like `hashes`."""
    order = np.argsort(part, kind="stable")
    part = part[order]
    pairs = [np.zeros((2, 0), np.int64)]
    # Equal parts are next to each other: a gap without an equal pair ends the search.
    for gap in range(1, len(order)):
        is_equal = part[gap:] == part[:-gap]
        equal = np.flatnonzero(is_equal)
        if not len(equal):
            break
        left = order[equal]
        right = order[equal + gap]
        distance = np.bitwise_count(hashes[left] ^ hashes[right])
        is_near = distance <= NEAR_DUPLICATE_BITS
        pairs.append(np.stack([left[is_near], right[is_near]]))
    return np.concatenate(pairs, axis=1)


def _hash(path: str) -> int | ImageRejected:
    try:
        pixels = images.read_image(path).pixels
    except ImageRejected as rejection:
        return rejection
    hex_digits = str(imagehash.phash(Image.fromarray(pixels)))
    return int(hex_digits, 16)


def _stamp(path: str) -> str:
    facts = os.stat(path)
    return f"{READING} {facts.st_size} {facts.st_mtime_ns}"


def _read_hashes(place: Path) -> _CachedHashes:
    """Return the hashes of earlier runs."""
    hashes = {}
    with place.open(encoding="utf-8", newline="") as file:
        for path, stamp, value in csv.reader(file):
            hashes[path] = (stamp, int(value, 16))
    return hashes


def _write_hashes(cache: CacheEntry, hashes: _CachedHashes) -> None:
    """Store the hashes for the next run."""

    def write(file: IO[bytes]) -> None:
        text = TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        for path, (stamp, value) in hashes.items():
            writer.writerow((path, stamp, f"{value:016x}"))
        # Flush what the wrapper holds, and leave the file open.
        text.detach()

    cache.write(write)
