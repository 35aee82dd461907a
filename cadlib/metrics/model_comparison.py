"""Compares two models on the same images.

Each draw of lesions gives the metrics of both models and their difference. So the difficulty of the
images, which affects both models, does not widen the interval of the difference. Correct and
incorrect diagnoses, and referrals, are compared by McNemar's exact test (McNemar, Psychometrika 12
(1947) 153), in a form that lets the images of one lesion depend on each other.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics import classification
from cadlib.metrics.classification import Bools, Floats, Labels
from cadlib.metrics.operating_point import Interval
from cadlib.metrics.partial_labels import AnyLabels, PartialLabels
from cadlib.metrics.summary import DRAWS, Metric, defined, partial_intervals
from cadlib.taxonomy import CODES

METRIC_NAMES: Final = {
    "balanced_accuracy": "Balanced accuracy",
    "malignant_auc": "AUC malignant",
    "melanoma_auc": "AUC melanoma",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "brier": "Brier score (lower is better)",
}
"""The names of the compared metrics that a reader sees, in their order."""
OF_DIAGNOSES: Final = ("balanced_accuracy", "melanoma_auc", "brier")
"""The metrics that need a diagnosis for each image."""
KEYS = ("first", "second", "difference")


@dataclass(frozen=True)
class Answers:
    """The answers of one model for N images.

    `probabilities` is (N, 8) float64; `threshold` applies to the malignant probability.
    """

    probabilities: Floats
    threshold: float


@dataclass(frozen=True)
class Difference:
    """A metric of both models, second minus first, and the 95 % interval of the difference.

    None means that a value is not defined. If `higher_is_better`, a difference above 0 favours
    the second model.
    """

    first: float | None
    second: float | None
    difference: float | None
    interval: Interval
    higher_is_better: bool = True

    @property
    def better(self) -> str | None:
        """Return which model is better by this metric, "first" or "second".

        Return None where chance can explain the difference.
        """
        if self.interval is None:
            return None
        low, high = self.interval
        # An interval that contains 0 allows no difference at all.
        if low <= 0 <= high:
            return None
        second_is_higher = low > 0
        return "second" if second_is_higher is self.higher_is_better else "first"


@dataclass(frozen=True)
class McNemar:
    """The images of `n` on which only one of the models was right, and the p values of that split.

    `exact` and `mid_p` are two-sided p values. The mid-p value counts an equally extreme outcome by
    one half, because the exact one reports a difference too rarely (Fagerland, Lydersen and Laake,
    BMC Med. Res. Methodol. 13 (2013) 91).
    """

    n: int
    only_first: int
    only_second: int
    exact: float
    mid_p: float


@dataclass(frozen=True)
class Comparison:
    """Metrics and tests of paired decisions of two models, on `n` images of `n_lesions` lesions.

    The metrics in OF_DIAGNOSES, and whether the first diagnosis is right, are over the
    `n_diagnosed` images with a diagnosis.
    """

    n: int
    n_lesions: int
    n_diagnosed: int
    metrics: Mapping[str, Difference]
    tests: Mapping[str, McNemar]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, None where a metric is not defined."""
        ready: dict[str, Any] = _json_ready(asdict(self))
        # The file keeps its former key "figures", so that other programs can still read it.
        return {"figures" if key == "metrics" else key: value for key, value in ready.items()}


def _json_ready(value: Any) -> Any:
    """Replace every NaN and infinity in nested dicts and lists by None, as strict JSON needs."""
    if isinstance(value, Mapping):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def compare(
    labels: AnyLabels,
    first: Answers,
    second: Answers,
    lesions: NDArray[np.integer[Any]],
    draws: int = DRAWS,
) -> Comparison:
    """Compare two models on N images.

    `labels` is (N,) int, and so is `lesions`, the group of each image.

    Sensitivity, specificity and referrals are at each model's own threshold. Images of
    `PartialLabels` without a diagnosis count only in the metrics that need none.
    """
    every = PartialLabels.of(labels)
    _, groups = np.unique(lesions, return_inverse=True)
    probabilities = np.stack([first.probabilities, second.probabilities])
    referred = np.stack([_referred(first), _referred(second)])
    comparisons = _paired_metrics(every, probabilities, referred)
    differences = _differences(every, groups, comparisons, draws)
    right = probabilities.argmax(axis=-1) == every.codes
    return Comparison(
        n=len(every),
        n_lesions=len(np.unique(groups)),
        n_diagnosed=int(every.diagnosed.sum()),
        metrics=differences,
        tests=_decision_tests(every, groups, right, referred),
    )


def _referred(answers: Answers) -> Bools:
    scores = classification.malignant_probability(answers.probabilities)
    referred: Bools = scores >= answers.threshold
    return referred


@dataclass(frozen=True, eq=False)
class _PairedMetric:
    """A metric of two models with the values, (2, N, …), that it is computed from."""

    metric: Metric
    values: Floats
    higher_is_better: bool


def _paired_metrics(
    labels: PartialLabels,
    probabilities: Floats,
    referred: Bools,
) -> list[_PairedMetric]:
    """Return the metrics to compare; `probabilities` is (2, N, 8), `referred` (2, N)."""
    # A label of malignancy alone says nothing about the right diagnosis.
    named = probabilities[:, labels.diagnosed]
    comparisons = []
    for name, compute in _METRICS.items():
        of_diagnoses = name in OF_DIAGNOSES
        compute_both = paired(compute)
        metric = Metric(name, compute_both, KEYS, malignant=not of_diagnoses)
        values = named if of_diagnoses else probabilities
        # The Brier score is a distance from the truth, so a lower one is better.
        higher_is_better = name != "brier"
        comparisons.append(_PairedMetric(metric, values, higher_is_better))
    shares = {
        "sensitivity": (labels.malignant, referred),
        "specificity": (~labels.malignant, ~referred),
    }
    for name, (among, right) in shares.items():
        compute_both = _paired_share(among)
        metric = Metric(name, compute_both, KEYS, malignant=True)
        values = right.astype(np.float64)
        comparisons.append(_PairedMetric(metric, values, True))
    return comparisons


def _differences(
    labels: PartialLabels,
    groups: Labels,
    comparisons: list[_PairedMetric],
    draws: int,
) -> dict[str, Difference]:
    """Return the difference of the models in each metric, by its name."""
    pairs = [(paired_metric.metric, paired_metric.values) for paired_metric in comparisons]
    # All metrics share the draws, and both models: lesions that are hard for both cancel out.
    ends = partial_intervals(labels, groups, pairs, draws)
    codes = labels.codes[labels.diagnosed]
    differences = {}
    for paired_metric in comparisons:
        metric = paired_metric.metric
        metric_labels = labels if metric.malignant else codes
        values = metric.compute(metric_labels, paired_metric.values)
        interval = ends[metric.name]["difference"]
        difference = _difference(values, interval, paired_metric.higher_is_better)
        differences[metric.name] = difference
    return differences


def _decision_tests(
    labels: PartialLabels,
    groups: Labels,
    right: Bools,
    referred: Bools,
) -> dict[str, McNemar]:
    """Return McNemar's test of each kind of decision; `right` and `referred` are (2, N)."""
    truth = labels.malignant
    not_referred = ~referred
    return {
        "right": mcnemar(right[0], right[1], groups, labels.diagnosed),
        "malignant referred": mcnemar(referred[0], referred[1], groups, truth),
        "benign not referred": mcnemar(not_referred[0], not_referred[1], groups, ~truth),
    }


def mcnemar(
    first: Bools,
    second: Bools,
    groups: Labels,
    among: Bools,
) -> McNemar:
    """Compare two models' decisions, (N,) bool, right or not, on the images `among` all.

    The balance of a lesion is the number of its images on which only the second model is right,
    minus that on which only the first is. Without a difference between the models, each balance
    keeps its size and has either sign with probability one half. The exact distribution of the sum
    of the balances is then known; with one image per lesion it is that of McNemar's test. `groups`,
    (N,) int, is the lesion of each image.
    """
    # Signed, because a lesion on which each model is right once favours neither.
    every_balance = second.astype(np.int64) - first
    balance = every_balance[among]
    sizes = _lesion_balances(balance, groups[among])
    observed = abs(int(balance.sum()))
    chances = _signed_sums(sizes)
    # The sums run from -sum(sizes) to sum(sizes), so 0 is in the middle.
    middle = len(chances) // 2
    sums = np.arange(len(chances)) - middle
    distances = np.abs(sums)
    beyond = float(chances[distances > observed].sum())
    equal = float(chances[distances == observed].sum())
    # Every lesion is balanced, so no other outcome was possible.
    if not sizes.any():
        equal *= 2
    only_first = int((balance < 0).sum())
    only_second = int((balance > 0).sum())
    return McNemar(
        n=len(balance),
        only_first=only_first,
        only_second=only_second,
        # Rounding can lift the sum above 1, and so does an outcome that was counted twice.
        exact=min(beyond + equal, 1.0),
        mid_p=min(beyond + equal / 2, 1.0),
    )


def _lesion_balances(balance: NDArray[np.int64], groups: Labels) -> NDArray[np.int64]:
    """Return the absolute balance of each lesion, from the balance of each image."""
    # Without an image there is no lesion to count.
    if not len(balance):
        return np.empty(0, np.int64)
    sums = np.bincount(groups, balance)
    # `bincount` with weights returns float64; the sums of whole numbers are exact.
    return np.abs(sums).astype(np.int64)


def paired(metric: Callable[..., Floats]) -> Callable[..., Floats]:
    """Return a function that computes a metric of two models and the second minus the first.

    It takes the probabilities of both, (2, N, 8).
    """

    def both(labels: AnyLabels, pair: Floats, weights: Floats | None = None) -> Floats:
        first_probabilities, second_probabilities = pair
        first = metric(labels, first_probabilities, weights)
        second = metric(labels, second_probabilities, weights)
        difference = second - first
        return np.stack([first, second, difference], axis=-1)

    return both


def melanoma_auc(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    """Return the area under the ROC curve of melanoma against all other diagnoses."""
    melanoma = CODES.index("MEL")
    scores = probabilities[:, melanoma]
    truth = labels == melanoma
    return classification.auc(scores, truth, weights)


_METRICS: dict[str, Callable[..., Floats]] = {
    "balanced_accuracy": classification.balanced_accuracy,
    "malignant_auc": classification.malignant_auc,
    "melanoma_auc": melanoma_auc,
    "brier": classification.brier_score,
}


def _difference(values: Floats, ends: list[float] | None, higher_is_better: bool) -> Difference:
    first, second, difference = map(defined, values.tolist())
    interval = None
    if ends:
        interval = (ends[0], ends[1])
    return Difference(first, second, difference, interval, higher_is_better)


def _paired_share(among: Bools) -> Callable[..., Floats]:
    """Return a function that computes the share of `among` on which each model is right.

    `among` is (N,) bool. The function takes (2, N) values of 0 or 1.
    """

    def share(_: AnyLabels, right: Floats, weights: Floats | None = None) -> Floats:
        counts = np.ones(len(among)) if weights is None else weights
        among_counts = counts * among
        whole = np.asarray(among_counts.sum(axis=-1))
        undefined = np.full(whole.shape, np.nan)
        part = among_counts @ right
        is_defined = whole > 0
        of_whole: Floats = np.divide(part, whole, out=undefined, where=is_defined)
        return of_whole

    return paired(share)


def _signed_sums(sizes: NDArray[np.int64]) -> Floats:
    """Return the probability of each sum from -sum(sizes) to sum(sizes).

    Each size has either sign with probability one half.
    """
    # Imported here because it takes a second, and an assessment of one image needs no test.
    from scipy.stats import binom  # noqa: PLC0415

    chances = np.ones(1)
    positive_sizes = sizes[sizes > 0]
    for size, count in zip(*np.unique(positive_sizes, return_counts=True), strict=True):
        # Equal sizes together follow a binomial distribution, in steps of twice the size.
        # A sign that changes moves the sum by twice the size; no sum in between is possible.
        steps = np.zeros(2 * size * count + 1)
        steps[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, steps)
    return chances
