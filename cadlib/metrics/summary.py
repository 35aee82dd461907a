"""Every figure of `metrics` on one set of images, each with its 95 % interval, as plain JSON values.

The intervals are percentiles of a bootstrap that draws lesions, not images: images of one lesion resemble each
other, and drawing them one by one would make every interval too narrow (the cluster bootstrap of Field and
Welsh, J. R. Statist. Soc. B 69 (2007) 369; percentiles after Efron and Tibshirani 1993, chapter 13). That of a
calibration error is none of percentiles: see `metrics.calibration_error_interval`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.curves import RocCurve, roc_points
from cadlib.metrics.operating_point import TARGET_SENSITIVITY, Threshold
from cadlib.metrics.partial_labels import AnyLabels, PartialLabels
from cadlib.taxonomy import CODES

DRAWS = 1000
LEVEL = 0.95
DEFINED_SHARE = 0.99
"""Of the draws, for an interval to be given: with four lesions of a class, every 55th draw has none of them."""
ECE_NOTE = (
    "A calibration error counts what chance adds as if it were error, the more the fewer the images; its interval "
    "is of the error without that, so it may lie below the figure."
)
ECE_INTERVAL = "interval without the effect of chance"
"""What the interval beside a calibration error is of, in few words."""
_DRAWS_AT_ONCE = 50


@dataclass(frozen=True)
class Figure:
    """A function of `metrics` by its name in metrics.json; `keys` are those of its last axis, where it has one.

    The last axis of `each` has no keys. `parts`, where it is given, is drawn in place of the figure for
    `calibration_error_interval`. A figure that is `malignant` also counts images without a diagnosis.
    """

    name: str
    compute: Callable[..., Floats]
    keys: tuple[str, ...] = ()
    parts: Callable[..., Floats] | None = None
    each: bool = False
    malignant: bool = False


def _malignant_specificities(
    labels: AnyLabels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    at = (
        classification.malignant_specificity(labels, probabilities, s, weights)
        for s in TARGET_SENSITIVITY.values()
    )
    return np.stack(list(at), axis=-1)


FIGURES = (
    Figure("balanced_accuracy", classification.balanced_accuracy),
    Figure("accuracy", classification.accuracy),
    Figure("malignant_auc", classification.malignant_auc, malignant=True),
    Figure(
        "malignant_specificity_at_sensitivity",
        _malignant_specificities,
        tuple(f"{sensitivity:.2f}" for sensitivity in TARGET_SENSITIVITY.values()),
        malignant=True,
    ),
    Figure(
        "malignant_average_precision", classification.malignant_average_precision, malignant=True
    ),
    Figure("auc", classification.class_auc, CODES),
    Figure("average_precision", classification.class_average_precision, CODES),
    Figure("sensitivity", classification.class_sensitivity, CODES),
    Figure("specificity", classification.class_specificity, CODES),
    Figure("ppv", classification.class_ppv, CODES),
    Figure("npv", classification.class_npv, CODES),
    Figure("ece", classification.expected_calibration_error, parts=classification.calibration_gaps),
    Figure("brier", classification.brier_score),
    Figure(
        "malignant_ece",
        classification.malignant_calibration_error,
        parts=classification.malignant_calibration_gaps,
        malignant=True,
    ),
)
BEFORE_CALIBRATION = (
    Figure(
        "ece_uncalibrated",
        classification.expected_calibration_error,
        parts=classification.calibration_gaps,
    ),
    Figure("brier_uncalibrated", classification.brier_score),
)


def summarise(
    labels: AnyLabels,
    probabilities: Floats,
    lesions: NDArray[np.integer[Any]] | None = None,
    uncalibrated: Floats | None = None,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Return every figure as plain JSON values, None where one is not defined.

    `lesions` is (N,) int, the lesion group of each image; without it every image is a lesion of its own.
    `uncalibrated` is (N, 8) float64, the probabilities before calibration; without it two figures are missing.

    Of `PartialLabels` the figures of malignancy are over all images, `n` with `n_malignant`, and all others over the
    images with a diagnosis, as many as `n_by_class` adds up to.

    `intervals` has [low, high] for each figure under the same keys, None where too few lesions stand behind it
    or where every draw gives the same.
    `roc` has a curve a code and one for "malignant", None where there is none; its numbers are rounded to six
    decimals, and its first threshold (nothing is called positive) is None. Each point of the curve for "malignant" has
    its `tpr_interval` and `fpr_interval`, each bin of `reliability` and `malignant_reliability` its `interval`.
    """
    every = PartialLabels.of(labels)
    probabilities = classification.checked_probabilities(probabilities, len(every))
    diagnosed = every.diagnosed
    codes = every.codes[diagnosed]
    named = probabilities[diagnosed]
    n_by_class = np.bincount(codes, minlength=len(CODES))
    groups = (
        np.arange(len(every)) if lesions is None else np.unique(lesions, return_inverse=True)[1]
    )

    asked = [(figure, probabilities if figure.malignant else named) for figure in FIGURES]
    if uncalibrated is not None:
        asked += [(figure, uncalibrated[diagnosed]) for figure in BEFORE_CALIBRATION]

    curves = {code: roc_points(named[:, i], codes == i) for i, code in enumerate(CODES)}
    curves["malignant"] = roc_points(
        classification.malignant_probability(probabilities), every.malignant
    )
    rates_figure = Figure(
        "rates", _malignant_rates(curves["malignant"].threshold), each=True, malignant=True
    )
    malignant_bins_figure = Figure("malignant_bins", _malignant_by_bin, each=True, malignant=True)
    lists = [
        (rates_figure, probabilities),
        (Figure("bins", _right_by_bin, each=True), named),
        (malignant_bins_figure, probabilities),
    ]
    ends = partial_intervals(every, groups, [*asked, *lists], draws)
    rates, bins, malignant_bins = (ends.pop(figure.name) for figure, _ in lists)
    summary = {
        "n": len(every),
        "n_malignant": int(every.malignant.sum()),
        "n_lesions": len(np.unique(groups)),
        "n_classes": int((n_by_class > 0).sum()),
        "n_by_class": _by_key(CODES, n_by_class),
        **{
            figure.name: _by_key(
                figure.keys, figure.compute(every if figure.malignant else codes, given)
            )
            for figure, given in asked
        },
        "intervals": ends,
        "confusion_matrix": classification.confusion_matrix(codes, named).astype(int).tolist(),
        "roc": {name: _curve_json(curve) for name, curve in curves.items()},
        "reliability": _reliability_json(classification.reliability(codes, named), bins),
        "malignant_reliability": _reliability_json(
            classification.malignant_reliability(every, probabilities), malignant_bins
        ),
    }
    if summary["roc"]["malignant"]:
        half = len(rates) // 2
        summary["roc"]["malignant"] |= {"tpr_interval": rates[:half], "fpr_interval": rates[half:]}
    ready: dict[str, Any] = json_ready(summary)
    return ready


def partial_intervals(
    labels: PartialLabels,
    groups: NDArray[np.integer[Any]],
    asked: list[tuple[Figure, Floats]],
    draws: int,
) -> dict[str, Any]:
    """Return `intervals` of figures, each over the images that it counts."""
    diagnosed = labels.diagnosed
    if diagnosed.all():  # one bootstrap for all figures: half the time of two
        return intervals(labels.codes, groups, asked, draws)
    # Lesions are drawn among those that a figure counts, so that its interval is that of these images alone.
    of_diagnoses = [pair for pair in asked if not pair[0].malignant]
    of_malignancy = [pair for pair in asked if pair[0].malignant]
    groups_diagnosed = np.unique(groups[diagnosed], return_inverse=True)[1]
    found = {
        **intervals(labels.codes[diagnosed], groups_diagnosed, of_diagnoses, draws),
        **intervals(labels, groups, of_malignancy, draws),
    }
    return {figure.name: found[figure.name] for figure, _ in asked}


def intervals(
    labels: AnyLabels,
    groups: NDArray[np.integer[Any]],
    asked: list[tuple[Figure, Floats]],
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Return for each figure over its probabilities the interval [low, high]: by name, and by key where it has keys.

    `groups` is (N,) int, the number of the lesion of each image, from 0 and without a gap.
    """
    drawn: dict[str, list[Floats]] = {figure.name: [] for figure, _ in asked}
    for weights in bootstrap(groups, draws):
        for figure, probabilities in asked:
            drawn[figure.name].append(
                (figure.parts or figure.compute)(labels, probabilities, weights)
            )
    return {
        figure.name: _error_interval_json(
            figure.parts(labels, probabilities), np.concatenate(drawn[figure.name])
        )
        if figure.parts
        else _interval_json(figure, np.concatenate(drawn[figure.name]))
        for figure, probabilities in asked
    }


def measured_point(
    point: Threshold, labels: AnyLabels, probabilities: Floats, groups: Labels
) -> dict[str, Any]:
    """Return what a threshold does on (N, 8) probabilities, as JSON values: an operating point but for its split."""

    def both(labels: AnyLabels, probabilities: Floats, weights: Floats | None = None) -> Floats:
        scores, truth = (
            classification.malignant_probability(probabilities),
            classification.malignant_truth(labels),
        )
        return np.stack(
            classification.sensitivity_specificity(scores, truth, point.threshold, weights), axis=-1
        )

    figure = Figure(point.name, both, ("sensitivity", "specificity"))
    truth = classification.malignant_truth(labels)
    sensitivity, specificity = both(labels, probabilities).tolist()
    ready: dict[str, Any] = json_ready(
        {
            "name": point.name,
            "threshold": point.threshold,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "n_malignant": int(truth.sum()),
            "n_benign": int((~truth).sum()),
            "intervals": intervals(labels, groups, [(figure, probabilities)])[point.name],
        }
    )
    return ready


def measured_sets(
    coverage: float,
    inside: NDArray[np.bool_],
    labels: Labels,
    probabilities: Floats,
    groups: Labels,
) -> dict[str, Any]:
    """Return what prediction sets do, as JSON values: how often the true diagnosis is in them, and how many others.

    `inside` is (N, 8) bool, which diagnoses are in the set of each image. `coverage` holds the share of images with
    their true diagnosis in the set by code, `overall` that of all images, `size` the mean number of diagnoses in a set,
    `empty` the share of sets with none; `target` is what was aimed at for each diagnosis.
    """
    covered = inside[np.arange(len(labels)), labels].astype(np.float64)
    sizes = inside.sum(axis=1, dtype=np.float64)
    figures = (
        Figure("coverage", mean_of(covered, by_class(labels)), CODES),
        Figure("overall", mean_of(covered)),
        Figure("size", mean_of(sizes)),
        Figure("empty", mean_of(sizes == 0)),
    )
    return {"target": coverage, **measured(figures, labels, probabilities, groups)}


def measured(
    figures: Sequence[Figure], labels: Labels, probabilities: Floats, groups: Labels
) -> dict[str, Any]:
    """Return figures by their names and, under "intervals", their intervals, as JSON values."""
    ready: dict[str, Any] = json_ready(
        {
            **{
                figure.name: _by_key(figure.keys, figure.compute(labels, probabilities))
                for figure in figures
            },
            "intervals": intervals(labels, groups, [(figure, probabilities) for figure in figures]),
        }
    )
    return ready


def mean_of(values: NDArray[Any], parts: NDArray[np.bool_] | None = None) -> Callable[..., Floats]:
    """Return what computes the mean of (N,) values, or the mean in each of the parts, (K, N), of the images."""

    def compute(labels: Labels, _: Floats, weights: Floats | None = None) -> Floats:
        counts = np.ones(len(labels)) if weights is None else weights
        if parts is None:
            return _weighted(values, counts)
        return np.stack([_weighted(values, counts * part) for part in parts], axis=-1)

    return compute


def by_class(labels: Labels) -> NDArray[np.bool_]:
    """Return which of N images are of each diagnosis, (8, N)."""
    inside: NDArray[np.bool_] = labels == np.arange(len(CODES))[:, None]
    return inside


def bootstrap(groups: NDArray[np.integer[Any]], draws: int, seed: int = 0) -> Iterator[Floats]:
    """Yield draws of as many lesions as there are, with replacement: how often each image counts, (some, N).

    `groups` is (N,) int, the number of the lesion of each image, from 0 and without a gap.
    """
    rng, lesions = np.random.default_rng(seed), int(groups.max(initial=-1)) + 1
    for start in range(0, draws, _DRAWS_AT_ONCE):
        some = min(_DRAWS_AT_ONCE, draws - start)
        counts = [
            np.bincount(rng.integers(0, max(lesions, 1), lesions), minlength=lesions)
            for _ in range(some)
        ]
        yield np.array(counts, np.float64).reshape(some, lesions)[:, groups]


def json_ready(value: Any) -> Any:
    """Replace every NaN and infinity in nested dicts and lists by None, which strict JSON can hold."""
    if isinstance(value, Mapping):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _interval_json(figure: Figure, drawn: Floats) -> Any:
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    columns = drawn if figure.keys or figure.each else drawn[:, None]
    found: list[list[float] | None] = []
    for values in columns.T:
        defined = values[~np.isnan(values)]
        enough = len(defined) >= DEFINED_SHARE * len(values)
        low, high = (
            np.quantile(defined, tails).round(4).tolist() if enough else (math.nan, math.nan)
        )
        # draws that all agree, as of four images that are all wrong, do not know how far from the truth they are
        found.append([low, high] if low < high else None)
    if figure.each:
        return found
    return dict(zip(figure.keys, found, strict=True)) if figure.keys else found[0]


def _error_interval_json(gaps: Floats, drawn: Floats) -> list[float] | None:
    if np.isnan(gaps).any() or not (drawn != drawn[0]).any():
        return None
    low, high = classification.calibration_error_interval(gaps, drawn, LEVEL)
    return [round(low, 4), round(high, 4)] if low < high else None


def _weighted(values: Floats, weights: Floats) -> Floats:
    """Return the mean of (N,) values under (…, N) weights; NaN where these are all 0."""
    total = np.asarray(weights.sum(axis=-1), np.float64)
    mean: Floats = np.divide(
        weights @ values, total, out=np.full_like(total, np.nan), where=total > 0
    )
    return mean


def _by_key(keys: tuple[str, ...], values: NDArray[Any]) -> Any:
    return dict(zip(keys, values.tolist(), strict=True)) if keys else float(values)


def _curve_json(curve: RocCurve) -> dict[str, list[float]] | None:
    if not len(curve.fpr):
        return None
    return {name: getattr(curve, name).round(6).tolist() for name in ("fpr", "tpr", "threshold")}


def _malignant_rates(thresholds: Floats) -> Callable[..., Floats]:
    """Return what computes which share of the malignant, then of the benign, is referred at K thresholds: (…, 2 K)."""

    def compute(labels: AnyLabels, probabilities: Floats, weights: Floats | None = None) -> Floats:
        scores, truth = (
            classification.malignant_probability(probabilities),
            classification.malignant_truth(labels),
        )
        return np.concatenate(
            classification.positive_rates(scores, truth, thresholds, weights), axis=-1
        )

    return compute


def _right_by_bin(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    return classification.reliability(labels, probabilities, weights)[2]


def _malignant_by_bin(
    labels: AnyLabels, probabilities: Floats, weights: Floats | None = None
) -> Floats:
    return classification.malignant_reliability(labels, probabilities, weights)[2]


def _reliability_json(
    measured_bins: tuple[Floats, Floats, Floats], ends: list[list[float] | None]
) -> list[dict[str, Any]]:
    n, confidence, right = measured_bins
    edges = np.linspace(0, 1, len(n) + 1)
    return [
        {
            "low": low,
            "high": high,
            "n": int(count),
            "confidence": mean,
            "accuracy": share,
            "interval": interval,
        }
        for low, high, count, mean, share, interval in zip(
            edges[:-1].tolist(),
            edges[1:].tolist(),
            n.tolist(),
            confidence.tolist(),
            right.tolist(),
            ends,
            strict=True,
        )
    ]
