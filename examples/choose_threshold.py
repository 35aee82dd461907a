"""Show what each operating point of a model means for 100 patients of a clinic.

python examples/choose_threshold.py [--malignant-share 0.1] [--model NAME]
"""

import argparse

from cadlib import Model
from cadlib.metrics.predictive_values import PredictiveValues


def main() -> None:
    """Print sensitivity, specificity and predictive values of each operating point."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--malignant-share", type=float, default=0.1, help="share of malignant lesions, 0 to 1"
    )
    parser.add_argument("--model", default="isic2019", help="name or folder of a model")
    options = parser.parse_args()

    model = Model.load(options.model)
    print("operating point    threshold  sensitivity  specificity    PPV    NPV")
    for point in model.record.operating_points:
        values = PredictiveValues(point, options.malignant_share)
        print(
            f"{point.name:<18}{point.threshold:>10.2f}{point.sensitivity:>13.2f}"
            f"{point.specificity:>13.2f}{values.positive:>7.2f}{values.negative:>7.2f}"
        )


if __name__ == "__main__":
    main()
