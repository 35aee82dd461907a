"""All lists of a data set, with a model: what takes minutes."""

from collections.abc import Iterator, Sequence
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
from cadlib.evaluation.features import cached_features
from cadlib.images import read_image
from cadlib.label_review.doubtful_labels import Doubts, doubt, without_own_lesion
from cadlib.label_review.lists import Suspects, findings
from cadlib.label_review.pairs import pairs
from cadlib.metrics.classification import malignant_probability
from cadlib.metrics.operating_point import two_digits
from cadlib.metrics.partial_labels import GROUPS, has_label, label_words, malignant_of
from cadlib.model.model import Model
from cadlib.model.split import own_split
from cadlib.progress import Progress
from cadlib.taxonomy import CODES, diagnosis

_BLIND = "The model, which was not trained on this image, gives"
_NEARLY_BLIND = (
    "A classifier fitted without this lesion, on features that were learnt with it, gives"
)


def find_suspects(model: Model, folder: Path, dataset: Dataset, progress: Progress) -> Suspects:
    """Look through a data set with the model in `folder`.

    Raise ModelInvalid when its split.csv is not the one of its record, and DatasetInvalid when no image can be read.
    """
    split = own_split(folder, model.record, leaking=True).rename(
        columns={"lesion_group": "split_group"}
    )
    duplicates = find_duplicates(dataset, progress)
    table = duplicates.table.merge(split, on="image", how="left")
    pixels = cached_pixels(table, model.record.input, progress)
    details = details_in(
        pixels.batches()
    )  # first, for the model then reads the pixels that this has cached
    seen = cached_features(model, table, progress)
    trained = (table["split"] == "train").to_numpy(bool)
    labelled = table["diagnosis"].isin(CODES).to_numpy(bool)
    calibrated = model.calibrated(seen.logits, short_sides(table))
    rows, judged = list[dict[str, object]](), 0
    for part, words in ((labelled & ~trained, _BLIND), (labelled & trained, _NEARLY_BLIND)):
        labels = table["diagnosis"][part].map(CODES.index).to_numpy(np.int64)
        if len(np.unique(labels)) < 2:
            continue  # nothing to compare a label with
        lesions = table["split_group"][part].to_numpy()
        said = (
            calibrated[part]
            if words is _BLIND
            else without_own_lesion(seen.features[part], labels, lesions)
        )
        rows += _doubted(table["image"][part], labels, said, doubt(labels, said), words)
        judged += len(labels)
    # The model may have learnt the diagnosis of a training image, so that its probabilities are no evidence here.
    undiagnosed = has_label(table) & ~labelled & ~trained
    groups = np.asarray(malignant_of(table[undiagnosed]), np.int64)
    if len(np.unique(groups)) == len(GROUPS):
        risk = malignant_probability(calibrated[undiagnosed])
        said = np.stack([1 - risk, risk], axis=1)
        names = [GROUPS[False], GROUPS[True]]
        rows += _doubted(
            table["image"][undiagnosed], groups, said, doubt(groups, said), _BLIND, names
        )
        judged += len(groups)
    rows += pairs(duplicates, details, seen.features, progress)
    rows += _unreadable(dataset, duplicates.unreadable)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return Suspects(
        dataset.name, model.record.model_id, created, len(table), judged, findings(rows)
    )


def _doubted(
    images: "pd.Series[str]",
    labels: NDArray[np.int64],
    said: NDArray[np.float64],
    found: Doubts,
    words: str,
    names: Sequence[str] = CODES,
) -> Iterator[dict[str, object]]:
    for row in np.flatnonzero(found.doubted):
        given, other = labels[row], found.suggested[row]
        for_other, for_given = (
            f"{two_digits(said[row, code])} for {_name_of(names[code])}" for code in (other, given)
        )
        yield {
            "kind": "doubted labels",
            "image": images.iloc[row],
            "diagnosis": names[given],
            "suggested": names[other],
            "score": found.scores[row],
            "why": f"{words} {for_other} and {for_given}.",
        }


def _name_of(label: str) -> str:
    return diagnosis(label).name if label in CODES else label


def _unreadable(dataset: Dataset, undecodable: tuple[str, ...]) -> Iterator[dict[str, object]]:
    rows = dataset.table.assign(diagnosis=label_words(dataset.table)).set_index("image")
    reasons = dict(dataset.report.unreadable)
    for image in undecodable:
        try:
            read_image(rows["path"][image])
        except ImageRejected as error:
            reasons[image] = str(error)
    for image, why in reasons.items():
        given = rows["diagnosis"].get(image)
        yield {
            "kind": "unreadable files",
            "image": image,
            "diagnosis": given,
            "score": 1.0,
            "why": why,
        }
