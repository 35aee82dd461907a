"""Measures the search for similar cases, against scikit-learn's exact search.

    python benchmarks/neighbours.py [--model NAME] [--data DIR] [--originals DIR] [--queries N]

The index of a model is enlarged to 25,000 and to 500,000 images: its own ones, each again with its
direction turned a little. Both searches compare every image, and take the same queries one by one.
scikit-learn's NearestNeighbors (brute, cosine) has the same vectors in float32 and returns 40 rows,
from which five of different lesions would still have to be chosen.

`--data`, a folder with the images of the model's split, adds the precision at five on validation
images for other forms of the index, and how near images outside the index come to one in it, for
the limits by which a training image is recognised. `--originals` adds how far the index's own
images are from it when they are read from the camera's files of the same names. The last line is
one JSON object: milliseconds a query, memory in MB, and the ratio to scikit-learn.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from cadlib import command_hints
from cadlib.data.dataset import open_dataset
from cadlib.evaluation.features import SplitFeatures, split_features
from cadlib.model.model import Model
from cadlib.model.neighbours import NeighbourIndex
from cadlib.model.neighbours.index import compact
from cadlib.model.record import find_model
from cadlib.training.similar_case_index import build, measure

SIZES = (25_000, 500_000)
PEER_ROWS = 40
NOT_REPEATED = ("basis", "vectors", "lesions", "archive_names")
"""Fields of an index that are not repeated as they are when it is enlarged."""
Floats = NDArray[np.float64]
Distance = tuple[int, float]
"""Bits between two fingerprints, and the similarity of the features."""


def enlarge(index: NeighbourIndex, n: int, rng: Generator) -> NeighbourIndex:
    """Return an index of n images: those of an index, repeated, each copy turned a little."""
    size = len(index)
    numbers = np.arange(n)
    rows = numbers % size
    copy = numbers // size
    vectors = turn_copies(index, rows, rng)
    # Each copy has lesions of its own.
    n_lesions = index.lesions.max() + 1
    lesions = index.lesions[rows] + copy * n_lesions
    repeated = {}
    for field in fields(index):
        if field.name not in NOT_REPEATED:
            values = getattr(index, field.name)
            repeated[field.name] = values[rows]
    return replace(
        index,
        **repeated,
        vectors=vectors,
        lesions=lesions.astype(np.int32),
    )


def turn_copies(
    index: NeighbourIndex,
    rows: NDArray[np.int64],
    rng: Generator,
) -> NDArray[np.int8]:
    """Return the vectors of these rows, all but the first copy turned a little."""
    _, dimensions = index.vectors.shape
    shape = (len(rows), dimensions)
    drawn = rng.normal(0, 6, shape).astype(np.float32)
    rounded = np.rint(drawn)
    noise = rounded.astype(np.int8)
    # The first copy stays as it is.
    noise[: len(index)] = 0
    vectors = index.vectors[rows]
    # A sum may be beyond int8.
    turned = vectors.astype(np.int16) + noise
    clipped = np.clip(turned, -127, 127)
    return clipped.astype(np.int8)


def milliseconds(ask: Callable[[int], object], queries: int) -> Floats:
    """Return how long each query took, after one that does not count."""
    ask(0)
    times_ms = []
    for query in range(queries):
        began = time.perf_counter()
        ask(query)
        seconds = time.perf_counter() - began
        times_ms.append(1000 * seconds)
    return np.array(times_ms)


def size_metrics(
    index: NeighbourIndex,
    ours_ms: Floats,
    peer_ms: Floats,
) -> dict[str, float]:
    """Return the metrics of a size, by the times of its queries."""
    index_bytes = 0
    for field in fields(index):
        index_bytes += getattr(index, field.name).nbytes
    # The peer has the same vectors in float32.
    peer_bytes = 4 * index.vectors.size
    slowest_ms = float(ours_ms.max())
    median_ms = float(np.median(ours_ms))
    peer_median_ms = float(np.median(peer_ms))
    ratio = median_ms / peer_median_ms
    return {
        "ms": round(median_ms, 2),
        "ms_slowest": round(slowest_ms, 2),
        "memory_mb": round(index_bytes / 1e6, 1),
        "sklearn_ms": round(peer_median_ms, 2),
        "sklearn_memory_mb": round(peer_bytes / 1e6, 1),
        "ratio_ms": round(ratio, 3),
    }


def measure_size(
    index: NeighbourIndex,
    queries: int,
    rng: Generator,
) -> dict[str, float]:
    """Measure one size; print and return its metrics."""
    rows = rng.integers(0, len(index), queries)
    vectors = index.vectors.astype(np.float32)
    features = features_near(index, vectors[rows], rng)
    peer = NearestNeighbors(
        n_neighbors=PEER_ROWS,
        algorithm="brute",
        metric="cosine",
    )
    peer.fit(vectors)

    def search(query: int) -> object:
        row = rows[query]
        fingerprint = index.fingerprints[row]
        return index.search(
            features[query],
            fingerprint,
            "NV",
        )

    def search_with_peer(query: int) -> object:
        following = query + 1
        vector = features[query:following] @ index.basis
        return peer.kneighbors(vector)

    ours_ms = milliseconds(search, queries)
    peer_ms = milliseconds(search_with_peer, queries)
    metrics = size_metrics(index, ours_ms, peer_ms)
    print_size(len(index), metrics)
    return metrics


def features_near(
    index: NeighbourIndex,
    vectors: NDArray[np.float32],
    rng: Generator,
) -> NDArray[np.float32]:
    """Return the features of queries: near these vectors of the index, in its full dimensions."""
    noise = rng.normal(0, 6, vectors.shape)
    turned = vectors + noise
    features = turned @ index.basis.T
    return features.astype(np.float32)


def print_size(images: int, metrics: dict[str, float]) -> None:
    """Print the metrics of an index with so many images."""
    line = f"{images:>8,} images"
    for name, value in metrics.items():
        line += f"  {name} {value}"
    print(line, flush=True)


def print_forms(split: SplitFeatures) -> None:
    """Print the precision on validation images by the form of the index."""
    train = split.of("train")
    queries = split.of("validation")
    top = queries.logits.argmax(axis=1)
    probabilities = np.eye(8)[top]
    index = build(train)
    n_queries = len(queries.table)
    titles = f"{'dimensions':<12}{'precision at 5':>16}{'vote accuracy':>16}"
    print(f"{titles}   {n_queries:,} validation images")
    _, all_dimensions = train.features.shape
    for dimensions in (16, 32, 64, 128, all_dimensions):
        basis, vectors = compact(train.features, dimensions)
        form = replace(
            index,
            basis=basis,
            vectors=vectors,
        )
        metrics = measure(form, queries, probabilities)
        precision = f"{metrics.precision:>16.4f}"
        accuracy = f"{metrics.vote_accuracy:>16.4f}"
        line = f"{dimensions:<12}{precision}{accuracy}"
        print(line, flush=True)


def print_nearest(index: NeighbourIndex, split: SplitFeatures) -> None:
    """Print how near images outside the index come to one in it, in bits, the nearest first."""
    distances = []
    for part in ("validation", "test"):
        queries = split.of(part)
        images = zip(
            queries.features,
            queries.fingerprints,
            strict=True,
        )
        for features, fingerprint in images:
            nearest = nearest_distance(index, features, fingerprint)
            distances.append(nearest)
    n_images = len(distances)
    text = distances_text(sorted(distances)[:8])
    print(f"{n_images:,} images of other splits, nearest in bits (similarity): {text}")


def nearest_distance(
    index: NeighbourIndex,
    features: NDArray[np.float32],
    fingerprint: NDArray[np.uint8],
) -> Distance:
    """Return the distance of the image of an index that is nearest in bits."""
    bits = index.bits(fingerprint)
    row = bits.argmin()
    similarities = index.similarities(features)
    return int(bits[row]), float(similarities[row])


def print_originals(
    model: Model,
    index: NeighbourIndex,
    folder: Path,
) -> None:
    """Print how far images of the index are from it when they are read from other files."""
    names = index.images.tolist()
    distances = []
    for path in sorted(folder.iterdir()):
        name = path.stem.encode()
        if name not in names:
            continue
        row = names.index(name)
        prediction = model.predict(path)
        bits = index.bits(prediction.fingerprint)
        similarities = index.similarities(prediction.features)
        distance = (int(bits[row]), float(similarities[row]))
        distances.append(distance)
    n_images = len(distances)
    farthest_first = sorted(distances, reverse=True)
    text = distances_text(farthest_first)
    print(f"{n_images} training images as other files, in bits (similarity): {text}")


def distances_text(distances: list[Distance]) -> str:
    """Return distances in bits, each with its similarity: "3 (0.98), 5 (0.91)"."""
    return ", ".join(f"{bits} ({similarity:.2f})" for bits, similarity in distances)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary_line)
    parser.add_argument("--model", default="isic2019")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of ISIC 2019 layout: compare forms of the index, too",
    )
    parser.add_argument(
        "--originals",
        type=Path,
        metavar="DIR",
        help="training images as their cameras made them",
    )
    parser.add_argument(
        "--queries",
        type=int,
        default=50,
        help="of each size (default: 50)",
    )
    return parser.parse_args()


def print_split(
    model: Model,
    index: NeighbourIndex,
    options: argparse.Namespace,
) -> None:
    """Print what is measured on the images of the model's split."""
    dataset = open_dataset(options.data, verify=False)
    folder = find_model(options.model)
    split = split_features(model, folder, dataset, lambda *_: None)
    print_forms(split)
    print_nearest(index, split)


def main() -> None:
    """Measure and print."""
    options = read_options()
    model = Model.load(options.model)
    index = model.neighbours
    if index is None:
        command = command_hints.index(options.model)
        raise SystemExit(f"{options.model} has no index; make it with `{command}`.")
    if options.data:
        print_split(model, index, options)
    if options.originals:
        print_originals(model, index, options.originals)
    rng = np.random.default_rng(0)
    by_size = {}
    for n in SIZES:
        enlarged = enlarge(index, n, rng)
        metrics = measure_size(enlarged, options.queries, rng)
        by_size[str(n)] = metrics
    print(json.dumps(by_size))


if __name__ == "__main__":
    main()
