"""Lists doubtful labels, duplicates, contradictions and unreadable files of a data set.

A person should review each of them.
"""

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
    """Run the command and return its exit code."""
    check_model(options.model)
    check_data(options.data)
    check_file(options.output)

    from cadlib import label_review
    from cadlib.data.dataset import open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.label_review.search import find_suspects
    from cadlib.model.model import Model

    dataset = open_dataset(options.data, verify=False)
    # Damaged verdicts raise an error here, before minutes of work.
    label_review.read_verdicts(dataset.name)
    print(dataset.report, file=sys.stderr)
    with ProgressBars() as progress:
        model = Model.load(options.model)
        suspects = find_suspects(model, find_model(options.model), dataset, progress)
    label_review.keep(suspects, dataset)
    verdicts = label_review.read_verdicts(dataset.name)
    suspects = label_review.beside(suspects, verdicts)
    write_text(options.output, suspects.to_csv())
    print(suspects)
    # Some of the lists need no labels, so they are checked last.
    check_labelled(dataset, malignant_alone=True)
    return 0
