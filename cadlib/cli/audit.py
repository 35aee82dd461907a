"""Look for leaks in a model's split, for contradicting labels, and for drift of its answers."""

import argparse
import sys
from pathlib import Path

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
    """Carry the command out and return its exit code."""
    _check_audit(options)
    if options.model is not None and _print_changes(options.model):
        return 1  # a model that changed is not the one whose split would be audited
    if options.data is None:
        return 0
    record = check_model(options.model) if options.model is not None else None

    from cadlib.data.dataset import open_dataset
    from cadlib.data.duplicates import find_duplicates
    from cadlib.data.label_check import check_labelled
    from cadlib.evaluation import leak_audit
    from cadlib.model.model import Model
    from cadlib.report import audit_sheet

    dataset = open_dataset(options.data, verify=False)
    print(dataset.report, file=sys.stderr)
    with ProgressBars() as progress:
        if record is None:
            alone = find_duplicates(dataset, progress)
        else:
            found = leak_audit.audit_split(
                Model.load(options.model), find_model(options.model), dataset, progress
            )
    print(alone if record is None else found)
    if options.sheet:
        page = (
            audit_sheet.render(alone)
            if record is None
            else audit_sheet.render(found.duplicates, found)
        )
        write_text(options.sheet, page)
    check_labelled(
        dataset, malignant_alone=True
    )  # after the search for duplicates, which needs no label
    if options.into_model and record is not None:
        if found.missing:
            raise CadError(
                f"Expected all images of the split, but {found.missing:,} images lack; the model is left as it was."
            )
        leak_audit.write_into(find_model(options.model), record, found.result)
    return 1 if record is not None and found.result.leaks else 0


def _check_audit(options: argparse.Namespace) -> None:
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
    """Print what changed in a model's folder and in its answers; return whether anything did."""
    from cadlib.model.verification import verify

    verified = verify(find_model(name))
    print(verified)
    return not verified.unchanged
