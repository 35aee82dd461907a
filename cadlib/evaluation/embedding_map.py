"""A map of images: what a model sees of each, (N, C), as a place in the plane, so that those it finds alike lie close.

By t-SNE, as openTSNE computes it (Poličar, Stražar and Zupan, J. Stat. Softw. 109 (2024) 3), on the first principal
components; `benchmarks/projection.py` holds it against others. Only neighbourhoods mean something: the axes, the
distance between groups far apart and the size of a group do not.
"""

import hashlib
from itertools import count
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import DatasetInvalid
from cadlib.files.cache import cache_dir, is_standing, keep_array, standing
from cadlib.progress import Progress, no_progress

FITTED_AT_MOST: Final = 30_000
"""Images that push each other about; of more, so many are drawn by lot and the rest is placed among them."""
FEWEST: Final = 10
METHOD: Final = "openTSNE 1"
"""Part of a map's name on disk: to be changed with anything that changes a map."""
_COMPONENTS: Final = 50
_PERPLEXITY: Final = 30
_STEPS: Final = 250
"""With early exaggeration, and again without; openTSNE's 500 of these take longer and are no better here."""
_SAID_EVERY: Final = 10
_PLACED_AT_ONCE: Final = 20_000


def project(
    features: NDArray[np.float32], seed: int = 0, progress: Progress = no_progress
) -> NDArray[np.float32]:
    """Return the place of each image on the map, (N, 2) float32 without a unit, from its features, (N, C) float32.

    The same for the same features and seed; made once and kept on disk. Raise DatasetInvalid for fewer than `FEWEST`
    images, or images that are all the same, and ValueError for what are no features.
    """
    if features.ndim != 2 or features.dtype != np.float32 or not np.isfinite(features).all():
        raise ValueError(
            f"Expected `features` to be (N, C) finite float32 but got {features.dtype} of shape {features.shape}."
        )
    if len(features) < FEWEST:
        raise DatasetInvalid(
            f"Expected at least {FEWEST} images for a map but got {len(features)}; choose more."
        )
    if (features == features[0]).all():
        raise DatasetInvalid(
            "Expected images that differ but a model sees the same in all of them; choose others."
        )
    path = cache_dir() / "maps" / f"{_fingerprint(features, seed)}.npy"
    if is_standing(path):
        kept: NDArray[np.float32] = np.load(standing(path), allow_pickle=False)
        return kept
    places = tsne(features, seed, progress)
    keep_array(path, places)
    return places


def tsne(
    features: NDArray[np.float32], seed: int, progress: Progress = no_progress
) -> NDArray[np.float32]:
    """Return the places of images by t-SNE, (N, 2): of `FITTED_AT_MOST` at random, and among these of the others."""
    # Loaded when a map is made, which is once: a page that draws one does without.
    from openTSNE import TSNE  # noqa: PLC0415
    from sklearn.decomposition import PCA  # noqa: PLC0415

    rows = np.random.default_rng(seed).permutation(len(features))
    fitted, others = rows[:FITTED_AT_MOST], rows[FITTED_AT_MOST:]
    components = min(_COMPONENTS, len(fitted) - 1, features.shape[1])
    pca = PCA(components, svd_solver="covariance_eigh").fit(features[fitted])
    steps = count(_SAID_EVERY, _SAID_EVERY)
    embedding = TSNE(
        perplexity=min(_PERPLEXITY, (len(fitted) - 1) / 3),
        early_exaggeration_iter=_STEPS,
        n_iter=_STEPS,
        random_state=seed,
        callbacks=lambda *_: progress("steps of the map", next(steps), 2 * _STEPS),
        callbacks_every_iters=_SAID_EVERY,
    ).fit(pca.transform(features[fitted]))
    places = np.empty((len(features), 2), np.float32)
    places[fitted] = embedding
    for first in range(0, len(others), _PLACED_AT_ONCE):
        some = others[first : first + _PLACED_AT_ONCE]
        places[some] = embedding.prepare_partial(pca.transform(features[some]))
    return places


def parts(places: NDArray[np.float32], n: int) -> NDArray[np.int64]:
    """Return the part of the map each image lies in, (N,), from 0 for the part with most images; at most n, by k-means.

    They are a way to name a region, and no finding: a part may cut through a group.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 - as above

    labels = KMeans(min(n, len(np.unique(places, axis=0))), random_state=0, n_init=1).fit_predict(
        places
    )
    by_size = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(by_size)[np.asarray(labels, np.int64)]


def _fingerprint(features: NDArray[np.float32], seed: int) -> str:
    digest = hashlib.sha256(repr((METHOD, seed, FITTED_AT_MOST, features.shape)).encode())
    digest.update(np.ascontiguousarray(features).data)
    return digest.hexdigest()[:32]
