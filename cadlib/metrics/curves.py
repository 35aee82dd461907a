"""Computes ROC and precision-recall curves with few points, for a chart."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics.classification import Bools, Floats, checked_scores
from cadlib.metrics.summary_schema import StoredRoc

ROC_POINTS = 200


class Area(NamedTuple):
    """The area under a curve and its 95 % interval, None where one is not defined."""

    value: float | None
    interval: Sequence[float] | None


@dataclass(frozen=True, eq=False)
class RocCurve:
    """A receiver operating characteristic: read-only (K,) float64 arrays, from (0, 0) to (1, 1).

    A case is called positive at `threshold[k]` and above. The first threshold is infinite, so
    nothing is called positive there. All three arrays are empty when the positives or the negatives
    are missing.
    """

    fpr: Floats
    tpr: Floats
    threshold: Floats


def roc_points(
    scores: Floats,
    truth: Bools,
    limit: int = ROC_POINTS,
) -> RocCurve:
    """Trace the ROC curve with at most `limit` points, the corners that shape it.

    `scores` is (N,) float64, `truth` (N,) bool. Each point is a point of the data; none is
    interpolated.
    """
    scores, truth, _ = checked_scores(scores, truth)
    _check_limit(limit)
    # One of the two rates would be a share of no image.
    if not truth.any() or truth.all():
        return RocCurve(*_nothing())
    # Imported here because it takes half a second, and an assessment of one image needs no curve.
    from sklearn.metrics import roc_curve  # noqa: PLC0415

    fpr, tpr, threshold = roc_curve(truth, scores)
    corners = _corners(fpr, tpr, limit)
    return RocCurve(
        _read_only_points(fpr, corners),
        _read_only_points(tpr, corners),
        _read_only_points(threshold, corners),
    )


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Precision by recall: three read-only (K,) float64 arrays, from the highest threshold down.

    A case is called positive at `threshold[k]` and above. `positives` is the share of positives:
    the precision when every case is called positive. Without a positive all three arrays are empty
    and `positives` is 0.
    """

    recall: Floats
    precision: Floats
    threshold: Floats
    positives: float


def precision_recall_points(
    scores: Floats, truth: Bools, limit: int = ROC_POINTS
) -> PrecisionRecallCurve:
    """Trace precision against recall with at most `limit` points, the corners that shape it.

    `scores` is (N,) float64, `truth` (N,) bool. Each point is a point of the data. A line between
    two points would promise a precision that no threshold reaches (Davis and Goadrich, ICML 2006),
    so a chart draws steps.
    """
    scores, truth, _ = checked_scores(scores, truth)
    _check_limit(limit)
    if not truth.any():
        return PrecisionRecallCurve(*_nothing(), 0.0)
    # Imported here for the same reason as in `roc_points`.
    from sklearn.metrics import precision_recall_curve  # noqa: PLC0415

    rising_precision, rising_recall, rising_threshold = precision_recall_curve(truth, scores)
    # The last point of scikit-learn, recall 0 with precision 1, belongs to no threshold.
    recall = rising_recall[-2::-1]
    precision = rising_precision[-2::-1]
    threshold = rising_threshold[::-1]
    corners = _corners(recall, precision, limit)
    return PrecisionRecallCurve(
        _read_only_points(recall, corners),
        _read_only_points(precision, corners),
        _read_only_points(threshold, corners),
        float(truth.mean()),
    )


def precision_recall_of_roc(
    roc: StoredRoc | None,
    positives: int,
    negatives: int,
) -> PrecisionRecallCurve:
    """Return the precision-recall curve at the points of a ROC curve of metrics.json.

    `positives` and `negatives` are the numbers of images behind the curve. Each point is exact; a
    curve computed from the images themselves has more points between them.
    """
    if roc is None:
        return PrecisionRecallCurve(*_nothing(), 0.0)
    # At the first point nothing is called positive, so it has no precision.
    fpr = np.array(roc.fpr[1:], np.float64)
    tpr = np.array(roc.tpr[1:], np.float64)
    threshold = np.array(roc.threshold[1:], np.float64)
    true_positives = tpr * positives
    false_positives = fpr * negatives
    precision = true_positives / (true_positives + false_positives)
    # Where every image is called positive, the precision is the share of positives.
    share = positives / (positives + negatives)
    return PrecisionRecallCurve(
        _read_only(tpr),
        _read_only(precision),
        _read_only(threshold),
        share,
    )


def _check_limit(limit: int) -> None:
    if limit < 2:
        raise ValueError(
            f"Expected `limit` to be at least 2, the two ends of the curve, but got {limit}."
        )


def _corners(x: Floats, y: Floats, limit: int) -> NDArray[np.intp]:
    """Pick the at most `limit` points that shape the curve most.

    The method is that of Ramer 1972 and of Douglas and Peucker 1973. Each step picks the point
    farthest from the line so far. scikit-learn only drops points that are collinear, and a curve
    over thousands of images has thousands of corners.
    """
    last_place = len(x) - 1
    corners = [0, last_place]
    waiting: list[_Stretch] = []
    _push_stretch(waiting, x, y, 0, last_place)
    while waiting and len(corners) < limit:
        stretch = heapq.heappop(waiting)
        corners.append(stretch.corner)
        _push_stretch(waiting, x, y, stretch.first, stretch.corner)
        _push_stretch(waiting, x, y, stretch.corner, stretch.last)
    # Corners were found from the farthest on; a line needs them in the order of the curve.
    return np.sort(np.array(corners))


class _Stretch(NamedTuple):
    """The points between two places of a curve and the corner among them farthest from their line.

    The order is that of the heap: the smallest negative distance, so the farthest corner, comes
    first.
    """

    negative_distance: float
    corner: int
    first: int
    last: int


def _push_stretch(waiting: list[_Stretch], x: Floats, y: Floats, first: int, last: int) -> None:
    """Add the stretch between two places to the heap, if it has a point inside."""
    # Neighbouring points have nothing between them that could be a corner.
    if last - first < 2:
        return
    run = x[last] - x[first]
    rise = y[last] - y[first]
    between = slice(first + 1, last)
    # The distance of a point from a line: the cross product divided by the length of the line.
    across = (x[between] - x[first]) * rise
    along = (y[between] - y[first]) * run
    length = math.hypot(run, rise)
    distances = np.abs(across - along) / length
    farthest = int(distances.argmax())
    distance = float(distances[farthest])
    corner = first + 1 + farthest
    stretch = _Stretch(-distance, corner, first, last)
    heapq.heappush(waiting, stretch)


def _nothing() -> tuple[Floats, Floats, Floats]:
    return _read_only(np.empty(0)), _read_only(np.empty(0)), _read_only(np.empty(0))


def _read_only_points(values: Floats, places: NDArray[np.intp]) -> Floats:
    points = np.asarray(values[places], np.float64)
    return _read_only(points)


def _read_only(values: Floats) -> Floats:
    values.setflags(write=False)
    return values
