"""Computes every metric on some images with its 95 % interval.

The intervals are percentiles of a bootstrap that draws lesions, not images. Images of one lesion
resemble each other, and draws of single images would make every interval too narrow (the cluster
bootstrap of Field and Welsh, J. R. Statist. Soc. B 69 (2007) 369; percentiles after Efron and
Tibshirani 1993, chapter 13). The interval of a calibration error is not made of percentiles: see
`metrics.calibration_error_interval`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cadlib.metrics import classification
from cadlib.metrics.classification import Bools, Floats, Labels
from cadlib.metrics.curves import RocCurve, roc_points
from cadlib.metrics.operating_point import TARGET_SENSITIVITY, Threshold
from cadlib.metrics.partial_labels import AnyLabels, PartialLabels
from cadlib.metrics.summary_schema import (
    FullSummary,
    Intervals,
    MeasuredPoint,
    PredictionSets,
    RateIntervals,
    ReliabilityBin,
    SetIntervals,
    ShareInterval,
    StoredRoc,
    Summary,
)
from cadlib.taxonomy import CODES

DRAWS = 1000
LEVEL = 0.95
DEFINED_SHARE = 0.99
"""Share of the draws that must be defined for an interval.

With four lesions of a class, every 55th draw has none of them.
"""
ECE_NOTE = (
    "Chance increases a calibration error (ECE), more so with few images. "
    "The 95 % CI is for the error without this effect, so it can lie below the value shown."
)
ECE_INTERVAL = "interval without the effect of chance"
"""A short note on the interval beside a calibration error."""
# The weights of all draws at once would take twenty times the memory.
_DRAWS_AT_ONCE = 50


@dataclass(frozen=True)
class Metric:
    """A function of `metrics` by its name in metrics.json.

    `keys` are the keys of its last axis, if that axis has keys; the last axis of an `each` metric
    has none. `parts` replaces the metric in the draws for `calibration_error_interval`. A metric
    that is `malignant` also counts images without a diagnosis.
    """

    name: str
    compute: Callable[..., Floats]
    keys: tuple[str, ...] = ()
    parts: Callable[..., Floats] | None = None
    each: bool = False
    malignant: bool = False


def _malignant_specificities(
    labels: AnyLabels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    values = []
    for sensitivity in TARGET_SENSITIVITY.values():
        value = classification.malignant_specificity(labels, probabilities, sensitivity, weights)
        values.append(value)
    return np.stack(values, axis=-1)


METRICS = (
    Metric("balanced_accuracy", classification.balanced_accuracy),
    Metric("accuracy", classification.accuracy),
    Metric("malignant_auc", classification.malignant_auc, malignant=True),
    Metric(
        "malignant_specificity_at_sensitivity",
        _malignant_specificities,
        tuple(f"{sensitivity:.2f}" for sensitivity in TARGET_SENSITIVITY.values()),
        malignant=True,
    ),
    Metric(
        "malignant_average_precision", classification.malignant_average_precision, malignant=True
    ),
    Metric("auc", classification.class_auc, CODES),
    Metric("average_precision", classification.class_average_precision, CODES),
    Metric("sensitivity", classification.class_sensitivity, CODES),
    Metric("specificity", classification.class_specificity, CODES),
    Metric("ppv", classification.class_ppv, CODES),
    Metric("npv", classification.class_npv, CODES),
    Metric("ece", classification.expected_calibration_error, parts=classification.calibration_gaps),
    Metric("brier", classification.brier_score),
    Metric(
        "malignant_ece",
        classification.malignant_calibration_error,
        parts=classification.malignant_calibration_gaps,
        malignant=True,
    ),
)
BEFORE_CALIBRATION = (
    Metric(
        "ece_uncalibrated",
        classification.expected_calibration_error,
        parts=classification.calibration_gaps,
    ),
    Metric("brier_uncalibrated", classification.brier_score),
)
BY_RULE = Metric("balanced_accuracy_by_rule", classification.balanced_accuracy)


@dataclass(frozen=True, eq=False)
class _Images:
    """The images of a summary: labels and probabilities, of all and of those with a diagnosis."""

    labels: PartialLabels
    probabilities: Floats
    codes: NDArray[np.int64]
    named: Floats


def summarise(
    labels: AnyLabels,
    probabilities: Floats,
    lesions: NDArray[np.integer[Any]] | None = None,
    uncalibrated: Floats | None = None,
    by_rule: Floats | None = None,
    draws: int = DRAWS,
) -> FullSummary:
    """Return every metric, None where one is not defined.

    `lesions` is (N,) int, the lesion group of each image; without it every image is its own lesion.
    `uncalibrated` is (N, 8) float64, the probabilities before calibration; without it two metrics
    are missing. `by_rule`, (N, 8), are those of `BalancedRule.adjusted`; without it one is missing.

    With `PartialLabels` the metrics of malignancy are over all images, all others over the images
    with a diagnosis. An interval is None where it rests on too few lesions or where every draw
    gives the same value.
    """
    images = _checked_images(labels, probabilities)
    every = images.labels
    groups = _lesion_groups(lesions, len(every))

    # Single values, and lists with a value for each point or bin, share one bootstrap.
    pairs = _single_metrics(images, uncalibrated, by_rule)
    curves = _roc_curves(images)
    lists = _list_metrics(curves["malignant"], images)
    ends = partial_intervals(every, groups, [*pairs, *lists], draws)
    rates = ends.pop("rates")
    bins = ends.pop("bins")
    malignant_bins = ends.pop("malignant_bins")

    of_diagnoses = classification.reliability(images.codes, images.named)
    of_malignancy = classification.malignant_reliability(every, images.probabilities)
    return FullSummary(
        **_image_counts(every, groups),
        **_metric_values(images, pairs),
        intervals=Intervals(**ends),
        confusion_matrix=_confusion_counts(images),
        roc=_stored_curves(curves, rates),
        reliability=_bins(of_diagnoses, bins),
        malignant_reliability=_bins(of_malignancy, malignant_bins),
    )


def without_curves(summary: FullSummary) -> Summary:
    """Return a summary as those of the subgroups, which have no curves."""
    values = msgspec.structs.asdict(summary)
    return Summary(**{name: values[name] for name in Summary.__struct_fields__})


def _checked_images(labels: AnyLabels, probabilities: Floats) -> _Images:
    every = PartialLabels.of(labels)
    probabilities = classification.checked_probabilities(probabilities, len(every))
    diagnosed = every.diagnosed
    codes = every.codes[diagnosed]
    # Copied once here, because every metric of diagnoses needs these rows.
    named = probabilities[diagnosed]
    return _Images(
        labels=every,
        probabilities=probabilities,
        codes=codes,
        named=named,
    )


def _lesion_groups(lesions: NDArray[np.integer[Any]] | None, n: int) -> NDArray[np.integer[Any]]:
    """Return the lesion number of each of N images, (N,) int, from 0 without a gap."""
    if lesions is None:
        return np.arange(n)
    groups: NDArray[np.integer[Any]]
    _, groups = np.unique(lesions, return_inverse=True)
    return groups


def _single_metrics(
    images: _Images,
    uncalibrated: Floats | None,
    by_rule: Floats | None,
) -> list[tuple[Metric, Floats]]:
    """Return each of the metrics with the probabilities of the images that it counts."""
    pairs = []
    for metric in METRICS:
        probabilities = images.probabilities if metric.malignant else images.named
        pairs.append((metric, probabilities))
    if uncalibrated is not None:
        # Both metrics compare with a diagnosis, so only these images count.
        uncalibrated_named = uncalibrated[images.labels.diagnosed]
        pairs += [(metric, uncalibrated_named) for metric in BEFORE_CALIBRATION]
    if by_rule is not None:
        pairs.append((BY_RULE, by_rule[images.labels.diagnosed]))
    return pairs


def _roc_curves(images: _Images) -> dict[str, RocCurve]:
    """Return the ROC curve of each code and that of "malignant"."""
    curves = {}
    for place, code in enumerate(CODES):
        scores = images.named[:, place]
        curves[code] = roc_points(scores, images.codes == place)
    malignant_scores = classification.malignant_probability(images.probabilities)
    curves["malignant"] = roc_points(malignant_scores, images.labels.malignant)
    return curves


def _list_metrics(malignant_curve: RocCurve, images: _Images) -> list[tuple[Metric, Floats]]:
    """Return the metrics whose intervals belong to points of a curve or bins of a diagram."""
    compute_rates = _malignant_rates(malignant_curve.threshold)
    rates = Metric(
        "rates",
        compute_rates,
        each=True,
        malignant=True,
    )
    bins = Metric("bins", _right_by_bin, each=True)
    malignant_bins = Metric(
        "malignant_bins",
        _malignant_by_bin,
        each=True,
        malignant=True,
    )
    return [
        (rates, images.probabilities),
        (bins, images.named),
        (malignant_bins, images.probabilities),
    ]


def _metric_values(images: _Images, pairs: list[tuple[Metric, Floats]]) -> dict[str, Any]:
    """Return the value of each metric by its name."""
    values = {}
    for metric, probabilities in pairs:
        labels = images.labels if metric.malignant else images.codes
        result = metric.compute(labels, probabilities)
        values[metric.name] = _by_key(metric.keys, result)
    return values


def _confusion_counts(images: _Images) -> tuple[tuple[int, ...], ...]:
    matrix = classification.confusion_matrix(images.codes, images.named)
    rows = matrix.astype(int).tolist()
    return tuple(tuple(row) for row in rows)


def _image_counts(labels: PartialLabels, groups: NDArray[np.integer[Any]]) -> dict[str, Any]:
    codes = labels.codes[labels.diagnosed]
    n_by_class = np.bincount(codes, minlength=len(CODES))
    n_malignant = int(labels.malignant.sum())
    n_lesions = len(np.unique(groups))
    is_present = n_by_class > 0
    n_classes = int(is_present.sum())
    return {
        "n": len(labels),
        "n_malignant": n_malignant,
        "n_lesions": n_lesions,
        "n_classes": n_classes,
        "n_by_class": _by_key(CODES, n_by_class),
    }


def _stored_curves(
    curves: Mapping[str, RocCurve],
    rates: tuple[ShareInterval, ...],
) -> dict[str, StoredRoc | None]:
    """Return the curves for a file; `rates` are the intervals of tpr, then of fpr."""
    roc = {}
    for name, curve in curves.items():
        roc[name] = _stored_curve(curve)
    malignant = roc["malignant"]
    if malignant:
        # The first half belongs to the malignant images, as `_malignant_rates` returns them.
        half = len(rates) // 2
        # A struct is frozen, so the curve with its intervals is a new one.
        roc["malignant"] = msgspec.structs.replace(
            malignant,
            tpr_interval=rates[:half],
            fpr_interval=rates[half:],
        )
    return roc


def partial_intervals(
    labels: PartialLabels,
    groups: NDArray[np.integer[Any]],
    pairs: list[tuple[Metric, Floats]],
    draws: int,
) -> dict[str, Any]:
    """Return `intervals` of metrics, each over the images that it counts."""
    diagnosed = labels.diagnosed
    # One bootstrap for all metrics takes half the time of two.
    if diagnosed.all():
        return intervals(labels.codes, groups, pairs, draws)
    # Each metric draws lesions among the images that it counts, so that its interval is of these
    # images alone.
    of_diagnoses = [pair for pair in pairs if not pair[0].malignant]
    of_malignancy = [pair for pair in pairs if pair[0].malignant]
    codes = labels.codes[diagnosed]
    groups_diagnosed = _lesion_groups(groups[diagnosed], len(codes))
    ends = intervals(codes, groups_diagnosed, of_diagnoses, draws)
    ends |= intervals(labels, groups, of_malignancy, draws)
    return {metric.name: ends[metric.name] for metric, _ in pairs}


def intervals(
    labels: AnyLabels,
    groups: NDArray[np.integer[Any]],
    pairs: list[tuple[Metric, Floats]],
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Return the interval of each metric over its probabilities, by name and by its keys, if any.

    `groups` is (N,) int, the lesion number of each image, from 0 and without a gap.
    """
    drawn: dict[str, list[Floats]] = {metric.name: [] for metric, _ in pairs}
    for weights in bootstrap(groups, draws):
        for metric, probabilities in pairs:
            compute = metric.parts or metric.compute
            values = compute(labels, probabilities, weights)
            drawn[metric.name].append(values)
    ends: dict[str, Any] = {}
    for metric, probabilities in pairs:
        every_draw = np.concatenate(drawn[metric.name])
        if metric.parts:
            gaps = metric.parts(labels, probabilities)
            ends[metric.name] = _error_interval(gaps, every_draw)
        else:
            ends[metric.name] = _interval_of(metric, every_draw)
    return ends


def measured_point(
    point: Threshold,
    labels: AnyLabels,
    probabilities: Floats,
    groups: Labels,
) -> MeasuredPoint:
    """Measure a threshold on (N, 8) probabilities."""

    def both(labels: AnyLabels, probabilities: Floats, weights: Floats | None = None) -> Floats:
        scores = classification.malignant_probability(probabilities)
        truth = classification.malignant_truth(labels)
        values = classification.sensitivity_specificity(scores, truth, point.threshold, weights)
        return np.stack(values, axis=-1)

    metric = Metric(point.name, both, ("sensitivity", "specificity"))
    truth = classification.malignant_truth(labels)
    values = both(labels, probabilities).tolist()
    sensitivity, specificity = map(defined, values)
    ends = intervals(labels, groups, [(metric, probabilities)])
    return MeasuredPoint(
        name=point.name,
        threshold=point.threshold,
        sensitivity=sensitivity,
        specificity=specificity,
        n_malignant=int(truth.sum()),
        n_benign=int((~truth).sum()),
        intervals=RateIntervals(**ends[point.name]),
    )


def measured_sets(
    coverage: float,
    inside: Bools,
    labels: Labels,
    probabilities: Floats,
    groups: Labels,
) -> PredictionSets:
    """Measure prediction sets: how often they contain the true diagnosis, and how many others.

    `coverage` is the intended share of sets with the true diagnosis. `inside` is (N, 8) bool, which
    diagnoses are in the set of each image.
    """
    rows = np.arange(len(labels))
    covered = inside[rows, labels].astype(np.float64)
    sizes = inside.sum(axis=1, dtype=np.float64)
    metrics = (
        Metric("coverage", mean_of(covered, by_class(labels)), CODES),
        Metric("overall", mean_of(covered)),
        Metric("size", mean_of(sizes)),
        Metric("empty", mean_of(sizes == 0)),
    )
    values, ends = measured(metrics, labels, probabilities, groups)
    return PredictionSets(target=coverage, **values, intervals=SetIntervals(**ends))


def measured(
    metrics: Sequence[Metric],
    labels: Labels,
    probabilities: Floats,
    groups: Labels,
    draws: int = DRAWS,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of metrics and their intervals, both by the names of the metrics."""
    values = {}
    pairs = []
    for metric in metrics:
        result = metric.compute(labels, probabilities)
        values[metric.name] = _by_key(metric.keys, result)
        pairs.append((metric, probabilities))
    ends = intervals(labels, groups, pairs, draws)
    return values, ends


def mean_of(
    values: NDArray[Any],
    parts: Bools | None = None,
) -> Callable[..., Floats]:
    """Return a function that computes the mean of (N,) values, or that of each part of the images.

    `parts` is (K, N).
    """

    def compute(labels: Labels, _: Floats, weights: Floats | None = None) -> Floats:
        # Without weights every image counts once; in a draw it counts as often as its lesion came.
        counts = np.ones(len(labels)) if weights is None else weights
        if parts is None:
            return _weighted(values, counts)
        means = [_weighted(values, counts * part) for part in parts]
        return np.stack(means, axis=-1)

    return compute


def by_class(labels: Labels) -> Bools:
    """Return which of N images are of each diagnosis, (8, N)."""
    places = np.arange(len(CODES))
    inside: Bools = labels == places[:, None]
    return inside


def bootstrap(groups: NDArray[np.integer[Any]], draws: int, seed: int = 0) -> Iterator[Floats]:
    """Yield (D, N) arrays of how often each image counts when lesions are drawn with replacement.

    A draw takes as many lesions as there are. `groups` is (N,) int, the lesion number of each
    image, from 0 and without a gap. D draws come at a time, and `draws` in all.
    """
    # A fixed seed: the same images always have the same intervals.
    rng = np.random.default_rng(seed)
    lesions = int(groups.max(initial=-1)) + 1
    # Without an image there is no lesion to draw, but `integers` needs a range that is not empty.
    upper = max(lesions, 1)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        n_draws = min(_DRAWS_AT_ONCE, draws - start)
        counts = []
        for _ in range(n_draws):
            drawn_lesions = rng.integers(0, upper, lesions)
            counts.append(np.bincount(drawn_lesions, minlength=lesions))
        by_lesion = np.array(counts, np.float64).reshape(n_draws, lesions)
        yield by_lesion[:, groups]


def defined(value: float) -> float | None:
    """Return a value, or None for NaN and infinity, which strict JSON does not have."""
    return value if math.isfinite(value) else None


def _interval_of(metric: Metric, drawn: Floats) -> Any:
    """Return the interval of a metric, or those of its columns."""
    has_columns = metric.keys or metric.each
    # A single number becomes one column, so that all metrics take the same way.
    columns = drawn if has_columns else drawn[:, None]
    ends = tuple(distinct_ends(values) for values in columns.T)
    if metric.each:
        return ends
    if metric.keys:
        return dict(zip(metric.keys, ends, strict=True))
    return ends[0]


def interval_ends(values: Floats) -> tuple[float, float] | None:
    """Return low and high end of (D,) draws of a number; None where too few are defined."""
    defined_values = values[~np.isnan(values)]
    if len(defined_values) < DEFINED_SHARE * len(values):
        return None
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    quantiles = np.quantile(defined_values, tails)
    low, high = quantiles.round(4).tolist()
    return low, high


def distinct_ends(values: Floats) -> tuple[float, float] | None:
    """Return low and high end of the draws of one number; None where they give no interval."""
    ends = interval_ends(values)
    if ends is None:
        return None
    low, high = ends
    # Draws that all agree, such as those of four images that are all wrong, do not show how far
    # they are from the truth.
    return ends if low < high else None


def _error_interval(gaps: Floats, drawn: Floats) -> tuple[float, float] | None:
    # Without an image no gap is defined.
    if np.isnan(gaps).any():
        return None
    # As in `distinct_ends`, draws that all agree do not show how far they are from the truth.
    all_agree = not (drawn != drawn[0]).any()
    if all_agree:
        return None
    low, high = classification.calibration_error_interval(gaps, drawn, LEVEL)
    return (round(low, 4), round(high, 4)) if low < high else None


def _weighted(values: Floats, weights: Floats) -> Floats:
    """Return the mean of (N,) values under (…, N) weights; NaN where these are all 0."""
    total = np.asarray(weights.sum(axis=-1), np.float64)
    weighted_sum = weights @ values
    undefined = np.full_like(total, np.nan)
    is_defined = total > 0
    mean: Floats = np.divide(weighted_sum, total, out=undefined, where=is_defined)
    return mean


def _by_key(keys: tuple[str, ...], values: NDArray[Any]) -> Any:
    """Return a value, or the values by their keys; None where one is not defined."""
    if not keys:
        return defined(float(values))
    return dict(zip(keys, map(defined, values.tolist()), strict=True))


def _stored_curve(curve: RocCurve) -> StoredRoc | None:
    if not len(curve.fpr):
        return None
    # The first threshold is infinite: nothing is called positive there.
    rounded = curve.threshold.round(6).tolist()
    thresholds = map(defined, rounded)
    return StoredRoc(
        fpr=tuple(curve.fpr.round(6).tolist()),
        tpr=tuple(curve.tpr.round(6).tolist()),
        threshold=tuple(thresholds),
    )


def _malignant_rates(thresholds: Floats) -> Callable[..., Floats]:
    """Return a function that computes the referred shares at K thresholds, (…, 2 K).

    First come the shares of the malignant images, then those of the benign ones.
    """

    def compute(labels: AnyLabels, probabilities: Floats, weights: Floats | None = None) -> Floats:
        scores = classification.malignant_probability(probabilities)
        truth = classification.malignant_truth(labels)
        rates = classification.positive_rates(scores, truth, thresholds, weights)
        return np.concatenate(rates, axis=-1)

    return compute


def _right_by_bin(
    labels: Labels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    _, _, right = classification.reliability(labels, probabilities, weights)
    return right


def _malignant_by_bin(
    labels: AnyLabels,
    probabilities: Floats,
    weights: Floats | None = None,
) -> Floats:
    _, _, malignant = classification.malignant_reliability(labels, probabilities, weights)
    return malignant


def _bins(
    measured_bins: tuple[Floats, Floats, Floats],
    ends: tuple[ShareInterval, ...],
) -> tuple[ReliabilityBin, ...]:
    """Return the bins of a reliability diagram with their intervals."""
    n, confidence, right = measured_bins
    edges = np.linspace(0, 1, len(n) + 1).tolist()
    means = confidence.tolist()
    shares = right.tolist()
    bins = []
    for place, interval in enumerate(ends):
        part = ReliabilityBin(
            low=edges[place],
            high=edges[place + 1],
            n=int(n[place]),
            # A bin without an image has no mean.
            confidence=defined(means[place]),
            accuracy=defined(shares[place]),
            interval=interval,
        )
        bins.append(part)
    return tuple(bins)
