"""List what of a data set a person should look at again: doubted labels, pictures twice, contradictions, bad files."""

import argparse
import sys
from pathlib import Path

from cadlib.cli.usage import check_data, check_file, check_model, write_text
from cadlib.model.record import find_model
from cadlib.progress import ProgressBars


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument("--data", type=Path, required=True, help="folder of a data set")
    command.add_argument(
        "--model", default="isic2019", help="name under models/, or a path (default: isic2019)"
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        required=True,
        help="CSV file, a row a finding, with its verdict",
    )


def run(options: argparse.Namespace) -> int:
    """Carry the command out and return its exit code."""
    check_model(options.model)
    check_data(options.data)
    check_file(options.output)

    from cadlib import label_review
    from cadlib.data.dataset import open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.label_review.search import find_suspects
    from cadlib.model.model import Model

    dataset = open_dataset(options.data, verify=False)
    label_review.read_verdicts(
        dataset.name
    )  # what is wrong with them is said before minutes of work, not after
    print(dataset.report, file=sys.stderr)
    with ProgressBars() as progress:
        found = find_suspects(
            Model.load(options.model), find_model(options.model), dataset, progress
        )
    label_review.keep(found, dataset)
    found = label_review.beside(found, label_review.read_verdicts(dataset.name))
    write_text(options.output, found.to_csv())
    print(found)
    check_labelled(dataset, malignant_alone=True)  # after the lists that need no label
    return 0
