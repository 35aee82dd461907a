"""One picture under two ids, and one picture or lesion with two diagnoses: of `duplicates` and `likeness`, as pairs.

A hash or the detail of the pixels alone takes some pictures of a kind for one, above all bright circles on black; of
such pairs those are kept whose pictures are also among the nearest by the model's features. Looked at on isic2019, that
left no two pictures of a kind, and lost some of one lesion from another distance.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.duplicates import Duplicates, Rows, together
from cadlib.data.pixel_similarity import SAME, Details, likely_pairs, likeness, shows_the_same
from cadlib.data.splits import NEAR_DUPLICATE_BITS, lesion_groups
from cadlib.metrics.partial_labels import label_words, labels_contradict
from cadlib.progress import Progress
from cadlib.taxonomy import CODES

NEAREST = 5
"""So many images are nearest to one by the features of the model."""
_BLOCK = 512


def pairs(
    duplicates: Duplicates, details: Details, features: NDArray[np.float32], progress: Progress
) -> Iterator[dict[str, object]]:
    """Yield the findings among the images of `duplicates`; `details` and `features`, (N, C), have a row of each."""
    table = duplicates.table.assign(diagnosis=label_words(duplicates.table))
    alone = table.assign(lesion_id=None, lesion_group=None)
    pictures = together(
        lesion_groups(alone, None, _same_pictures(duplicates, details, features, progress))
    )
    for rows in pictures:
        alike = likeness(details.of(rows), details.of(rows))
        for later in range(1, len(rows)):
            earlier = int(alike[later, :later].argmax())
            one, other = int(rows[later]), int(rows[earlier])
            yield _pair("near-duplicates", table, one, other, float(alike[later, earlier]))
    told = set[tuple[int, int]]()
    for rows in (*pictures, *duplicates.groups["one lesion id"]):
        for one, other, agreement, usual in _against(table["diagnosis"], rows, details):
            if (pair := (min(one, other), max(one, other))) not in told:
                told.add(pair)
                yield {**_pair("contradictions", table, one, other, agreement), "suggested": usual}


def _same_pictures(
    duplicates: Duplicates, details: Details, features: NDArray[np.float32], progress: Progress
) -> NDArray[np.int64]:
    """Return the (2, n) pairs of rows that show one picture."""
    likely = likely_pairs(details, progress)
    hashed = np.array(
        [row for rows in duplicates.groups["near-duplicates"] for row in rows], np.int64
    )
    rows = np.union1d(hashed, likely)
    nearest = dict(zip(rows.tolist(), _nearest(features, rows), strict=True))
    hashes = duplicates.table["phash"].to_numpy(np.uint64)
    same = [
        (row, at)
        for row in hashed
        for at in nearest[row]
        if np.bitwise_count(hashes[row] ^ hashes[at]) <= NEAR_DUPLICATE_BITS
    ]
    for one, other in likely.T:
        left, right = details.of(np.array([one])), details.of(np.array([other]))
        near = np.array([[other in nearest[one] or one in nearest[other]]])
        if shows_the_same(likeness(left, right), left, right, near).item():
            same.append((one, other))
    same += [(rows[0], row) for rows in duplicates.groups["identical files"] for row in rows[1:]]
    return np.array(same, np.int64).reshape(-1, 2).T


def _nearest(features: NDArray[np.float32], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the NEAREST images to each of n rows, without itself, (n, NEAREST) or as many as there are."""
    unit = features / np.maximum(
        np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny
    )
    shown = min(NEAREST, len(features) - 1)
    found = [np.zeros((0, shown), np.int64)]
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK]
        cosine = unit[block] @ unit.T
        cosine[np.arange(len(block)), block] = -np.inf
        found.append(np.argsort(-cosine, axis=1)[:, :shown])
    return np.concatenate(found)


def _against(
    diagnosis: "pd.Series[str]", rows: Rows, details: Details
) -> Iterator[tuple[int, int, float, str | None]]:
    """Yield each image without the group's usual diagnosis, the image most like it that has it, likeness, and which.

    Where two diagnoses are equally frequent none is the usual one: the first image's stands for it and None is told.
    """
    labelled = rows[diagnosis.iloc[rows].notna().to_numpy()]
    codes = diagnosis.iloc[labelled].to_numpy()
    counts = pd.Series(codes).value_counts(sort=False)
    if len(counts) < 2:
        return
    usual = str(counts.idxmax())
    clear = int((counts == counts.max()).sum()) == 1
    with_it = labelled[codes == usual]
    against = np.array([labels_contradict((usual, code)) for code in codes])
    for one in labelled[against]:
        alike = likeness(details.of(np.array([one])), details.of(with_it))[0]
        yield (
            int(one),
            int(with_it[alike.argmax()]),
            float(alike.max()),
            usual if clear and usual in CODES else None,
        )


def _pair(kind: str, table: pd.DataFrame, row: int, other: int, alike: float) -> dict[str, object]:
    one, two = table.iloc[row], table.iloc[other]
    lesion = pd.notna(one["lesion_id"]) and one["lesion_id"] == two["lesion_id"]
    identical = one["sha256"] == two["sha256"]
    certain = identical or (lesion and kind == "contradictions")
    return {
        "kind": kind,
        "image": one["image"],
        "other_image": two["image"],
        "diagnosis": one["diagnosis"],
        "other_diagnosis": two["diagnosis"],
        "score": 1.0 if certain else float(np.clip(alike, 0, 1)),
        "why": f"{_likeness_in_words(identical, one, two, alike)}; {_lesion_in_words(one, two, same=lesion)}.",
    }


def _likeness_in_words(
    identical: bool, one: "pd.Series[str]", two: "pd.Series[str]", alike: float
) -> str:
    if identical:
        return "The files are identical"
    bits = (int(one["phash"]) ^ int(two["phash"])).bit_count()
    seen = (
        "show the same"
        if alike >= SAME
        else "agree in part"
        if alike >= SAME / 2
        else "hardly agree"
    )
    return f"Their details {seen} ({alike:.2f}), their hashes differ in {bits} of 64 bits"


def _lesion_in_words(one: "pd.Series[str]", two: "pd.Series[str]", *, same: bool) -> str:
    if same:
        return f"both are of lesion {one['lesion_id']}"
    known = [str(lesion) for lesion in (one["lesion_id"], two["lesion_id"]) if pd.notna(lesion)]
    return (
        f"their lesion ids are {' and '.join(known)}"
        if len(known) == 2
        else "their lesion is not known"
    )
