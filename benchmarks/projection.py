"""Compares maps of images: their time, memory, and whether similar images lie together.

    python benchmarks/projection.py --data DIR [--model NAME] [--features FILE] [--images N …]
        [--methods M …]

Each method draws the images of a model's split from the features of the model, on their first 50
principal components, in a process of its own. `FILE` keeps the features, which take some minutes.
UMAP and PaCMAP are not in the requirements (numba, which both need, has 210 MB). Where they are not
installed they are skipped, with a note.

    seconds          of one processor core, of the method itself with its components
    MB               how much it raises the peak memory of the process
    trustworthiness  scikit-learn's, of 10 neighbours, on 2,000 images: 1 when no stranger is near
                     on the map
    same diagnosis   share of the images whose nearest image of another lesion on the map has their
                     diagnosis; the mean over diagnoses; and the share of validation images alone,
                     which the model was not trained on

`components` is no map: the nearest in 50 dimensions, which a map can hardly improve. `placed` is
openTSNE fitted on half of the images, with the other half placed among them; its metrics are those
of that half. The last line extrapolates to 500,000 images: those that are fitted, as measured, and
the others at the measured rate of placing.
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
from dataclasses import dataclass
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
"""Neighbours searched for another lesion: the largest lesion group has fewer images."""
CELL_FORMATS = {
    "seconds": ">8.1f",
    "mb": ">7.0f",
    "trustworthiness": ">17.3f",
    "same": ">16.3f",
    "same_mean": ">7.3f",
    "same_validation": ">12.3f",
}
"""Metrics in the order of the table's columns -> how each is written."""
Floats = NDArray[np.float32]
Texts = NDArray[np.str_]


def components(features: Floats, n: int = 50) -> Floats:
    """Return the first principal components."""
    return PCA(n, svd_solver="covariance_eigh").fit_transform(features)


def placed(features: Floats) -> Floats:
    """Return a map whose first half, in the random order of its seed, is fitted.

    The other half is placed.
    """
    embedding_map.FITTED_AT_MOST = len(features) // 2  # type: ignore[misc]
    return embedding_map.tsne(features, 0)


def sklearn_tsne(features: Floats) -> Floats:
    """Return scikit-learn's own t-SNE, with its defaults."""
    inputs = components(features)
    method = TSNE(random_state=0, n_jobs=1)
    return method.fit_transform(inputs)


def umap(features: Floats) -> Floats:
    """Return UMAP's map, with its defaults."""
    from umap import UMAP  # noqa: PLC0415 - no part of the requirements

    inputs = components(features)
    method = UMAP(random_state=0, n_jobs=1)
    return method.fit_transform(inputs)


def pacmap(features: Floats) -> Floats:
    """Return PaCMAP's map, with its defaults."""
    from pacmap import PaCMAP  # noqa: PLC0415 - as above

    inputs = components(features)
    method = PaCMAP(random_state=0)
    return method.fit_transform(inputs)


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


def write_features(model_name: str, data: Path, file: Path) -> None:
    """Write the features of the images of a model's split into a file, with their labels."""
    # Imported late: a process that measures a method does not need them.
    from cadlib.data.dataset import open_dataset  # noqa: PLC0415
    from cadlib.evaluation.features import split_features  # noqa: PLC0415
    from cadlib.model.model import Model  # noqa: PLC0415
    from cadlib.model.record import find_model  # noqa: PLC0415

    dataset = open_dataset(data, verify=False)
    model = Model.load(model_name)
    folder = find_model(model_name)
    split = split_features(model, folder, dataset, lambda *_: None)
    columns = {}
    for name in ("diagnosis", "lesion_group", "split"):
        values = split.table[name].to_numpy()
        columns[name] = values.astype(str)
    np.savez(file, features=split.features, **columns)


def agreement(
    places: Floats,
    diagnosis: Texts,
    lesion: Texts,
) -> NDArray[np.bool_]:
    """Return of each image whether the nearest of another lesion has its diagnosis."""
    n_images = len(places)
    count = min(NEAREST, n_images)
    search = NearestNeighbors(n_neighbors=count)
    search.fit(places)
    near = search.kneighbors(places, return_distance=False)
    own_lesion = lesion[:, None]
    is_other = lesion[near] != own_lesion
    first = is_other.argmax(axis=1)
    rows = np.arange(n_images)
    nearest = near[rows, first]
    return diagnosis[nearest] == diagnosis


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample of n images: (n, F) features, and (n,) diagnosis, lesion and split."""

    features: Floats
    diagnosis: Texts
    lesion: Texts
    split: Texts

    @classmethod
    def read(cls, file: Path, n: int) -> "Sample":
        """Draw n images of the file, in its order."""
        rng = np.random.default_rng(0)
        with np.load(file) as stored:
            features = stored["features"]
            order = rng.permutation(len(features))
            rows = np.sort(order[:n])
            return cls(
                features[rows],
                stored["diagnosis"][rows],
                stored["lesion_group"][rows],
                stored["split"][rows],
            )


def measure(method: str, n: int, file: Path) -> dict[str, float]:
    """Draw n images by one method; return its metrics."""
    warnings.simplefilter("ignore")
    sample = Sample.read(file, n)
    if method in EXTRA:
        importlib.import_module(EXTRA[method])
    draw = METHODS[method]
    # Imports and compilation happen in the first call, and are not measured.
    draw(sample.features[:200])
    before_mb = peak_mb()
    began = time.process_time()
    drawn = draw(sample.features)
    places = np.asarray(drawn)
    seconds = time.process_time() - began
    raised_mb = peak_mb() - before_mb
    rng = np.random.default_rng(0)
    judged = rng.permutation(n)
    if method == "placed":
        # The first half of this order was fitted: `embedding_map.tsne` draws it with seed 0.
        judged = judged[n // 2 :]
    return {
        "seconds": round(seconds, 1),
        "mb": round(raised_mb),
        **judge(sample, places, judged),
    }


def judge(
    sample: Sample,
    places: Floats,
    judged: NDArray[np.int64],
) -> dict[str, float]:
    """Return how well similar images lie together on a map, for the rows `judged`."""
    few = judged[:JUDGED]
    trust = trustworthiness(
        sample.features[few],
        places[few],
        n_neighbors=10,
    )
    agrees = agreement(places, sample.diagnosis, sample.lesion)
    same = agrees[judged]
    in_validation = sample.split[judged] == "validation"
    same_mean = mean_by_diagnosis(same, sample.diagnosis[judged])
    return {
        "trustworthiness": round(float(trust), 3),
        "same": share(same),
        "same_mean": round(same_mean, 3),
        "same_validation": share(same[in_validation]),
    }


def share(selected: NDArray[np.bool_]) -> float:
    """Return the share of true values, with three digits."""
    mean = float(selected.mean())
    return round(mean, 3)


def mean_by_diagnosis(same: NDArray[np.bool_], diagnosis: Texts) -> float:
    """Return the mean over diagnoses of their shares of true values."""
    shares = []
    for code in np.unique(diagnosis):
        has_code = diagnosis == code
        of_code = same[has_code]
        shares.append(of_code.mean())
    return float(np.mean(shares))


def peak_mb() -> float:
    """Return the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def seconds_to_place(n: int, file: Path) -> float:
    """Return how long it takes to place an image among others, on n images.

    A third of them is fitted.
    """
    from openTSNE.tsne import TSNEEmbedding  # noqa: PLC0415 - as above

    with np.load(file) as stored:
        features = stored["features"][:n]
    place = TSNEEmbedding.prepare_partial
    times_s = []

    def place_timed(embedding: Any, images: Any) -> Any:
        began = time.process_time()
        places = place(embedding, images)
        seconds = time.process_time() - began
        times_s.append(seconds)
        return places

    TSNEEmbedding.prepare_partial = place_timed
    n_fitted = n // 3
    n_placed = len(features) - n_fitted
    embedding_map.FITTED_AT_MOST = n_fitted  # type: ignore[misc]
    embedding_map.tsne(features, 0)
    return sum(times_s) / n_placed


def measure_apart(
    method: str,
    n: int,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Return the metrics of a method, measured in a process of its own."""
    line = [
        sys.executable,
        __file__,
        "--one",
        "--data",
        options.data,
        "--features",
        options.features,
        "--images",
        str(n),
        "--methods",
        method,
    ]
    ended = subprocess.run(line, stdout=subprocess.PIPE, check=True)
    lines = ended.stdout.splitlines()
    metrics: dict[str, float] = json.loads(lines[-1])
    return metrics


def metrics_text(metrics: dict[str, float]) -> str:
    """Return the metrics of a method as cells of the table."""
    text = ""
    for name, cell_format in CELL_FORMATS.items():
        value = metrics[name]
        text += format(value, cell_format)
    return text


def print_large(fit_s: float, options: argparse.Namespace) -> None:
    """Print how long a large data set would take, with `fit_s` for each fitted image."""
    limit = embedding_map.FITTED_AT_MOST
    n_images = max(options.images)
    place_s = seconds_to_place(n_images, options.features)
    place_ms = 1000 * place_s
    all_fitted_s = fit_s * limit
    others_s = place_s * (LARGE - limit)
    print(
        f"{LARGE:,} images, extrapolated: {all_fitted_s:.0f} s to fit {limit:,} and "
        f"{others_s:.0f} s to place the others, {place_ms:.2f} ms each"
    )


def is_missing(method: str) -> bool:
    """Return whether a method needs a package that is not installed."""
    package = EXTRA.get(method)
    if package is None:
        return False
    return importlib.util.find_spec(package) is None


def print_methods(options: argparse.Namespace) -> float:
    """Print the metrics of each method; return the seconds that openTSNE took for an image."""
    titles = f"{'images':>7}  {'method':<11}{'seconds':>8}{'MB':>7}{'trustworthiness':>17}"
    print(f"{titles}{'same diagnosis':>16}{'mean':>7}{'validation':>12}")
    fit_s = 0.0
    for n in options.images:
        for method in options.methods:
            title = f"{n:>7,}  {method:<11}"
            if is_missing(method):
                print(f"{title} not installed, left out")
                continue
            metrics = measure_apart(method, n, options)
            if method == "openTSNE":
                fit_s = metrics["seconds"] / n
            cells = metrics_text(metrics)
            print(f"{title}{cells}", flush=True)
    return fit_s


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary_line)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder of ISIC 2019 layout",
    )
    parser.add_argument("--model", default="isic2019")
    parser.add_argument(
        "--features",
        type=Path,
        default=Path("features.npz"),
        help="file that keeps the features (.npz)",
    )
    parser.add_argument(
        "--images",
        type=int,
        nargs="+",
        default=[5_000, 24_141],
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(METHODS),
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = read_options()
    if options.one:
        metrics = measure(
            options.methods[0],
            options.images[0],
            options.features,
        )
        print(json.dumps(metrics))
        return
    if not options.features.exists():
        write_features(
            options.model,
            options.data,
            options.features,
        )
    fit_s = print_methods(options)
    if fit_s:
        print_large(fit_s, options)


if __name__ == "__main__":
    main()
