"""Fits the evidence of patient facts on top of an image's probabilities.

The images are ones that the network was not trained on: it fits its training images so well that
facts would seem to add nothing there.

The fit works within archives. Ages, sites and diagnoses differ between archives, so a site can
reveal the archive, and the archive the diagnosis; a clinic has no such hint. Each archive therefore
gets its own shift of the eight logits first, and the facts explain the rest. The shift is then
dropped.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadlib.images.patient import FACTORS
from cadlib.taxonomy import CODES

Floats = NDArray[np.float64]
Integers = NDArray[np.integer[Any]]

# Factors are dropped while fitting, so that each weight is also right without the other facts.
KEPT = 0.7
"""Probability that a factor stays while fitting."""
# Without much data, a fact should change little.
PRIOR_SD = 0.3
"""Standard deviation in logits of the normal prior of each weight."""
# The shift is almost free: what it leaves over would be attributed to the sites.
SHIFT_SD = 10.0
"""Standard deviation in logits of the normal prior of an archive's own shift."""
FOLDS = 5
# Several draws, so that no single draw of the folds decides.
PARTITIONS = 4
"""Number of times the folds are drawn."""
# Rounding of a predictions.csv can leave a probability of 0, which has no logit.
LEAST_PROBABILITY = 1e-12


def fit_evidence(
    design: Floats,
    probabilities: Floats,
    labels: Integers,
    archives: NDArray[np.str_],
) -> Floats:
    """Return the (F, 8) weights of (N, F) facts on top of (N, 8) calibrated image probabilities.

    `labels` is (N,) int in taxonomy order, `archives` (N,) text.
    """
    unit_vectors = np.eye(len(CODES))
    truth = unit_vectors[labels]
    positive = np.maximum(probabilities, LEAST_PROBABILITY)
    logits = np.log(positive)
    shifts = archive_shifts(logits, truth, archives)
    return fit_additive(design, logits + shifts, truth)


def out_of_fold(
    design: Floats,
    probabilities: Floats,
    labels: Integers,
    archives: NDArray[np.str_],
    lesions: Integers,
) -> Floats:
    """Return (N, 8) evidence for each image from fits without its lesion.

    It is the mean over PARTITIONS draws of the folds.
    """
    drawn = np.zeros((PARTITIONS, len(labels), len(CODES)))
    for partition in range(PARTITIONS):
        fold_of_image = folds(lesions, partition)
        for fold in range(FOLDS):
            out = fold_of_image == fold
            fitted = ~out
            weights = fit_evidence(
                design[fitted],
                probabilities[fitted],
                labels[fitted],
                archives[fitted],
            )
            drawn[partition, out] = design[out] @ weights
    mean: Floats = drawn.mean(axis=0)
    return mean


def folds(lesions: Integers, seed: int) -> Integers:
    """Return the fold, 0 to FOLDS - 1, of each image; images of one lesion share it."""
    _, lesion_of_image = np.unique(lesions, return_inverse=True)
    n_lesions = lesion_of_image.max(initial=-1) + 1
    rng = np.random.default_rng(seed)
    order = rng.permutation(n_lesions)
    # The remainders of a permutation give folds of one size, up to one lesion.
    fold_of_lesion = order % FOLDS
    fold_of_image: Integers = fold_of_lesion[lesion_of_image]
    return fold_of_image


def archive_shifts(logits: Floats, truth: Floats, archives: NDArray[np.str_]) -> Floats:
    """Return the (N, 8) shift that makes the mean prediction of an archive right.

    It is the same for all images of an archive.
    """
    names = np.unique(archives)
    is_inside = archives[:, None] == names[None, :]
    inside = is_inside.astype(np.float64)
    shift_of_archive = _ridge(inside, logits, truth, SHIFT_SD)
    shifts: Floats = inside @ shift_of_archive
    return shifts


def fit_additive(
    design: Floats,
    offsets: Floats,
    counts: Floats,
    prior_sd: float = PRIOR_SD,
) -> Floats:
    """Return the (F, 8) weights of a softmax regression with dropout of whole factors.

    `offsets` is (N, 8), added to the logits as they are, -inf for an impossible class; `counts` is
    (N, 8), how often each class occurred with these facts. The mean over all ways of dropping is
    exact: seven ways leave at least one factor.
    """
    designs: list[Floats] = []
    weighted_counts: list[Floats] = []
    for columns, share in dropped():
        remaining = design * columns
        designs.append(remaining)
        weighted_counts.append(counts * share)
    n_designs = len(designs)
    rows = np.concatenate(designs)
    row_offsets = np.tile(offsets, (n_designs, 1))
    row_counts = np.concatenate(weighted_counts)
    return _ridge(rows, row_offsets, row_counts, prior_sd)


def dropped() -> Iterator[tuple[Floats, float]]:
    """Yield columns, (F,) of 0 and 1, and probability of each set of at least one factor."""
    columns_of_factor = [len(features) for features in FACTORS.values()]
    for present in product((0.0, 1.0), repeat=len(FACTORS)):
        if not any(present):
            continue
        columns = np.repeat(present, columns_of_factor)
        chances = [KEPT if is_present else 1 - KEPT for is_present in present]
        yield columns, float(np.prod(chances))


def loss_and_slope(logits: Floats, counts: Floats) -> tuple[float, Floats]:
    """Return the summed negative log-likelihood of (N, 8) counts and its gradient, (N, 8).

    The likelihood is that of (N, 8) logits.
    """
    # The import takes a sixth of a second, and a prediction does not need it.
    from scipy.special import log_softmax  # noqa: PLC0415

    likelihood = log_softmax(logits, axis=1) if len(logits) else logits
    # An impossible class has a likelihood of -inf, and 0 times that would be NaN.
    weighted = np.zeros_like(counts)
    np.multiply(counts, likelihood, out=weighted, where=counts > 0)
    totals = counts.sum(axis=1, keepdims=True)
    slope = totals * np.exp(likelihood) - counts
    return -float(weighted.sum()), slope


def _ridge(design: Floats, offsets: Floats, counts: Floats, prior_sd: float) -> Floats:
    """Return the weights of a softmax regression with a normal prior and offsets."""
    # scikit-learn's LogisticRegression takes no offsets, and the image's logits are offsets.
    # The import takes half a second, and a prediction does not need it.
    from scipy.optimize import minimize  # noqa: PLC0415

    shape = (design.shape[1], len(CODES))
    variance = prior_sd**2

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        logits = offsets + design @ weights
        loss, slope = loss_and_slope(logits, counts)
        squares = float(np.square(weights).sum())
        loss += squares / (2 * variance)
        gradient = design.T @ slope + weights / variance
        return loss, gradient.ravel()

    start = np.zeros(shape).ravel()
    minimum = minimize(objective, start, jac=True, method="L-BFGS-B")
    weights: Floats = minimum.x.reshape(shape)
    return weights
