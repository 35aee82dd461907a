"""Indexes a model's training images, and measures the cases that it finds.

The section `neighbours` of metrics.json is a `SimilarCases`, on the images of a part of the split
that the model was not trained on.
"""

from collections import Counter
from hashlib import sha256

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import short_sides
from cadlib.data.splits import lesion_groups
from cadlib.evaluation.features import Fitted, SplitFeatures
from cadlib.metrics.classification import Floats
from cadlib.metrics.conditions_schema import (
    CaseIntervals,
    CaseMetrics,
    MeasuredSplit,
    SimilarCases,
)
from cadlib.metrics.summary import Metric, by_class, mean_of, measured
from cadlib.metrics.summary_schema import Split
from cadlib.model.model import Model
from cadlib.model.neighbours.index import SHOWN, NeighbourIndex, Neighbours, compact
from cadlib.model.record import NEIGHBOURS_FILE, NeighbourFacts
from cadlib.taxonomy import CODES

_AGREEING_KEYS = tuple(str(count) for count in range(SHOWN + 1))
"""Keys of metrics by how many cases agree with the model: "0", "1", … SHOWN."""


def fit(model: Model, features: SplitFeatures, split: Split) -> Fitted:
    """Return the index of the training images, and its metrics on the images of another split."""
    train = features.of("train")
    queries = features.of(split)
    index = build(train)
    data = index.to_bytes()
    facts = NeighbourFacts(
        sha256(data).hexdigest(),
        len(index),
        model.record.training.images["train"],
        train.table["lesion_group"].nunique(),
    )
    probabilities = model.calibrated(queries.logits, short_sides(queries.table))
    metrics = measure(index, queries, probabilities)
    similar_cases = SimilarCases(
        data=MeasuredSplit(split=split),
        **msgspec.structs.asdict(metrics),
    )
    return Fitted(
        {"neighbours": facts},
        {"neighbours": similar_cases},
        {NEIGHBOURS_FILE: data},
    )


def build(train: SplitFeatures) -> NeighbourIndex:
    """Return the index of these images."""
    basis, vectors = compact(train.features)
    # An image of no known archive gets the empty name.
    archive_of = train.table["archive"].fillna("")
    archives, names = pd.factorize(archive_of, sort=True)
    lesions = train.table["lesion_group"].to_numpy()
    image_names = train.table["image"].tolist()
    return NeighbourIndex(
        basis=basis,
        vectors=vectors,
        fingerprints=train.fingerprints,
        images=_encoded(image_names),
        diagnoses=train.labels.astype(np.uint8),
        lesions=lesions.astype(np.int32),
        archives=archives.astype(np.uint8),
        archive_names=_encoded(list(names)),
    )


def measure(
    index: NeighbourIndex,
    queries: SplitFeatures,
    probabilities: Floats,
) -> CaseMetrics:
    """Return the metrics on images that are not in the index.

    `probabilities` are the model's for these images, (N, 8).
    """
    labels = queries.labels
    first = probabilities.argmax(axis=1)
    neighbours = _search(index, queries, first)
    groups = lesion_groups(queries.table).to_numpy()
    classes = by_class(labels)
    agreeing = _agreeing(neighbours)
    metrics = _metrics(index, neighbours, labels, first)
    n_by_class = classes.sum(axis=1).tolist()
    n_agreeing = agreeing.sum(axis=1).tolist()
    n_taken_for_training = sum(cases.itself is not None for cases in neighbours)
    values, ends = measured(metrics, labels, probabilities, groups)
    return CaseMetrics(
        k=SHOWN,
        n=len(labels),
        n_lesions=int(groups.max()) + 1,
        n_by_class=dict(zip(CODES, n_by_class, strict=True)),
        n_agreeing=dict(zip(_AGREEING_KEYS, n_agreeing, strict=True)),
        taken_for_training=n_taken_for_training,
        **values,
        intervals=CaseIntervals(**ends),
    )


def _search(
    index: NeighbourIndex,
    queries: SplitFeatures,
    first: NDArray[np.int64],
) -> list[Neighbours]:
    """Return the similar cases of each image; `first` (N,) has the model's first diagnoses."""
    neighbours = []
    images = zip(queries.features, queries.fingerprints, first, strict=True)
    for features, fingerprint, place in images:
        code = CODES[place]
        cases = index.search(features, fingerprint, code)
        neighbours.append(cases)
    return neighbours


def _agreeing(neighbours: list[Neighbours]) -> NDArray[np.bool_]:
    """Return whether 0, 1, … SHOWN cases agree with the model, as (SHOWN + 1, N) bool."""
    n_agreeing = np.array([cases.agreeing for cases in neighbours])
    # (SHOWN + 1, 1): each count is compared with every image.
    counts = np.arange(SHOWN + 1)
    column = counts.reshape(-1, 1)
    agreeing: NDArray[np.bool_] = n_agreeing == column
    return agreeing


def _metrics(
    index: NeighbourIndex,
    neighbours: list[Neighbours],
    labels: NDArray[np.int64],
    first: NDArray[np.int64],
) -> tuple[Metric, ...]:
    """Return the metrics of the cases, and of the model's first diagnoses, against the truth."""
    precision, vote_right = _against_truth(neighbours, labels)
    model_right = first == labels
    counts = np.bincount(index.diagnoses, minlength=len(CODES))
    # A random training image has the diagnosis of a class with this probability.
    chance = counts / len(index)
    chance_of_each = chance[labels]
    classes = by_class(labels)
    agreeing = _agreeing(neighbours)
    return (
        Metric("precision", mean_of(precision)),
        Metric("precision_by_class", mean_of(precision, classes), CODES),
        Metric("by_chance", mean_of(chance_of_each)),
        Metric("vote_accuracy", mean_of(vote_right)),
        Metric("vote_sensitivity", mean_of(vote_right, classes), CODES),
        Metric("model_accuracy", mean_of(model_right)),
        Metric("model_sensitivity", mean_of(model_right, classes), CODES),
        Metric("right_when_agreeing", mean_of(model_right, agreeing), _AGREEING_KEYS),
    )


def _against_truth(
    neighbours: list[Neighbours],
    labels: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return two arrays (N,): the share of true diagnoses, and whether the vote is the true one."""
    precisions = []
    votes = []
    for cases, label in zip(neighbours, labels, strict=True):
        diagnoses = _diagnoses(cases)
        precisions.append(np.mean(diagnoses == label))
        # Of equally frequent diagnoses `most_common` returns the first, which is more similar.
        [(most_frequent, _)] = Counter(diagnoses.tolist()).most_common(1)
        votes.append(most_frequent)
    return np.array(precisions), np.array(votes) == labels


def _diagnoses(neighbours: Neighbours) -> NDArray[np.int64]:
    """Return the class number of each case, the most similar first."""
    return np.array([CODES.index(case.diagnosis) for case in neighbours.cases])


def _encoded(texts: list[str]) -> NDArray[np.bytes_]:
    return np.array([text.encode() for text in texts])
