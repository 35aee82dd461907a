"""Refits calibration, thresholds and prediction sets of a model.

They are fitted on the validation images of the model's own split.
"""

import argparse
from pathlib import Path

from cadlib.cli.usage import check_data, check_model, make_folder
from cadlib.model.record import find_model
from cadlib.progress import ProgressBars


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument("--model", required=True, help="name under models/, or a path")
    command.add_argument("--data", type=Path, required=True, help="folder of a data set")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    record = check_model(options.model)
    folder = find_model(options.model)
    check_data(options.data)
    make_folder(folder)

    from cadlib.data.dataset import open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.metrics import tables
    from cadlib.model.split import part_of_split
    from cadlib.training import calibrate

    dataset = open_dataset(options.data, verify=False)
    dataset = part_of_split(folder, record, dataset, "validation")
    check_labelled(dataset)
    with ProgressBars() as progress:
        figures = calibrate.calibrate(folder, dataset, progress)
    print(tables.metrics_table(figures))
    return 0
