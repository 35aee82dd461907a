"""Evaluates a model on a labelled set: predictions and metrics.

Every image gets a prediction; the metrics are over the labelled ones. An image without a label, or
with UNK (no output of the network), is not counted; an image that is only labelled as malignant or
benign counts in the metrics of malignancy. An image that cannot be read is listed with the reason.
`metrics.summary_schema` documents the metrics.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cadlib.data.age_bands import age_bands
from cadlib.data.dataset import Dataset, short_sides
from cadlib.data.predictions_csv import PREDICTIONS_FILE, predictions_table
from cadlib.data.splits import lesion_groups
from cadlib.evaluation.image_selection import ALL, Part
from cadlib.evaluation.model_outputs import BATCH_SIZE, model_outputs
from cadlib.evaluation.network_spread import network_spread
from cadlib.files.spreadsheets import safe_table
from cadlib.images.patient import design_of
from cadlib.metrics import classification
from cadlib.metrics.balanced_rule import BalancedRule
from cadlib.metrics.challenge_classes import merged_partial_labels, merged_probabilities, named
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.network_spread_table import spread_table
from cadlib.metrics.operating_point import Threshold
from cadlib.metrics.partial_labels import PartialLabels, has_label
from cadlib.metrics.summary import measured_point, measured_sets, summarise, without_curves
from cadlib.metrics.summary_schema import (
    DataFacts,
    EvaluationMetrics,
    FullSummary,
    MeasuredPoint,
    MetadataShift,
    PredictionSets,
)
from cadlib.metrics.tables import metrics_table
from cadlib.model import calibration
from cadlib.model.metadata import MetadataEvidence, add_evidence
from cadlib.model.metrics_file import metrics_json, model_facts
from cadlib.model.model import Model
from cadlib.model.novelty import Novelty
from cadlib.model.record import METRICS_FILE, ConformalSets, ModelRecord
from cadlib.progress import Progress, no_progress
from cadlib.progress import named as named_progress
from cadlib.taxonomy import CODES, ISIC_2019, UNKNOWN, Classes

Logits = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The predictions of a model for each image, and their metrics.

    `predictions` has one row per readable image in ISIC's columns: image, the eight codes
    (probabilities) and UNK, by `Novelty.unknown_share`; 0 for a model without a novelty detector.
    `metrics` is the content of metrics.json. `str()` is the table for a terminal.
    """

    predictions: pd.DataFrame
    metrics: EvaluationMetrics

    @property
    def rejected(self) -> dict[str, str]:
        """Return the images that could not be read: id -> reason."""
        return dict(self.metrics.rejected or {})

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write predictions.csv and metrics.json, both whole or neither.

        Raise OSError if that fails.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".evaluation-") as temporary:
            predictions = Path(temporary, PREDICTIONS_FILE)
            table = safe_table(self.predictions)
            table.to_csv(predictions, index=False)
            metrics = Path(temporary, METRICS_FILE)
            text = metrics_json(self.metrics)
            metrics.write_text(text, encoding="utf-8")
            # Both files are complete here, so that only moving them can still fail.
            predictions.replace(folder / PREDICTIONS_FILE)
            metrics.replace(folder / METRICS_FILE)

    def __str__(self) -> str:
        lines = [metrics_table(self.metrics)]
        shift = self.metrics.metadata
        if shift:
            lines.append("")
            lines.append(
                f"age, sex and site changed the result of {shift.images:,} images, "
                f"the top diagnosis of {shift.other_top:,}, "
                "and the malignant probability by "
                f"{shift.mean_change_of_malignant:.3f} on average"
            )
        spread = self.metrics.network_spread
        if spread:
            lines += ["", spread_table(spread)]
        if self.rejected:
            lines += ["", "could not be read"]
            for image, reason in self.rejected.items():
                lines.append(f"{image}  {reason}")
        return "\n".join(lines)


def evaluate(
    model: Model,
    dataset: Dataset,
    progress: Progress = no_progress,
    batch_size: int = BATCH_SIZE,
    classes: Classes = ISIC_2019,
    *,
    part: Part = ALL,
    with_metadata: bool = False,
) -> Evaluation:
    """Predict every image of a data set and compare the predictions with its labels.

    `progress` is called with the images done and their number. The outputs of the model are cached:
    see `model_outputs`. `part` says which images of a data set these are,
    `classes` which classes are measured. `with_metadata` adds the model's evidence from age, sex
    and site. Raise ValueError for labels that are no diagnosis of ISIC 2019, and FactsRejected for
    a model that uses no metadata.
    """
    if batch_size < 1:
        raise ValueError(f"Expected `batch_size` to be at least 1 but got {batch_size}.")
    evidence = None
    # A model without evidence is rejected before any image is read.
    if with_metadata:
        evidence = model.record.required_evidence()
    outputs = model_outputs(
        model,
        dataset.table,
        named_progress(progress, "images"),
        batch_size=batch_size,
        skip_unreadable=True,
    )
    table = outputs.readable(dataset.table)
    evaluation = judge(
        model.record,
        replace(dataset, table=table),
        outputs.logits,
        outputs.rejected,
        model.novelty(outputs.looks),
        part=part,
        classes=classes,
        evidence=evidence,
    )
    # The networks' probabilities are of the eight classes.
    if classes is not ISIC_2019:
        return evaluation
    spread = network_spread(model, table, outputs, evidence)
    metrics = msgspec.structs.replace(evaluation.metrics, network_spread=spread)
    return replace(evaluation, metrics=metrics)


def judge(
    record: ModelRecord,
    dataset: Dataset,
    logits: Logits,
    rejected: Mapping[str, str],
    novelty: Sequence[Novelty | None],
    *,
    part: Part = ALL,
    classes: Classes = ISIC_2019,
    evidence: MetadataEvidence | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Compare the (N, 8) logits of a data set's images with its labels.

    The parameters are those of `evaluate`, and: `rejected` has the images that could not be read
    and have no row: id -> reason; `novelty` is that of each row. The model's `evidence` is added if
    it is passed. `progress` is that of `build_metrics`.
    """
    table = dataset.table
    image_alone = _calibrated(record, table, logits)
    # The metrics before calibration are of the image alone, with or without metadata.
    uncalibrated = calibration.probabilities(logits, 1.0, calibration.NO_BIAS)
    probabilities = image_alone
    if evidence:
        added = evidence.logits_of(design_of(table))
        probabilities = add_evidence(image_alone, added)
    metrics = build_metrics(
        table,
        probabilities,
        _points(record, evidence),
        classes=classes,
        uncalibrated=uncalibrated,
        sets=None if evidence else _sets(record, classes),
        # The rule was fitted to images alone.
        balanced_rule=None if evidence else record.balanced_rule,
        progress=progress,
    )
    metrics = msgspec.structs.replace(
        metrics,
        metadata=_metadata_shift(image_alone, probabilities) if evidence else None,
        model=model_facts(record),
        data=data_facts(dataset, len(table), part),
        rejected=dict(rejected),
    )
    predictions = _predictions(table, probabilities, novelty)
    return Evaluation(predictions, metrics)


def _calibrated(record: ModelRecord, table: pd.DataFrame, logits: Logits) -> Floats:
    """Return the probabilities of the (N, 8) logits of the images of a table, (N, 8)."""
    temperature = record.temperature.of(short_sides(table))
    return calibration.probabilities(logits, temperature, record.bias)


def _points(record: ModelRecord, evidence: MetadataEvidence | None) -> Sequence[Threshold]:
    """Return the operating points for images alone, or for images with metadata."""
    # Metadata change the probabilities, so the thresholds for them were chosen separately.
    if evidence and record.metadata:
        return record.metadata.operating_points
    return record.operating_points


def _sets(record: ModelRecord, classes: Classes) -> ConformalSets | None:
    """Return the prediction sets, which are for the eight classes and for images alone."""
    # The sets have a quantile for each of the eight classes.
    return record.conformal if classes is ISIC_2019 else None


def _predictions(
    table: pd.DataFrame,
    probabilities: Floats,
    novelty: Sequence[Novelty | None],
) -> pd.DataFrame:
    """Return the predictions with UNK, which is 0 for a model without a novelty detector."""
    unknown_shares = []
    for judged in novelty:
        share = judged.unknown_share if judged else 0.0
        unknown_shares.append(share)
    return predictions_table(table["image"], probabilities, unknown_shares)


def evaluate_predictions(
    dataset: Dataset,
    probabilities: Floats,
    classes: Classes = ISIC_2019,
    unknown: ArrayLike = 0.0,
    *,
    part: Part = ALL,
) -> Evaluation:
    """Compare (N, 8) probabilities from a file, one row a row of the table, with the labels.

    `unknown`, (N,), is the UNK of the file, which is written again; `part` says which images these
    are.
    """
    table = dataset.table
    metrics = msgspec.structs.replace(
        build_metrics(table, probabilities, classes=classes),
        data=data_facts(dataset, len(table), part),
        rejected={},
    )
    predictions = predictions_table(table["image"], probabilities, unknown)
    return Evaluation(predictions, metrics)


def data_facts(
    dataset: Dataset,
    images: int,
    part: Part,
) -> DataFacts:
    """Return `data` of metrics.json: the data set, the part of it, and the readable images.

    `images` is the number of readable images.
    """
    return DataFacts(
        name=dataset.name,
        split=part.split,
        subset=part.subset_facts,
        images=images,
        # Empty where red and blue look swapped in few images or none.
        warning=dataset.report.channel_order.warning or None,
    )


def build_metrics(
    table: pd.DataFrame,
    probabilities: Floats,
    thresholds: Sequence[Threshold] = (),
    *,
    classes: Classes = ISIC_2019,
    lesions: "pd.Series[int] | None" = None,
    uncalibrated: Floats | None = None,
    sets: ConformalSets | None = None,
    balanced_rule: BalancedRule | None = None,
    progress: Progress = no_progress,
) -> EvaluationMetrics:
    """Return the metrics of metrics.json, None if one is not defined; without the facts about them.

    `table` is a data set's, or rows of it; `partial_labels.has_label` chooses the rows that count.
    `probabilities`, and before calibration `uncalibrated`, are (N, 8) float64, one row a row of the
    table. `lesions` numbers the lesion of each row; without it the lesion ids of the table do.
    `classes` are those of the challenge that is measured; their codes are the keys. The operating
    points of the thresholds, and the prediction sets, which are of all eight classes, are measured
    on these images. So is the balanced accuracy by the `balanced_rule`. `progress` is called with
    the subgroups done and their number.
    """
    _check(table, probabilities)
    # An image that is only known to be malignant or benign has a label too.
    counted = has_label(table)
    n_unlabelled, n_unknown = _not_counted(table, counted)
    by_rule = balanced_rule.adjusted(probabilities) if balanced_rule else None
    images = _labelled_images(
        table, counted, probabilities, uncalibrated, by_rule, lesions, classes
    )
    parts = images.subgroups()
    # The summary of all images takes a while, so the number of subgroups is reported before it.
    progress("subgroups measured", 0, len(parts))
    summary = named(images.summary(), classes)
    subgroups_by_name = {}
    for name, part in images.subgroup_summaries(parts, progress).items():
        subgroups_by_name[name] = without_curves(named(part, classes))
    return EvaluationMetrics(
        **msgspec.structs.asdict(summary),
        unlabelled=n_unlabelled,
        unknown=n_unknown,
        operating_points=images.operating_points(thresholds),
        subgroups=subgroups_by_name,
        prediction_sets=images.prediction_sets(sets) if sets else None,
    )


def _not_counted(table: pd.DataFrame, counted: Mask) -> tuple[int, int]:
    """Return how many images have no label, and how many the label UNK, which does not count."""
    has_no_diagnosis = table["diagnosis"].isna().to_numpy(bool)
    unlabelled = ~counted & has_no_diagnosis
    unknown = table["diagnosis"] == UNKNOWN
    return int(unlabelled.sum()), int(unknown.sum())


@dataclass(frozen=True, eq=False)
class _LabelledImages:
    """The N images that are measured, with one row of `table` each.

    `probabilities`, before calibration `uncalibrated` and by the balanced rule `by_rule`, are
    (N, 8) float64. `groups` is (N,) int, the number of the lesion of each image, from 0 and without
    a gap.
    """

    table: pd.DataFrame
    labels: PartialLabels
    probabilities: Floats
    groups: Labels
    uncalibrated: Floats | None
    by_rule: Floats | None

    def summary(self, rows: Mask | None = None) -> FullSummary:
        """Return all metrics of some rows, (N,), or of all."""
        if rows is None:
            rows = np.ones(len(self.labels), bool)
        uncalibrated = None
        if self.uncalibrated is not None:
            uncalibrated = self.uncalibrated[rows]
        return summarise(
            self.labels[rows],
            self.probabilities[rows],
            self.groups[rows],
            uncalibrated,
            None if self.by_rule is None else self.by_rule[rows],
        )

    def operating_points(self, thresholds: Sequence[Threshold]) -> tuple[MeasuredPoint, ...]:
        """Return the metrics of each threshold."""
        points = []
        for threshold in thresholds:
            point = measured_point(
                threshold,
                self.labels,
                self.probabilities,
                self.groups,
            )
            points.append(point)
        return tuple(points)

    def subgroups(self) -> list[tuple[str, Mask]]:
        """Return the subgroups that have images: name and rows, (N,)."""
        parts = []
        for part in subgroups(self.table):
            _, inside = part
            # Without images, no metric is defined.
            if inside.any():
                parts.append(part)
        return parts

    def subgroup_summaries(
        self,
        parts: Sequence[tuple[str, Mask]],
        progress: Progress,
    ) -> dict[str, FullSummary]:
        """Return the metrics of each subgroup by its name."""
        summaries = {}
        for done, (name, inside) in enumerate(parts, start=1):
            summaries[name] = self.summary(inside)
            progress("subgroups measured", done, len(parts))
        return summaries

    def prediction_sets(self, sets: ConformalSets) -> PredictionSets:
        """Return the metrics of the prediction sets."""
        # A set can only contain the true diagnosis of an image that has one.
        diagnosed = self.labels.diagnosed
        probabilities = self.probabilities[diagnosed]
        return measured_sets(
            sets.coverage,
            sets.of(probabilities),
            self.labels.codes[diagnosed],
            probabilities,
            _numbered(self.groups[diagnosed]),
        )


def _labelled_images(
    table: pd.DataFrame,
    counted: Mask,
    probabilities: Floats,
    uncalibrated: Floats | None,
    by_rule: Floats | None,
    lesions: "pd.Series[int] | None",
    classes: Classes,
) -> _LabelledImages:
    """Return the rows that are `counted`, (N,), with the diagnoses of each class merged."""
    if lesions is None:
        lesions = lesion_groups(table)
    labels = PartialLabels.of_table(table[counted])
    merged_uncalibrated = None
    if uncalibrated is not None:
        merged_uncalibrated = merged_probabilities(uncalibrated[counted], classes)
    merged_by_rule = None
    if by_rule is not None:
        merged_by_rule = merged_probabilities(by_rule[counted], classes)
    return _LabelledImages(
        table=table[counted],
        labels=merged_partial_labels(labels, classes),
        probabilities=merged_probabilities(probabilities[counted], classes),
        groups=_numbered(lesions.to_numpy()[counted]),
        uncalibrated=merged_uncalibrated,
        by_rule=merged_by_rule,
    )


def _check(table: pd.DataFrame, probabilities: Floats) -> None:
    if len(table) != len(probabilities):
        raise ValueError(
            f"Expected a row of `probabilities` for {len(table)} images "
            f"but got {len(probabilities)}."
        )
    diagnoses = set(table["diagnosis"].dropna())
    strange = sorted(diagnoses - {*CODES, UNKNOWN})
    if strange:
        raise ValueError(
            f"Expected `diagnosis` to be one of {', '.join(CODES)}, {UNKNOWN} but got {strange}."
        )


def _numbered(groups: Labels) -> Labels:
    """Return the number of the lesion of each image, (N,), from 0 and without a gap."""
    numbers: Labels = np.unique(groups, return_inverse=True)[1]
    return numbers


def _metadata_shift(before: Floats, after: Floats) -> MetadataShift:
    """Count how metadata changed the probabilities, (N, 8) before and after."""
    changed = (before != after).any(axis=1)
    top_before = before.argmax(axis=1)
    top_after = after.argmax(axis=1)
    other_top = top_before != top_after
    risk_before = classification.malignant_probability(before)
    risk_after = classification.malignant_probability(after)
    # Absolute, because rises and falls must not cancel out.
    change = np.abs(risk_after - risk_before)
    mean = 0.0
    if changed.any():
        changes = change[changed]
        mean = float(changes.mean())
    return MetadataShift(
        images=int(changed.sum()),
        other_top=int(other_top.sum()),
        mean_change_of_malignant=round(mean, 4),
    )


def subgroups(table: pd.DataFrame) -> Iterator[tuple[str, Mask]]:
    """Yield each subgroup of a data set's table: its name and which rows are in it, (N,).

    The subgroups are by size, archive, age, sex and site.
    """
    # The calibration differs above and below this size.
    limit_px = calibration.SMALL_PX
    short_side_px = short_sides(table)
    yield f"short side ≥ {limit_px} px", short_side_px >= limit_px
    yield f"short side < {limit_px} px", short_side_px < limit_px
    yield "short side not known", np.isnan(short_side_px)
    yield from _by_value("archive", table["archive"])
    yield from _by_value("age", age_bands(table["age_approx"]))
    yield from _by_value("sex", table["sex"])
    yield from _by_value("site", table["anatom_site_general"])


def _by_value(
    attribute: str,
    column: "pd.Series[str]",
) -> Iterator[tuple[str, Mask]]:
    present = column.dropna()
    values = sorted(present.unique())
    for value in values:
        inside = (column == value).to_numpy(bool, na_value=False)
        yield f"{attribute} {value}", inside
    # Images without a value are a subgroup of their own.
    missing = column.isna()
    yield f"{attribute} not known", missing.to_numpy(bool)
