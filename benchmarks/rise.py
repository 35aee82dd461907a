"""Measures maps by RISE with other masks.

For images of the validation split, a few of each diagnosis, the map of the most probable diagnosis
is made with each set of masks. The peer is Grad-CAM on the same images. The columns are the mean
faithfulness with covered regions (`cadlib.saliency.faithfulness`), the lowest mean of a diagnosis,
and the mean repeatability: how similar the map would be with other masks of that kind.

    python -m benchmarks.rise --data isic2019/

It takes about three seconds for each image and set of 40 masks on two cores. The last line is one
JSON object.
"""

import argparse
import json
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


def measure_image(model: Model, path: str) -> tuple[list[float], list[float]]:
    """Return the faithfulness of each set's map and of the peer's, and the repeatability."""
    image = read_image(path)
    pixels = to_pixels(image, model.record.input)
    short_side_px = min(image.file_px)
    outputs = model.see(pixels[None])
    probabilities = model.calibrated(outputs.logits, short_side_px)
    target = int(probabilities.argmax())
    answers = model_answers(model, short_side_px)
    n_networks = len(model.committee.members)
    maps = []
    repeatable = []
    for mask_set in MASK_SETS.values():
        made = rise(answers, pixels, n_networks, mask_set)
        values = np.maximum(made.values[target], 0)
        maps.append(values)
        repeatable.append(float(made.repeatability[target]))
    evidence = outputs.evidence[0, target]
    maps.append(surface(evidence, model.record, model.views))
    faithful = faithfulness(model, pixels, short_side_px, maps, target)
    return faithful.tolist(), repeatable


def print_table(
    codes: "pd.Series[str]",
    faithful: list[list[float]],
    repeatable: list[list[float]],
) -> dict[str, dict[str, float]]:
    """Print a row for each set and for the peer; return its values."""
    names = [*MASK_SETS, PEER]
    by_image = pd.DataFrame(faithful, columns=names)
    by_diagnosis = by_image.groupby(codes.to_numpy()).mean()
    repeatability = pd.DataFrame(repeatable, columns=list(MASK_SETS)).mean()
    rows = []
    results = {}
    for name in names:
        values = {
            "faithfulness": by_image[name].mean(),
            "lowest_of_a_diagnosis": by_diagnosis[name].min(),
        }
        if name in MASK_SETS:
            values["repeatability"] = repeatability[name]
        rounded = {key: round(float(value), 2) for key, value in values.items()}
        results[name] = rounded
        last = str(rounded.get("repeatability", ""))
        rows.append(
            (name, f"{rounded['faithfulness']}", f"{rounded['lowest_of_a_diagnosis']}", last)
        )
    titles = ("maps", "faithfulness", "lowest of a diagnosis", "repeatability")
    print(markdown_table(titles, rows))
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of ISIC 2019 layout")
    parser.add_argument("--model", default="isic2019", help="name of a model (default: isic2019)")
    parser.add_argument("--each", type=int, default=3, help="images of a diagnosis (default: 3)")
    options = parser.parse_args()
    model = Model.load(options.model)
    table = choose_images(model, options.data, options.each)
    faithful = []
    repeatable = []
    for path in table["path"]:
        of_sets, of_masks = measure_image(model, path)
        faithful.append(of_sets)
        repeatable.append(of_masks)
    print(f"{len(table)} images\n")
    results = print_table(table["diagnosis"], faithful, repeatable)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
