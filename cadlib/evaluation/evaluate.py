"""How good a model is on a labelled set: a prediction for every image, and figures over those with a label.

An image without a label, or with UNK (no output of the network), is predicted and not counted; one that is only known
to be malignant or benign counts in the figures of malignancy. An image that cannot be read is named with the reason.
What the keys of the figures mean stands in `own_figures`.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cadlib.data.dataset import Dataset, short_sides
from cadlib.data.predictions_csv import PREDICTIONS_FILE, predictions_table
from cadlib.data.splits import lesion_groups
from cadlib.errors import ImageRejected
from cadlib.evaluation.image_selection import ALL, Part
from cadlib.files.spreadsheets import safe_table
from cadlib.images import LesionImage, read_images
from cadlib.images.patient import design_of
from cadlib.metrics import classification as metrics
from cadlib.metrics.challenge_classes import merged_partial_labels, merged_probabilities, named
from cadlib.metrics.classification import Floats
from cadlib.metrics.operating_point import Threshold
from cadlib.metrics.partial_labels import PartialLabels, has_label
from cadlib.metrics.summary import measured_point, measured_sets, summarise
from cadlib.metrics.tables import metrics_table
from cadlib.model import calibration
from cadlib.model.metadata import MetadataEvidence, add_evidence
from cadlib.model.metrics_file import metrics_json, model_facts
from cadlib.model.model import Model, Prediction
from cadlib.model.novelty import Novelty
from cadlib.model.record import METRICS_FILE, ConformalSets, ModelRecord
from cadlib.progress import Progress, no_progress
from cadlib.taxonomy import CODES, ISIC_2019, UNKNOWN, Classes

_CURVES = ("roc", "reliability", "malignant_reliability")
AGE_BANDS = (0, 30, 45, 60, 75, 121)
"""Years; a band holds its first and not its last."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model said of each image, and how good that was.

    `predictions` has one row per readable image in ISIC's columns: image, the eight codes (probabilities) and UNK, by
    `Novelty.unknown_share`; 0 for a model that cannot tell. `metrics` is the content of metrics.json. `str()` is the
    table for a terminal.
    """

    predictions: pd.DataFrame
    metrics: dict[str, Any]

    @property
    def rejected(self) -> dict[str, str]:
        """Return the images that could not be read: id -> reason."""
        return dict(self.metrics["rejected"])

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write predictions.csv and metrics.json, both whole or neither; raise OSError where that fails."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".evaluation-") as aside:
            safe_table(self.predictions).to_csv(Path(aside, PREDICTIONS_FILE), index=False)
            Path(aside, METRICS_FILE).write_text(metrics_json(self.metrics), encoding="utf-8")
            for name in (PREDICTIONS_FILE, METRICS_FILE):
                Path(aside, name).replace(folder / name)

    def __str__(self) -> str:
        lines = [metrics_table(self.metrics)]
        if moved := self.metrics.get("metadata"):
            counts = (
                f"{moved['images']:,} images, {moved['other_top']:,} of them to another diagnosis"
            )
            change = (
                f"the malignant probability by {moved['mean_change_of_malignant']:.3f} in the mean"
            )
            lines += ["", f"age, sex and site moved {counts}, {change}"]
        if self.rejected:
            lines += [
                "",
                "could not be read",
                *(f"{image}  {why}" for image, why in self.rejected.items()),
            ]
        return "\n".join(lines)


def evaluate(
    model: Model,
    dataset: Dataset,
    progress: Progress = no_progress,
    batch_size: int = 32,
    classes: Classes = ISIC_2019,
    *,
    part: Part = ALL,
    with_metadata: bool = False,
) -> Evaluation:
    """Predict every image of a dataset and compare with its labels.

    `progress` is called with the images done and their number. The next images are decoded while the network
    works on the last. `part` says which images of a data set these are, `classes` which classes are measured.
    `with_metadata` adds what the model says of age, sex and site. Raise ValueError for labels that are no diagnosis of
    ISIC 2019, and FactsRejected for a model that takes no metadata.
    """
    if batch_size < 1:
        raise ValueError(f"Expected `batch_size` to be at least 1 but got {batch_size}.")
    evidence = model.record.required_evidence() if with_metadata else None
    predicted, predictions, rejected = predict_table(model, dataset.table, progress, batch_size)
    return judge(
        model.record,
        replace(dataset, table=predicted),
        probabilities_of(predictions),
        rejected,
        [one.novelty for one in predictions],
        part=part,
        classes=classes,
        evidence=evidence,
    )


def judge(
    record: ModelRecord,
    dataset: Dataset,
    probabilities: Floats,
    rejected: dict[str, str],
    novelty: Sequence[Novelty | None],
    *,
    part: Part = ALL,
    classes: Classes = ISIC_2019,
    evidence: MetadataEvidence | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Compare what a model said of each image of a dataset, (N, 8), with its labels; `evaluate` has the rest.

    `rejected` has the images that could not be read, which have no row: id -> reason; `novelty` is that of each row.
    The model's `evidence` is added where it is given. `progress` is that of `build_metrics`.
    """
    table = dataset.table
    uncalibrated = calibration.uncalibrated(
        probabilities, record.temperature.of(short_sides(table)), record.bias
    )
    points, more = record.operating_points, dict[str, Any]()
    if evidence and record.metadata:
        image_alone, points = probabilities, record.metadata.operating_points
        probabilities = add_evidence(image_alone, evidence.logits_of(design_of(table)))
        more = {"metadata": _moved(image_alone, probabilities)}
    return Evaluation(
        predictions_table(
            table["image"], probabilities, [one.unknown_share if one else 0.0 for one in novelty]
        ),
        {
            **build_metrics(
                table,
                probabilities,
                points,
                classes=classes,
                uncalibrated=uncalibrated,
                sets=None if evidence or classes is not ISIC_2019 else record.conformal,
                progress=progress,
            ),
            **more,
            "model": model_facts(record),
            "data": data_facts(dataset, len(table), part),
            "rejected": rejected,
        },
    )


def predict_table(
    model: Model, table: pd.DataFrame, progress: Progress = no_progress, batch_size: int = 32
) -> tuple[pd.DataFrame, list[Prediction], dict[str, str]]:
    """Return the rows whose image can be read, what the model says of each, and why the others cannot."""
    rejected, rows = dict[str, str](), list[int]()

    def readable() -> Iterator[LesionImage]:
        for row, image in enumerate(read_images(table["path"])):
            if isinstance(image, ImageRejected):
                rejected[table["image"].iloc[row]] = str(image)
            else:
                rows.append(row)
                yield image

    images, predictions = readable(), list[Prediction]()
    while len(rows) + len(rejected) < len(table):
        predictions += model.predict_batch(islice(images, batch_size), batch_size)
        progress("images", len(rows) + len(rejected), len(table))
    return table.iloc[rows].reset_index(drop=True), predictions, rejected


def probabilities_of(predictions: Sequence[Prediction]) -> NDArray[np.float64]:
    """Return the probabilities of N predictions, (N, 8)."""
    return np.array([one.probabilities for one in predictions], np.float64).reshape(-1, len(CODES))


def evaluate_predictions(
    dataset: Dataset,
    probabilities: NDArray[np.float64],
    classes: Classes = ISIC_2019,
    unknown: ArrayLike = 0.0,
    *,
    part: Part = ALL,
) -> Evaluation:
    """Compare (N, 8) probabilities that were written before, a row a row of the dataset's table, with its labels.

    `unknown`, (N,), is the UNK that stood beside them, to be written again; `part` says which images these are.
    """
    figures = build_metrics(dataset.table, probabilities, classes=classes)
    facts = {"data": data_facts(dataset, len(dataset.table), part), "rejected": {}}
    return Evaluation(
        predictions_table(dataset.table["image"], probabilities, unknown), figures | facts
    )


def data_facts(dataset: Dataset, images: int, part: Part) -> dict[str, Any]:
    """Return `data` of metrics.json: of which data set, and of which images of it, `images` could be read.

    `warning` is there where most of the images look as if red and blue were swapped.
    """
    facts = {"name": dataset.name, **part.facts, "images": images}
    if dataset.report.channel_order.warning:
        facts["warning"] = dataset.report.channel_order.warning
    return facts


def build_metrics(
    table: pd.DataFrame,
    probabilities: NDArray[np.float64],
    thresholds: Sequence[Threshold] = (),
    *,
    classes: Classes = ISIC_2019,
    lesions: "pd.Series[int] | None" = None,
    uncalibrated: NDArray[np.float64] | None = None,
    sets: ConformalSets | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Return what metrics.json says of the figures, as plain JSON values, None where one is not defined.

    `table` is a dataset's, or rows of it, of which `partial_labels.has_label` chooses those that count;
    `probabilities`, and before calibration `uncalibrated`, are (N, 8)
    float64, one row a row of the table. `lesions` numbers the lesion of each row; without it the table's own
    lesion ids do. `classes` are those of the challenge whose figures these are; their codes are the keys. What the
    thresholds and the prediction sets, which are of all eight, do is measured on these images. `progress` is called
    with the subgroups done and their number.
    """
    if len(table) != len(probabilities):
        raise ValueError(
            f"Expected a row of `probabilities` for {len(table)} images but got {len(probabilities)}."
        )
    given = table["diagnosis"]
    if strange := sorted(set(given.dropna()) - {*CODES, UNKNOWN}):
        raise ValueError(
            f"Expected `diagnosis` to be one of {', '.join(CODES)}, {UNKNOWN} but got {strange}."
        )
    counted = has_label(table)
    labels = merged_partial_labels(PartialLabels.of_table(table[counted]), classes)
    unlabelled = int((~counted & given.isna().to_numpy(bool)).sum())
    lesions = lesion_groups(table) if lesions is None else lesions
    groups = np.unique(lesions.to_numpy()[counted], return_inverse=True)[1]
    before = None if uncalibrated is None else merged_probabilities(uncalibrated[counted], classes)
    table, probabilities = table[counted], merged_probabilities(probabilities[counted], classes)

    def summary(rows: NDArray[np.bool_]) -> dict[str, Any]:
        return summarise(
            labels[rows],
            probabilities[rows],
            groups[rows],
            None if before is None else before[rows],
        )

    parts = [(name, inside) for name, inside in subgroups(table) if inside.any()]

    def of_parts() -> Iterator[tuple[str, dict[str, Any]]]:
        for done, (name, inside) in enumerate(parts, start=1):
            yield name, _without_curves(summary(inside))
            progress("subgroups measured", done, len(parts))

    progress("subgroups measured", 0, len(parts))
    figures = {
        **summary(np.ones(len(labels), bool)),
        "unlabelled": unlabelled,
        "unknown": int((given == UNKNOWN).sum()),
        "operating_points": [
            measured_point(point, labels, probabilities, groups) for point in thresholds
        ],
        "subgroups": dict(of_parts()),
    }
    if sets:
        # Only of an image with a diagnosis can a set hold the true one.
        diagnosed = labels.diagnosed
        known = probabilities[diagnosed]
        groups_known = np.unique(groups[diagnosed], return_inverse=True)[1]
        figures["prediction_sets"] = measured_sets(
            sets.coverage, sets.of(known), labels.codes[diagnosed], known, groups_known
        )
    by_class: dict[str, Any] = named(figures, classes)
    return by_class


def _moved(before: Floats, after: Floats) -> dict[str, float]:
    """Progress how much the metadata moved: images with a known fact, those with another top, the mean change of p."""
    changed = (before != after).any(axis=1)
    tops = before.argmax(axis=1) != after.argmax(axis=1)
    risk = np.abs(metrics.malignant_probability(after) - metrics.malignant_probability(before))
    mean = float(risk[changed].mean()) if changed.any() else 0.0
    return {
        "images": int(changed.sum()),
        "other_top": int(tops.sum()),
        "mean_change_of_malignant": round(mean, 4),
    }


def subgroups(table: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield each subgroup of a dataset's table with which rows are in it, (N,): by size, archive, age, sex and site."""
    short_side = short_sides(table)
    yield f"short side ≥ {calibration.SMALL_PX} px", short_side >= calibration.SMALL_PX
    yield f"short side < {calibration.SMALL_PX} px", short_side < calibration.SMALL_PX
    yield from _by_value("archive", table["archive"])
    bands = pd.cut(table["age_approx"].astype("float64"), AGE_BANDS, right=False)
    names = {band: f"{band.left:.0f} to {band.right - 1:.0f}" for band in bands.cat.categories}
    yield from _by_value("age", bands.astype("object").map(names).astype("str"))
    yield from _by_value("sex", table["sex"])
    yield from _by_value("site", table["anatom_site_general"])


def _by_value(what: str, column: "pd.Series[str]") -> Iterator[tuple[str, NDArray[np.bool_]]]:
    for value in sorted(column.dropna().unique()):
        yield f"{what} {value}", (column == value).to_numpy(bool, na_value=False)
    yield f"{what} not known", column.isna().to_numpy(bool)


def _without_curves(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in _CURVES}
