"""Computes the values of the model card that metrics.json does not hold.

Only this module and `formats` read metrics.json in Python; the templates read the rest.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cadlib.metrics.conditions_schema import NoveltyProof
from cadlib.metrics.operating_point import TARGET_SENSITIVITY, both_names
from cadlib.model.record import ModelRecord
from cadlib.taxonomy import CODES

if TYPE_CHECKING:
    from cadlib.model.metrics_file import Metrics

_NO_METHOD = ("n", "known", "accuracy")
"""Keys of a diagnosis in the near proof of metrics.json that are no detection method."""


def audited_images(record: ModelRecord) -> list[str]:
    """Return the number of compared images of each split; empty without an audit."""
    if record.audit is None:
        return []
    return [f"{n:,} {split}" for split, n in record.audit.images.items()]


def target_sensitivities() -> list[str]:
    """Return each operating point with its target sensitivity: "balanced 0.95"."""
    targets: list[str] = []
    for name, sensitivity in TARGET_SENSITIVITY.items():
        targets.append(f"{both_names(name)} {sensitivity:.2f}")
    return targets


def biases(record: ModelRecord) -> list[str]:
    """Return the bias of each diagnosis: "MEL +0.12"; empty for a model without biases."""
    if not any(record.bias):
        return []
    pairs = zip(record.codes, record.bias, strict=True)
    return [f"{code} {bias:+.2f}" for code, bias in pairs]


def novelty_proof(record: ModelRecord, metrics: "Metrics") -> NoveltyProof | None:
    """Return how well the model's novelty detector works; None where that was not measured."""
    proof = metrics.novelty_proof
    if proof is None or record.novelty is None:
        return None
    # A proof of another detector shows nothing about this one.
    return proof if proof.sha256 == record.novelty.sha256 else None


@dataclass(frozen=True)
class NearAreas:
    """The areas under the ROC curve for images of a diagnosis that was never trained on.

    `methods` has for each method of detection one area (0 to 1) for each of `codes`.
    """

    codes: tuple[str, ...]
    methods: dict[str, list[float]]


def near_areas(metrics: "Metrics") -> NearAreas | None:
    """Return the areas of all methods; None where they were not measured."""
    proof = metrics.novelty_proof
    if proof is None or proof.near is None:
        return None
    near = proof.near
    codes = tuple(code for code in CODES if code in near)
    methods: dict[str, list[float]] = {}
    for method in near[codes[0]]:
        if method not in _NO_METHOD:
            methods[method] = [near[code][method] for code in codes]
    return NearAreas(codes, methods)


def degradations(metrics: "Metrics") -> list[str]:
    """Return the kinds of image degradation by their mean fall of balanced accuracy, worst first.

    A kind without a defined fall is left out.
    """
    robustness = metrics.robustness
    if robustness is None:
        return []
    falls: dict[str, float] = {}
    for name, part in robustness.corruptions.items():
        fall = part.balanced_accuracy_fall["mean"]
        if fall is not None:
            falls[name] = fall
    return sorted(falls, key=lambda name: -falls[name])


@dataclass(frozen=True)
class ChangeRange:
    """The least and the most change of a metric among archives, and where they are."""

    least: float
    least_archive: str
    most: float
    most_archive: str


def archive_changes(metrics: "Metrics") -> dict[str, ChangeRange | None]:
    """Return the range of the changes of two metrics; None for a change that is not defined."""
    across = metrics.across_archives
    archives = across.archives if across else {}
    accuracy = {name: part.balanced_accuracy.change for name, part in archives.items()}
    auc = {name: part.malignant_auc.change for name, part in archives.items()}
    return {
        "balanced_accuracy": _change_range(accuracy),
        "malignant_auc": _change_range(auc),
    }


def _change_range(by_archive: dict[str, float | None]) -> ChangeRange | None:
    changes: list[tuple[float, str]] = []
    for archive, change in by_archive.items():
        if change is not None:
            changes.append((change, archive))
    if not changes:
        return None
    least, least_archive = min(changes)
    most, most_archive = max(changes)
    return ChangeRange(least, least_archive, most, most_archive)
