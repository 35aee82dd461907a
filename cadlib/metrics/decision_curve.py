"""Computes decision curves: the net benefit of acting on a probability.

A threshold probability of t accepts t / (1 - t) needless referrals for each malignant lesion found.
The net benefit counts the malignant lesions found, minus the needless referrals at that rate, per
patient (Vickers and Elkin, Med. Decis. Making 26 (2006) 565). It is compared with referring
everybody and referring nobody. The model's probabilities must be calibrated, because the threshold
is read as one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics.classification import Bools, Floats, checked_scores
from cadlib.metrics.summary import DRAWS, LEVEL, bootstrap
from cadlib.metrics.thresholds import TradeOff

THRESHOLDS = np.arange(1, 100) / 100
THRESHOLDS.setflags(write=False)


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit by threshold probability, in malignant lesions found per patient.

    All arrays are (K,) float64, read-only. `low` and `high` are the ends of the 95 % interval of
    `model` over lesions, None where the images are not available. `refer_all` is the net benefit of
    referring everybody; referring nobody has 0. Net benefits are at most `prevalence`, the share of
    malignant lesions.
    """

    prevalence: float
    threshold: Floats
    model: Floats
    low: Floats | None
    high: Floats | None
    refer_all: Floats


def decision_curve(
    scores: Floats,
    truth: Bools,
    groups: NDArray[np.integer],
    prevalence: float | None = None,
    draws: int = DRAWS,
) -> DecisionCurve:
    """Trace the decision curve of N malignant probabilities, (N,) float64, with `truth`, (N,) bool.

    `groups`, (N,) int, is the lesion number of each image, from 0 and without a gap.

    `prevalence` is the prevalence of another place, taken as exact: the probabilities are those of
    `at_prevalence`, and malignant and benign images count as often as they occur there. Without it
    the prevalence of the images applies, and each draw has its own.

    Raise ValueError without a malignant or a benign image.
    """
    scores, truth, _ = checked_scores(scores, truth)
    if not truth.any() or truth.all():
        raise ValueError(
            f"Expected malignant and benign images but got {truth.sum()} malignant of {len(truth)}."
        )
    measured = float(truth.mean())
    share = measured if prevalence is None else prevalence
    # NaN fails too: a comparison with it is false.
    if not 0 < share < 1:
        raise ValueError(f"Expected `prevalence` to be between 0 and 1 but got {share!r}.")
    adjusted = _scores_at_prevalence(scores, measured, share)
    low, high = _interval(adjusted, truth, groups, prevalence, draws)
    curve = net_benefit(adjusted, truth, THRESHOLDS, share)
    # A probability of 1 reaches every threshold, so everybody is referred.
    everybody = np.ones(len(truth))
    refer_all = net_benefit(everybody, truth, THRESHOLDS, share)
    for values in (curve, low, high, refer_all):
        values.setflags(write=False)
    return DecisionCurve(share, THRESHOLDS, curve, low, high, refer_all)


def _scores_at_prevalence(scores: Floats, measured: float, share: float) -> Floats:
    """Return probabilities at another prevalence: only the odds of the prior change.

    This is `at_prevalence` for arrays.
    """
    malignant = scores * share / measured
    benign = (1 - scores) * (1 - share) / (1 - measured)
    adjusted: Floats = malignant / (malignant + benign)
    return adjusted


def _interval(
    scores: Floats,
    truth: Bools,
    groups: NDArray[np.integer],
    prevalence: float | None,
    draws: int,
) -> tuple[Floats, Floats]:
    """Return the low and the high ends of the net benefit over lesions, both (K,)."""
    drawn = [
        net_benefit(scores, truth, THRESHOLDS, prevalence, weights)
        for weights in bootstrap(groups, draws)
    ]
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    # A draw without a malignant or a benign image is NaN, and it is left out.
    low, high = np.nanquantile(np.concatenate(drawn), tails, axis=0)
    return low, high


def curve_of_points(points: Sequence[TradeOff], prevalence: float) -> DecisionCurve:
    """Trace the decision curve only at the thresholds of points, rising, without an interval."""
    # At 0 and at 1 the odds of the threshold are 0 or infinite.
    inside = [point for point in points if 0 < point.threshold < 1]
    thresholds = np.array([point.threshold_at(prevalence) for point in inside])
    model = np.array([point.net_benefit(prevalence) for point in inside])
    # When everybody is referred, sensitivity and false positive rate are 1.
    needless = (1 - prevalence) * thresholds
    refer_all = prevalence - needless / (1 - thresholds)
    for values in (thresholds, model, refer_all):
        values.setflags(write=False)
    return DecisionCurve(prevalence, thresholds, model, None, None, refer_all)


def net_benefit(
    scores: Floats,
    truth: Bools,
    thresholds: Floats,
    prevalence: float | None = None,
    weights: Floats | None = None,
) -> Floats:
    """Return the net benefit of referring from each of (K,) thresholds on; (…, K).

    Thresholds are from 0 to below 1. `scores` is (N,) float64, `truth` (N,) bool, `weights` as in
    `classification`. Without `prevalence` that of the images applies. The result is NaN for a draw
    without a malignant or a benign image.
    """
    scores, truth, weights = checked_scores(scores, truth, weights)
    reached = _reached(scores, thresholds)
    malignant = _at_or_above(weights * truth, reached)
    benign = _at_or_above(weights * ~truth, reached)
    n_malignant = malignant[..., :1]
    n_benign = benign[..., :1]
    share: Floats | float = _ratio(n_malignant, n_malignant + n_benign)
    if prevalence is not None:
        # Another prevalence is exact, so it is the same in every draw.
        share = prevalence
    sensitivity = _ratio(malignant[..., 1:], n_malignant)
    false_positive_rate = _ratio(benign[..., 1:], n_benign)
    harm = (1 - share) * false_positive_rate * thresholds / (1 - thresholds)
    benefit: Floats = share * sensitivity - harm
    return benefit


def _reached(scores: Floats, thresholds: Floats) -> Floats:
    """Return how many of K thresholds each of N scores reaches, one-hot; (N, K + 1) float64."""
    n_reached = np.searchsorted(thresholds, scores, side="right")
    places = np.arange(len(thresholds) + 1)
    is_place: Bools = n_reached[:, None] == places
    return is_place.astype(np.float64)


def _at_or_above(weights: Floats, reached: Floats) -> Floats:
    """Return the weight of all images, then of those at or above each threshold; (…, K + 1).

    `reached` is that of `_reached`.
    """
    counts = weights @ reached
    # The sum runs from the highest threshold down: a score that reaches one reaches all below.
    falling = np.cumsum(counts[..., ::-1], axis=-1)
    return falling[..., ::-1]


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Divide elementwise; NaN where the whole is 0."""
    undefined = np.full(part.shape, np.nan)
    ratio: Floats = np.divide(part, whole, out=undefined, where=whole > 0)
    return ratio
