"""Whose diagnosis is doubted: labels held against probabilities of who did not see them, by cleanlab.

Confident learning after Northcutt, Jiang, Chuang, JAIR 70 (2021) 1373, as its authors' library does it. What the model
says of its own training images is no evidence, for it has learnt their labels: there a linear classifier of its
features answers for each lesion that was left out when it was fitted. The features were learnt from these labels too,
so an error that the network has learnt can stay hidden.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.taxonomy import CODES

FOLDS = 5
DIMENSIONS = 32
"""Of the features, for the classifier of training images: with more it learns more of the wrong labels."""
SCORE, FILTER = "self_confidence", "confident_learning"
"""Cleanlab's score of a label, the plain probability of the given label: over errors of both kinds that were planted,
at random and as the model confuses them, it found the most; its other scores found more of one kind at most. Of its
ways to call some errors, the one that calls the fewest. `benchmarks/suspects.py` prints the figures.
"""

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Doubts:
    """How far each of N labels is doubted, 0 to 1, and which are called errors, both (N,).

    `suggested` (N,) is the most probable class other than the label, as its place among the classes.
    """

    scores: Floats
    doubted: NDArray[np.bool_]
    suggested: Labels


def doubt(labels: Labels, probabilities: Floats) -> Doubts:
    """Hold (N,) labels against (N, K) probabilities that did not see them.

    The K classes are the eight in taxonomy order, or benign and malignant.
    """
    from cleanlab.filter import find_label_issues  # noqa: PLC0415 - a second to load, and lists are read without it
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415

    quality = get_label_quality_scores(labels, probabilities, method=SCORE)
    others = np.where(np.arange(probabilities.shape[1]) == labels[:, None], -1, probabilities)
    found = find_label_issues(labels, probabilities, filter_by=FILTER, n_jobs=1)
    return Doubts(1 - quality, found, others.argmax(axis=1))


def without_own_lesion(features: NDArray[np.float32], labels: Labels, lesions: Labels) -> Floats:
    """Return (N, 8) probabilities of each image by a classifier that was fitted without its lesion.

    `features` are (N, C), `labels` (N,) in taxonomy order, `lesions` (N,) lesion groups, of which there are several.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415 - as above
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import GroupKFold  # noqa: PLC0415

    wide = features.astype(
        np.float64
    )  # in float32 a probability hung on the number of threads, by up to 0.08
    short = PCA(min(DIMENSIONS, *features.shape), whiten=True, random_state=0).fit_transform(wide)
    found = np.zeros((len(labels), len(CODES)))
    folds = GroupKFold(min(FOLDS, len(np.unique(lesions))), shuffle=True, random_state=0)
    for fitted, held in folds.split(short, labels, lesions):
        classifier = LogisticRegression(max_iter=300).fit(short[fitted], labels[fitted])
        found[np.ix_(held, classifier.classes_)] = classifier.predict_proba(short[held])
    return found
