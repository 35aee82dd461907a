"""Searches a data set for all findings, which takes minutes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset, short_sides
from cadlib.data.duplicates import find_duplicates
from cadlib.data.pixel_cache import cached_pixels
from cadlib.data.pixel_similarity import details_in
from cadlib.errors import ImageRejected
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.images import read_image
from cadlib.label_review.doubtful_labels import doubt, without_own_lesion
from cadlib.label_review.lists import Suspects, findings
from cadlib.label_review.pairs import pairs
from cadlib.metrics.classification import Floats, malignant_probability
from cadlib.metrics.operating_point import two_digits
from cadlib.metrics.partial_labels import (
    GROUPS,
    class_numbers,
    has_label,
    label_words,
    malignant_of,
)
from cadlib.model.model import Model
from cadlib.model.split import split_of_model
from cadlib.progress import Progress
from cadlib.taxonomy import CODES, diagnosis

_BLIND = "The model, which was not trained on this image, gives"
_NEARLY_BLIND = (
    "A classifier fitted without this lesion, on features that were trained with it, gives"
)


def find_suspects(
    model: Model,
    folder: Path,
    dataset: Dataset,
    progress: Progress,
) -> Suspects:
    """Search a data set with the model in `folder`.

    Raise ModelInvalid when its split.csv is not the one of its record, and DatasetInvalid when no
    image can be read.
    """
    split = split_of_model(folder, model.record, leaking=True)
    duplicates = find_duplicates(dataset, progress)
    table = _with_split(duplicates.table, split)
    # The pixels come first, because the model then reads those that were cached.
    pixels = cached_pixels(table, model.record.input, progress)
    details = details_in(pixels.batches())
    outputs = model_outputs(model, table, progress)
    probabilities = model.calibrated(outputs.logits, short_sides(table))
    rows: list[dict[str, object]] = []
    judged = 0
    for labels in _labels_to_judge(table, outputs.features, probabilities):
        rows += _doubted(labels)
        judged += len(labels.places)
    rows += pairs(duplicates, details, outputs.features, progress)
    rows += _unreadable(dataset, duplicates.unreadable)
    return Suspects(
        dataset=dataset.name,
        model_id=model.record.model_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images=len(table),
        judged=judged,
        table=findings(rows),
    )


def _with_split(table: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """Return a table with `split` and `split_group` of each image, missing outside the split."""
    # The table has a lesion_group of its own: that of the data set.
    split = split.rename(columns={"lesion_group": "split_group"})
    return table.merge(split, on="image", how="left")


@dataclass(frozen=True, eq=False)
class _Labels:
    """N labels with (N, K) probabilities that do not depend on them.

    `places`, (N,), has the place of each label among the K `names`. `source` says where the
    probabilities come from.
    """

    images: "pd.Series[str]"
    places: NDArray[np.int64]
    probabilities: Floats
    source: str
    names: Sequence[str] = CODES


def _labels_to_judge(
    table: pd.DataFrame,
    features: NDArray[np.float32],
    probabilities: Floats,
) -> Iterator[_Labels]:
    """Yield the labels of a table that can be compared with probabilities.

    `features` (N, C) and `probabilities` (N, 8) are the outputs of the model. Labels that are all
    the same are left out, as there is nothing to compare them with.
    """
    trained = (table["split"] == "train").to_numpy(bool)
    diagnosed = table["diagnosis"].isin(CODES).to_numpy(bool)
    untrained_rows = diagnosed & ~trained
    places = class_numbers(table["diagnosis"][untrained_rows])
    if _differ(places):
        yield _Labels(
            images=table["image"][untrained_rows],
            places=places,
            probabilities=probabilities[untrained_rows],
            source=_BLIND,
        )
    trained_rows = diagnosed & trained
    places = class_numbers(table["diagnosis"][trained_rows])
    if _differ(places):
        lesions = table["split_group"][trained_rows].to_numpy()
        yield _Labels(
            images=table["image"][trained_rows],
            places=places,
            probabilities=without_own_lesion(features[trained_rows], places, lesions),
            source=_NEARLY_BLIND,
        )
    # The model may have learned the diagnosis of a training image that has none in this data set,
    # so its probabilities are no evidence there.
    undiagnosed = has_label(table) & ~diagnosed & ~trained
    yield from _groups_to_judge(table[undiagnosed], probabilities[undiagnosed])


def _groups_to_judge(
    table: pd.DataFrame,
    probabilities: Floats,
) -> Iterator[_Labels]:
    """Yield the labels of images without a diagnosis, benign or malignant, if there are both."""
    groups = np.asarray(malignant_of(table), np.int64)
    if not _differ(groups):
        return
    risk = malignant_probability(probabilities)
    yield _Labels(
        images=table["image"],
        places=groups,
        probabilities=np.stack([1 - risk, risk], axis=1),
        source=_BLIND,
        names=[GROUPS[False], GROUPS[True]],
    )


def _differ(places: NDArray[np.int64]) -> bool:
    """Check that there are at least two different labels."""
    return len(np.unique(places)) >= 2


def _doubted(labels: _Labels) -> Iterator[dict[str, object]]:
    """Yield a finding for each label that is doubted."""
    doubts = doubt(labels.places, labels.probabilities)
    doubted_rows = np.flatnonzero(doubts.doubted)
    for row in doubted_rows.tolist():
        label = int(labels.places[row])
        suggested = int(doubts.suggested[row])
        for_label = _probability_in_words(labels, row, label)
        for_suggested = _probability_in_words(labels, row, suggested)
        yield {
            "kind": "doubted labels",
            "image": labels.images.iloc[row],
            "diagnosis": labels.names[label],
            "suggested": labels.names[suggested],
            "score": doubts.scores[row],
            "why": f"{labels.source} {for_suggested} and {for_label}.",
        }


def _probability_in_words(
    labels: _Labels,
    row: int,
    place: int,
) -> str:
    probability = two_digits(labels.probabilities[row, place])
    name = labels.names[place]
    # The labels of images without a diagnosis are benign and malignant.
    if name in CODES:
        name = diagnosis(name).name
    return f"{probability} for {name}"


def _unreadable(
    dataset: Dataset,
    undecodable: tuple[str, ...],
) -> Iterator[dict[str, object]]:
    """Yield a finding for each image that cannot be read."""
    table = dataset.table
    rows = table.assign(diagnosis=label_words(table)).set_index("image")
    reasons = dict(dataset.report.unreadable)
    for image in undecodable:
        try:
            # The duplicate search lists these files without the reason, which a second try raises.
            read_image(rows["path"][image])
        except ImageRejected as error:
            reasons[image] = str(error)
    for image, reason in reasons.items():
        yield {
            "kind": "unreadable files",
            "image": image,
            "diagnosis": rows["diagnosis"].get(image),
            "score": 1.0,
            "why": reason,
        }
