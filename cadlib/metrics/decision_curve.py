"""Decision curves: what acting on a probability is worth, held against referring everybody and nobody.

Who refers at a threshold probability of t takes t / (1 - t) needless referrals for one malignant lesion found. The net
benefit counts the found ones, less the needless ones at that rate, a patient (Vickers and Elkin, Med. Decis. Making 26
(2006) 565). It is that of a model whose probabilities mean what they say, for the threshold is taken as one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics.classification import Floats, checked_scores
from cadlib.metrics.summary import DRAWS, LEVEL, bootstrap
from cadlib.metrics.thresholds import TradeOff

THRESHOLDS = np.arange(1, 100) / 100
THRESHOLDS.setflags(write=False)


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit by threshold probability, in malignant lesions found a patient: (K,) float64, read-only.

    `low` and `high` are the ends of the 95 % interval over lesions of `model`, None where the images are not there;
    `refer_all` is of referring everybody, and 0 of referring nobody. Net benefits are at most `prevalence`, the share
    of malignant lesions.
    """

    prevalence: float
    threshold: Floats
    model: Floats
    low: Floats | None
    high: Floats | None
    refer_all: Floats


def decision_curve(
    scores: Floats,
    truth: NDArray[np.bool_],
    groups: NDArray[np.integer],
    prevalence: float | None = None,
    draws: int = DRAWS,
) -> DecisionCurve:
    """Trace the decision curve of N malignant probabilities, (N,) float64, with `truth`, (N,) bool.

    `groups`, (N,) int, is the number of the lesion of each image, from 0 and without a gap. `prevalence` is that of
    another place, taken as given: its probabilities are those of `at_prevalence`, and malignant and benign images count
    as often as there. Without it that of the images holds, drawn anew with them. Raise ValueError without a malignant
    or a benign image.
    """
    scores, truth, _ = checked_scores(scores, truth)
    if not truth.any() or truth.all():
        raise ValueError(
            f"Expected malignant and benign images but got {truth.sum()} malignant of {len(truth)}."
        )
    measured = float(truth.mean())
    share = measured if prevalence is None else prevalence
    if not 0 < share < 1:
        raise ValueError(f"Expected `prevalence` to be between 0 and 1 but got {share!r}.")
    # Only the odds of the prior change, as in `at_prevalence`.
    malignant, benign = scores * share / measured, (1 - scores) * (1 - share) / (1 - measured)
    here = malignant / (malignant + benign)
    drawn = [
        net_benefit(here, truth, THRESHOLDS, prevalence, weights)
        for weights in bootstrap(groups, draws)
    ]
    low, high = np.nanquantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    curve = net_benefit(here, truth, THRESHOLDS, share)
    refer_all = net_benefit(np.ones(len(truth)), truth, THRESHOLDS, share)
    for values in (curve, low, high, refer_all):
        values.setflags(write=False)
    return DecisionCurve(share, THRESHOLDS, curve, low, high, refer_all)


def curve_of_points(points: Sequence[TradeOff], prevalence: float) -> DecisionCurve:
    """Trace the decision curve at the thresholds of points alone, rising, without an interval."""
    inside = [point for point in points if 0 < point.threshold < 1]
    thresholds = np.array([point.threshold_at(prevalence) for point in inside])
    model = np.array([point.net_benefit(prevalence) for point in inside])
    refer_all = prevalence - (1 - prevalence) * thresholds / (1 - thresholds)
    for values in (thresholds, model, refer_all):
        values.setflags(write=False)
    return DecisionCurve(prevalence, thresholds, model, None, None, refer_all)


def net_benefit(
    scores: Floats,
    truth: NDArray[np.bool_],
    thresholds: Floats,
    prevalence: float | None = None,
    weights: Floats | None = None,
) -> Floats:
    """Return the net benefit of referring at or above each of (K,) thresholds, 0 to 1 without 1; (…, K).

    `scores` are (N,) float64, `truth` (N,) bool, `weights` as in `metrics`. Without `prevalence` that of the images
    holds. NaN for a draw without a malignant or a benign image.
    """
    scores, truth, weights = checked_scores(scores, truth, weights)
    place = np.searchsorted(thresholds, scores, side="right")[:, None] == np.arange(
        len(thresholds) + 1
    )
    # how many are at or above no threshold, the first, the second, …
    found, needless = (
        np.cumsum(((weights * part) @ place.astype(np.float64))[..., ::-1], axis=-1)[..., ::-1]
        for part in (truth, ~truth)
    )
    share = (
        _ratio(found[..., :1], found[..., :1] + needless[..., :1])
        if prevalence is None
        else prevalence
    )
    sensitivity, rest = (_ratio(part[..., 1:], part[..., :1]) for part in (found, needless))
    benefit: Floats = share * sensitivity - (1 - share) * rest * thresholds / (1 - thresholds)
    return benefit


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return ratio
