"""How long similar cases take to find, against scikit-learn's exact search, and what their compact form costs.

    python benchmarks/neighbours.py [--model NAME] [--data DIR] [--originals DIR] [--queries N]

The index of a model is grown to 25,000 and to 500,000 images: its own ones, each again with its direction turned a
little. Both searches look at every image and take the same queries one by one; scikit-learn's NearestNeighbors (brute,
cosine) has the same vectors in float32 and gives 40 rows, from which five of different lesions would still have to
be chosen. `--data`, a folder with the images of the model's split, adds the precision at five on validation images for
other forms of the index, and how near images that are none of the index come to one of it, for the limits by which a
training image is recognised; `--originals`, how far the index's own images are from it as their cameras made them, from
files called as they are. The last line is one JSON object: milliseconds a query, memory in MB, and the ratio to
scikit-learn.
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


def grown(index: NeighbourIndex, n: int, rng: np.random.Generator) -> NeighbourIndex:
    """Return an index of n images: those of an index, each again as often as it takes, turned a little."""
    rows = np.arange(n) % len(index)
    noise = np.rint(rng.normal(0, 6, (n, index.vectors.shape[1])).astype(np.float32)).astype(
        np.int8
    )
    noise[: len(index)] = 0
    vectors = np.clip(index.vectors[rows].astype(np.int16) + noise, -127, 127).astype(np.int8)
    lesions = (
        index.lesions[rows] + (np.arange(n) // len(index)) * (index.lesions.max() + 1)
    ).astype(np.int32)
    names = {field.name for field in fields(index)} - {
        "basis",
        "vectors",
        "lesions",
        "archive_names",
    }
    each = {name: getattr(index, name)[rows] for name in names}
    return replace(index, **each, vectors=vectors, lesions=lesions)


def milliseconds(ask: Callable[[int], object], queries: int) -> NDArray[np.float64]:
    """Return how long each query took, after one that does not count."""
    ask(0)
    times = []
    for query in range(queries):
        began = time.perf_counter()
        ask(query)
        times.append(1000 * (time.perf_counter() - began))
    return np.array(times)


def timed(index: NeighbourIndex, queries: int, rng: np.random.Generator) -> dict[str, float]:
    """Measure one size; print it and return its figures."""
    rows = rng.integers(0, len(index), queries)
    wanted = index.vectors[rows].astype(np.float32) + rng.normal(
        0, 6, (queries, index.vectors.shape[1])
    )
    features = (wanted @ index.basis.T).astype(np.float32)
    ours = milliseconds(
        lambda q: index.search(features[q], index.fingerprints[rows[q]], "NV"), queries
    )
    peer = NearestNeighbors(n_neighbors=PEER_ROWS, algorithm="brute", metric="cosine")
    vectors = index.vectors.astype(np.float32)
    peer.fit(vectors)
    theirs = milliseconds(lambda q: peer.kneighbors(features[q : q + 1] @ index.basis), queries)
    memory = sum(getattr(index, field.name).nbytes for field in fields(index)) / 1e6
    found = {
        "ms": round(float(np.median(ours)), 2),
        "ms_slowest": round(float(ours.max()), 2),
        "memory_mb": round(memory, 1),
        "sklearn_ms": round(float(np.median(theirs)), 2),
        "sklearn_memory_mb": round(vectors.nbytes / 1e6, 1),
        "ratio_ms": round(float(np.median(ours) / np.median(theirs)), 3),
    }
    print(
        f"{len(index):>8,} images  "
        + "  ".join(f"{name} {value}" for name, value in found.items()),
        flush=True,
    )
    return found


def print_forms(seen: SplitFeatures) -> None:
    """Print the precision on validation images by the form of the index."""
    train, asked = seen.of("train"), seen.of("validation")
    probabilities = np.eye(8)[asked.logits.argmax(axis=1)]
    index = build(train)
    print(
        f"{'dimensions':<12}{'precision at 5':>16}{'vote accuracy':>16}   {len(asked.table):,} validation images"
    )
    for dimensions in (16, 32, 64, 128, train.features.shape[1]):
        basis, vectors = compact(train.features, dimensions)
        found = measure(replace(index, basis=basis, vectors=vectors), asked, probabilities)
        print(
            f"{dimensions:<12}{found['precision']:>16.4f}{found['vote_accuracy']:>16.4f}",
            flush=True,
        )


def print_nearest(index: NeighbourIndex, seen: SplitFeatures) -> None:
    """Print how near images that are none of the index come to one of it: in bits, the nearest first."""
    nearest = []
    for part in ("validation", "test"):
        asked = seen.of(part)
        for features, fingerprint in zip(asked.features, asked.fingerprints, strict=True):
            bits = index.bits(fingerprint)
            nearest.append((int(bits.min()), float(index.similarities(features)[bits.argmin()])))
    told = ", ".join(f"{bits} ({similarity:.2f})" for bits, similarity in sorted(nearest)[:8])
    print(f"{len(nearest):,} images of other splits, nearest in bits (similarity): {told}")


def print_originals(model: Model, index: NeighbourIndex, folder: Path) -> None:
    """Print how far images of the index are from it when they are read from other files."""
    rows, found = index.images.tolist(), []
    for path in sorted(folder.iterdir()):
        if (name := path.stem.encode()) in rows:
            one, row = model.predict(path), rows.index(name)
            bits, similarity = (
                index.bits(one.fingerprint)[row],
                index.similarities(one.features)[row],
            )
            found.append((int(bits), float(similarity)))
    told = ", ".join(
        f"{bits} ({similarity:.2f})" for bits, similarity in sorted(found, reverse=True)
    )
    print(f"{len(found)} training images as other files, in bits (similarity): {told}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="isic2019")
    parser.add_argument(
        "--data", type=Path, help="folder of ISIC 2019 layout: compare forms of the index, too"
    )
    parser.add_argument(
        "--originals", type=Path, metavar="DIR", help="training images as their cameras made them"
    )
    parser.add_argument("--queries", type=int, default=50, help="of each size (default: 50)")
    options = parser.parse_args()
    model = Model.load(options.model)
    if model.neighbours is None:
        parser.error(
            f"{options.model} has no index; make it with `{command_hints.index(options.model)}`."
        )
    if options.data:
        dataset = open_dataset(options.data, verify=False)
        seen = split_features(model, find_model(options.model), dataset, lambda *_: None)
        print_forms(seen)
        print_nearest(model.neighbours, seen)
    if options.originals:
        print_originals(model, model.neighbours, options.originals)
    rng = np.random.default_rng(0)
    print(
        json.dumps(
            {str(n): timed(grown(model.neighbours, n, rng), options.queries, rng) for n in SIZES}
        )
    )


if __name__ == "__main__":
    main()
