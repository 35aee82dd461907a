"""Give a model what rests on the features of its training images, and measure it."""

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
    """Carry the command out and return its exit code."""
    check_model(options.model)
    check_data(options.data)
    make_folder(find_model(options.model))

    from cadlib.data.dataset import open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.metrics import tables
    from cadlib.training import index

    dataset = open_dataset(options.data, verify=False)
    check_labelled(dataset)
    with ProgressBars() as progress:
        figures = index.fit(find_model(options.model), dataset, progress)
    print(tables.neighbours_table(figures))
    split, counted = figures["novelty"]["split"], figures["novelty"]["unknown"]["all"]
    print(
        f"{counted['unknown']:,} of {counted['n']:,} images of the {split} split are called unknown"
    )
    return 0
