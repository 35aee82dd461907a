"""What a model said of each image of a labelled set, kept on disk, so that the same question is answered once.

A set is a data set, a split or a subset of one: whatever `Dataset` holds. Its evaluation stands in the folder of
`cache_dir` that model and images name: predictions.csv and metrics.json, as `python -m cadlib evaluate` writes them.
That metrics.json has one key more, `gaps`: what `gaps.gaps` found at the model's usual operating point. The model is
asked by `features.cached_features`: what it said for the map, the suspects or another set is not asked again.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cadlib.data.dataset import Dataset, short_sides
from cadlib.data.label_check import check_labelled
from cadlib.data.predictions_csv import PREDICTIONS_FILE, read_predictions
from cadlib.data.splits import lesion_groups
from cadlib.errors import DatasetInvalid
from cadlib.evaluation.evaluate import data_facts, judge, subgroups
from cadlib.evaluation.features import cached_features
from cadlib.evaluation.image_selection import ALL, Part
from cadlib.files.cache import cache_dir, file_facts, is_standing, keep_by, standing
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.model_comparison import Answers, Comparison, compare
from cadlib.metrics.operating_point import DEFAULT_OPERATING_POINT
from cadlib.metrics.partial_labels import PartialLabels, has_label
from cadlib.metrics.subgroup_gaps import gaps
from cadlib.model.metrics_file import metrics_json
from cadlib.model.model import Model
from cadlib.model.record import METRICS_FILE, ModelRecord, read_json
from cadlib.progress import Progress, named
from cadlib.taxonomy import CODES

FIGURES_VERSION = 3
"""Raised with what metrics.json tells, so that an evaluation that lacks it is made anew."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """The N labelled images of a set that could be read, a row of `table` each, and (N, 8) float64 probabilities.

    An image is labelled that has a diagnosis, or is known to be malignant or benign.
    `table` has the columns of a `Dataset`; `figures` are those of metrics.json. `threshold` is the model's usual one,
    `name` that of the folder, of model and images.
    """

    table: pd.DataFrame
    probabilities: Floats
    figures: dict[str, Any]
    threshold: float
    name: str = ""

    @cached_property
    def labels(self) -> PartialLabels:
        """Return what is known of each image: its diagnosis, or whether it is malignant."""
        return PartialLabels.of_table(self.table)

    @cached_property
    def groups(self) -> Labels:
        """Return the number of the lesion of each image, (N,), from 0 and without a gap."""
        numbers: Labels = np.unique(lesion_groups(self.table), return_inverse=True)[1]
        return numbers

    @cached_property
    def malignant(self) -> Floats:
        """Return the malignant probability of each image, (N,)."""
        return classification.malignant_probability(self.probabilities)

    def cell(self, truth: str, said: str) -> pd.DataFrame:
        """Return the images of a cell of the confusion matrix, the surest first, with `probability`, of `said`."""
        there = (self.labels.codes == CODES.index(truth)) & (
            self.probabilities.argmax(axis=1) == CODES.index(said)
        )
        found: pd.DataFrame = self.table[there].assign(
            probability=self.probabilities[there, CODES.index(said)]
        )
        return found.sort_values("probability", ascending=False, kind="stable")

    def errors(self, threshold: float) -> pd.DataFrame:
        """Return the images on which referring at a threshold goes wrong, the costliest first.

        `cost` is one of `costs`, and among each the model was the surest of itself first. `probability` is the
        malignant one.
        """
        truth, referred = self.labels.malignant, self.malignant >= threshold
        melanoma, other, needless = COSTS
        missed = np.where(self.labels.codes == CODES.index("MEL"), melanoma, other).astype(object)
        missed[~self.labels.diagnosed] = MISSED_WITHOUT_DIAGNOSIS
        cost = pd.Categorical(np.where(truth, missed, needless), self.costs, ordered=True)
        sure = np.where(truth, 1 - self.malignant, self.malignant)
        wrong: pd.DataFrame = self.table.assign(cost=cost, probability=self.malignant, sure=sure)[
            truth != referred
        ]
        return wrong.sort_values(["cost", "sure"], ascending=[True, False]).drop(columns="sure")

    @property
    def costs(self) -> tuple[str, ...]:
        """Return the errors that a referral can make on these images, the costliest first."""
        melanoma, other, needless = COSTS
        diagnosed = self.labels.diagnosed
        if diagnosed.all():
            return COSTS
        if not diagnosed.any():
            return MISSED_WITHOUT_DIAGNOSIS, needless
        # It may be a melanoma, so it stands before those that are known to be none.
        return melanoma, MISSED_WITHOUT_DIAGNOSIS, other, needless


COSTS = ("missed melanoma", "other malignant missed", "needless referral")
"""The errors of a referral of images with a diagnosis, the costliest first."""
MISSED_WITHOUT_DIAGNOSIS = "malignant missed, diagnosis not known"
"""The error where the label tells only that an image is malignant."""


def evaluation_folder(record: ModelRecord, dataset: Dataset) -> Path:
    """Return where the evaluation of a model on these images stands, or will: another image, label or weight, another.

    An image is known by its path, its size and its time of change. Raise DatasetInvalid for one that is not there.
    """
    model = hashlib.sha256(f"{record.answers_sha256} {FIGURES_VERSION}".encode()).hexdigest()
    digest = hashlib.sha256(
        pd.util.hash_pandas_object(dataset.table, index=False).to_numpy().tobytes()
    )
    try:
        for path in dataset.table["path"]:
            digest.update(file_facts(path))
    except OSError as error:
        raise DatasetInvalid(
            f"Expected the images of {dataset.name} but {error}; open the data set anew."
        ) from error
    return cache_dir() / "evaluations" / f"{model[:16]}-{digest.hexdigest()[:16]}"


def make_evaluation(folder: Path, model: Model, dataset: Dataset, progress: Progress) -> Evaluated:
    """Show a model every labelled image and keep what it said; raise DatasetInvalid where none has a label.

    A break costs the figures alone: what the model said of each image is kept, and the next call goes on from there.
    `progress` counts images, then the subgroups that are measured, then those that are compared.
    """
    table, rejected = _labelled(dataset), dict[str, str]()
    seen = cached_features(model, table, named(progress, "images"), rejected)
    dataset = replace(dataset, table=table[~table["image"].isin(rejected)].reset_index(drop=True))
    probabilities = model.calibrated(seen.logits, short_sides(dataset.table))
    novelty = model.novelty(seen.looks)
    found = judge(model.record, dataset, probabilities, rejected, novelty, progress=progress)
    kept = _joined(dataset, found.predictions.set_index("image"), found.metrics, model.record)
    parts = dict(subgroups(kept.table))
    apart = gaps(
        kept.labels, kept.probabilities, kept.groups, parts, kept.threshold, progress=progress
    )
    found = replace(found, metrics={**found.metrics, "gaps": [gap.to_json() for gap in apart]})
    keep_by(folder, found.write)
    return replace(kept, figures=json.loads(metrics_json(found.metrics)), name=folder.name)


def read_evaluation(
    folder: Path, record: ModelRecord, dataset: Dataset, part: Part = ALL
) -> Evaluated | None:
    """Return what was kept, None where nothing was; raise DatasetInvalid for a file that cannot be used.

    `part` says what these images are: of those that are the same, whatever they are called, one evaluation is kept.
    """
    if not is_standing(folder / METRICS_FILE):
        return None
    folder = standing(folder / METRICS_FILE).parent
    figures = read_json(folder / METRICS_FILE)
    figures["data"] = data_facts(dataset, figures["data"]["images"], part)
    kept = _joined(dataset, read_predictions(folder / PREDICTIONS_FILE), figures, record)
    return replace(kept, name=folder.name)


def evaluated(
    folder: Path, record: ModelRecord, dataset: Dataset, progress: Progress, part: Part = ALL
) -> Evaluated:
    """Return what the model of a folder said of a set, asking it only where nothing was kept.

    `progress` and `part` are as above.

    Raise DatasetInvalid for images that are not there, or none with a label.
    """
    place = evaluation_folder(record, dataset)
    if kept := read_evaluation(place, record, dataset, part):
        return kept
    made = make_evaluation(place, Model.load(folder, model_id=record.model_id), dataset, progress)
    if kept := read_evaluation(place, record, dataset, part):
        return kept
    facts = data_facts(dataset, made.figures["data"]["images"], part)  # nothing could be kept
    return replace(made, figures={**made.figures, "data": facts})


def compared(first: Evaluated, second: Evaluated) -> Comparison:
    """Compare two models on the images of a set that both could read."""
    both = first.table["image"].isin(second.table["image"]).to_numpy(bool)
    same = second.table["image"].isin(first.table["image"]).to_numpy(bool)
    one = Answers(first.probabilities[both], first.threshold)
    two = Answers(second.probabilities[same], second.threshold)
    return compare(first.labels[both], one, two, first.groups[both])


def _labelled(dataset: Dataset) -> pd.DataFrame:
    check_labelled(dataset, malignant_alone=True)
    return dataset.table[has_label(dataset.table)].reset_index(drop=True)


def _joined(
    dataset: Dataset, predicted: pd.DataFrame, figures: dict[str, Any], record: ModelRecord
) -> Evaluated:
    table = _labelled(dataset)
    table = table[table["image"].isin(predicted.index)].reset_index(drop=True)
    shares = predicted.loc[table["image"], list(CODES)].to_numpy(np.float64)
    return Evaluated(
        table, shares, figures, record.operating_point(DEFAULT_OPERATING_POINT).threshold
    )
