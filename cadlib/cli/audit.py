"""Checks a model for leaks in its split, contradicting labels and drift."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cadlib.cli.usage import (
    UsageError,
    check_data,
    check_file,
    check_found,
    check_model,
    make_folder,
    write_text,
)
from cadlib.errors import CadError
from cadlib.model.record import find_model
from cadlib.progress import ProgressBars

# `--help` and bad usage do not wait for this import.
if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument(
        "--data", type=Path, help="folder of a data set: duplicates, and labels that contradict"
    )
    command.add_argument(
        "--model", help="name under models/, or a path: its golden figures, with --data its split"
    )
    command.add_argument(
        "--sheet", type=Path, metavar="FILE", help="with --data: write the pictures to an HTML file"
    )
    command.add_argument(
        "--into-model",
        action="store_true",
        help="the result becomes part of the model and its card",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    _check_audit(options)
    # If the model has changed, its split is not audited: it may be that of another model.
    if options.model is not None and _print_changes(options.model):
        return 1
    if options.data is None:
        return 0
    if options.model is None:
        return _audit_data(options)
    return _audit_split(options)


def _audit_data(options: argparse.Namespace) -> int:
    """Audit a data set alone, and return 0."""
    from cadlib.data.duplicates import find_duplicates
    from cadlib.data.label_check import check_labelled
    from cadlib.report import audit_sheet

    dataset = _open(options.data)
    with ProgressBars() as progress:
        duplicates = find_duplicates(dataset, progress)
    print(duplicates)
    if options.sheet:
        write_text(options.sheet, audit_sheet.render(duplicates))
    # The search for duplicates needs no labels, so they are checked after it.
    check_labelled(dataset, malignant_alone=True)
    return 0


def _audit_split(options: argparse.Namespace) -> int:
    """Audit a data set and the split of a model, and return 1 for a leak, else 0."""
    record = check_model(options.model)

    from cadlib.data.label_check import check_labelled
    from cadlib.evaluation import leak_audit
    from cadlib.model.model import Model
    from cadlib.report import audit_sheet

    folder = find_model(options.model)
    dataset = _open(options.data)
    with ProgressBars() as progress:
        model = Model.load(options.model)
        audit = leak_audit.audit_split(model, folder, dataset, progress)
    print(audit)
    if options.sheet:
        write_text(options.sheet, audit_sheet.render(audit.duplicates, audit))
    # The search for duplicates needs no labels, so they are checked after it.
    check_labelled(dataset, malignant_alone=True)
    if options.into_model:
        if audit.missing:
            raise CadError(
                f"Expected all images of the split, but {audit.missing:,} images lack; "
                "the model is left as it was."
            )
        leak_audit.write_into(folder, record, audit.result)
    return 1 if audit.result.leaks else 0


def _open(folder: Path) -> "Dataset":
    """Open a data set and print its report."""
    from cadlib.data.dataset import open_dataset

    dataset = open_dataset(folder, verify=False)
    print(dataset.report, file=sys.stderr)
    return dataset


def _check_audit(options: argparse.Namespace) -> None:
    """Raise UsageError for flags that do not fit each other, and for missing files."""
    if options.data is None and options.model is None:
        raise UsageError(
            "Expected --data with the folder of a data set, --model with a model, or both."
        )
    if options.data is not None:
        check_data(options.data)
    if options.data is None and options.sheet:
        raise UsageError("Expected --sheet together with --data, from where its pictures come.")
    if options.into_model and None in (options.data, options.model):
        raise UsageError("Expected --into-model together with --data and --model.")
    if options.sheet:
        check_file(options.sheet)
    if options.model is not None:
        check_found(options.model)
    if options.into_model:
        make_folder(find_model(options.model))


def _print_changes(name: str) -> bool:
    """Print the changes of a model's folder and golden answers; return whether there are any."""
    from cadlib.model.verification import verify

    verified = verify(find_model(name))
    print(verified)
    return not verified.unchanged
