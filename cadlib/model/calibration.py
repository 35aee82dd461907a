"""From logits to calibrated probabilities, and to sets that hold the truth with a promised frequency.

Temperature scaling, by the size of the image where that pays, and a bias for each class beside it (bias-corrected
temperature scaling): Guo et al., On Calibration of Modern Neural Networks (ICML 2017); Alexandari, Kundaje and
Shrikumar (ICML 2020). All is fitted on validation data, over the class mix found there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cadlib.metrics import classification
from cadlib.taxonomy import CODES

Floats = NDArray[np.floating]
Rows = NDArray[np.integer]

NO_BIAS = (0.0,) * len(CODES)
BIAS_PRIOR = 1.0
"""Standard deviation, in nats, of the normal distribution about 0 that a bias is taken to come from: rare classes
have too few images for a free one."""
FOLDS = 5
SMALL_PX = 150
"""Below this short side an image is a thumbnail, of which a network is surer than it should be."""
LEAST_LESIONS = 100
"""Of either kind, for temperatures of their own to be tried."""


@dataclass(frozen=True)
class Temperature:
    """What divides the logits of an image: `small` below a short side of SMALL_PX, `large` from there on."""

    small: float
    large: float

    def __post_init__(self) -> None:
        for field in ("small", "large"):
            if not 0 < (value := getattr(self, field)) < 100:
                raise ValueError(
                    f"Expected `{field}` of the temperature to be above 0 and below 100 but got {value!r}."
                )

    def of(self, short_side_px: ArrayLike) -> NDArray[np.float64]:
        """Return the temperature of each image, (N,) px to (N, 1), so that it divides (N, 8) logits."""
        small = np.asarray(short_side_px, np.float64) < SMALL_PX
        return np.where(small, self.small, self.large)[..., None]


@dataclass(frozen=True)
class BiasTrial:
    """What a bias for each class gives on lesions that it was not fitted on, beside the temperature alone.

    `gain` is how much lower the mean negative log-likelihood is, `gain_se` its standard error over lesions; the
    two balanced accuracies are over the same images.
    """

    gain: float
    gain_se: float
    balanced_accuracy: float
    balanced_accuracy_without: float

    @property
    def pays(self) -> bool:
        """Say whether to keep the bias: the gain is beyond chance, and no balanced accuracy is paid for it.

        Beyond chance is more than one standard error, as Breiman et al. 1984 (section 3.4.3) prefer the simpler
        model. After a training that corrects for class frequency a bias undoes that correction: the likelihood
        over the same mix gains, and the rare diagnoses, which balanced accuracy counts in full, are named less.
        """
        return self.gain > self.gain_se and self.balanced_accuracy >= self.balanced_accuracy_without


def probabilities(
    logits: Floats, temperature: float | Floats, bias: Sequence[float]
) -> NDArray[np.float64]:
    """Turn (N, 8) logits into (N, 8) float64 probabilities whose rows sum to 1: softmax(logits / temperature + bias).

    `temperature` is one number or (N, 1).
    `bias` has one number a class, in nats; `NO_BIAS` leaves the temperature alone.
    """
    return _softmax(np.asarray(logits, np.float64) / temperature + np.asarray(bias))


def uncalibrated(
    calibrated: Floats, temperature: float | Floats, bias: Sequence[float]
) -> NDArray[np.float64]:
    """Return the (N, 8) probabilities that were turned into `calibrated`: what the softmax alone had said."""
    with np.errstate(divide="ignore"):  # a probability of 0 stays one
        scaled: NDArray[np.float64] = np.log(np.asarray(calibrated, np.float64)) - np.asarray(bias)
    return _softmax(scaled * temperature)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # To import scipy.special for these two lines would take every answer on the command line a sixth of a second.
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def fit(
    logits: Floats,
    labels: NDArray[np.integer],
    lesions: NDArray[np.integer],
    short_side_px: ArrayLike,
) -> tuple[Temperature, tuple[float, ...]]:
    """Return temperature and bias for (N, 8) logits and (N,) labels.

    `lesions` is (N,) int, the lesion of each image, `short_side_px` (N,) its size. The bias is `NO_BIAS` and the
    temperature one for all sizes where more does not pay, and where too few lesions are there to try it on.
    """
    if len(np.unique(lesions)) >= FOLDS and try_bias(logits, labels, lesions).pays:
        alone, bias = fit_with_bias(logits, labels)
    else:
        alone, bias = fit_temperature(logits, labels), NO_BIAS
    small = np.asarray(short_side_px, np.float64) < SMALL_PX
    if min(len(np.unique(lesions[part])) for part in (small, ~small)) >= LEAST_LESIONS:
        gain, gain_se = try_sizes(logits, labels, lesions, small, bias)
        if gain > gain_se:
            return _by_size(logits, labels, small, bias), bias
    return Temperature(alone, alone), bias


def try_sizes(
    logits: Floats,
    labels: NDArray[np.integer],
    lesions: NDArray[np.integer],
    small: NDArray[np.bool_],
    bias: Sequence[float],
) -> tuple[float, float]:
    """Return how much lower the negative log-likelihood is with a temperature for each size, and its standard error.

    `small` is (N,) bool. Fitted on four fifths of the lesions, compared on the last, and so for each fifth.
    """
    short_side_px = np.where(small, 0, SMALL_PX)

    def by_size(fitted: Rows, held_out: Rows) -> Floats:
        temperature = _by_size(logits[fitted], labels[fitted], small[fitted], bias).of(
            short_side_px[held_out]
        )
        return probabilities(logits[held_out], temperature, bias)

    def alone(fitted: Rows, held_out: Rows) -> Floats:
        return probabilities(
            logits[held_out], fit_temperature(logits[fitted], labels[fitted], bias), bias
        )

    gains = _gains(labels, _held_out(labels, lesions, by_size), _held_out(labels, lesions, alone))
    return float(gains.mean()), _standard_error(gains, lesions)


def _by_size(
    logits: Floats, labels: NDArray[np.integer], small: NDArray[np.bool_], bias: Sequence[float]
) -> Temperature:
    return Temperature(
        *(fit_temperature(logits[part], labels[part], bias) for part in (small, ~small))
    )


def try_bias(
    logits: Floats, labels: NDArray[np.integer], lesions: NDArray[np.integer]
) -> BiasTrial:
    """Fit with and without a bias on four fifths of the lesions, compare on the last, and so for each fifth.

    Raise ValueError when there are fewer lesions than folds: nothing is held out then.
    """
    if (n_lesions := len(np.unique(lesions))) < FOLDS:
        raise ValueError(f"Expected at least {FOLDS} lesions to try a bias on but got {n_lesions}.")

    def biased(fitted: Rows, held_out: Rows) -> Floats:
        return probabilities(logits[held_out], *fit_with_bias(logits[fitted], labels[fitted]))

    def alone(fitted: Rows, held_out: Rows) -> Floats:
        return probabilities(
            logits[held_out], fit_temperature(logits[fitted], labels[fitted]), NO_BIAS
        )

    with_bias, without = _held_out(labels, lesions, biased), _held_out(labels, lesions, alone)
    gains = _gains(labels, with_bias, without)
    return BiasTrial(
        float(gains.mean()),
        _standard_error(gains, lesions),
        float(classification.balanced_accuracy(labels, with_bias)),
        float(classification.balanced_accuracy(labels, without)),
    )


def _held_out(
    labels: NDArray[np.integer],
    lesions: NDArray[np.integer],
    predict: Callable[[Rows, Rows], Floats],
) -> NDArray[np.float64]:
    """Return (N, 8) probabilities, each image's from what `predict` fits on the folds that its lesion is not in."""
    from sklearn.model_selection import GroupKFold  # noqa: PLC0415 - takes half a second, and an answer needs none

    found = np.empty((len(labels), len(CODES)))
    for fitted, held_out in GroupKFold(FOLDS, shuffle=True, random_state=0).split(
        found, labels, lesions
    ):
        found[held_out] = predict(fitted, held_out)
    return found


def _gains(labels: NDArray[np.integer], ours: Floats, theirs: Floats) -> NDArray[np.float64]:
    """Return by how much the log-likelihood of each of (N,) labels is higher under ours, (N, 8), than under theirs."""
    rows = np.arange(len(labels))
    gains: NDArray[np.float64] = np.log(ours[rows, labels]) - np.log(theirs[rows, labels])
    return gains


def fit_with_bias(logits: Floats, labels: NDArray[np.integer]) -> tuple[float, tuple[float, ...]]:
    """Return the temperature (0.05 to 20) and the bias that minimise the negative log-likelihood of (N,) labels.

    The bias is held near 0 by its prior (`BIAS_PRIOR`), which also makes its sum 0. Raise ValueError when logits
    and labels are empty or differ in length.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - takes half a second, and an answer needs none
    from scipy.special import log_softmax  # noqa: PLC0415 - as above

    exact, rows = _checked(logits, labels)
    shrink = 1 / (len(rows) * BIAS_PRIOR**2)

    def loss(inverse_and_bias: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        inverse, bias = inverse_and_bias[0], inverse_and_bias[1:]
        likelihood = log_softmax(exact * inverse + bias, axis=1)
        slope = np.exp(likelihood)
        slope[rows, labels] -= 1
        slopes = np.array(
            [(slope * exact).sum() / len(rows), *(slope.mean(axis=0) + shrink * bias)]
        )
        return float(shrink / 2 * (bias**2).sum() - likelihood[rows, labels].mean()), slopes

    # in the inverse of the temperature and the bias the loss is convex: its only minimum is found from anywhere
    start, bounds = np.array([1.0, *NO_BIAS]), [(1 / 20, 1 / 0.05), *[(None, None)] * len(CODES)]
    inverse, *bias = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B").x.tolist()
    return 1 / inverse, tuple(bias)


def fit_temperature(
    logits: Floats, labels: NDArray[np.integer], bias: Sequence[float] = NO_BIAS
) -> float:
    """Return the temperature that minimises the negative log-likelihood of (N,) labels under (N, 8) logits and a bias.

    Searched between 0.05 and 20; raise ValueError when logits and labels are empty or differ in length.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - takes half a second, and an answer needs none
    from scipy.special import log_softmax  # noqa: PLC0415 - as above

    exact, rows = _checked(logits, labels)

    def loss(log_temperature: float) -> float:
        likelihood = log_softmax(exact / np.exp(log_temperature) + np.asarray(bias), axis=1)
        return -float(likelihood[rows, labels].mean())

    return float(
        np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20)), method="bounded").x)
    )


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


def _checked(
    logits: Floats, labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the logits as float64 and the numbers of their rows."""
    if len(logits) != len(labels) or not len(labels):
        raise ValueError(
            f"Expected as many logits as labels, at least one, but got {len(logits)} and {len(labels)}."
        )
    return np.asarray(logits, np.float64), np.arange(len(labels), dtype=np.int64)


def _standard_error(values: NDArray[np.float64], lesions: NDArray[np.integer]) -> float:
    """Return the standard error of the mean of (N,) values where the lesions, not the images, are independent."""
    sums = np.bincount(np.unique(lesions, return_inverse=True)[1], values - values.mean())
    return float(np.sqrt(np.square(sums).sum()) / len(values))
