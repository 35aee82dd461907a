"""Measures earlier models on validation images that none of them was trained on.

    python benchmarks/earlier.py MODEL … --data DIR --split CSV [--trained CSV …] [--px SIDE]

A MODEL is a commit that has models/isic2019, or a model's folder. The images are those of the
validation part of the split.csv `--split`, without those in the training part of a MODEL's own
split.csv or of those that `--trained` names: the first models were published without theirs. With
several MODELs the mean of their logits over their temperatures comes last. `--px` reads the images
at another side than the models'.

It prints balanced accuracy, malignant and melanoma AUC with 95 % intervals over lesions, and the
negative log-likelihood before calibration, for all images and for those of at least 150 px.
"""

import argparse
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from cadlib.data.dataset import open_dataset, short_sides
from cadlib.data.pixel_cache import cached_pixels
from cadlib.data.splits import read_split
from cadlib.images.preprocess import InputSpec, to_array
from cadlib.metrics.summary import summarise
from cadlib.metrics.summary_schema import FullSummary
from cadlib.model import calibration, weights
from cadlib.network.backbones import build, load_arrays
from cadlib.taxonomy import CODES

BATCH_SIZE = 64


@dataclass(frozen=True)
class Earlier:
    """A model of any format version: the facts of its record, its weights and its split.csv."""

    name: str
    record: dict
    weights: bytes
    split: bytes

    @classmethod
    def read(cls, place: str) -> "Earlier":
        """Read a model's folder, or models/isic2019 of a commit."""
        text = read_file(place, "model.json")
        if not text:
            raise SystemExit(
                f"Expected a model's folder or a commit with models/isic2019 but got {place!r}."
            )
        record = json.loads(text)
        name = f"{record['version']} ({place})"
        stored = read_file(place, "weights.safetensors")
        return cls(name, record, stored, read_file(place, "split.csv"))

    def temperature(self, short_side_px: NDArray) -> float | NDArray:
        """Return the divisor of the logits of images of these sizes.

        It is one number in the first models.
        """
        temperature = self.record["temperature"]
        if isinstance(temperature, dict):
            return calibration.Temperature(**temperature).of(short_side_px)
        return temperature

    @torch.inference_mode()
    def logits(self, pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float64]:
        """Run the network on (N, S, S, 3) uint8 RGB."""
        network = build(self.record["backbone"], spec.size_px)
        load_arrays(network, weights.unpack(self.weights))
        network.eval().to(memory_format=torch.channels_last)
        outputs = []
        for first in range(0, len(pixels), BATCH_SIZE):
            batch = np.array(pixels[first : first + BATCH_SIZE])
            inputs = torch.from_numpy(to_array(batch, spec))
            outputs.append(network(inputs).numpy())
        return np.concatenate(outputs).astype(np.float64)


def read_file(place: str, name: str) -> bytes:
    """Return a file of a model's folder or commit; nothing where it is missing."""
    folder = Path(place)
    if not folder.is_dir():
        line = ["git", "show", f"{place}:models/isic2019/{name}"]
        return subprocess.run(line, capture_output=True, check=False).stdout
    path = folder / name
    return path.read_bytes() if path.exists() else b""


@dataclass(frozen=True, eq=False)
class Images:
    """The measured images: their table, and labels, lesions and whether they are large, (N,)."""

    table: pd.DataFrame
    labels: NDArray[np.int64]
    lesions: NDArray[np.int64]
    large: NDArray[np.bool_]


def choose_images(data: Path, split: Path, trained: set[str]) -> Images:
    """Return the validation images of a split that no model was trained on."""
    rows = read_split(split).set_index("image")
    in_validation = rows["split"] == "validation"
    rows = rows[in_validation & ~rows.index.isin(trained)]
    table = open_dataset(data, verify=False).table
    is_chosen = table["image"].isin(rows.index) & table["diagnosis"].isin(CODES)
    table = table[is_chosen].reset_index(drop=True)
    labels = table["diagnosis"].map(CODES.index).to_numpy(np.int64)
    groups = rows["lesion_group"].loc[table["image"]]
    _, lesions = np.unique(groups, return_inverse=True)
    large = short_sides(table) >= calibration.SMALL_PX
    return Images(table, labels, lesions, large)


def trained_images(models: list[Earlier], files: list[Path]) -> set[str]:
    """Return the training images of all models, by their own splits and by `files`."""
    own_splits = [io.BytesIO(model.split) for model in models if model.split]
    images: set[str] = set()
    for source in (*files, *own_splits):
        split = pd.read_csv(source)
        images.update(split.loc[split["split"] == "train", "image"])
    return images


def print_metrics(name: str, logits: NDArray, temperature: float | NDArray, images: Images) -> None:
    """Print the metrics of one model on all images and on the large ones."""
    probabilities = calibration.probabilities(logits, temperature, calibration.NO_BIAS)
    every = np.ones(len(images.labels), bool)
    for part, rows in (("all", every), (">= 150 px", images.large)):
        labels = images.labels[rows]
        summary = summarise(labels, probabilities[rows], images.lesions[rows])
        log_likelihoods = log_softmax(logits[rows], axis=1)[np.arange(len(labels)), labels]
        nll = -log_likelihoods.mean()
        metrics = metrics_text(summary)
        print(f"{name}, {part}, n = {len(labels):,}: {metrics}, nll {nll:.3f}", flush=True)


def metrics_text(summary: FullSummary) -> str:
    """Return three metrics with their intervals."""
    intervals = summary.intervals
    metrics = (
        ("BA", summary.balanced_accuracy, intervals.balanced_accuracy),
        ("malignant AUC", summary.malignant_auc, intervals.malignant_auc),
        ("melanoma AUC", summary.auc["MEL"], intervals.auc["MEL"]),
    )
    return ", ".join(f"{title} {value:.3f} {interval}" for title, value, interval in metrics)


def compare(models: list[Earlier], images: Images, side_px: int | None) -> None:
    """Print the metrics of each model, and of the mean of several."""
    short_side_px = short_sides(images.table)
    mean = np.zeros((len(images.table), len(CODES)))
    for model in models:
        spec = msgspec.convert(model.record["input"], InputSpec)
        spec = msgspec.structs.replace(spec, size_px=side_px or spec.size_px)
        pixels = cached_pixels(images.table, spec)[:]
        logits = model.logits(pixels, spec)
        temperature = model.temperature(short_side_px)
        print_metrics(model.name, logits, temperature, images)
        mean += logits / temperature / len(models)
    if len(models) > 1:
        print_metrics("mean of them", mean, 1.0, images)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--trained", type=Path, nargs="+", default=[], metavar="CSV")
    parser.add_argument("--px", type=int)
    options = parser.parse_args()
    models = [Earlier.read(place) for place in options.models]
    without_split = [model.name for model in models if not model.split]
    if without_split and not options.trained:
        raise SystemExit(
            f"Expected a split.csv of {', '.join(without_split)} but found none: "
            "name the one that it was trained on with --trained."
        )
    trained = trained_images(models, options.trained)
    images = choose_images(options.data, options.split, trained)
    compare(models, images, options.px)


if __name__ == "__main__":
    main()
