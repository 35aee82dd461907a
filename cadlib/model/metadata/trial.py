"""Tests whether the evidence of patient facts helps in every archive.

A model uses the evidence only then, but always stores the metrics.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from cadlib.files.json_types import JsonObject, Line, Value
from cadlib.images.patient import FEATURES, design_of
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.operating_point import (
    DEFAULT_OPERATING_POINT,
    TARGET_SENSITIVITY,
    OperatingPoint,
    choose_thresholds,
)
from cadlib.metrics.summary import DEFINED_SHARE, DRAWS, LEVEL, bootstrap, measured_point
from cadlib.model.metadata.evidence import Logits, MetadataEvidence, add_evidence
from cadlib.model.metadata.fitting import fit_evidence, out_of_fold
from cadlib.taxonomy import CODES

# The import takes a third of a second, and reading a model does not need it.
if TYPE_CHECKING:
    import pandas as pd

Parts = Mapping[str, NDArray[np.bool_]]
ARCHIVE = "archive "
"""The name of a part that is an archive starts with this."""


def _melanoma_auc(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    index = CODES.index("MEL")
    scores = probabilities[:, index]
    return classification.auc(scores, labels == index, weights)


def _specificity(labels: Labels, probabilities: Floats, weights: Floats | None = None) -> Floats:
    target = TARGET_SENSITIVITY[DEFAULT_OPERATING_POINT]
    return classification.malignant_specificity(labels, probabilities, target, weights)


METRICS: dict[str, tuple[Callable[..., Floats], int]] = {
    "balanced_accuracy": (classification.balanced_accuracy, 1),
    "malignant_auc": (classification.malignant_auc, 1),
    "melanoma_auc": (_melanoma_auc, 1),
    "nll": (classification.negative_log_likelihood, -1),
    "ece": (classification.expected_calibration_error, -1),
    "specificity": (_specificity, 1),
}
"""Name -> function that computes it, and whether more of it is better (1) or worse (-1).

The specificity is that at the target sensitivity of the default operating point, with a threshold
chosen on the same images.
"""
DECIDING = ("malignant_auc", "nll")


class Difference(JsonObject, frozen=True):
    """A metric without and with the facts, and the 95 % interval of the change.

    A number that is not defined is None.
    """

    before: Value | None
    after: Value | None
    low: Value | None
    high: Value | None

    def verdict(self, metric: str) -> int:
        """Return 1 where the whole interval is better, -1 where it is worse, else 0."""
        if self.low is None or self.high is None:
            return 0
        is_higher = int(self.low > 0)
        is_lower = int(self.high < 0)
        _, direction = METRICS[metric]
        return direction * (is_higher - is_lower)


Differences = dict[str, dict[str, Difference]]
"""Part of the images -> metric -> its difference."""


class MetadataTrial(JsonObject, frozen=True, dict=True):
    """The effect of facts on validation images.

    `logits` are the table of the evidence, None unless it helps in every archive.
    `operating_points` are the thresholds for a malignant probability with facts: another
    probability needs another threshold for the same sensitivity. They are chosen on evidence from
    fits without the image's lesion.
    """

    differences: Annotated[dict[Line, dict[str, Difference]], Meta(max_length=100)]
    logits: dict[str, Logits] | None = msgspec.field(name="evidence")
    """The key `evidence` of the file."""
    operating_points: Annotated[tuple[OperatingPoint, ...], Meta(max_length=20)]

    def __post_init__(self) -> None:
        for metrics in self.differences.values():
            if set(metrics) != set(METRICS):
                names = ", ".join(METRICS)
                raise ValueError(f"`differences` has to be of {names} for each part")
        if self.logits is None:
            return
        if tuple(self.logits) != FEATURES:
            raise ValueError(f"`evidence` has to be of {', '.join(FEATURES)}, in this order")
        if not helps(self.differences):
            raise ValueError(
                "Expected no evidence where the metrics do not show that it helps in every archive."
            )

    @cached_property
    def evidence(self) -> MetadataEvidence | None:
        """Return the evidence, or None where the model takes none."""
        if self.logits is None:
            return None
        return MetadataEvidence(self.logits)


def run_trial(
    table: "pd.DataFrame",
    probabilities: Floats,
    labels: Labels,
    lesions: Labels,
    short_side_px: int,
) -> MetadataTrial | None:
    """Compare predictions with and without the facts of a data set's table; None without facts.

    `probabilities` is (N, 8) float64, calibrated, of images that the network was not trained on;
    `lesions` is (N,) int. Images with a short side of at least `short_side_px`, and smaller ones,
    are two separate parts.
    """
    design = design_of(table)
    archives = archives_of(table)
    if not design.any():
        return None
    evidence = out_of_fold(design, probabilities, labels, archives, lesions)
    held_out = add_evidence(probabilities, evidence)
    parts = parts_of(table, short_side_px)
    differences = compare(labels, probabilities, held_out, lesions, parts)
    points = _chosen_points(labels, held_out, lesions)
    weights = fit_evidence(design, probabilities, labels, archives)
    if not helps(differences):
        return MetadataTrial(differences, None, ())
    fitted = MetadataEvidence.from_weights(weights)
    return MetadataTrial(differences, fitted.table, points)


def _chosen_points(
    labels: Labels,
    probabilities: Floats,
    lesions: Labels,
) -> tuple[OperatingPoint, ...]:
    malignant = classification.malignant_probability(probabilities)
    is_malignant = classification.malignant_truth(labels)
    points: list[OperatingPoint] = []
    for threshold in choose_thresholds(malignant, is_malignant):
        measured = measured_point(threshold, labels, probabilities, lesions)
        point = OperatingPoint.of(measured, "validation")
        points.append(point)
    return tuple(points)


def helps(differences: Differences) -> bool:
    """Return whether facts help in every archive and harm nowhere.

    They help where AUC or likelihood is clearly better, and harm where any metric is clearly worse.
    Clearly means that the whole interval of the difference lies on one side.
    """
    archives = []
    for part, metrics in differences.items():
        if part.startswith(ARCHIVE):
            archives.append(metrics)
    if not archives:
        return False
    for metrics in archives:
        verdicts = [metrics[name].verdict(name) for name in DECIDING]
        # At least one of these metrics has to improve in each archive.
        if max(verdicts) <= 0:
            return False
    for metrics in differences.values():
        verdicts = [change.verdict(name) for name, change in metrics.items()]
        # No metric may become worse, in any part.
        if -1 in verdicts:
            return False
    return True


def compare(
    labels: Labels,
    before: Floats,
    after: Floats,
    lesions: Labels,
    parts: Parts,
    draws: int = DRAWS,
) -> dict[str, dict[str, Difference]]:
    """Compare two sets of (N, 8) probabilities of the same images in each part that has images.

    Both sets use the same draws of lesions.
    """
    differences: dict[str, dict[str, Difference]] = {}
    for part, inside in parts.items():
        if not inside.any():
            continue
        _, groups = np.unique(lesions[inside], return_inverse=True)
        # All metrics use the same draws.
        weights = np.concatenate(list(bootstrap(groups, draws)))
        part_labels = labels[inside]
        part_before = before[inside]
        part_after = after[inside]
        differences[part] = {}
        for name, (compute, _) in METRICS.items():
            change = _difference(compute, part_labels, part_before, part_after, weights)
            differences[part][name] = change
    return differences


def parts_of(table: "pd.DataFrame", short_side_px: int) -> dict[str, NDArray[np.bool_]]:
    """Return all images, each archive's, and those above and below a short side, as masks."""
    archives = archives_of(table)
    short_sides = table[["width_px", "height_px"]].min(axis=1)
    # An image of unknown size is NaN, which is in neither of the two parts.
    short = short_sides.to_numpy(np.float64, na_value=np.nan)
    parts = {"all": np.ones(len(table), bool)}
    for name in np.unique(archives):
        parts[f"{ARCHIVE}{name}"] = archives == name
    parts[f"short side ≥ {short_side_px} px"] = short >= short_side_px
    parts[f"short side < {short_side_px} px"] = short < short_side_px
    return parts


def archives_of(table: "pd.DataFrame") -> NDArray[np.str_]:
    """Return the archive of each image as text; missing archives count as one more."""
    names = table["archive"].fillna("not known")
    return names.to_numpy(np.str_)


def _difference(
    compute: Callable[..., Floats],
    labels: Labels,
    before: Floats,
    after: Floats,
    weights: Floats,
) -> Difference:
    drawn_after = compute(labels, after, weights)
    drawn_before = compute(labels, before, weights)
    drawn = drawn_after - drawn_before
    defined = drawn[~np.isnan(drawn)]
    low = None
    high = None
    least = DEFINED_SHARE * len(drawn)
    if len(defined) and len(defined) >= least:
        ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        interval = np.quantile(defined, ends)
        low, high = interval.round(4).tolist()
    value_before = float(compute(labels, before))
    value_after = float(compute(labels, after))
    return Difference(_rounded(value_before), _rounded(value_after), low, high)


def _rounded(value: float) -> float | None:
    if np.isnan(value):
        return None
    return round(value, 4)
