"""From logits to calibrated probabilities, and to sets that hold the truth with a promised frequency.

Temperature scaling: Guo et al., On Calibration of Modern Neural Networks (ICML 2017). Both are fitted on
validation data, over the class mix found there.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

Floats = NDArray[np.floating]


def probabilities(logits: Floats, temperature: float) -> NDArray[np.float64]:
    """Turn (N, 8) logits into (N, 8) float64 probabilities whose rows sum to 1."""
    scaled: NDArray[np.float64] = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return scaled


def uncalibrated(calibrated: Floats, temperature: float) -> NDArray[np.float64]:
    """Return the (N, 8) probabilities that a temperature turned into `calibrated`: what the softmax alone had said."""
    with np.errstate(divide="ignore"):  # a probability of 0 stays one
        raw: NDArray[np.float64] = softmax(np.log(np.asarray(calibrated, np.float64)) * temperature, axis=1)
    return raw


def fit_temperature(logits: Floats, labels: NDArray[np.integer]) -> float:
    """Return the temperature that minimises the negative log-likelihood of (N,) labels under (N, 8) logits.

    Searched between 0.05 and 20; raise ValueError when logits and labels are empty or differ in length.
    """
    if len(logits) != len(labels) or not len(labels):
        raise ValueError(f"Expected as many logits as labels, at least one, but got {len(logits)} and {len(labels)}.")
    rows = np.arange(len(labels))
    exact = np.asarray(logits, np.float64)

    def loss(log_temperature: float) -> float:
        likelihood = log_softmax(exact / np.exp(log_temperature), axis=1)
        return -float(likelihood[rows, labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x))


def conformal_quantiles(
    calibrated: NDArray[np.float64], labels: NDArray[np.integer], coverage: float
) -> NDArray[np.float64]:
    """Return for each class the largest 1 - p(class) at which it still belongs to the prediction set.

    `calibrated` is (N, 8) float64, `labels` (N,) int, the result (8,) float64 in taxonomy order, 0 to 1.
    Class-conditional split conformal prediction with the finite-sample correction: the
    ceil((n + 1) coverage)-th smallest score of the class, 1.0 where n is too small for one.
    """
    quantiles = np.ones(calibrated.shape[1])
    for index in range(calibrated.shape[1]):
        scores = np.sort(1 - calibrated[labels == index, index])
        rank = int(np.ceil((len(scores) + 1) * coverage))
        if rank <= len(scores):
            quantiles[index] = scores[rank - 1]
    return quantiles
