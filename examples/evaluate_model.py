"""Evaluate a model on a data set and print its metrics.

    python examples/evaluate_model.py [--data DIR] [--model NAME]

Without --data a small data set of synthetic lesions is made: its metrics say nothing about patients.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from cadlib import Model, evaluate, open_dataset
from cadlib.images.synthetic import write_dataset
from cadlib.metrics.tables import metrics_table
from cadlib.progress import ProgressBars


def main() -> None:
    """Print what a data set holds, and the metrics of a model on it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, help="a folder of images with their tables")
    parser.add_argument("--model", default="isic2019", help="name or folder of a model")
    options = parser.parse_args()

    with TemporaryDirectory() as folder, ProgressBars() as progress:
        data = options.data or write_dataset(Path(folder), per_class=3)
        dataset = open_dataset(data, verify=False)
        # What did not fit together: missing images, labels that contradict each other, ...
        print(dataset.report)
        evaluation = evaluate(Model.load(options.model), dataset, progress)

    print(metrics_table(evaluation.metrics))


if __name__ == "__main__":
    main()
