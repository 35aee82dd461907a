"""Caches the evaluation of a model on a labelled set on disk.

A set is a data set, a split or a subset of one: any `Dataset`. Its evaluation is in a folder of
`cache_dir` whose name depends on model and images: predictions.csv and metrics.json, as
`python -m cadlib evaluate` writes them. That metrics.json has one more key, `gaps`: the result of
`subgroup_gaps.gaps` at the model's usual operating point. `model_outputs` runs the model, so an
image that was already computed for the map, the suspects or another set is not computed again.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from cadlib.data.dataset import Dataset
from cadlib.data.label_check import check_labelled
from cadlib.data.predictions_csv import PREDICTIONS_FILE, read_predictions
from cadlib.data.splits import lesion_groups
from cadlib.errors import DatasetInvalid
from cadlib.evaluation.evaluate import data_facts, judge, subgroups
from cadlib.evaluation.image_selection import ALL, Part
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.files.cache import Cache, CacheEntry, file_facts
from cadlib.files.typed_json import convert
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.model_comparison import Answers, Comparison, compare
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT
from cadlib.metrics.partial_labels import PartialLabels, has_label
from cadlib.metrics.subgroup_gaps import gaps
from cadlib.metrics.summary_schema import EvaluationMetrics, SubgroupGap
from cadlib.model.model import Model
from cadlib.model.record import METRICS_FILE, ModelRecord, read_json
from cadlib.progress import Progress, named
from cadlib.taxonomy import CODES

METRICS_VERSION = 3
"""Increased with the content of metrics.json, so that an older evaluation is computed again."""
_EVALUATIONS = Cache("evaluations")


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The N labelled images of a set that could be read, with (N, 8) float64 probabilities.

    An image is labelled if it has a diagnosis, or is known to be malignant or benign. `table` has
    a row for each, with the columns of a `Dataset`; `metrics` is the content of metrics.json.
    `threshold` is the model's usual one, `name` that of the folder of model and images.
    """

    table: pd.DataFrame
    probabilities: Floats
    metrics: EvaluationMetrics
    threshold: float
    name: str = ""

    @cached_property
    def labels(self) -> PartialLabels:
        """Return the label of each image: its diagnosis, or whether it is malignant."""
        return PartialLabels.of_table(self.table)

    @cached_property
    def groups(self) -> Labels:
        """Return the number of the lesion of each image, (N,), from 0 and without a gap."""
        return lesion_groups(self.table).to_numpy()

    @cached_property
    def malignant(self) -> Floats:
        """Return the malignant probability of each image, (N,)."""
        return classification.malignant_probability(self.probabilities)

    def cell(self, truth: str, predicted: str) -> pd.DataFrame:
        """Return the images of a cell of the confusion matrix, the most probable first.

        Its column `probability` is that of the predicted diagnosis.
        """
        row = CODES.index(truth)
        column = CODES.index(predicted)
        top = self.probabilities.argmax(axis=1)
        inside = (self.labels.codes == row) & (top == column)
        probability = self.probabilities[inside, column]
        images: pd.DataFrame = self.table[inside]
        images = images.assign(probability=probability)
        return images.sort_values("probability", ascending=False, kind="stable")

    def errors(self, threshold: float) -> pd.DataFrame:
        """Return the images that are referred wrongly at a threshold, the costliest first.

        `cost` is one of `costs`; images of the same cost are sorted by the confidence of the
        model, the highest first. `probability` is the malignant one.
        """
        malignant = self.labels.malignant
        referred = self.malignant >= threshold
        risk = self.malignant
        # The probability that the model gives to the wrong side.
        confidence = np.where(malignant, 1 - risk, risk)
        images: pd.DataFrame = self.table.assign(
            cost=self._cost_if_wrong(),
            probability=risk,
            sure=confidence,
        )
        is_wrong = malignant != referred
        wrong: pd.DataFrame = images[is_wrong]
        wrong = wrong.sort_values(
            ["cost", "sure"],
            ascending=[True, False],
        )
        return wrong.drop(columns="sure")

    def _cost_if_wrong(self) -> "pd.Categorical[str]":
        """Return the error that a wrong referral of each image is, one of `costs`, (N,)."""
        melanoma, other, needless = COSTS
        is_melanoma = self.labels.codes == CODES.index("MEL")
        missed = np.where(is_melanoma, melanoma, other).astype(object)
        missed[~self.labels.diagnosed] = MISSED_WITHOUT_DIAGNOSIS
        error = np.where(self.labels.malignant, missed, needless)
        # Ordered, so that a table can be sorted by the cost.
        return pd.Categorical(error, self.costs, ordered=True)

    @property
    def costs(self) -> tuple[str, ...]:
        """Return the errors that a referral can make on these images, the costliest first."""
        diagnosed = self.labels.diagnosed
        if diagnosed.all():
            return COSTS
        melanoma, other, needless = COSTS
        if not diagnosed.any():
            return MISSED_WITHOUT_DIAGNOSIS, needless
        # A lesion without a diagnosis may be a melanoma, so it costs more than `other`.
        return melanoma, MISSED_WITHOUT_DIAGNOSIS, other, needless


COSTS = ("missed melanoma", "other malignant missed", "needless referral")
"""The errors of a referral of images with a diagnosis, the costliest first."""
MISSED_WITHOUT_DIAGNOSIS = "malignant missed, diagnosis not known"
"""The error for an image whose label is only that it is malignant."""


def evaluation_folder(record: ModelRecord, dataset: Dataset) -> Path:
    """Return the folder for the evaluation of a model on these images, whether it exists or not.

    It changes with each image, label, weight and balanced rule. An image is identified by its path,
    its size and its time of change. Raise DatasetInvalid for an image that does not exist.
    """
    # The rows have the labels; the facts of the files notice a changed image.
    row_hashes = pd.util.hash_pandas_object(dataset.table, index=False)
    rows = row_hashes.to_numpy().tobytes()
    paths = dataset.table["path"]
    try:
        files = [file_facts(path) for path in paths]
    except OSError as error:
        raise DatasetInvalid(
            f"Expected the images of {dataset.name} but {error}; open the data set again."
        ) from error
    # The rule decides no answer, and so is no part of that hash, but one of the metrics.
    rule = record.balanced_rule
    entry = _EVALUATIONS.entry(METRICS_VERSION, record.answers_sha256, rule, rows, *files)
    return entry.path


def make_evaluation(
    folder: Path,
    model: Model,
    dataset: Dataset,
    progress: Progress,
) -> Evaluated:
    """Predict every labelled image, measure the predictions and cache the evaluation.

    After an interruption only the metrics are computed again: the outputs of the model are cached
    for each image. `progress` counts images, then the subgroups that are measured, then those that
    are compared. Raise DatasetInvalid if no image has a label or none can be read.
    """
    table = _labelled(dataset)
    outputs = model_outputs(model, table, named(progress, "images"), skip_unreadable=True)
    outputs.check_any()
    dataset = replace(dataset, table=outputs.readable(table))
    evaluation = judge(
        model.record,
        dataset,
        outputs.logits,
        outputs.rejected,
        model.novelty(outputs.looks),
        progress=progress,
    )
    predictions = evaluation.predictions.set_index("image")
    # The gaps are tested on the labelled images alone, as they are joined here.
    joined = _joined(dataset, predictions, evaluation.metrics, model.record)
    tested_gaps = _stored_gaps(joined, progress)
    metrics = msgspec.structs.replace(evaluation.metrics, gaps=tested_gaps)
    evaluation = replace(evaluation, metrics=metrics)
    CacheEntry(folder).make(evaluation.write)
    return replace(joined, metrics=metrics, name=folder.name)


def read_evaluation(
    folder: Path,
    record: ModelRecord,
    dataset: Dataset,
    part: Part = ALL,
) -> Evaluated | None:
    """Return the cached evaluation, None if there is none.

    `part` says how these images were selected: the same images under another name share one
    evaluation. Raise DatasetInvalid for a file that cannot be used.
    """
    entry = CacheEntry(folder / METRICS_FILE)
    if not entry.exists():
        return None
    place = entry.place.parent
    path = place / METRICS_FILE
    metrics = convert(read_json(path), EvaluationMetrics, path)
    metrics = _named_images(metrics, dataset, part)
    predictions = read_predictions(place / PREDICTIONS_FILE)
    joined = _joined(dataset, predictions, metrics, record)
    return replace(joined, name=folder.name)


def cached_evaluation(
    folder: Path,
    record: ModelRecord,
    dataset: Dataset,
    progress: Progress,
    part: Part = ALL,
) -> Evaluated:
    """Return the evaluation of the model in a folder on a set, and compute it if none is cached.

    `progress` and `part` are as above. Raise DatasetInvalid for images that do not exist, or if
    none has a label.
    """
    place = evaluation_folder(record, dataset)
    cached = read_evaluation(place, record, dataset, part)
    if cached:
        return cached
    model = Model.load(folder, model_id=record.model_id)
    new = make_evaluation(place, model, dataset, progress)
    cached = read_evaluation(place, record, dataset, part)
    if cached:
        return cached
    # The cache could not be written.
    return replace(new, metrics=_named_images(new.metrics, dataset, part))


def _named_images(
    metrics: EvaluationMetrics,
    dataset: Dataset,
    part: Part,
) -> EvaluationMetrics:
    """Return the metrics with the name of this selection of the images."""
    # An evaluation always has them.
    assert metrics.data is not None
    data = data_facts(dataset, metrics.data.images, part)
    return msgspec.structs.replace(metrics, data=data)


def compared(first: Evaluated, second: Evaluated) -> Comparison:
    """Compare two models on the images of a set that both could read."""
    first_images = first.table["image"]
    second_images = second.table["image"]
    in_second = first_images.isin(second_images).to_numpy(bool)
    in_first = second_images.isin(first_images).to_numpy(bool)
    first_probabilities = first.probabilities[in_second]
    second_probabilities = second.probabilities[in_first]
    first_answers = Answers(first_probabilities, first.threshold)
    second_answers = Answers(second_probabilities, second.threshold)
    return compare(
        first.labels[in_second],
        first_answers,
        second_answers,
        first.groups[in_second],
    )


def _stored_gaps(
    evaluated: Evaluated,
    progress: Progress,
) -> tuple[SubgroupGap, ...]:
    differences = gaps(
        evaluated.labels,
        evaluated.probabilities,
        evaluated.groups,
        dict(subgroups(evaluated.table)),
        evaluated.threshold,
        progress=progress,
    )
    return tuple(gap.stored() for gap in differences)


def _labelled(dataset: Dataset) -> pd.DataFrame:
    check_labelled(dataset, malignant_alone=True)
    table = dataset.table
    labelled = table[has_label(table)]
    return labelled.reset_index(drop=True)


def _joined(
    dataset: Dataset,
    predictions: pd.DataFrame,
    metrics: EvaluationMetrics,
    record: ModelRecord,
) -> Evaluated:
    """Join the labelled images of a data set with predictions, which are indexed by image."""
    table = _labelled(dataset)
    # Images that could not be read have no prediction.
    is_predicted = table["image"].isin(predictions.index)
    table = table[is_predicted].reset_index(drop=True)
    columns = predictions.loc[table["image"], list(CODES)]
    operating_point = record.operating_point(DEFAULT_OPERATING_POINT)
    return Evaluated(
        table,
        columns.to_numpy(np.float64),
        metrics,
        operating_point.threshold,
    )
