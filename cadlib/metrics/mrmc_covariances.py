"""Estimates covariances of the metrics of several readers on the same cases.

`scores` is (K, N) float64, a row for each pair of a modality and a reader; `malignant` is (N,)
bool. All covariances are (K, K), and NaN with fewer than two cases of a kind that counts.
"""

import numpy as np

from cadlib.metrics import classification
from cadlib.metrics.classification import Bools, Floats

FEWEST_CASES = 2
"""The fewest malignant, and benign, cases from which a covariance can be estimated."""


def auc_values(scores: Floats, malignant: Bools) -> Floats:
    """Return the area under each empirical ROC curve, (K,): trapezoidal, ties counted half."""
    areas = []
    for row in scores:
        area = classification.auc(row, malignant)
        areas.append(area)
    return np.array(areas, np.float64)


def delong_covariances(scores: Floats, malignant: Bools) -> Floats:
    """Return the covariances of the areas by placements of cases.

    The formula is that of DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837).
    """
    if _too_few(malignant):
        return _undefined(len(scores))
    of_malignant, of_benign = _placements(scores, malignant)
    # Malignant and benign cases are sampled independently, so their parts add up.
    malignant_part = _mean_covariances(of_malignant)
    benign_part = _mean_covariances(of_benign)
    return malignant_part + benign_part


def jackknife_covariances(scores: Floats, malignant: Bools) -> Floats:
    """Return the covariances of the areas by leaving out one case at a time.

    These are the covariances of the mean pseudovalues of Dorfman, Berbaum and Metz 1992 (Invest.
    Radiol. 27:723), which Hillis et al. 2005 (Stat. Med. 24:1579) use for the Obuchowski-Rockette
    method.
    """
    if _too_few(malignant):
        return _undefined(len(scores))
    of_malignant, of_benign = _placements(scores, malignant)
    areas = of_malignant.mean(axis=1, keepdims=True)
    # An area is the mean placement of each kind, so an area without a case needs no new ranks.
    without_malignant = _mean_without_each(of_malignant)
    without_benign = _mean_without_each(of_benign)
    without_case = np.concatenate([without_malignant, without_benign], axis=1)
    n_cases = without_case.shape[1]
    pseudovalues = n_cases * areas - (n_cases - 1) * without_case
    return _mean_covariances(pseudovalues)


def shares(correct: Floats) -> Floats:
    """Return the share of correct decisions in each row of (K, M) zeros and ones, (K,)."""
    n_rows, n_cases = correct.shape
    counts = correct.sum(axis=1)
    totals = np.full(n_rows, float(n_cases))
    return classification.ratio(counts, totals)


def share_covariances(correct: Floats) -> Floats:
    """Return the covariances of `shares`, those of means over the same M cases."""
    if correct.shape[1] < FEWEST_CASES:
        return _undefined(len(correct))
    return _mean_covariances(correct)


def _placements(scores: Floats, malignant: Bools) -> tuple[Floats, Floats]:
    """Return the placement of each malignant and each benign case, (K, M) and (K, N - M).

    The placement of a malignant case is the share of benign cases with a lower score, ties counted
    half; that of a benign case is the share of malignant cases with a higher score. Both have the
    area as their mean. Midranks give them without comparing all pairs (Sun and Xu 2014, IEEE Signal
    Process. Lett. 21:1389).
    """
    # Imported here because it takes a second, and an assessment of one image needs no ranks.
    from scipy.stats import rankdata  # noqa: PLC0415

    malignant_scores = scores[:, malignant]
    benign_scores = scores[:, ~malignant]
    n_malignant = malignant_scores.shape[1]
    n_benign = benign_scores.shape[1]
    every_score = np.concatenate([malignant_scores, benign_scores], axis=1)
    ranks = rankdata(every_score, axis=1)
    ranks_among_malignant = rankdata(malignant_scores, axis=1)
    ranks_among_benign = rankdata(benign_scores, axis=1)
    # The rank among all minus that among its own kind counts the other kind below a case.
    benign_below = ranks[:, :n_malignant] - ranks_among_malignant
    malignant_below = ranks[:, n_malignant:] - ranks_among_benign
    of_malignant = benign_below / n_benign
    of_benign = 1 - malignant_below / n_malignant
    return of_malignant, of_benign


def _mean_without_each(values: Floats) -> Floats:
    """Return the mean of each row without one of its M values at a time, (K, M)."""
    n_values = values.shape[1]
    total = values.sum(axis=1, keepdims=True)
    remaining = total - values
    means: Floats = remaining / (n_values - 1)
    return means


def _mean_covariances(values: Floats) -> Floats:
    """Return the covariances of the means of (K, M) rows, (K, K)."""
    n_values = values.shape[1]
    means = values.mean(axis=1, keepdims=True)
    deviations = values - means
    sums = deviations @ deviations.T
    # Unbiased covariances of single values, and then those of their means.
    covariances = sums / (n_values - 1)
    of_means: Floats = covariances / n_values
    return of_means


def _too_few(malignant: Bools) -> bool:
    n_malignant = int(malignant.sum())
    n_benign = len(malignant) - n_malignant
    return min(n_malignant, n_benign) < FEWEST_CASES


def _undefined(rows: int) -> Floats:
    return np.full((rows, rows), np.nan)
