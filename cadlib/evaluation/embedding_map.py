"""Computes a map of images with similar ones close together.

A model's features of each image, (N, C), become a place in the plane by t-SNE, as openTSNE computes
it (Poličar, Stražar and Zupan, J. Stat. Softw. 109 (2024) 3), on the first principal components;
`benchmarks/projection.py` compares it with other methods. Only neighbourhoods mean something: the
axes, the distance between remote groups and the size of a group do not.
"""

from itertools import count
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import DatasetInvalid
from cadlib.files.cache import Cache
from cadlib.progress import Progress, no_progress

Features = NDArray[np.float32]
FITTED_AT_MOST: Final = 30_000
"""Images that t-SNE fits; a random sample of larger sets, among which the rest is placed."""
FEWEST: Final = 10
METHOD: Final = "openTSNE 1"
"""Part of a map's name on disk: change it with anything that changes a map."""
_MAPS: Final = Cache("maps", ".npy")
_COMPONENTS: Final = 50
_PERPLEXITY: Final = 30
_STEPS: Final = 250
"""With early exaggeration, and as many without it.

openTSNE's 500 take longer and are no better here.
"""
_STEPS_PER_REPORT: Final = 10
_PLACED_AT_ONCE: Final = 20_000


def project(
    features: Features,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Features:
    """Return the place of each image on the map, (N, 2) float32 without a unit.

    `features` are (N, C) float32. The map is the same for the same features and seed; it is
    computed once and cached on disk. Raise DatasetInvalid for fewer than `FEWEST` images or if all
    images are the same, and ValueError for arrays that are no features.
    """
    _check(features)
    contiguous = np.ascontiguousarray(features)
    entry = _MAPS.entry(METHOD, seed, FITTED_AT_MOST, features.shape, contiguous.data)
    cached: Features | None = entry.read(lambda place: np.load(place, allow_pickle=False))
    if cached is not None:
        return cached
    places = tsne(features, seed, progress)
    entry.write(lambda file: np.save(file, places, allow_pickle=False))
    return places


def tsne(
    features: Features,
    seed: int,
    progress: Progress = no_progress,
) -> Features:
    """Return the places of images by t-SNE, (N, 2) float32.

    It fits a random sample of at most `FITTED_AT_MOST` images and places the others among them.
    """
    # Imported here because it is slow to load and a page that draws a cached map does not need it.
    from sklearn.decomposition import PCA  # noqa: PLC0415

    rows = np.random.default_rng(seed).permutation(len(features))
    fitted = rows[:FITTED_AT_MOST]
    others = rows[FITTED_AT_MOST:]
    fitted_features = features[fitted]
    n_components = min(_COMPONENTS, len(fitted) - 1, features.shape[1])
    pca = PCA(n_components, svd_solver="covariance_eigh")
    pca.fit(fitted_features)
    fitted_components = pca.transform(fitted_features)
    embedding = _embedding(fitted_components, seed, progress)
    places = np.empty((len(features), 2), np.float32)
    places[fitted] = embedding
    for first in range(0, len(others), _PLACED_AT_ONCE):
        last = first + _PLACED_AT_ONCE
        block = others[first:last]
        components = pca.transform(features[block])
        # Placed among the fitted images without moving them.
        places[block] = embedding.prepare_partial(components)
    return places


def parts(
    places: Features,
    n: int,
) -> NDArray[np.int64]:
    """Return the part of the map that each image lies in, (N,), by k-means, at most n parts.

    They are numbered from 0 for the part with most images. A part is a way to name a region, and
    not a finding: it may cut through a group.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 - slow to load, as above

    # KMeans warns where it is asked for more clusters than there are different points.
    n_different = len(np.unique(places, axis=0))
    n_clusters = min(n, n_different)
    clusters = KMeans(n_clusters, random_state=0, n_init=1)
    labels = np.asarray(clusters.fit_predict(places), np.int64)
    sizes = np.bincount(labels)
    by_size = np.argsort(-sizes, kind="stable")
    # The argsort of an order gives the place of each label in it.
    rank_of_label = np.argsort(by_size)
    return rank_of_label[labels]


def _embedding(
    components: Features,
    seed: int,
    progress: Progress,
) -> Any:
    """Return the TSNEEmbedding of images, an (N, 2) array, from their principal components."""
    from openTSNE import TSNE  # noqa: PLC0415 - slow to load, as above

    steps = count(_STEPS_PER_REPORT, _STEPS_PER_REPORT)

    def report(*_: object) -> None:
        progress("steps of the map", next(steps), 2 * _STEPS)

    projection = TSNE(
        perplexity=min(_PERPLEXITY, (len(components) - 1) / 3),
        early_exaggeration_iter=_STEPS,
        n_iter=_STEPS,
        random_state=seed,
        callbacks=report,
        callbacks_every_iters=_STEPS_PER_REPORT,
    )
    return projection.fit(components)


def _check(features: Features) -> None:
    is_float = features.ndim == 2 and features.dtype == np.float32
    if not is_float or not np.isfinite(features).all():
        raise ValueError(
            "Expected `features` to be (N, C) finite float32 "
            f"but got {features.dtype} of shape {features.shape}."
        )
    if len(features) < FEWEST:
        raise DatasetInvalid(
            f"Expected at least {FEWEST} images for a map but got {len(features)}; choose more."
        )
    if (features == features[0]).all():
        raise DatasetInvalid(
            "Expected images that differ but a model sees the same in all of them; choose others."
        )
