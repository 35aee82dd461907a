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
Labels = NDArray[np.int64]


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
        by_size = isinstance(temperature, dict)
        if not by_size:
            return temperature
        stored = calibration.Temperature(**temperature)
        return stored.of(short_side_px)

    @torch.inference_mode()
    def logits(
        self,
        pixels: NDArray[np.uint8],
        spec: InputSpec,
    ) -> NDArray[np.float64]:
        """Run the network on (N, S, S, 3) uint8 RGB."""
        backbone = self.record["backbone"]
        network = build(backbone, spec.size_px)
        arrays = weights.unpack(self.weights)
        load_arrays(network, arrays)
        network.eval()
        network.to(memory_format=torch.channels_last)
        outputs = []
        for first in range(0, len(pixels), BATCH_SIZE):
            end = first + BATCH_SIZE
            batch = np.array(pixels[first:end])
            values = to_array(batch, spec)
            inputs = torch.from_numpy(values)
            output = network(inputs)
            outputs.append(output.numpy())
        joined = np.concatenate(outputs)
        return joined.astype(np.float64)


def read_file(place: str, name: str) -> bytes:
    """Return a file of a model's folder or commit; nothing where it is missing."""
    folder = Path(place)
    if folder.is_dir():
        path = folder / name
        return path.read_bytes() if path.exists() else b""
    object_name = f"{place}:models/isic2019/{name}"
    line = ["git", "show", object_name]
    ended = subprocess.run(
        line,
        capture_output=True,
        check=False,
    )
    return ended.stdout


@dataclass(frozen=True, eq=False)
class Images:
    """The measured images: their table, and labels, lesions and whether they are large, (N,)."""

    table: pd.DataFrame
    labels: Labels
    lesions: Labels
    large: NDArray[np.bool_]


def choose_images(
    data: Path,
    split: Path,
    trained: set[str],
) -> Images:
    """Return the validation images of a split that no model was trained on."""
    rows = read_split(split)
    rows = rows.set_index("image")
    in_validation = rows["split"] == "validation"
    was_trained = rows.index.isin(trained)
    rows = rows[in_validation & ~was_trained]
    dataset = open_dataset(data, verify=False)
    table = dataset.table
    in_rows = table["image"].isin(rows.index)
    has_class = table["diagnosis"].isin(CODES)
    table = table[in_rows & has_class]
    table = table.reset_index(drop=True)
    numbers = table["diagnosis"].map(CODES.index)
    labels = numbers.to_numpy(np.int64)
    groups = rows["lesion_group"]
    groups_of_images = groups.loc[table["image"]]
    _, lesions = np.unique(groups_of_images, return_inverse=True)
    sides_px = short_sides(table)
    large = sides_px >= calibration.SMALL_PX
    return Images(table, labels, lesions, large)


def trained_images(models: list[Earlier], files: list[Path]) -> set[str]:
    """Return the training images of all models, by their own splits and by `files`."""
    with_split = [model for model in models if model.split]
    own_splits = [io.BytesIO(model.split) for model in with_split]
    images: set[str] = set()
    for source in (*files, *own_splits):
        split = pd.read_csv(source)
        in_training = split["split"] == "train"
        trained = split.loc[in_training, "image"]
        images.update(trained)
    return images


def print_metrics(
    name: str,
    logits: NDArray,
    temperature: float | NDArray,
    images: Images,
) -> None:
    """Print the metrics of one model on all images and on the large ones."""
    n_images = len(images.labels)
    parts = {
        "all": np.ones(n_images, bool),
        ">= 150 px": images.large,
    }
    probabilities = calibration.probabilities(
        logits,
        temperature,
        calibration.NO_BIAS,
    )
    for part, rows in parts.items():
        labels = images.labels[rows]
        summary = summarise(
            labels,
            probabilities[rows],
            images.lesions[rows],
        )
        nll = mean_nll(labels, logits[rows])
        metrics = metrics_text(summary)
        title = f"{name}, {part}, n = {len(labels):,}"
        print(f"{title}: {metrics}, nll {nll:.3f}", flush=True)


def mean_nll(
    labels: Labels,
    logits: NDArray,
) -> float:
    """Return the mean negative log-likelihood of the labels."""
    log_probabilities = log_softmax(logits, axis=1)
    rows = np.arange(len(labels))
    log_likelihoods = log_probabilities[rows, labels]
    mean: float = log_likelihoods.mean()
    return -mean


def metrics_text(summary: FullSummary) -> str:
    """Return three metrics with their intervals."""
    intervals = summary.intervals
    metrics = (
        (
            "BA",
            summary.balanced_accuracy,
            intervals.balanced_accuracy,
        ),
        (
            "malignant AUC",
            summary.malignant_auc,
            intervals.malignant_auc,
        ),
        (
            "melanoma AUC",
            summary.auc["MEL"],
            intervals.auc["MEL"],
        ),
    )
    return ", ".join(f"{title} {value:.3f} {interval}" for title, value, interval in metrics)


def input_of(model: Earlier, side_px: int | None) -> InputSpec:
    """Return the input of a model, at another side if one is named."""
    record_input = model.record["input"]
    spec = msgspec.convert(record_input, InputSpec)
    if not side_px:
        return spec
    return msgspec.structs.replace(spec, size_px=side_px)


def compare(
    models: list[Earlier],
    images: Images,
    side_px: int | None,
) -> None:
    """Print the metrics of each model, and of the mean of several."""
    short_side_px = short_sides(images.table)
    n_models = len(models)
    shape = (len(images.table), len(CODES))
    mean = np.zeros(shape)
    for model in models:
        spec = input_of(model, side_px)
        pixels = cached_pixels(images.table, spec)[:]
        logits = model.logits(pixels, spec)
        temperature = model.temperature(short_side_px)
        print_metrics(model.name, logits, temperature, images)
        mean += logits / temperature / n_models
    if n_models > 1:
        print_metrics("mean of them", mean, 1.0, images)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary_line)
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument(
        "--trained",
        type=Path,
        nargs="+",
        default=[],
        metavar="CSV",
    )
    parser.add_argument("--px", type=int)
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = read_options()
    models = [Earlier.read(place) for place in options.models]
    without_split = [model.name for model in models if not model.split]
    if without_split and not options.trained:
        names = ", ".join(without_split)
        raise SystemExit(
            f"Expected a split.csv of {names} but found none: "
            "name the one that it was trained on with --trained."
        )
    trained = trained_images(models, options.trained)
    images = choose_images(
        options.data,
        options.split,
        trained,
    )
    compare(models, images, options.px)


if __name__ == "__main__":
    main()
