"""Figures of earlier models, of their weights in git or in a folder, on validation images that none was trained on.

    python benchmarks/earlier.py MODEL … --data DIR --split CSV [--trained CSV …] [--px SIDE]

A MODEL is a commit that shipped models/isic2019, or a model's folder. The images are those of the validation part of
the split.csv `--split`, without any that stand in the training part of a MODEL's own split.csv, or of those that
`--trained` names: the first models were shipped without theirs. With several MODELs the mean of their logits over their
temperatures comes last. `--px` reads the pictures at another side than the models'. Prints balanced accuracy, malignant
and melanoma AUC with 95 % intervals over lesions, and the negative log-likelihood before calibration, of all the images
and of those of at least 150 px.
"""

import argparse
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

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
from cadlib.model import calibration, weights
from cadlib.network.backbones import build, load_arrays
from cadlib.taxonomy import CODES

BATCH_SIZE = 64


@dataclass(frozen=True)
class Earlier:
    """A model of any format version: what its record says, its weights, the images it was trained on."""

    name: str
    record: dict
    weights: bytes
    split: bytes

    @classmethod
    def read(cls, place: str) -> "Earlier":
        """Read a model's folder, or models/isic2019 of a commit."""

        def content(name: str) -> bytes:
            if Path(place).is_dir():
                return Path(place, name).read_bytes() if Path(place, name).exists() else b""
            shown = subprocess.run(
                ["git", "show", f"{place}:models/isic2019/{name}"], capture_output=True, check=False
            )
            return shown.stdout

        if not (record := content("model.json")):
            raise SystemExit(
                f"Expected a model's folder or a commit with models/isic2019 but got {place!r}."
            )
        facts = json.loads(record)
        return cls(
            f"{facts['version']} ({place})",
            facts,
            content("weights.safetensors"),
            content("split.csv"),
        )

    def temperature(self, short_side_px: NDArray) -> float | NDArray:
        """Return what divides the logits of images of these sizes; one number in the first models."""
        found = self.record["temperature"]
        return (
            calibration.Temperature(**found).of(short_side_px) if isinstance(found, dict) else found
        )

    def logits(self, pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float64]:
        """Run the network on (N, S, S, 3) uint8 RGB."""
        network = build(self.record["backbone"], spec.size_px)
        load_arrays(network, weights.unpack(self.weights))
        network.eval().to(memory_format=torch.channels_last)

        def batches() -> Iterator[NDArray[np.float32]]:
            for first in range(0, len(pixels), BATCH_SIZE):
                yield network(
                    torch.from_numpy(to_array(np.array(pixels[first : first + BATCH_SIZE]), spec))
                ).numpy()

        with torch.inference_mode():
            return np.concatenate(list(batches())).astype(np.float64)


def tell(
    name: str,
    logits: NDArray,
    temperature: float | NDArray,
    labels: NDArray,
    lesions: NDArray,
    large: NDArray,
) -> None:
    """Print the figures of one model."""
    probabilities = calibration.probabilities(logits, temperature, calibration.NO_BIAS)
    for part, rows in (("all", np.ones(len(labels), bool)), (">= 150 px", large)):
        found = summarise(labels[rows], probabilities[rows], lesions[rows])
        within = found["intervals"]
        told = (
            ("BA", found["balanced_accuracy"], within["balanced_accuracy"]),
            ("malignant AUC", found["malignant_auc"], within["malignant_auc"]),
            ("melanoma AUC", found["auc"]["MEL"], within["auc"]["MEL"]),
        )
        nll = -log_softmax(logits[rows], axis=1)[np.arange(rows.sum()), labels[rows]].mean()
        figures = ", ".join(f"{what} {value:.3f} {bounds}" for what, value, bounds in told)
        print(f"{name}, {part}, n = {rows.sum():,}: {figures}, nll {nll:.3f}", flush=True)


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
    if unknown := [model.name for model in models if not model.split and not options.trained]:
        raise SystemExit(
            f"{', '.join(unknown)} came without a split.csv: give the one it was trained on by --trained."
        )
    splits = [*options.trained, *(io.BytesIO(model.split) for model in models if model.split)]
    seen = {
        image
        for split in map(pd.read_csv, splits)
        for image in split.loc[split["split"] == "train", "image"]
    }
    rows = read_split(options.split).set_index("image")
    rows = rows[(rows["split"] == "validation") & ~rows.index.isin(seen)]
    table = open_dataset(options.data, verify=False).table
    table = table[table["image"].isin(rows.index) & table["diagnosis"].isin(CODES)].reset_index(
        drop=True
    )
    labels = table["diagnosis"].map(CODES.index).to_numpy(np.int64)
    lesions = np.unique(rows["lesion_group"].loc[table["image"]], return_inverse=True)[1]
    large = short_sides(table) >= calibration.SMALL_PX

    mean = np.zeros((len(table), len(CODES)))
    for model in models:
        spec = InputSpec.from_json(model.record["input"])
        spec = replace(spec, size_px=options.px or spec.size_px)
        logits = model.logits(cached_pixels(table, spec)[:], spec)
        temperature = model.temperature(short_sides(table))
        tell(model.name, logits, temperature, labels, lesions, large)
        mean += logits / temperature / len(models)
    if len(models) > 1:
        tell("mean of them", mean, 1.0, labels, lesions, large)


if __name__ == "__main__":
    main()
