"""Fits a model's similar-case index and novelty detector, and measures them."""

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
    check_model(options.model)
    folder = find_model(options.model)
    check_data(options.data)
    make_folder(folder)

    from cadlib.data.dataset import open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.metrics import tables
    from cadlib.training import index

    dataset = open_dataset(options.data, verify=False)
    check_labelled(dataset)
    with ProgressBars() as progress:
        figures = index.fit(folder, dataset, progress)
    print(tables.neighbours_table(figures))
    novelty = figures["novelty"]
    counts = novelty["unknown"]["all"]
    unknown = f"{counts['unknown']:,} of {counts['n']:,} images"
    print(f"{unknown} of the {novelty['split']} split are called unknown")
    return 0
