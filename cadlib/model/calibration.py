"""Calibrates logits to probabilities and computes quantiles of prediction sets.

The method is temperature scaling, by image size where that pays, with a bias for each class where
that pays (bias-corrected temperature scaling): Guo et al., On Calibration of Modern Neural Networks
(ICML 2017); Alexandari, Kundaje and Shrikumar (ICML 2020). Everything is fitted on validation data,
over its class mix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from cadlib.files.json_types import JsonObject
from cadlib.metrics import classification
from cadlib.taxonomy import CODES

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
Integers = NDArray[np.integer]
Rows = Integers
Divisor = Annotated[float, Meta(ge=0.01, lt=100)]

NO_BIAS = (0.0,) * len(CODES)
# Rare classes have too few images to fit a bias without a prior.
BIAS_PRIOR = 1.0
"""Standard deviation, in nats, of the normal prior of a bias; its mean is 0."""
FOLDS = 5
# Networks are overconfident on thumbnails.
SMALL_PX = 150
"""An image with a shorter short side is a thumbnail."""
LEAST_LESIONS = 100
"""Lesions needed among small and among large images to try a temperature for each size."""


class Temperature(JsonObject, frozen=True):
    """Divisors of logits: `small` for a short side below SMALL_PX, `large` for all other images."""

    small: Divisor
    large: Divisor

    def __post_init__(self) -> None:
        for field in ("small", "large"):
            value = getattr(self, field)
            if not 0 < value < 100:
                raise ValueError(
                    f"Expected `{field}` of the temperature to be above 0 and below 100 "
                    f"but got {value!r}."
                )

    def of(self, short_side_px: ArrayLike) -> Doubles:
        """Return the temperature of each image: (N,) px to (N, 1), to divide (N, 8) logits."""
        is_small = np.asarray(short_side_px, np.float64) < SMALL_PX
        temperatures = np.where(is_small, self.small, self.large)
        return temperatures[..., None]


@dataclass(frozen=True)
class BiasTrial:
    """Compares a bias for each class with the temperature alone, on lesions outside the fit.

    `gain` is the decrease of the mean negative log-likelihood, `gain_se` its standard error over
    lesions. The two balanced accuracies are over the same images.
    """

    gain: float
    gain_se: float
    balanced_accuracy: float
    balanced_accuracy_without: float

    @property
    def pays(self) -> bool:
        """Return whether to use the bias: a gain beyond chance without loss of balanced accuracy.

        Beyond chance means more than one standard error: Breiman et al. 1984 (section 3.4.3) also
        prefer the simpler model below that.
        """
        # After a training that corrects for class frequency, a bias undoes that correction. The
        # likelihood over the same mix gains, but rare diagnoses are predicted less often, and
        # balanced accuracy counts them in full.
        gain_is_clear = self.gain > self.gain_se
        accuracy_holds = self.balanced_accuracy >= self.balanced_accuracy_without
        return gain_is_clear and accuracy_holds


def probabilities(logits: Floats, temperature: float | Floats, bias: Sequence[float]) -> Doubles:
    """Return softmax(logits / temperature + bias) of (N, 8) logits: (N, 8) float64, rows sum to 1.

    `temperature` is one number or (N, 1).
    `bias` has one number a class, in nats; `NO_BIAS` leaves the temperature alone.
    """
    scaled = np.asarray(logits, np.float64) / temperature
    return _softmax(scaled + np.asarray(bias))


def _softmax(logits: Doubles) -> Doubles:
    # Importing scipy.special would slow each prediction on the command line by a sixth of a second.
    largest = logits.max(axis=1, keepdims=True)
    # Without the subtraction, the power of a large logit is more than a float64 can hold.
    shifted = logits - largest
    powers = np.exp(shifted)
    sums = powers.sum(axis=1, keepdims=True)
    shares: Doubles = powers / sums
    return shares


def fit(
    logits: Floats,
    labels: Integers,
    lesions: Integers,
    short_side_px: ArrayLike,
) -> tuple[Temperature, tuple[float, ...]]:
    """Return temperature and bias for (N, 8) logits and (N,) labels.

    `lesions` is (N,) int, the lesion of each image; `short_side_px` is (N,), its size. The bias is
    `NO_BIAS`, and both sizes share one temperature, where more does not pay or where there are too
    few lesions to try it.
    """
    n_lesions = len(np.unique(lesions))
    bias_pays = False
    if n_lesions >= FOLDS:
        bias_pays = try_bias(logits, labels, lesions).pays
    if bias_pays:
        alone, bias = fit_with_bias(logits, labels)
    else:
        alone = fit_temperature(logits, labels)
        bias = NO_BIAS
    is_small = np.asarray(short_side_px, np.float64) < SMALL_PX
    small_lesions = np.unique(lesions[is_small])
    large_lesions = np.unique(lesions[~is_small])
    n_small = len(small_lesions)
    n_large = len(large_lesions)
    if min(n_small, n_large) >= LEAST_LESIONS:
        gain, gain_se = try_sizes(
            logits,
            labels,
            lesions,
            is_small,
            bias,
        )
        # A second temperature has to gain more than one standard error, as a bias does.
        if gain > gain_se:
            return _by_size(logits, labels, is_small, bias), bias
    return Temperature(alone, alone), bias


def try_sizes(
    logits: Floats,
    labels: Integers,
    lesions: Integers,
    small: NDArray[np.bool_],
    bias: Sequence[float],
) -> tuple[float, float]:
    """Return the gain in log-likelihood of a temperature for each size, and its standard error.

    `small` is (N,) bool. The gain is the decrease of the mean negative log-likelihood in
    cross-validation: each fifth of the lesions is predicted by fits on the other four fifths.
    """
    short_side_px = np.where(small, 0, SMALL_PX)

    def by_size(fitted: Rows, held_out: Rows) -> Floats:
        temperature = _by_size(logits[fitted], labels[fitted], small[fitted], bias)
        sides = short_side_px[held_out]
        divisors = temperature.of(sides)
        return probabilities(logits[held_out], divisors, bias)

    def alone(fitted: Rows, held_out: Rows) -> Floats:
        temperature = fit_temperature(logits[fitted], labels[fitted], bias)
        return probabilities(logits[held_out], temperature, bias)

    with_sizes = _held_out(labels, lesions, by_size)
    without = _held_out(labels, lesions, alone)
    gains = _gains(labels, with_sizes, without)
    return float(gains.mean()), _standard_error(gains, lesions)


def _by_size(
    logits: Floats,
    labels: Integers,
    is_small: NDArray[np.bool_],
    bias: Sequence[float],
) -> Temperature:
    is_large = ~is_small
    small = fit_temperature(logits[is_small], labels[is_small], bias)
    large = fit_temperature(logits[is_large], labels[is_large], bias)
    return Temperature(small, large)


def try_bias(
    logits: Floats,
    labels: Integers,
    lesions: Integers,
) -> BiasTrial:
    """Compare fits with and without a bias in cross-validation over fifths of the lesions.

    Raise ValueError when there are fewer lesions than folds: nothing is held out then.
    """
    n_lesions = len(np.unique(lesions))
    if n_lesions < FOLDS:
        raise ValueError(f"Expected at least {FOLDS} lesions to try a bias on but got {n_lesions}.")

    def biased(fitted: Rows, held_out: Rows) -> Floats:
        temperature, bias = fit_with_bias(logits[fitted], labels[fitted])
        return probabilities(logits[held_out], temperature, bias)

    def alone(fitted: Rows, held_out: Rows) -> Floats:
        temperature = fit_temperature(logits[fitted], labels[fitted])
        return probabilities(logits[held_out], temperature, NO_BIAS)

    with_bias = _held_out(labels, lesions, biased)
    without = _held_out(labels, lesions, alone)
    gains = _gains(labels, with_bias, without)
    accuracy = classification.balanced_accuracy(labels, with_bias)
    accuracy_without = classification.balanced_accuracy(labels, without)
    return BiasTrial(
        gain=float(gains.mean()),
        gain_se=_standard_error(gains, lesions),
        balanced_accuracy=float(accuracy),
        balanced_accuracy_without=float(accuracy_without),
    )


def _held_out(
    labels: Integers,
    lesions: Integers,
    predict: Callable[[Rows, Rows], Floats],
) -> Doubles:
    """Return (N, 8) probabilities of each image, from a fit on the folds without its lesion."""
    # The import takes half a second, and a prediction does not need it.
    from sklearn.model_selection import GroupKFold  # noqa: PLC0415

    predicted = np.empty((len(labels), len(CODES)))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    for fitted, held_out in folds.split(predicted, labels, lesions):
        predicted[held_out] = predict(fitted, held_out)
    return predicted


def _gains(labels: Integers, ours: Floats, theirs: Floats) -> Doubles:
    """Return the log-likelihood of each of (N,) labels under ours, (N, 8), minus that of theirs."""
    rows = np.arange(len(labels))
    our_likelihood = np.log(ours[rows, labels])
    their_likelihood = np.log(theirs[rows, labels])
    gains: Doubles = our_likelihood - their_likelihood
    return gains


def fit_with_bias(logits: Floats, labels: Integers) -> tuple[float, tuple[float, ...]]:
    """Return the temperature (0.05 to 20) and the bias with the least negative log-likelihood.

    The prior of the bias (`BIAS_PRIOR`) keeps it near 0 and also makes its sum 0. Raise ValueError
    when logits and labels are empty or differ in length.
    """
    # The import takes half a second, and a prediction does not need it.
    from scipy.optimize import minimize  # noqa: PLC0415

    exact, rows = _checked(logits, labels)

    def loss(inverse_and_bias: Doubles) -> tuple[float, Doubles]:
        return _biased_loss(inverse_and_bias, exact, rows, labels)

    # In the inverse of the temperature and the bias the loss is convex, so that every start leads
    # to its only minimum.
    start = np.array([1.0, *NO_BIAS])
    inverse_bounds = (1 / 20, 1 / 0.05)
    bias_bounds = [(None, None)] * len(CODES)
    bounds = [inverse_bounds, *bias_bounds]
    minimum = minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    inverse, *bias = minimum.x.tolist()
    return 1 / inverse, tuple(bias)


def _biased_loss(
    inverse_and_bias: Doubles,
    logits: Doubles,
    rows: NDArray[np.int64],
    labels: Integers,
) -> tuple[float, Doubles]:
    """Return the penalised mean negative log-likelihood and its slopes, (9,) float64.

    `inverse_and_bias` is (9,): the inverse of the temperature and the bias of each class.
    """
    # The import takes half a second, and a prediction does not need it.
    from scipy.special import log_softmax  # noqa: PLC0415

    n = len(rows)
    # The likelihood is a mean over images, so the penalty of the prior is divided by them too.
    shrink = 1 / (n * BIAS_PRIOR**2)
    inverse = inverse_and_bias[0]
    bias = inverse_and_bias[1:]
    scaled = logits * inverse + bias
    likelihood = log_softmax(scaled, axis=1)
    # The slope of the softmax loss: probability minus one-hot label.
    slope = np.exp(likelihood)
    slope[rows, labels] -= 1
    logit_slopes = slope * logits
    inverse_slope = logit_slopes.sum() / n
    bias_slopes = slope.mean(axis=0) + shrink * bias
    squares = bias**2
    penalty = shrink / 2 * squares.sum()
    mean_likelihood = likelihood[rows, labels].mean()
    loss = float(penalty - mean_likelihood)
    slopes = np.array([inverse_slope, *bias_slopes])
    return loss, slopes


def fit_temperature(
    logits: Floats,
    labels: Integers,
    bias: Sequence[float] = NO_BIAS,
) -> float:
    """Return the temperature with the least negative log-likelihood of (N,) labels.

    The likelihood is that of (N, 8) logits and a bias. The search is between 0.05 and 20; raise
    ValueError when logits and labels are empty or differ in length.
    """
    # The import takes half a second, and a prediction does not need it.
    from scipy.optimize import minimize_scalar  # noqa: PLC0415
    from scipy.special import log_softmax  # noqa: PLC0415

    exact, rows = _checked(logits, labels)

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        scaled = exact / temperature + np.asarray(bias)
        likelihood = log_softmax(scaled, axis=1)
        of_truth = likelihood[rows, labels]
        return -float(of_truth.mean())

    # Searched by its logarithm, so that the temperature stays positive.
    bounds = (np.log(0.05), np.log(20))
    minimum = minimize_scalar(loss, bounds=bounds, method="bounded")
    temperature = np.exp(minimum.x)
    return float(temperature)


def conformal_quantiles(
    calibrated: Doubles,
    labels: Integers,
    coverage: float,
) -> Doubles:
    """Return for each class the largest 1 - p(class) that puts it into the prediction set.

    `calibrated` is (N, 8) float64, `labels` is (N,) int, and the result is (8,) float64 in taxonomy
    order, 0 to 1. The method is class-conditional split conformal prediction with the finite-sample
    correction: the ceil((n + 1) coverage)-th smallest score of the class, 1.0 where n is too small
    for one.
    """
    n_classes = calibrated.shape[1]
    # With 1, a class with too few images is always in the set.
    quantiles = np.ones(n_classes)
    for index in range(n_classes):
        of_class = labels == index
        shares = calibrated[of_class, index]
        scores = np.sort(1 - shares)
        n = len(scores)
        # The finite-sample correction counts the new image too.
        rank = int(np.ceil((n + 1) * coverage))
        if rank <= n:
            quantiles[index] = scores[rank - 1]
    return quantiles


def _checked(logits: Floats, labels: Integers) -> tuple[Doubles, NDArray[np.int64]]:
    """Return the logits as float64 and the numbers of their rows."""
    n_logits = len(logits)
    n_labels = len(labels)
    if n_logits != n_labels or n_labels == 0:
        raise ValueError(
            f"Expected as many logits as labels, at least one, but got {n_logits} and {n_labels}."
        )
    exact = np.asarray(logits, np.float64)
    return exact, np.arange(n_labels, dtype=np.int64)


def _standard_error(values: Doubles, lesions: Integers) -> float:
    """Return the standard error of the mean of (N,) values; only lesions are independent."""
    _, lesion_of_image = np.unique(lesions, return_inverse=True)
    deviations = values - values.mean()
    sums = np.bincount(lesion_of_image, deviations)
    squares = np.square(sums).sum()
    error = np.sqrt(squares) / len(values)
    return float(error)
