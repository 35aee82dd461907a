"""Reads and writes metrics.json, the metrics of a model.

The record and the card of a model take their metrics from it. `evaluate` writes such a file too,
for any labelled set: `EvaluationMetrics`. The types of all keys are in `metrics.summary_schema` and
`metrics.conditions_schema`.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

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
from cadlib.metrics.cross_validation import CrossValidation
from cadlib.metrics.operating_point import OperatingPoint
from cadlib.metrics.summary_schema import (
    DataFacts,
    EvaluationMetrics,
    MetricsObject,
    ModelFacts,
)
from cadlib.model import card
from cadlib.model.record import (
    CARD_FILE,
    METRICS_FILE,
    ModelRecord,
    read_checked,
    write_folder,
)

_log = logging.getLogger(__name__)


class SplitFacts(DataFacts, frozen=True, kw_only=True):
    """The images of a part of the model's own split."""

    split: Literal["validation", "test"]


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
    cross_validation: CrossValidation | None = None


_SECTIONS = (
    "robustness",
    "saliency",
    "neighbours",
    "novelty",
    "novelty_proof",
    "across_archives",
    "cross_validation",
)
"""Fields of `Metrics` that an evaluation does not write."""


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
        content = parse(data, path)
        return convert(content, Metrics, path)
    except ModelInvalid as error:
        command = command_hints.evaluate_into(name)
        advice = f"Or measure the model again: `{command}`."
        raise ModelInvalid(f"{error} {advice}") from error


def measured(folder: Path, record: ModelRecord) -> Metrics:
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
    return metrics


def write_into(folder: Path, record: ModelRecord, metrics: SplitMetrics) -> None:
    """Store metrics of a split in a model folder: in metrics.json, operating points and card.

    Metrics of the test split lead metrics.json, and those of validation move to `validation`, in
    whatever order they were measured. The thresholds stay; their sensitivity and specificity are
    those of the leading split. Former content that this version cannot use is replaced, with a
    warning. May raise OSError, as `rewrite`.
    """
    joined = join_splits(metrics, _former_metrics(folder, record))
    points = operating_points(joined)
    rewrite(folder, msgspec.structs.replace(record, operating_points=points), joined)


def _former_metrics(folder: Path, record: ModelRecord) -> Metrics | None:
    """Return metrics.json of a model folder, None where it has none that can be used."""
    # A file that changed since it was written is refused here: see `read_checked`.
    data = read_checked(folder, METRICS_FILE)
    if data is None:
        return None
    try:
        return parse_metrics(data, folder / METRICS_FILE, record.name)
    except ModelInvalid as error:
        # To measure again is what the message advises, so this must not stop it.
        _log.warning("The former metrics are replaced as a whole. %s", error)
        return None


def rewrite(
    folder: Path,
    record: ModelRecord,
    metrics: Metrics,
    files: Mapping[str, str | bytes] | None = None,
) -> None:
    """Replace model.json, metrics.json, card and manifest, and other `files` by their names.

    All are written completely before the first replaces its former version; raise OSError where
    that fails.
    """
    contents: dict[str, str | bytes] = {}
    if files is not None:
        contents.update(files)
    contents[METRICS_FILE] = metrics_json(metrics)
    contents[CARD_FILE] = card.render(record, metrics)
    write_folder(folder, record, contents)


def split_metrics(metrics: EvaluationMetrics) -> SplitMetrics:
    """Return the metrics of an evaluation as those of a part of the model's own split.

    Raise ValueError for other images, and for predictions of a file.
    """
    data = metrics.data
    is_own = data is not None and data.split in ("validation", "test")
    if metrics.model is None or data is None or not is_own:
        raise ValueError("Expected the metrics of a model on a part of its own split.")
    values = msgspec.structs.asdict(metrics)
    values["data"] = SplitFacts(**msgspec.structs.asdict(data))
    values["rejected"] = metrics.rejected or {}
    return SplitMetrics(**values)


def join_splits(new: SplitMetrics, former: Metrics | None) -> Metrics:
    """Return metrics.json of a model from new metrics of one split and its former content.

    Former metrics of other weights are dropped; other former content of the same weights stays.
    """
    # Metrics of another model say nothing about this one.
    if former is not None and former.model != new.model:
        former = None
    by_split: dict[str, SplitMetrics] = {}
    # Later metrics of the same split replace earlier ones.
    for metrics in (former, new):
        validation = getattr(metrics, "validation", None)
        for part in (validation, metrics):
            if part is not None:
                by_split[part.data.split] = part
    leading = by_split.get("test", new)
    validation = by_split.get("validation")
    second = None
    if validation is not None and validation is not leading:
        # Metrics that led metrics.json so far have sections, which stay at the top.
        second = SplitMetrics(**_split_values(validation))
    return Metrics(
        **_split_values(leading),
        **_joined_sections(new, former),
        validation=second,
    )


def _split_values(metrics: SplitMetrics) -> dict[str, Any]:
    """Return the fields of metrics that belong to their split alone."""
    return {name: getattr(metrics, name) for name in SplitMetrics.__struct_fields__}


def _joined_sections(new: SplitMetrics, former: Metrics | None) -> dict[str, Any]:
    """Return the sections that `new` has, and those of the former content that it has not."""
    sections = {}
    for name in _SECTIONS:
        # An evaluation has none of them, but metrics that were read from a file may.
        section = getattr(new, name, None)
        sections[name] = section or getattr(former, name, None)
    return sections


def operating_points(metrics: SplitMetrics) -> tuple[OperatingPoint, ...]:
    """Return the operating points of metrics.json with the split that they were measured on.

    Raise ModelInvalid where they are not defined: without a malignant or a benign image.
    """
    split = metrics.data.split
    try:
        points = [OperatingPoint.of(point, split) for point in metrics.operating_points]
    except ValueError as error:
        raise ModelInvalid(
            f"Expected sensitivity and specificity of each threshold on the {split} split "
            f"but: {error} Measure on malignant and benign images."
        ) from error
    return tuple(points)


def model_facts(record: ModelRecord) -> ModelFacts:
    """Return the entry `model` of metrics.json."""
    return ModelFacts(
        name=record.name,
        version=record.version,
        weights_sha256=record.weights_sha256,
    )


def metrics_json(metrics: MetricsObject | Mapping[str, MetricsObject]) -> str:
    """Return metrics as strict JSON text, small and readable with one line for each key."""
    lines: list[str] = []
    for key, value in msgspec.to_builtins(metrics).items():
        name = json.dumps(key)
        content = json.dumps(value, allow_nan=False, ensure_ascii=False)
        lines.append(f"  {name}: {content}")
    body = ",\n".join(lines)
    return f"{{\n{body}\n}}\n"
