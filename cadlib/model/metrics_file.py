"""Reads and writes metrics.json, the figures of a model.

The record and the card of a model take their figures from it. `evaluate` writes such a file too,
for any labelled set. It holds the result of `summary.summarise` (the figures, their intervals and
curves), and:

    n, n_malignant        images behind the figures of malignancy, and how many of them are
                          malignant; all other figures are over the images with a diagnosis, whose
                          number is the sum of `n_by_class`
    unlabelled, unknown   images that were predicted and not counted: without a label, with UNK
    operating_points      the model's thresholds with their sensitivity, specificity and counts here
    prediction_sets       figures of the model's prediction sets here: see
                          `summary.measured_sets`; not with metadata
    validation            in a model folder, after the test split was read: the same figures of the
                          validation split
    subgroups             the summary without its curves, by image size, archive, age, sex and site
    model, data           which weights, which images: of which split, of which subset by its name
                          and its hash
    metadata              with metadata only: number of images it changed, number with another top
                          diagnosis, mean change of the malignant probability
    rejected              image id -> reason why it could not be read
    robustness            the effect of damage, where `robustness.measure` measured it for these
                          weights
    neighbours            in a model folder: how often similar cases have the true diagnosis (see
                          `neighbours.fitting`)
    saliency              how far the heatmaps can be trusted, where `sanity.measure` measured it
                          for these weights
    novelty               in a model folder: number of images called unknown (see `novelty.fitting`)
    novelty_proof         in a model folder: how well unknown images are detected, where
                          `benchmarks/novelty.py` measured it
    across_archives       in a model folder: what other networks lost on an archive left out of
                          training (see `across`)
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cadlib import command_hints
from cadlib.errors import ModelInvalid
from cadlib.metrics.operating_point import OperatingPoint
from cadlib.model import card
from cadlib.model.record import (
    CARD_FILE,
    METRICS_FILE,
    ModelRecord,
    read_checked,
    read_checked_json,
    write_folder,
)

# An earlier version did not write these keys; its figures stay usable without them.
_ADDED = ("n_malignant", "malignant_ece", "malignant_reliability")


def measured(folder: Path, record: ModelRecord) -> dict[str, Any]:
    """Return metrics.json of a model folder.

    Raise ModelInvalid when it is missing or of other weights.
    """
    figures = read_checked_json(folder, METRICS_FILE)
    measured_weights = figures.get("model", {}).get("weights_sha256")
    if measured_weights != record.weights_sha256:
        command = command_hints.evaluate_into(record.name)
        raise ModelInvalid(
            f"Expected {folder / METRICS_FILE} to be of the model's weights, "
            f"{record.weights_sha256[:16]}…, but it is of others; "
            f"measure the model again with `{command}`."
        )
    return figures


def write_into(folder: Path, record: ModelRecord, figures: dict[str, Any]) -> None:
    """Store figures of a split in a model folder: in metrics.json, operating points and card.

    Figures of the test split lead metrics.json, and those of validation move to the key
    "validation", in whatever order they were measured. The thresholds stay; their sensitivity and
    specificity are those of the leading split. May raise OSError, as `rewrite`.
    """
    former: dict[str, Any] = {}
    if read_checked(folder, METRICS_FILE) is not None:
        former = read_checked_json(folder, METRICS_FILE)
    joined = join_splits(figures, former)
    points = operating_points(joined)
    rewrite(folder, replace(record, operating_points=points), joined)


def rewrite(
    folder: Path,
    record: ModelRecord,
    figures: dict[str, Any],
    files: Mapping[str, str | bytes] | None = None,
) -> None:
    """Replace model.json, metrics.json, card and manifest, and other `files` by their names.

    All are written completely before the first replaces its former version; raise OSError where
    that fails.
    """
    contents: dict[str, str | bytes] = dict(files or {})
    contents[METRICS_FILE] = metrics_json(figures)
    contents[CARD_FILE] = card.render(record, figures)
    write_folder(folder, record, contents)


def join_splits(figures: dict[str, Any], former: dict[str, Any]) -> dict[str, Any]:
    """Return metrics.json of a model from new figures of one split and its former content.

    Former figures of other weights are dropped; other former content of the same weights stays.
    """
    if former.get("model") != figures["model"]:
        former = {}
    required = figures.keys() - {*_ADDED}
    by_split = {}
    # Later figures of the same split replace earlier ones.
    for part in (former.get("validation", {}), former, figures):
        if required <= part.keys():
            split = part["data"].get("split")
            by_split[split] = {key: part[key] for key in figures if key in part}
    if "test" not in by_split:
        return {**former, **figures}
    joined = {**former, **by_split["test"]}
    if "validation" in by_split:
        joined["validation"] = by_split["validation"]
    return joined


def operating_points(figures: dict[str, Any]) -> tuple[OperatingPoint, ...]:
    """Return the operating points of metrics.json with the split that they were measured on.

    Raise ModelInvalid where they are not defined: without a malignant or a benign image.
    """
    split = figures["data"]["split"]
    try:
        points = tuple(
            OperatingPoint.from_json({**point, "split": split})
            for point in figures["operating_points"]
        )
    except (TypeError, ValueError) as error:
        raise ModelInvalid(
            f"Expected sensitivity and specificity of each threshold on the {split} split "
            f"but: {error}. Measure on malignant and benign images."
        ) from error
    return points


def model_facts(record: ModelRecord) -> dict[str, str]:
    """Return the entry `model` of metrics.json."""
    return {
        "name": record.name,
        "version": record.version,
        "weights_sha256": record.weights_sha256,
    }


def metrics_json(figures: dict[str, Any]) -> str:
    """Return metrics as strict JSON text, small and readable with one line for each key."""
    lines: list[str] = []
    for key, value in figures.items():
        name = json.dumps(key)
        content = json.dumps(value, allow_nan=False, ensure_ascii=False)
        lines.append(f"  {name}: {content}")
    body = ",\n".join(lines)
    return f"{{\n{body}\n}}\n"
