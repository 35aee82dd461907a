"""Measures maps by RISE with other masks.

For images of the validation split, a few of each diagnosis, the map of the most probable diagnosis
is made with each set of masks. The peer is Grad-CAM on the same images. The columns are the mean
faithfulness with covered regions (`cadlib.saliency.faithfulness`), the lowest mean of a diagnosis,
the mean repeatability (how similar the map would be with other masks of that kind), and the median
seconds for the maps of one image.

    python -m benchmarks.rise --data isic2019/

It takes about three seconds for each image and set of 40 masks on two cores. The last line is one
JSON object.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cadlib.data.dataset import open_dataset
from cadlib.evaluation.split_sample import diagnosed_images
from cadlib.images import read_image
from cadlib.images.preprocess import to_pixels
from cadlib.metrics.tables import markdown_table
from cadlib.model.model import Model
from cadlib.model.record import SPLIT_FILE, find_model
from cadlib.model.split import read_split
from cadlib.saliency.faithfulness import faithfulness
from cadlib.saliency.heatmap import surface
from cadlib.saliency.rise import MASKS, MaskSet, model_answers, rise

MASK_SETS = {
    "half of the masks": MaskSet(n=MASKS.n // 2),
    "as in the app": MASKS,
    "smaller regions": MaskSet(region_share=0.07),
    "larger regions": MaskSet(region_share=0.14),
    "always half visible": MaskSet(least_shown=0.5, most_shown=0.5),
}
PEER = "Grad-CAM"


def choose_images(model: Model, data: Path, n_each: int) -> pd.DataFrame:
    """Return validation images of the model, at most `n_each` of each diagnosis."""
    dataset = open_dataset(data, verify=False)
    split = read_split(find_model(model.record.name) / SPLIT_FILE)
    of_validation = split["image"][split["split"] == "validation"]
    table = diagnosed_images(dataset)
    table = table[table["image"].isin(of_validation)]
    samples = []
    for _, of_code in table.groupby("diagnosis"):
        n = min(n_each, len(of_code))
        samples.append(of_code.sample(n, random_state=0))
    return pd.concat(samples)


@dataclass(frozen=True)
class ImageResult:
    """The faithfulness of each set's map and of the peer's, and more about each set.

    `seconds` are those of making the maps of all diagnoses.
    """

    faithfulness: list[float]
    repeatability: list[float]
    seconds: list[float]


def measure_image(model: Model, path: str) -> ImageResult:
    """Make the map of an image's most probable diagnosis with each set of masks."""
    image = read_image(path)
    pixels = to_pixels(image, model.record.input)
    short_side_px = min(image.file_px)
    outputs = model.see(pixels[None])
    probabilities = model.calibrated(outputs.logits, short_side_px)
    target = int(probabilities.argmax())
    answers = model_answers(model, short_side_px)
    n_networks = len(model.committee.members)
    of_sets = []
    seconds = []
    for mask_set in MASK_SETS.values():
        began = time.perf_counter()
        of_sets.append(rise(answers, pixels, n_networks, mask_set))
        seconds.append(time.perf_counter() - began)
    maps = [np.maximum(made.values[target], 0) for made in of_sets]
    peer = surface(outputs.evidence[0, target], model.record, model.views)
    faithful = faithfulness(model, pixels, short_side_px, [*maps, peer], target)
    return ImageResult(
        faithfulness=faithful.tolist(),
        repeatability=[float(made.repeatability[target]) for made in of_sets],
        seconds=seconds,
    )


def summarise(codes: "pd.Series[str]", results: list[ImageResult]) -> pd.DataFrame:
    """Return a row for each set and for the peer, with the columns of the table."""
    faithful = pd.DataFrame(
        [result.faithfulness for result in results],
        columns=[*MASK_SETS, PEER],
    )
    repeatable = pd.DataFrame(
        [result.repeatability for result in results],
        columns=list(MASK_SETS),
    )
    seconds = pd.DataFrame(
        [result.seconds for result in results],
        columns=list(MASK_SETS),
    )
    by_diagnosis = faithful.groupby(codes.to_numpy()).mean()
    columns = {
        "faithfulness": faithful.mean(),
        "lowest of a diagnosis": by_diagnosis.min(),
        "repeatability": repeatable.mean(),
        # The first image also waits for the masks.
        "seconds": seconds.median(),
    }
    # The peer has no masks, and comes with each prediction.
    return pd.DataFrame(columns).loc[faithful.columns]


def print_table(table: pd.DataFrame) -> None:
    """Print the rows of `summarise` with two digits."""
    rows = []
    for name, values in table.iterrows():
        cells = ["" if np.isnan(value) else f"{value:.2f}" for value in values]
        rows.append((str(name), *cells))
    print(markdown_table(("maps", *table.columns), rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    parser.add_argument("--model", default="isic2019", help="name of a model (default: isic2019)")
    parser.add_argument("--each", type=int, default=3, help="images of a diagnosis (default: 3)")
    options = parser.parse_args()
    model = Model.load(options.model)
    table = choose_images(model, options.data, options.each)
    results = [measure_image(model, path) for path in table["path"]]
    print(f"{len(table)} images\n")
    summary = summarise(table["diagnosis"], results)
    print_table(summary)
    rounded = summary.round(3)
    print(rounded.to_json(orient="index"))


if __name__ == "__main__":
    main()
