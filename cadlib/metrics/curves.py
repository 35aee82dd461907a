"""ROC and precision-recall curves with few points, for a chart."""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics.classification import Floats, checked_scores

ROC_POINTS = 200


class Area(NamedTuple):
    """The area under a curve, None where it is not defined, and its 95 % interval, None where it has none."""

    value: float | None
    interval: Sequence[float] | None


@dataclass(frozen=True, eq=False)
class RocCurve:
    """A receiver operating characteristic: three read-only (K,) float64 arrays, from (0, 0) to (1, 1).

    At `threshold[k]` and above a case is called positive; the first is infinite, nothing is. All three are
    empty when the positives or the negatives are missing.
    """

    fpr: Floats
    tpr: Floats
    threshold: Floats


def roc_points(scores: Floats, truth: NDArray[np.bool_], limit: int = ROC_POINTS) -> RocCurve:
    """Trace the ROC curve with at most `limit` points, the corners that shape it.

    `scores` is (N,) float64, `truth` (N,) bool. Each point is one that the data has, none is interpolated.
    """
    scores, truth, _ = checked_scores(scores, truth)
    if limit < 2:
        raise ValueError(
            f"Expected `limit` to be at least 2, the two ends of the curve, but got {limit}."
        )
    if not truth.any() or truth.all():
        return RocCurve(*_nothing())
    from sklearn.metrics import roc_curve  # noqa: PLC0415 - takes half a second, and an answer needs none

    fpr, tpr, threshold = roc_curve(truth, scores)
    kept = _corners(fpr, tpr, limit)
    return RocCurve(
        *(_read_only(np.asarray(values[kept], np.float64)) for values in (fpr, tpr, threshold))
    )


@dataclass(frozen=True, eq=False)
class PrecisionRecallCurve:
    """Precision by recall: three read-only (K,) float64 arrays, from the highest threshold to the lowest.

    At `threshold[k]` and above a case is called positive. `positives` is the share of positives, the precision of
    calling every case so. All three are empty where there is no positive, and then it is 0.
    """

    recall: Floats
    precision: Floats
    threshold: Floats
    positives: float


def precision_recall_points(
    scores: Floats, truth: NDArray[np.bool_], limit: int = ROC_POINTS
) -> PrecisionRecallCurve:
    """Trace precision against recall with at most `limit` points, the corners that shape it.

    `scores` is (N,) float64, `truth` (N,) bool. Each point is one that the data has: the line between two would promise
    a precision that nobody gets (Davis and Goadrich, ICML 2006), so a chart draws steps.
    """
    scores, truth, _ = checked_scores(scores, truth)
    if limit < 2:
        raise ValueError(
            f"Expected `limit` to be at least 2, the two ends of the curve, but got {limit}."
        )
    if not truth.any():
        return PrecisionRecallCurve(*_nothing(), 0.0)
    from sklearn.metrics import precision_recall_curve  # noqa: PLC0415 - as above

    precision, recall, threshold = precision_recall_curve(truth, scores)
    # the last point of scikit-learn, recall 0 with precision 1, is of no threshold
    recall, precision, threshold = recall[-2::-1], precision[-2::-1], threshold[::-1]
    kept = _corners(recall, precision, limit)
    recall, precision, threshold = (
        _read_only(np.asarray(values[kept], np.float64))
        for values in (recall, precision, threshold)
    )
    return PrecisionRecallCurve(recall, precision, threshold, float(truth.mean()))


def precision_recall_of_roc(
    roc: Mapping[str, Sequence[float | None]] | None, positives: int, negatives: int
) -> PrecisionRecallCurve:
    """Return the curve at the points of a ROC curve as metrics.json has it, over so many positives and negatives.

    Each of its points is exact; between them a curve of the images themselves has more.
    """
    if roc is None:
        return PrecisionRecallCurve(*_nothing(), 0.0)
    fpr, tpr, threshold = (
        np.array(roc[name][1:], np.float64) for name in ("fpr", "tpr", "threshold")
    )
    precision = tpr * positives / (tpr * positives + fpr * negatives)
    share = positives / (positives + negatives)
    return PrecisionRecallCurve(
        _read_only(tpr), _read_only(precision), _read_only(threshold), share
    )


def _corners(x: Floats, y: Floats, limit: int) -> NDArray[np.intp]:
    """Pick the at most `limit` points that shape the curve most (Ramer 1972; Douglas and Peucker 1973).

    The point farthest from the line so far comes next. By hand because scikit-learn only drops points that
    are collinear, and a curve over thousands of images has thousands of corners.
    """
    kept, heap = [0, len(x) - 1], list[tuple[float, int, int, int]]()

    def offer(first: int, last: int) -> None:
        if last - first < 2:
            return
        run, rise = x[last] - x[first], y[last] - y[first]
        between = slice(first + 1, last)
        away = np.abs((x[between] - x[first]) * rise - (y[between] - y[first]) * run) / math.hypot(
            run, rise
        )
        heapq.heappush(heap, (-float(away.max()), first + 1 + int(away.argmax()), first, last))

    offer(0, len(x) - 1)
    while heap and len(kept) < limit:
        _, corner, first, last = heapq.heappop(heap)
        kept.append(corner)
        offer(first, corner)
        offer(corner, last)
    return np.sort(np.array(kept))


def _nothing() -> tuple[Floats, Floats, Floats]:
    return _read_only(np.empty(0)), _read_only(np.empty(0)), _read_only(np.empty(0))


def _read_only(values: Floats) -> Floats:
    values.setflags(write=False)
    return values
