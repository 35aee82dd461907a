"""Predict one image and save its saliency map.

    python examples/predict_image.py [IMAGE] [--output FILE]

Without IMAGE a synthetic lesion is used.
"""

import argparse
from pathlib import Path

from PIL import Image

from cadlib import Model, assess
from cadlib.images.synthetic import demo_lesions
from cadlib.saliency.heatmap import overlay
from cadlib.taxonomy import diagnosis


def main() -> None:
    """Print the ranked diagnoses of an image, and save its saliency map."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", nargs="?", help="a dermoscopic image")
    parser.add_argument("--output", type=Path, help="where to save the image with its map")
    options = parser.parse_args()

    model = Model.load("isic2019")
    source = options.image or demo_lesions()[0].png()
    result = assess(model, source)

    # An image that is blurred, or that is no dermoscopic image, gets a warning instead of trust.
    if not result.answerable:
        print(result.warning)
    print(result.decision.sentence)
    for code, probability in result.prediction.ranking():
        print(f"{code:<5}{diagnosis(code).name:<26}{probability:.2f}")

    if options.output:
        pixels = overlay(result.image, result.heatmap)
        Image.fromarray(pixels).save(options.output)
        print(f"Saved {options.output}")


if __name__ == "__main__":
    main()
