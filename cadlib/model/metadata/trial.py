"""Tests whether a model should use the evidence of patient facts.

A model uses the evidence only where `acceptance` accepts it, but always stores the metrics.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from cadlib.files.json_types import JsonObject, Line, Text
from cadlib.images.patient import FEATURES, design_of
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.operating_point import OperatingPoint, choose_thresholds
from cadlib.metrics.summary import measured_point
from cadlib.model.metadata.acceptance import accepted_by_earlier_rule, judge
from cadlib.model.metadata.changes import (
    METRICS,
    Difference,
    SensitivityDifference,
    archives_of,
    compare,
    compare_age_bands,
    parts_of,
)
from cadlib.model.metadata.evidence import Logits, MetadataEvidence, add_evidence
from cadlib.model.metadata.fitting import fit_evidence, out_of_fold

# The import takes a third of a second, and reading a model does not need it.
if TYPE_CHECKING:
    import pandas as pd


class MetadataTrial(JsonObject, frozen=True, dict=True):
    """The effect of facts on validation images, or on those of the folds of a cross-validation.

    `logits` are the table of the evidence, None where the facts are rejected.
    `operating_points` are the thresholds for a malignant probability with facts: another
    probability needs another threshold for the same sensitivity. They are chosen on evidence from
    fits without the image's lesion.

    `age_bands` and `result`, the text of `acceptance.judge` with its numbers, are missing in a
    record of an earlier version, which had another rule.
    """

    differences: Annotated[dict[Line, dict[str, Difference]], Meta(max_length=100)]
    logits: dict[str, Logits] | None = msgspec.field(name="evidence")
    """The key `evidence` of the file."""
    operating_points: Annotated[tuple[OperatingPoint, ...], Meta(max_length=20)]
    age_bands: Annotated[dict[Line, SensitivityDifference], Meta(max_length=20)] | UnsetType = UNSET
    result: Text | UnsetType = UNSET

    def __post_init__(self) -> None:
        for metrics in self.differences.values():
            if set(metrics) != set(METRICS):
                names = ", ".join(METRICS)
                raise ValueError(f"`differences` has to be of {names} for each part")
        if self.logits is None:
            return
        if tuple(self.logits) != FEATURES:
            raise ValueError(f"`evidence` has to be of {', '.join(FEATURES)}, in this order")
        if not self._accepted():
            raise ValueError(
                "Expected no evidence where the metrics of the trial do not allow its use."
            )

    def _accepted(self) -> bool:
        """Return whether the metrics allow the evidence, by the rule of their version."""
        if self.age_bands is UNSET:
            return accepted_by_earlier_rule(self.differences)
        return judge(self.differences, self.age_bands).accepted

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
    age_bands = compare_age_bands(table, labels, probabilities, held_out, lesions)
    verdict = judge(differences, age_bands)
    if not verdict.accepted:
        return MetadataTrial(differences, None, (), age_bands, verdict.text)
    weights = fit_evidence(design, probabilities, labels, archives)
    fitted = MetadataEvidence.from_weights(weights)
    points = _chosen_points(labels, held_out, lesions)
    return MetadataTrial(differences, fitted.table, points, age_bands, verdict.text)


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
