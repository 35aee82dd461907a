"""Finds repeated images, and contradicting diagnoses, as pairs of images.

The first are one image under two ids, the second two diagnoses of one image or lesion.

They rest on `duplicates` and `pixel_similarity`. By a hash or the details of the pixels alone, some
images of a kind look the same, most of all bright circles on black; such a pair counts only if its
images are also among the nearest by the model's features. In a visual check on isic2019 this left
no pair that is only of a kind, and lost some of one lesion from another distance.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.duplicates import Duplicates, Rows, together
from cadlib.data.pixel_similarity import SAME, Details, likely_pairs, shows_the_same, similarity
from cadlib.data.splits import NEAR_DUPLICATE_BITS, lesion_groups
from cadlib.metrics.partial_labels import label_words, labels_contradict
from cadlib.progress import Progress
from cadlib.taxonomy import CODES

NEAREST = 5
"""Number of images that count as nearest to an image by the features of the model."""
_BLOCK = 512


def pairs(
    duplicates: Duplicates,
    details: Details,
    features: NDArray[np.float32],
    progress: Progress,
) -> Iterator[dict[str, object]]:
    """Yield the findings among the images of `duplicates`, as rows of `lists.COLUMNS`.

    `details` and `features`, (N, C), have one row for each image.
    """
    table = duplicates.table
    table = table.assign(diagnosis=label_words(table))
    # Without the lesions, the groups are those of the same images alone.
    without_lesions = table.assign(lesion_id=None, lesion_group=None)
    same = _same_images(duplicates, details, features, progress)
    group_of_image = lesion_groups(without_lesions, None, same)
    groups = together(group_of_image)
    for rows in groups:
        yield from _near_duplicates(table, rows, details)
    groups_of_lesions = duplicates.groups["one lesion id"]
    yield from _contradictions(table, [*groups, *groups_of_lesions], details)


def _near_duplicates(
    table: pd.DataFrame,
    rows: Rows,
    details: Details,
) -> Iterator[dict[str, object]]:
    """Yield a finding for each of the same images but the first.

    It is a pair with the earlier image that is most like it.
    """
    own_details = details.of(rows)
    alike = similarity(own_details, own_details)
    for later in range(1, len(rows)):
        # The rows before this one already have a finding, so each image has one.
        earlier = int(alike[later, :later].argmax())
        yield _pair(
            "near-duplicates",
            table,
            int(rows[later]),
            int(rows[earlier]),
            float(alike[later, earlier]),
        )


def _contradictions(
    table: pd.DataFrame,
    groups: Sequence[Rows],
    details: Details,
) -> Iterator[dict[str, object]]:
    """Yield a finding for each two images of a group that contradict each other, once."""
    # A pair of images can be in several groups.
    reported = set[tuple[int, int]]()
    for rows in groups:
        for contradiction in _against(table["diagnosis"], rows, details):
            row = contradiction.row
            other = contradiction.other
            pair = (min(row, other), max(row, other))
            if pair in reported:
                continue
            reported.add(pair)
            finding = _pair("contradictions", table, row, other, contradiction.similarity)
            finding["suggested"] = contradiction.suggested
            yield finding


def _same_images(
    duplicates: Duplicates,
    details: Details,
    features: NDArray[np.float32],
    progress: Progress,
) -> NDArray[np.int64]:
    """Return the (2, n) pairs of rows that show one image."""
    likely = likely_pairs(details, progress)
    hashed_rows: list[int] = []
    for group in duplicates.groups["near-duplicates"]:
        hashed_rows += group.tolist()
    hashed = np.array(hashed_rows, np.int64)
    rows = np.union1d(hashed, likely)
    nearest_of_rows = _nearest(features, rows)
    nearest = dict(zip(rows.tolist(), nearest_of_rows, strict=True))
    hashes = duplicates.table["phash"].to_numpy(np.uint64)
    same = _same_by_hash(hashed, nearest, hashes)
    same += _same_by_details(likely, nearest, details)
    # Identical files need no check by features.
    for identical in duplicates.groups["identical files"]:
        first, *copies = identical
        same += [(first, copy) for copy in copies]
    # Without a pair, the array would have one axis only.
    pairs_in_rows = np.array(same, np.int64).reshape(-1, 2)
    return pairs_in_rows.T


def _same_by_hash(
    rows: Rows,
    nearest: Mapping[int, Rows],
    hashes: NDArray[np.uint64],
) -> list[tuple[int, int]]:
    """Return each of some rows with those of its nearest rows that have a near-equal hash."""
    same = []
    for row in rows:
        for near_row in nearest[row]:
            bits = np.bitwise_count(hashes[row] ^ hashes[near_row])
            if bits <= NEAR_DUPLICATE_BITS:
                same.append((row, near_row))
    return same


def _same_by_details(
    likely: NDArray[np.int64],
    nearest: Mapping[int, Rows],
    details: Details,
) -> list[tuple[int, int]]:
    """Return the (2, n) likely pairs that show the same, each with its two rows."""
    same = []
    for row, other in likely.T:
        left = details.of(np.array([row]))
        right = details.of(np.array([other]))
        alike = similarity(left, right)
        # The relation is not symmetric: one side is enough.
        is_near = other in nearest[row] or row in nearest[other]
        near = np.array([[is_near]])
        shows_same = shows_the_same(alike, left, right, near)
        if not shows_same.item():
            continue
        pair = (row, other)
        same.append(pair)
    return same


def _nearest(
    features: NDArray[np.float32],
    rows: Rows,
) -> NDArray[np.int64]:
    """Return the NEAREST images to each of n rows, without itself.

    They are (n, NEAREST), or as many columns as there are other images.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    # Features of only zeros have no direction; the smallest float32 avoids a division by 0.
    unit = features / np.maximum(lengths, np.finfo(np.float32).tiny)
    n_nearest = min(NEAREST, len(features) - 1)
    # In blocks, because all pairs of 25,000 images would need 2.5 GB.
    blocks = [np.zeros((0, n_nearest), np.int64)]
    for first in range(0, len(rows), _BLOCK):
        block = rows[first : first + _BLOCK]
        cosine = unit[block] @ unit.T
        # An image is not a neighbour of itself.
        places = np.arange(len(block))
        cosine[places, block] = -np.inf
        by_nearness = np.argsort(-cosine, axis=1)
        blocks.append(by_nearness[:, :n_nearest])
    return np.concatenate(blocks)


@dataclass(frozen=True)
class _Contradiction:
    """An image without the usual diagnosis of its group, and the one most like it that has it.

    `suggested` is the usual diagnosis, or None if two are equally frequent.
    """

    row: int
    other: int
    similarity: float
    suggested: str | None


def _against(
    diagnosis: "pd.Series[str]",
    rows: Rows,
    details: Details,
) -> Iterator[_Contradiction]:
    """Yield each image of a group that contradicts the usual diagnosis of the group.

    If two diagnoses are equally frequent, the first image's takes the place of the usual one.
    """
    has_diagnosis = diagnosis.iloc[rows].notna().to_numpy()
    labelled = rows[has_diagnosis]
    codes = diagnosis.iloc[labelled].to_numpy()
    counts = pd.Series(codes).value_counts(sort=False)
    if len(counts) < 2:
        return
    usual = str(counts.idxmax())
    suggested = usual if _is_suggestion(usual, counts) else None
    usual_rows = labelled[codes == usual]
    against = np.array([labels_contradict((usual, code)) for code in codes])
    for row in labelled[against]:
        # A reader compares the image with the most similar one of the usual diagnosis.
        own_details = details.of(np.array([row]))
        usual_details = details.of(usual_rows)
        [alike] = similarity(own_details, usual_details)
        most_alike = usual_rows[alike.argmax()]
        yield _Contradiction(
            row=int(row),
            other=int(most_alike),
            similarity=float(alike.max()),
            suggested=suggested,
        )


def _is_suggestion(usual: str, counts: "pd.Series[int]") -> bool:
    """Check that the usual label is a diagnosis, and that no other is equally frequent."""
    n_most_frequent = int((counts == counts.max()).sum())
    return n_most_frequent == 1 and usual in CODES


def _pair(
    kind: str,
    table: pd.DataFrame,
    row: int,
    other_row: int,
    alike: float,
) -> dict[str, object]:
    """Return the finding of two rows of a table, whose details are `alike`, -1 to 1."""
    image = table.iloc[row]
    other = table.iloc[other_row]
    same_lesion = pd.notna(image["lesion_id"]) and image["lesion_id"] == other["lesion_id"]
    identical = image["sha256"] == other["sha256"]
    score = float(np.clip(alike, 0, 1))
    if identical or (same_lesion and kind == "contradictions"):
        score = 1.0
    similarity_words = _similarity_in_words(identical, image, other, alike)
    lesion_words = _lesion_in_words(image, other, same=same_lesion)
    return {
        "kind": kind,
        "image": image["image"],
        "other_image": other["image"],
        "diagnosis": image["diagnosis"],
        "other_diagnosis": other["diagnosis"],
        "score": score,
        "why": f"{similarity_words}; {lesion_words}.",
    }


def _similarity_in_words(
    identical: bool,
    image: "pd.Series[str]",
    other: "pd.Series[str]",
    alike: float,
) -> str:
    if identical:
        return "The files are identical"
    bits = (int(image["phash"]) ^ int(other["phash"])).bit_count()
    agreement = "hardly agree"
    if alike >= SAME:
        agreement = "show the same"
    elif alike >= SAME / 2:
        agreement = "agree in part"
    return f"Their details {agreement} ({alike:.2f}), their hashes differ in {bits} of 64 bits"


def _lesion_in_words(
    image: "pd.Series[str]",
    other: "pd.Series[str]",
    *,
    same: bool,
) -> str:
    if same:
        return f"both are of lesion {image['lesion_id']}"
    lesions = []
    for row in (image, other):
        lesion = row["lesion_id"]
        if pd.notna(lesion):
            lesions.append(str(lesion))
    if len(lesions) < 2:
        return "their lesion is not known"
    return f"their lesion ids are {' and '.join(lesions)}"
