"""Chooses which saliency map a reader reviews next.

Two checks are mixed in without notice, after Tschandl et al. (Nature Medicine 26 (2020) 1229) and
Chanda et al. (Nature Communications 15 (2024) 524), who compare readers with each other and with
themselves: some maps are shown twice, and some show random places. Which ones follows from hashes
of ids, so the choice is the same after a restart, and nobody can foresee it from the queue.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from cadlib.cases import queries, schema
from cadlib.cases.records import OverlayReview

REPEATED_SHARE = 0.10
RANDOM_SHARE = 0.05
REPEAT_AFTER = 10
"""Reviews between the two of one map, so that the reader does not remember the first."""


@dataclass(frozen=True)
class ReviewTask:
    """A map to review: `seed` is that of a map of random places, None for a real map.

    `repeats_id` is the earlier review of the same map; None for one that was not shown yet.
    """

    assessment_id: str
    seed: int | None
    repeats_id: str | None


def next_tasks(
    connection: Connection,
    reader_id: str,
    n: int = 1,
) -> list[ReviewTask]:
    """Return the next maps for a reader, at most `n`, in their order.

    Each image has one map, of its latest assessment. Repeats come when enough other maps were
    reviewed since, or when there is nothing new.
    """
    reviews = queries.overlay_reviews(connection, reader_id)
    new = _not_reviewed(connection, reviews)
    # Both follow from what is stored, so a restart changes nothing.
    due, later = _repeats(reviews)
    # What is not due yet comes at the end of everything.
    ordered = [*due, *(_task(assessment, reader_id) for assessment in new), *later]
    return ordered[:n]


def _not_reviewed(connection: Connection, reviews: Sequence[OverlayReview]) -> list[str]:
    """Return the latest assessments of all images that were not reviewed, the earliest first."""
    table = schema.assessments
    newer = table.alias()
    is_of_image = newer.c.image_id == table.c.image_id
    latest = select(func.max(newer.c.entry)).where(is_of_image).scalar_subquery()
    query = select(table.c.id).where(table.c.entry == latest).order_by(table.c.entry)
    reviewed = {review.assessment_id for review in reviews}
    ids = connection.execute(query).scalars()
    return [assessment_id for assessment_id in ids if assessment_id not in reviewed]


def _task(assessment_id: str, reader_id: str) -> ReviewTask:
    """Return the task of a map that is shown for the first time."""
    is_random = _share("random", assessment_id, reader_id) < RANDOM_SHARE
    return ReviewTask(assessment_id, _seed(assessment_id) if is_random else None, None)


def _repeats(reviews: Sequence[OverlayReview]) -> tuple[list[ReviewTask], list[ReviewTask]]:
    """Return the maps to show again: those that are due, and those that are not yet."""
    repeated = {review.details.repeats_id for review in reviews}
    due = []
    later = []
    for place, review in enumerate(reviews):
        is_first = review.details.repeats_id is None
        is_chosen = _share("repeat", review.assessment_id, review.reader_id) < REPEATED_SHARE
        if not is_first or not is_chosen or review.id in repeated:
            continue
        # The same map: random places stay those of the first time.
        seed = _seed(review.assessment_id) if review.details.is_random else None
        task = ReviewTask(review.assessment_id, seed, review.id)
        n_since = len(reviews) - 1 - place
        if n_since >= REPEAT_AFTER:
            due.append(task)
        else:
            later.append(task)
    return due, later


def _share(*names: str) -> float:
    """Return a number from 0 to 1 that follows from names as if at random."""
    return _number(*names) / 2**64


def _seed(assessment_id: str) -> int:
    return _number("seed", assessment_id)


def _number(*names: str) -> int:
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return int.from_bytes(digest[:8])
