"""Reads and writes metrics.json, the metrics of a model.

The record and the card of a model take their metrics from it. `evaluate` writes such a file too,
for any labelled set: `EvaluationMetrics`. The types of all keys are in `metrics.summary_schema` and
`metrics.conditions_schema`.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from cadlib import command_hints
from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import convert, parse
from cadlib.metrics.conditions_schema import (
    AcrossArchives,
    NoveltyProof,
    Robustness,
    SaliencyMetrics,
    SimilarCases,
    UnknownCounts,
)
from cadlib.metrics.operating_point import OperatingPoint
from cadlib.metrics.summary_schema import (
    DataFacts,
    EvaluationMetrics,
    MetricsObject,
    ModelFacts,
    Split,
)
from cadlib.model import card
from cadlib.model.record import (
    CARD_FILE,
    METRICS_FILE,
    ModelRecord,
    read_checked,
    write_folder,
)

# An earlier version did not write these keys; its figures stay usable without them.
_ADDED = ("n_malignant", "malignant_ece", "malignant_reliability")


class SplitFacts(DataFacts, frozen=True, kw_only=True):
    """The images of a part of the model's own split."""

    split: Split


class SplitMetrics(EvaluationMetrics, frozen=True, kw_only=True):
    """The metrics of a model on a part of its own split."""

    model: ModelFacts
    data: SplitFacts
    rejected: dict[str, str]


class Metrics(SplitMetrics, frozen=True, kw_only=True):
    """The whole of metrics.json in a model folder.

    The metrics of the test split lead once it was read, before that those of validation. A section
    that was not measured for these weights is None.
    """

    validation: SplitMetrics | None = None
    """The metrics of the validation split, where those of the test split lead."""
    robustness: Robustness | None = None
    saliency: SaliencyMetrics | None = None
    neighbours: SimilarCases | None = None
    novelty: UnknownCounts | None = None
    novelty_proof: NoveltyProof | None = None
    across_archives: AcrossArchives | None = None


def read(folder: Path, name: str | None = None) -> Metrics | None:
    """Return metrics.json of a model folder, None where the model has none.

    `name` is that of the model for the command in an error; without it, that of the folder. Raise
    ModelInvalid where the file changed since it was written, or where a field is wrong.
    """
    data = read_checked(folder, METRICS_FILE)
    if data is None:
        return None
    return parse_metrics(data, folder / METRICS_FILE, name or folder.name)


def parse_metrics(data: bytes, path: Path, name: str) -> Metrics:
    """Return the metrics in the bytes of a metrics.json; see `read`."""
    try:
        return convert(parse(data, path), Metrics, path)
    except ModelInvalid as error:
        command = command_hints.evaluate_into(name)
        raise ModelInvalid(f"{error} Or measure the model again: `{command}`.") from error


def to_json_dict(metrics: MetricsObject) -> dict[str, Any]:
    """Return metrics as the JSON object that metrics.json holds."""
    # Through the text, so that a tuple becomes a list, as in the file.
    content: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(metrics))
    return content


def measured(folder: Path, record: ModelRecord) -> dict[str, Any]:
    """Return metrics.json of a model folder.

    Raise ModelInvalid when it is missing or of other weights.
    """
    metrics = read(folder, record.name)
    if metrics is None:
        raise ModelInvalid(
            f"Expected {folder / METRICS_FILE}, but this model has none. "
            "Evaluate the model, or restore it."
        )
    if metrics.model.weights_sha256 != record.weights_sha256:
        command = command_hints.evaluate_into(record.name)
        raise ModelInvalid(
            f"Expected {folder / METRICS_FILE} to be of the model's weights, "
            f"{record.weights_sha256[:16]}…, but it is of others; "
            f"measure the model again with `{command}`."
        )
    return to_json_dict(metrics)


def write_into(folder: Path, record: ModelRecord, figures: dict[str, Any]) -> None:
    """Store figures of a split in a model folder: in metrics.json, operating points and card.

    Figures of the test split lead metrics.json, and those of validation move to the key
    "validation", in whatever order they were measured. The thresholds stay; their sensitivity and
    specificity are those of the leading split. May raise OSError, as `rewrite`.
    """
    former = read(folder, record.name)
    joined = join_splits(figures, to_json_dict(former) if former else {})
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
