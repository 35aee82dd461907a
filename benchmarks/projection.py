"""What makes a map of images: seconds, memory, and whether like lies beside like.

    python benchmarks/projection.py --data DIR [--model NAME] [--features FILE] [--images N …] [--methods M …]

Each method draws the images of a model's split from the features it sees, on their first 50 principal components, in a
process of its own; `FILE` keeps the features, which take some minutes. UMAP and PaCMAP are no part of the requirements
(numba, which both need, is 210 MB): where they are not installed they are left out, and it is said.

    seconds          of one processor core, of the method itself with its components
    MB               by which it raises the most memory the process ever held
    trustworthiness  scikit-learn's, of 10 neighbours, on 2,000 images: 1 when no stranger is near on the map
    same diagnosis   share of the images whose nearest image of another lesion on the map has their diagnosis; the mean
                     over diagnoses; and the share of validation images alone, which the model was not trained on

`components` is no map: the nearest in 50 dimensions, which a map can hardly better. `placed` is openTSNE fitted on half
of the images with the other half placed among them, and its figures are those of that half. The last line tells how
long 500,000 images would take: those that are fitted, as measured, and the others at the measured rate of placing.
"""

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import NearestNeighbors

from cadlib.evaluation import embedding_map

LARGE = 500_000
JUDGED = 2_000
NEAREST = 80
"""Neighbours looked at for one of another lesion: the largest lesion group has fewer images."""
Floats = NDArray[np.float32]


def components(features: Floats, n: int = 50) -> Floats:
    """Return the first principal components."""
    return PCA(n, svd_solver="covariance_eigh").fit_transform(features)


def placed(features: Floats) -> Floats:
    """Return a map of which the first half, by the lot of `projection.tsne`, is fitted and the other placed."""
    embedding_map.FITTED_AT_MOST = len(features) // 2  # type: ignore[misc]
    return embedding_map.tsne(features, 0)


def sklearn_tsne(features: Floats) -> Floats:
    """Return scikit-learn's own t-SNE, with its defaults."""
    return TSNE(random_state=0, n_jobs=1).fit_transform(components(features))


def umap(features: Floats) -> Floats:
    """Return UMAP's map, with its defaults."""
    from umap import UMAP  # noqa: PLC0415 - no part of the requirements

    return UMAP(random_state=0, n_jobs=1).fit_transform(components(features))


def pacmap(features: Floats) -> Floats:
    """Return PaCMAP's map, with its defaults."""
    from pacmap import PaCMAP  # noqa: PLC0415 - as above

    return PaCMAP(random_state=0).fit_transform(components(features))


METHODS: dict[str, Callable[[Floats], Floats]] = {
    "components": components,
    "PCA": partial(components, n=2),
    "openTSNE": partial(embedding_map.tsne, seed=0),
    "placed": placed,
    "sklearn": sklearn_tsne,
    "UMAP": umap,
    "PaCMAP": pacmap,
}
EXTRA = {"UMAP": "umap", "PaCMAP": "pacmap"}


def features_of(model_name: str, data: Path, file: Path) -> None:
    """Write what a model sees of the images of its split, with what is known of them, into a file."""
    from cadlib.data.dataset import open_dataset  # noqa: PLC0415 - what measures a method does without
    from cadlib.evaluation.features import split_features  # noqa: PLC0415
    from cadlib.model.model import Model  # noqa: PLC0415
    from cadlib.model.record import find_model  # noqa: PLC0415

    dataset = open_dataset(data, verify=False)
    seen = split_features(Model.load(model_name), find_model(model_name), dataset, lambda *_: None)
    known = {
        name: seen.table[name].to_numpy().astype(str)
        for name in ("diagnosis", "lesion_group", "split")
    }
    np.savez(file, features=seen.features, **known)


def agreement(places: Floats, diagnosis: NDArray[Any], lesion: NDArray[Any]) -> NDArray[np.bool_]:
    """Say of each image whether the nearest of another lesion has its diagnosis."""
    count = min(NEAREST, len(places))
    near = NearestNeighbors(n_neighbors=count).fit(places).kneighbors(places, return_distance=False)
    first = (lesion[near] != lesion[:, None]).argmax(axis=1)
    return diagnosis[near[np.arange(len(places)), first]] == diagnosis


def measure(method: str, n: int, file: Path) -> dict[str, float]:
    """Draw n images by one method; return its figures."""
    warnings.simplefilter("ignore")
    with np.load(file) as held:
        rows = np.sort(np.random.default_rng(0).permutation(len(held["features"]))[:n])
        features, *known = (
            held[name][rows] for name in ("features", "diagnosis", "lesion_group", "split")
        )
    diagnosis, lesion, split = known
    if method in EXTRA:
        importlib.import_module(EXTRA[method])
    METHODS[method](features[:200])  # imports, and what is compiled once
    before, began = peak_mb(), time.process_time()
    places = np.asarray(METHODS[method](features))
    seconds, memory = time.process_time() - began, peak_mb() - before
    same = agreement(places, diagnosis, lesion)
    judged = np.random.default_rng(0).permutation(n)
    if method == "placed":
        judged = judged[n // 2 :]  # the lot of projection.tsne for seed 0
    sample, same, diagnosis = judged[:JUDGED], same[judged], diagnosis[judged]
    return {
        "seconds": round(seconds, 1),
        "mb": round(memory),
        "trustworthiness": round(
            float(trustworthiness(features[sample], places[sample], n_neighbors=10)), 3
        ),
        "same": round(float(same.mean()), 3),
        "same_mean": round(
            float(np.mean([same[diagnosis == one].mean() for one in np.unique(diagnosis)])), 3
        ),
        "same_validation": round(float(same[split[judged] == "validation"].mean()), 3),
    }


def peak_mb() -> float:
    """Return the most memory this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def seconds_to_place(n: int, file: Path) -> float:
    """Return how long an image takes to be placed among others, on n images of which a third is fitted."""
    from openTSNE.tsne import TSNEEmbedding  # noqa: PLC0415 - as above

    with np.load(file) as held:
        features = held["features"][:n]
    place, took = TSNEEmbedding.prepare_partial, []

    def timed(embedding: Any, images: Any) -> Any:
        began = time.process_time()
        found = place(embedding, images)
        took.append(time.process_time() - began)
        return found

    TSNEEmbedding.prepare_partial = timed
    embedding_map.FITTED_AT_MOST = n // 3  # type: ignore[misc]
    embedding_map.tsne(features, 0)
    return sum(took) / (len(features) - n // 3)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    parser.add_argument("--model", default="isic2019")
    parser.add_argument(
        "--features",
        type=Path,
        default=Path("features.npz"),
        help="keeps what the model sees (.npz)",
    )
    parser.add_argument("--images", type=int, nargs="+", default=[5_000, 24_141])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.methods[0], options.images[0], options.features)))
        return
    if not options.features.exists():
        features_of(options.model, options.data, options.features)
    print(
        f"{'images':>7}  {'method':<11}{'seconds':>8}{'MB':>7}{'trustworthiness':>17}{'same diagnosis':>16}",
        end="",
    )
    print(f"{'mean':>7}{'validation':>12}")
    fitted = 0.0
    for n in options.images:
        for method in options.methods:
            if method in EXTRA and importlib.util.find_spec(EXTRA[method]) is None:
                print(f"{n:>7,}  {method:<11} not installed, left out")
                continue
            line = [
                sys.executable,
                __file__,
                "--one",
                "--data",
                options.data,
                "--features",
                options.features,
            ]
            line += ["--images", str(n), "--methods", method]
            found = json.loads(
                subprocess.run(line, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]
            )
            fitted = found["seconds"] / n if method == "openTSNE" else fitted
            print(
                f"{n:>7,}  {method:<11}{found['seconds']:>8.1f}{found['mb']:>7.0f}{found['trustworthiness']:>17.3f}"
                f"{found['same']:>16.3f}{found['same_mean']:>7.3f}{found['same_validation']:>12.3f}",
                flush=True,
            )
    if fitted:
        limit, rate = (
            embedding_map.FITTED_AT_MOST,
            seconds_to_place(max(options.images), options.features),
        )
        others = rate * (LARGE - limit)
        print(
            f"{LARGE:,} images, extrapolated: {fitted * limit:.0f} s to fit {limit:,} and {others:.0f} s to place the "
            f"others, {1000 * rate:.2f} ms each"
        )


if __name__ == "__main__":
    main()
