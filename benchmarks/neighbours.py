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


def enlarge(index: NeighbourIndex, n: int, rng: np.random.Generator) -> NeighbourIndex:
    """Return an index of n images: those of an index, repeated, each copy turned a little."""
    numbers = np.arange(n)
    rows = numbers % len(index)
    vectors = turn_copies(index, rows, rng)
    # Each copy has lesions of its own.
    copy = numbers // len(index)
    n_lesions = index.lesions.max() + 1
    lesions = index.lesions[rows] + copy * n_lesions
    repeated = {}
    for field in fields(index):
        if field.name not in ("basis", "vectors", "lesions", "archive_names"):
            repeated[field.name] = getattr(index, field.name)[rows]
    return replace(index, **repeated, vectors=vectors, lesions=lesions.astype(np.int32))


def turn_copies(
    index: NeighbourIndex, rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int8]:
    """Return the vectors of these rows, all but the first copy turned a little."""
    shape = (len(rows), index.vectors.shape[1])
    drawn = rng.normal(0, 6, shape).astype(np.float32)
    noise = np.rint(drawn).astype(np.int8)
    # The first copy stays as it is.
    noise[: len(index)] = 0
    turned = index.vectors[rows].astype(np.int16) + noise
    return np.clip(turned, -127, 127).astype(np.int8)


def milliseconds(ask: Callable[[int], object], queries: int) -> NDArray[np.float64]:
    """Return how long each query took, after one that does not count."""
    ask(0)
    times = []
    for query in range(queries):
        began = time.perf_counter()
        ask(query)
        times.append(1000 * (time.perf_counter() - began))
    return np.array(times)


def size_metrics(
    index: NeighbourIndex, ours_ms: NDArray[np.float64], peer_ms: NDArray[np.float64]
) -> dict[str, float]:
    """Return the metrics of a size, by the times of its queries."""
    index_bytes = sum(getattr(index, field.name).nbytes for field in fields(index))
    # The peer has the same vectors in float32.
    peer_bytes = 4 * index.vectors.size
    median_ms = float(np.median(ours_ms))
    peer_median_ms = float(np.median(peer_ms))
    return {
        "ms": round(median_ms, 2),
        "ms_slowest": round(float(ours_ms.max()), 2),
        "memory_mb": round(index_bytes / 1e6, 1),
        "sklearn_ms": round(peer_median_ms, 2),
        "sklearn_memory_mb": round(peer_bytes / 1e6, 1),
        "ratio_ms": round(median_ms / peer_median_ms, 3),
    }


def measure_size(index: NeighbourIndex, queries: int, rng: np.random.Generator) -> dict[str, float]:
    """Measure one size; print and return its metrics."""
    rows = rng.integers(0, len(index), queries)
    vectors = index.vectors.astype(np.float32)
    features = features_near(index, vectors[rows], rng)
    peer = NearestNeighbors(n_neighbors=PEER_ROWS, algorithm="brute", metric="cosine")
    peer.fit(vectors)

    def search(query: int) -> object:
        fingerprint = index.fingerprints[rows[query]]
        return index.search(features[query], fingerprint, "NV")

    def search_with_peer(query: int) -> object:
        return peer.kneighbors(features[query : query + 1] @ index.basis)

    ours_ms = milliseconds(search, queries)
    peer_ms = milliseconds(search_with_peer, queries)
    metrics = size_metrics(index, ours_ms, peer_ms)
    print_size(len(index), metrics)
    return metrics


def features_near(
    index: NeighbourIndex, vectors: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the features of queries: near these vectors of the index, in its full dimensions."""
    noise = rng.normal(0, 6, vectors.shape)
    turned = vectors + noise
    return (turned @ index.basis.T).astype(np.float32)


def print_size(images: int, metrics: dict[str, float]) -> None:
    """Print the metrics of an index with so many images."""
    texts = [f"{name} {value}" for name, value in metrics.items()]
    print(f"{images:>8,} images  " + "  ".join(texts), flush=True)


def print_forms(split: SplitFeatures) -> None:
    """Print the precision on validation images by the form of the index."""
    train = split.of("train")
    queries = split.of("validation")
    top = queries.logits.argmax(axis=1)
    probabilities = np.eye(8)[top]
    index = build(train)
    titles = f"{'dimensions':<12}{'precision at 5':>16}{'vote accuracy':>16}"
    print(f"{titles}   {len(queries.table):,} validation images")
    for dimensions in (16, 32, 64, 128, train.features.shape[1]):
        basis, vectors = compact(train.features, dimensions)
        form = replace(index, basis=basis, vectors=vectors)
        metrics = measure(form, queries, probabilities)
        values = f"{metrics['precision']:>16.4f}{metrics['vote_accuracy']:>16.4f}"
        print(f"{dimensions:<12}{values}", flush=True)


def print_nearest(index: NeighbourIndex, split: SplitFeatures) -> None:
    """Print how near images outside the index come to one in it, in bits, the nearest first."""
    nearest = []
    for part in ("validation", "test"):
        queries = split.of(part)
        for features, fingerprint in zip(queries.features, queries.fingerprints, strict=True):
            bits = index.bits(fingerprint)
            row = bits.argmin()
            similarity = index.similarities(features)[row]
            nearest.append((int(bits[row]), float(similarity)))
    text = distances_text(sorted(nearest)[:8])
    print(f"{len(nearest):,} images of other splits, nearest in bits (similarity): {text}")


def print_originals(model: Model, index: NeighbourIndex, folder: Path) -> None:
    """Print how far images of the index are from it when they are read from other files."""
    names = index.images.tolist()
    distances = []
    for path in sorted(folder.iterdir()):
        name = path.stem.encode()
        if name not in names:
            continue
        row = names.index(name)
        prediction = model.predict(path)
        bits = index.bits(prediction.fingerprint)[row]
        similarity = index.similarities(prediction.features)[row]
        distances.append((int(bits), float(similarity)))
    text = distances_text(sorted(distances, reverse=True))
    print(f"{len(distances)} training images as other files, in bits (similarity): {text}")


def distances_text(distances: list[tuple[int, float]]) -> str:
    """Return distances in bits, each with its similarity: "3 (0.98), 5 (0.91)"."""
    return ", ".join(f"{bits} ({similarity:.2f})" for bits, similarity in distances)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="isic2019")
    parser.add_argument(
        "--data", type=Path, help="folder of ISIC 2019 layout: compare forms of the index, too"
    )
    parser.add_argument(
        "--originals", type=Path, metavar="DIR", help="training images as their cameras made them"
    )
    parser.add_argument("--queries", type=int, default=50, help="of each size (default: 50)")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = read_options()
    model = Model.load(options.model)
    if model.neighbours is None:
        command = command_hints.index(options.model)
        raise SystemExit(f"{options.model} has no index; make it with `{command}`.")
    if options.data:
        dataset = open_dataset(options.data, verify=False)
        split = split_features(model, find_model(options.model), dataset, lambda *_: None)
        print_forms(split)
        print_nearest(model.neighbours, split)
    if options.originals:
        print_originals(model, model.neighbours, options.originals)
    rng = np.random.default_rng(0)
    by_size = {}
    for n in SIZES:
        enlarged = enlarge(model.neighbours, n, rng)
        by_size[str(n)] = measure_size(enlarged, options.queries, rng)
    print(json.dumps(by_size))


if __name__ == "__main__":
    main()
