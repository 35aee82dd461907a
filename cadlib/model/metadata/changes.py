"""Compares results with and without patient facts on the same images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cadlib.data.age_bands import age_bands
from cadlib.files.json_types import Count, JsonObject, Value
from cadlib.metrics import classification
from cadlib.metrics.classification import Bools, Floats, Labels
from cadlib.metrics.operating_point import (
    DEFAULT_OPERATING_POINT,
    TARGET_SENSITIVITY,
    choose_thresholds,
)
from cadlib.metrics.summary import DRAWS, bootstrap, interval_ends, mean_of
from cadlib.taxonomy import CODES

# The import takes a third of a second, and reading a model does not need it.
if TYPE_CHECKING:
    import pandas as pd

Parts = Mapping[str, Bools]
ALL = "all"
"""The part of all images."""
ARCHIVE = "archive "
"""The name of a part that is an archive starts with this."""


@dataclass(frozen=True)
class ComparedMetric:
    """A metric that facts can change.

    `compute` takes labels, probabilities and weights. `direction` is 1 if more of it is better,
    -1 if less is. `title` is its name in the text of a verdict.
    """

    title: str
    compute: Callable[..., Floats]
    direction: int


_TARGET = TARGET_SENSITIVITY[DEFAULT_OPERATING_POINT]


def _melanoma_auc(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    index = CODES.index("MEL")
    scores = probabilities[:, index]
    return classification.auc(scores, labels == index, weights)


def _specificity(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    return classification.malignant_specificity(labels, probabilities, _TARGET, weights)


METRICS = {
    "balanced_accuracy": ComparedMetric(
        "balanced accuracy",
        classification.balanced_accuracy,
        direction=1,
    ),
    "malignant_auc": ComparedMetric(
        "malignant AUC",
        classification.malignant_auc,
        direction=1,
    ),
    "melanoma_auc": ComparedMetric(
        "melanoma AUC",
        _melanoma_auc,
        direction=1,
    ),
    "nll": ComparedMetric(
        "negative log-likelihood",
        classification.negative_log_likelihood,
        direction=-1,
    ),
    "ece": ComparedMetric(
        "calibration error (ECE)",
        classification.expected_calibration_error,
        direction=-1,
    ),
    "specificity": ComparedMetric(
        f"specificity at {_TARGET} sensitivity",
        _specificity,
        direction=1,
    ),
}
"""Key in a record -> the metric.

The specificity is that at the target sensitivity of the default operating point, with a threshold
chosen on the same images.
"""


class Difference(JsonObject, frozen=True):
    """A metric without and with the facts, and the 95 % interval of the change.

    A number that is not defined is None.
    """

    before: Value | None
    after: Value | None
    low: Value | None
    high: Value | None

    @property
    def side(self) -> int:
        """Return 1 where the whole interval is above 0, -1 where it is below, else 0."""
        if self.low is None or self.high is None:
            return 0
        is_higher = int(self.low > 0)
        is_lower = int(self.high < 0)
        return is_higher - is_lower

    def verdict(self, metric: str) -> int:
        """Return 1 where the whole interval is better, -1 where it is worse, else 0."""
        return METRICS[metric].direction * self.side

    @property
    def text(self) -> str:
        """Return the change with its interval: "+0.037 (95 % CI +0.011 to +0.065)"."""
        if self.before is None or self.after is None:
            return "not defined"
        change = f"{self.after - self.before:+.3f}"
        if self.low is None or self.high is None:
            return change
        return f"{change} (95 % CI {self.low:+.3f} to {self.high:+.3f})"


class SensitivityDifference(Difference, frozen=True):
    """The sensitivity at the default operating point without and with the facts.

    Each side has its own threshold, chosen on all images without or with the facts.
    """

    n_malignant: Count
    """Malignant images that the sensitivity is a share of."""


Differences = dict[str, dict[str, Difference]]
"""Part of the images -> metric -> its difference."""
BandDifferences = dict[str, SensitivityDifference]
"""Age band -> the difference of its sensitivity."""
_Pair = Callable[[Floats | None], tuple[Floats, Floats]]
"""From weights, as those of `metrics`, to a metric without and with the facts."""


def compare(
    labels: Labels,
    before: Floats,
    after: Floats,
    lesions: Labels,
    parts: Parts,
    draws: int = DRAWS,
) -> Differences:
    """Compare two sets of (N, 8) probabilities of the same images in each part that has images.

    Both sets use the same draws of lesions.
    """
    differences: Differences = {}
    for part, inside in parts.items():
        if not inside.any():
            continue
        part_labels = labels[inside]
        part_before = before[inside]
        part_after = after[inside]
        pairs = {}
        for name, metric in METRICS.items():
            pairs[name] = _pair(metric.compute, part_labels, part_before, part_after)
        differences[part] = _differences(pairs, lesions[inside], draws)
    return differences


def compare_age_bands(
    table: "pd.DataFrame",
    labels: Labels,
    before: Floats,
    after: Floats,
    lesions: Labels,
    draws: int = DRAWS,
) -> BandDifferences:
    """Compare the sensitivity at the default operating point in each age band that has images.

    The threshold of each set of (N, 8) probabilities is chosen on all images. Images without an age
    are in no band. Both sets use the same draws of lesions.
    """
    bands = age_bands(table["age_approx"])
    truth = classification.malignant_truth(labels)
    referred_before = _referred(labels, before)
    referred_after = _referred(labels, after)
    differences: BandDifferences = {}
    for band in sorted(bands.dropna().unique()):
        in_band = (bands == band).to_numpy(bool, na_value=False)
        rows = in_band & truth
        pair = _share_pair(referred_before[rows], referred_after[rows])
        change = _differences({"sensitivity": pair}, lesions[rows], draws)["sensitivity"]
        differences[band] = SensitivityDifference(
            before=change.before,
            after=change.after,
            low=change.low,
            high=change.high,
            n_malignant=int(rows.sum()),
        )
    return differences


def _referred(labels: Labels, probabilities: Floats) -> Floats:
    """Return 1 for each image that the default operating point of these images refers, else 0."""
    malignant = classification.malignant_probability(probabilities)
    truth = classification.malignant_truth(labels)
    referred = malignant >= default_threshold(malignant, truth)
    return referred.astype(np.float64)


def default_threshold(malignant: Floats, truth: Bools) -> float:
    """Return the threshold of the default operating point, chosen on N images.

    `malignant` is (N,) float64, a malignant probability; `truth` is (N,) bool.
    """
    points = choose_thresholds(malignant, truth)
    [default] = [point for point in points if point.name == DEFAULT_OPERATING_POINT]
    return default.threshold


def parts_of(table: "pd.DataFrame", short_side_px: int) -> dict[str, Bools]:
    """Return all images, each archive's, and those above and below a short side, as masks."""
    archives = archives_of(table)
    short_sides = table[["width_px", "height_px"]].min(axis=1)
    # An image of unknown size is NaN, which is in neither of the two parts.
    short = short_sides.to_numpy(np.float64, na_value=np.nan)
    parts = {ALL: np.ones(len(table), bool)}
    for name in np.unique(archives):
        parts[f"{ARCHIVE}{name}"] = archives == name
    parts[f"short side ≥ {short_side_px} px"] = short >= short_side_px
    parts[f"short side < {short_side_px} px"] = short < short_side_px
    return parts


def archives_of(table: "pd.DataFrame") -> NDArray[np.str_]:
    """Return the archive of each image as text; missing archives count as one more."""
    names = table["archive"].fillna("not known")
    return names.to_numpy(np.str_)


def _pair(
    compute: Callable[..., Floats],
    labels: Labels,
    before: Floats,
    after: Floats,
) -> _Pair:
    """Return a function that computes a metric without and with the facts."""

    def both(weights: Floats | None) -> tuple[Floats, Floats]:
        value_before = compute(labels, before, weights)
        value_after = compute(labels, after, weights)
        return value_before, value_after

    return both


def _share_pair(before: Floats, after: Floats) -> _Pair:
    """Return a function that computes the means of (N,) values without and with the facts."""
    mean_before = mean_of(before)
    mean_after = mean_of(after)

    def both(weights: Floats | None) -> tuple[Floats, Floats]:
        # Each image has its value, so that no labels and probabilities are needed.
        share_before = mean_before(before, before, weights)
        share_after = mean_after(after, after, weights)
        return share_before, share_after

    return both


def _differences(
    pairs: Mapping[str, _Pair],
    lesions: Labels,
    draws: int,
) -> dict[str, Difference]:
    """Return the difference of each metric of (N,) images with these lesions."""
    _, groups = np.unique(lesions, return_inverse=True)
    drawn: dict[str, list[Floats]] = {name: [] for name in pairs}
    # All metrics use the same draws, a part of them at a time: all at once need much memory.
    for weights in bootstrap(groups, draws):
        for name, pair in pairs.items():
            before, after = pair(weights)
            change = after - before
            drawn[name].append(change)
    differences = {}
    for name, pair in pairs.items():
        before, after = pair(None)
        # Draws may all agree here: they do where no image changed.
        all_changes = np.concatenate(drawn[name])
        ends = interval_ends(all_changes)
        low, high = ends or (None, None)
        differences[name] = Difference(
            before=_rounded(before),
            after=_rounded(after),
            low=low,
            high=high,
        )
    return differences


def _rounded(value: Floats) -> float | None:
    if np.isnan(value):
        return None
    return round(float(value), 4)
