"""The index of a model's training images, and how often what it finds is the true diagnosis.

Of the images of a part of the split that the model was not trained on:

    data, k                which split; how many cases are shown of each image
    n, n_lesions           images and lesions
    precision              share of the cases with the true diagnosis, also by_class; by_chance: of any training images
    vote_accuracy          share of the images whose most frequent diagnosis among the cases, the more similar of
                           equals, is the true one; vote_sensitivity the same by class
    model_accuracy         share of the images where the model's first is the true one; model_sensitivity by class
    n_agreeing             images by how many of the cases have the model's first diagnosis
    right_when_agreeing    share of these where that diagnosis is the true one
    taken_for_training     images that were taken for one of the training images, which none is
"""

from collections import Counter
from hashlib import sha256
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import short_sides
from cadlib.data.splits import lesion_groups
from cadlib.evaluation.features import Fitted, SplitFeatures
from cadlib.metrics.classification import Floats
from cadlib.metrics.summary import Figure, by_class, mean_of, measured
from cadlib.model.model import Model
from cadlib.model.neighbours.index import SHOWN, NeighbourIndex, Neighbours, compact
from cadlib.model.record import NEIGHBOURS_FILE, NeighbourFacts
from cadlib.taxonomy import CODES


def fit(model: Model, seen: SplitFeatures, split: str) -> Fitted:
    """Return the index of the training images, and its figures on the images of another split."""
    train, asked = seen.of("train"), seen.of(split)
    index = build(train)
    data = index.to_bytes()
    lesions = train.table["lesion_group"].nunique()
    facts = NeighbourFacts(
        sha256(data).hexdigest(), len(index), model.record.training.images["train"], lesions
    )
    figures = measure(index, asked, model.calibrated(asked.logits, short_sides(asked.table)))
    return Fitted(
        {"neighbours": facts},
        {"neighbours": {"data": {"split": split}, **figures}},
        {NEIGHBOURS_FILE: data},
    )


def build(train: SplitFeatures) -> NeighbourIndex:
    """Return the index of these images."""
    basis, vectors = compact(train.features)
    archives, names = pd.factorize(train.table["archive"].fillna(""), sort=True)
    return NeighbourIndex(
        basis=basis,
        vectors=vectors,
        fingerprints=train.fingerprints,
        images=_encoded(train.table["image"].tolist()),
        diagnoses=train.labels.astype(np.uint8),
        lesions=train.table["lesion_group"].to_numpy().astype(np.int32),
        archives=archives.astype(np.uint8),
        archive_names=_encoded(list(names)),
    )


def measure(index: NeighbourIndex, asked: SplitFeatures, probabilities: Floats) -> dict[str, Any]:
    """Return the figures on images that are not in the index, of which the model says (N, 8) probabilities."""
    labels, first = asked.labels, probabilities.argmax(axis=1)
    found = [
        index.search(features, fingerprint, CODES[code])
        for features, fingerprint, code in zip(
            asked.features, asked.fingerprints, first, strict=True
        )
    ]
    right = np.array(
        [np.mean(_cases(one) == label) for one, label in zip(found, labels, strict=True)]
    )
    vote = np.array([Counter(_cases(one).tolist()).most_common(1)[0][0] for one in found])
    agreeing = np.array([one.agreeing for one in found]) == np.arange(SHOWN + 1)[:, None]
    chance = np.bincount(index.diagnoses, minlength=len(CODES)) / len(index)
    classes, counts = by_class(labels), tuple(map(str, range(SHOWN + 1)))
    figures = (
        Figure("precision", mean_of(right)),
        Figure("precision_by_class", mean_of(right, classes), CODES),
        Figure("by_chance", mean_of(chance[labels])),
        Figure("vote_accuracy", mean_of(vote == labels)),
        Figure("vote_sensitivity", mean_of(vote == labels, classes), CODES),
        Figure("model_accuracy", mean_of(first == labels)),
        Figure("model_sensitivity", mean_of(first == labels, classes), CODES),
        Figure("right_when_agreeing", mean_of(first == labels, agreeing), counts),
    )
    groups = np.unique(lesion_groups(asked.table), return_inverse=True)[1]
    return {
        "k": SHOWN,
        "n": len(labels),
        "n_lesions": int(groups.max()) + 1,
        "n_by_class": dict(zip(CODES, classes.sum(axis=1).tolist(), strict=True)),
        "n_agreeing": dict(zip(counts, agreeing.sum(axis=1).tolist(), strict=True)),
        "taken_for_training": sum(one.itself is not None for one in found),
        **measured(figures, labels, probabilities, groups),
    }


def _cases(found: Neighbours) -> NDArray[np.int64]:
    return np.array([CODES.index(case.diagnosis) for case in found.cases])


def _encoded(texts: list[str]) -> NDArray[np.bytes_]:
    return np.array([text.encode() for text in texts])
