"""A model's own figures: metrics.json of its folder, from which its record and its card have theirs.

`evaluate` writes such a file too, for any labelled set. It is what `summary.summarise` returns (the figures, their
intervals and curves), and:

    n, n_malignant        images behind the figures of malignancy, and how many of them are malignant; all other
                          figures are over the images with a diagnosis, as many as `n_by_class` adds up to
    unlabelled, unknown   images that were predicted and not counted: without a label, with UNK
    operating_points      the model's thresholds and what they do here: sensitivity, specificity, how many
    prediction_sets       what the model's prediction sets do here: see `summary.measured_sets`; not with metadata
    validation            in a model folder, once the test split was read: the same figures of the validation split
    subgroups             the summary without its curves, by size of the image, archive, age, sex and site
    model, data           which weights, which images: of which split, of which subset by its name and its hash
    metadata              with metadata only: images it moved, how many have another top diagnosis, by how much
                          the malignant probability changed in the mean
    rejected              image id -> why it could not be read
    robustness            what damage costs, where `robustness.measure` measured it for these weights
    neighbours            in a model folder: how often similar cases have the true diagnosis (see `neighbours.fitting`)
    saliency              how far the heatmaps may be trusted, where `sanity.measure` measured it for these weights
    novelty               in a model folder: how many images are called unknown (see `novelty.fitting`)
    novelty_proof         in a model folder: how well that is found, where `benchmarks/novelty.py` measured it
    across_archives       in a model folder: what other networks lost on an archive left out of training (see `across`)
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

_ADDED = ("n_malignant", "malignant_ece", "malignant_reliability")
"""Keys that an earlier version did not write; its figures stay usable without them."""


def measured(folder: Path, record: ModelRecord) -> dict[str, Any]:
    """Return metrics.json of a model folder; raise ModelInvalid when it is missing or of other weights."""
    figures = read_checked_json(folder, METRICS_FILE)
    if figures.get("model", {}).get("weights_sha256") != record.weights_sha256:
        raise ModelInvalid(
            f"Expected {folder / METRICS_FILE} to be of the model's weights, {record.weights_sha256[:16]}…, but it is "
            f"of others; measure the model anew with `{command_hints.evaluate_into(record.name)}`."
        )
    return figures


def write_into(folder: Path, record: ModelRecord, figures: dict[str, Any]) -> None:
    """Make figures of a split the model's own: in metrics.json, its operating points and its card.

    Figures of the test split lead metrics.json, those of validation stand under "validation" then, whichever were
    measured last. The thresholds stay; what they do is that of the split that leads. May raise OSError, as `rewrite`.
    """
    has_figures = read_checked(folder, METRICS_FILE) is not None
    figures = join_splits(figures, read_checked_json(folder, METRICS_FILE) if has_figures else {})
    rewrite(folder, replace(record, operating_points=operating_points(figures)), figures)


def rewrite(
    folder: Path,
    record: ModelRecord,
    figures: dict[str, Any],
    files: Mapping[str, str | bytes] | None = None,
) -> None:
    """Replace model.json, metrics.json, card and manifest of a model folder, and other `files` by their names.

    All are written whole before the first takes its place; raise OSError where that fails.
    """
    own = {METRICS_FILE: metrics_json(figures), CARD_FILE: card.render(record, figures)}
    write_folder(folder, record, {**(files or {}), **own})


def join_splits(figures: dict[str, Any], former: dict[str, Any]) -> dict[str, Any]:
    """Return metrics.json of a model from new figures of one split and what it said before.

    What the former says of other weights is dropped; what else it has of the same ones stays.
    """
    if former.get("model") != figures["model"]:
        former = {}
    by_split = {}
    for part in (former.get("validation", {}), former, figures):
        if figures.keys() - {*_ADDED} <= part.keys():
            by_split[part["data"].get("split")] = {key: part[key] for key in figures if key in part}
    if "test" not in by_split:
        return {**former, **figures}
    others = {"validation": by_split["validation"]} if "validation" in by_split else {}
    return {**former, **by_split["test"], **others}


def operating_points(figures: dict[str, Any]) -> tuple[OperatingPoint, ...]:
    """Return the operating points of metrics.json with the split that they were measured on.

    Raise ModelInvalid where they are not defined there: without a malignant or a benign image.
    """
    split = figures["data"]["split"]
    try:
        return tuple(
            OperatingPoint.from_json({**point, "split": split})
            for point in figures["operating_points"]
        )
    except (TypeError, ValueError) as error:
        raise ModelInvalid(
            f"Expected sensitivity and specificity of each threshold on the {split} split but: {error}. "
            "Measure on malignant and benign images."
        ) from error


def model_facts(record: ModelRecord) -> dict[str, str]:
    """Return what metrics.json says of the model."""
    return {"name": record.name, "version": record.version, "weights_sha256": record.weights_sha256}


def metrics_json(figures: dict[str, Any]) -> str:
    """Return metrics as strict JSON text, one line a key, so that it is small and can be read."""
    lines = (
        f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False, ensure_ascii=False)}"
        for key, value in figures.items()
    )
    return "{\n" + ",\n".join(lines) + "\n}\n"
