"""Finds doubtful labels with cleanlab, by probabilities independent of the labels.

This is confident learning after Northcutt, Jiang, Chuang, JAIR 70 (2021) 1373, in its authors'
library. The model's probabilities for its own training images are no evidence, because it has
learned their labels: there a linear classifier of its features predicts each lesion without having
been fitted to it. The features were learned from these labels, too, so an error that the network
has learned can stay hidden.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cadlib.taxonomy import CODES

FOLDS = 5
DIMENSIONS = 32
"""Of the features, for the classifier of training images: with more it fits the wrong labels."""
SCORE = "self_confidence"
"""Cleanlab's score of a label: the plain probability of the label.

Errors were planted at random, and as the model confuses classes. This score found the most over
both kinds; each other score of cleanlab found more of one kind at most. `benchmarks/suspects.py`
prints the metrics.
"""
FILTER = "confident_learning"
"""The way of cleanlab to call labels errors; it calls the fewest of all its ways."""

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Doubts:
    """The doubt about each of N labels, 0 to 1, and which are called errors, both (N,).

    `suggested` (N,) is the most probable class other than the label, as its place among the
    classes.
    """

    scores: Floats
    doubted: NDArray[np.bool_]
    suggested: Labels


def doubt(labels: Labels, probabilities: Floats) -> Doubts:
    """Compare (N,) labels with (N, K) probabilities that do not depend on them.

    The K classes are the eight in taxonomy order, or benign and malignant.
    """
    # cleanlab takes a second to load, and is not needed to read lists.
    from cleanlab.filter import find_label_issues  # noqa: PLC0415
    from cleanlab.rank import get_label_quality_scores  # noqa: PLC0415

    quality = get_label_quality_scores(labels, probabilities, method=SCORE)
    issues = find_label_issues(labels, probabilities, filter_by=FILTER, n_jobs=1)
    classes = np.arange(probabilities.shape[1])
    is_label = classes == labels[:, None]
    # -1 excludes the label itself.
    other_classes = np.where(is_label, -1, probabilities)
    return Doubts(
        scores=1 - quality,
        doubted=issues,
        suggested=other_classes.argmax(axis=1),
    )


def without_own_lesion(
    features: NDArray[np.float32],
    labels: Labels,
    lesions: Labels,
) -> Floats:
    """Return (N, 8) probabilities of each image by a classifier fitted without its lesion.

    `features` are (N, C), `labels` (N,) in taxonomy order, `lesions` (N,) lesion groups, at least
    two different ones.
    """
    # scikit-learn is slow to load, too.
    from sklearn.decomposition import PCA  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.model_selection import GroupKFold  # noqa: PLC0415

    # In float32 a probability depended on the number of threads, by up to 0.08.
    wide = features.astype(np.float64)
    # There are at most as many components as images or features.
    n_components = min(DIMENSIONS, *features.shape)
    pca = PCA(n_components, whiten=True, random_state=0)
    components = pca.fit_transform(wide)
    n_lesions = len(np.unique(lesions))
    # Each fold needs a lesion of its own.
    n_folds = min(FOLDS, n_lesions)
    folds = GroupKFold(n_folds, shuffle=True, random_state=0)
    probabilities = np.zeros((len(labels), len(CODES)))
    for fitted, predicted in folds.split(components, labels, lesions):
        classifier = LogisticRegression(max_iter=300)
        classifier.fit(components[fitted], labels[fitted])
        # The classes of a fold are those with a fitted image; the others keep a probability of 0.
        cells = np.ix_(predicted, classifier.classes_)
        left_out = components[predicted]
        probabilities[cells] = classifier.predict_proba(left_out)
    return probabilities
