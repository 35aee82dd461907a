"""The evidence of facts, fitted on images that the network was not trained on, with its answers as the start.

The network has learnt its training images by heart: beside answers that sure, facts would seem to say nothing.

It is learnt within archives. Ages, sites and diagnoses differ between archives, so a site can betray the archive, and
the archive the diagnosis; a clinic has nothing of that. Each archive therefore gets its own shift of the eight logits
first, and the facts explain what is left. The shift is then thrown away.
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

KEPT = 0.7
"""Probability that a factor stays while fitting, so that each is also right where another is missing."""
PRIOR_SD = 0.3
"""Standard deviation in logits of the normal prior of each weight: without much data a fact says little."""
SHIFT_SD = 10.0
"""The same of an archive's own shift: almost free, for what it is held back from would be learnt from the sites."""
FOLDS = 5
PARTITIONS = 4
"""How often the folds are drawn anew, so that no one draw decides."""
LEAST_PROBABILITY = 1e-12
"""Rounding of a predictions.csv can leave a probability of 0, whose logit is none."""


def fit_evidence(
    design: Floats, probabilities: Floats, labels: Integers, archives: NDArray[np.str_]
) -> Floats:
    """Return the (F, 8) weights of (N, F) facts on top of (N, 8) calibrated probabilities of the image.

    `labels` is (N,) int in taxonomy order, `archives` (N,) text.
    """
    truth = np.eye(len(CODES))[labels]
    logits = np.log(np.maximum(probabilities, LEAST_PROBABILITY))
    return fit_additive(design, logits + archive_shifts(logits, truth, archives), truth)


def out_of_fold(
    design: Floats,
    probabilities: Floats,
    labels: Integers,
    archives: NDArray[np.str_],
    lesions: Integers,
) -> Floats:
    """Return (N, 8) evidence for each image from fits without its lesion, the mean over PARTITIONS draws."""
    drawn = np.zeros((PARTITIONS, len(labels), len(CODES)))
    for partition in range(PARTITIONS):
        fold = folds(lesions, partition)
        for held in range(FOLDS):
            out = fold == held
            weights = fit_evidence(design[~out], probabilities[~out], labels[~out], archives[~out])
            drawn[partition, out] = design[out] @ weights
    mean: Floats = drawn.mean(axis=0)
    return mean


def folds(lesions: Integers, seed: int) -> Integers:
    """Return the fold, 0 to FOLDS - 1, of each image; images of one lesion share it."""
    number = np.unique(lesions, return_inverse=True)[1]
    fold: Integers = (np.random.default_rng(seed).permutation(number.max(initial=-1) + 1) % FOLDS)[
        number
    ]
    return fold


def archive_shifts(logits: Floats, truth: Floats, archives: NDArray[np.str_]) -> Floats:
    """Return (N, 8): what makes the mean answer of an archive right, the same for all of its images."""
    names = np.unique(archives)
    inside = (archives[:, None] == names[None, :]).astype(np.float64)
    shifts: Floats = inside @ _ridge(inside, logits, truth, SHIFT_SD)
    return shifts


def fit_additive(
    design: Floats, offsets: Floats, counts: Floats, prior_sd: float = PRIOR_SD
) -> Floats:
    """Return the (F, 8) weights of a softmax regression, with its inputs dropped factor by factor.

    `offsets` is (N, 8), added to the logits as they are, -inf where a class cannot be; `counts` is (N, 8), how often
    each class came with these facts. The mean over all ways of dropping is exact: there are seven that leave any.
    """
    kept = [(design * columns, counts * share) for columns, share in dropped()]
    rows, seen = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    return _ridge(rows, np.tile(offsets, (len(kept), 1)), seen, prior_sd)


def dropped() -> Iterator[tuple[Floats, float]]:
    """Yield for each way to keep at least one factor the kept columns, (F,) of 0 and 1, and its probability."""
    for keep in product((0.0, 1.0), repeat=len(FACTORS)):
        if any(keep):
            columns = np.repeat(keep, [len(features) for features in FACTORS.values()])
            yield columns, float(np.prod([KEPT if factor else 1 - KEPT for factor in keep]))


def loss_and_slope(logits: Floats, counts: Floats) -> tuple[float, Floats]:
    """Return the negative log-likelihood of (N, 8) counts under (N, 8) logits, summed, and its gradient (N, 8)."""
    from scipy.special import log_softmax  # noqa: PLC0415 - takes a sixth of a second, and an answer needs none

    likelihood = log_softmax(logits, axis=1) if len(logits) else logits
    seen = np.multiply(counts, likelihood, out=np.zeros_like(counts), where=counts > 0)
    return -float(seen.sum()), counts.sum(axis=1, keepdims=True) * np.exp(likelihood) - counts


def _ridge(design: Floats, offsets: Floats, counts: Floats, prior_sd: float) -> Floats:
    # scikit-learn's LogisticRegression takes no offsets, and the image's logits are offsets.
    shape = (design.shape[1], len(CODES))

    def objective(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        loss, slope = loss_and_slope(offsets + design @ weights, counts)
        loss += float(np.square(weights).sum()) / (2 * prior_sd**2)
        return loss, (design.T @ slope + weights / prior_sd**2).ravel()

    from scipy.optimize import minimize  # noqa: PLC0415 - takes half a second, and an answer needs none

    found: Floats = minimize(
        objective, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B"
    ).x.reshape(shape)
    return found
