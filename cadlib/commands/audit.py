"""Look for leaks in a model's split, for contradicting labels, and for drift of its answers."""

import argparse
import sys
from pathlib import Path

from cadlib.commands.bars import Bars
from cadlib.commands.usage import UsageError, check_data, check_model, make_folder, write_text
from cadlib.errors import CadError
from cadlib.record import ModelRecord, find_model


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument("--data", type=Path, help="folder of a data set: duplicates, and labels that contradict")
    command.add_argument("--model", help="name under models/, or a path: its golden figures, with --data its split")
    command.add_argument("--sheet", type=Path, metavar="FILE", help="with --data: write the pictures to an HTML file")
    command.add_argument("--into-model", action="store_true", help="the result becomes part of the model and its card")


def run(options: argparse.Namespace) -> int:
    """Carry the command out and return its exit code."""
    record = _check_audit(options)
    drifted = record is not None and _print_drift(options.model, record)
    if options.data is None:
        return 1 if drifted else 0

    from cadlib import audit, audit_sheet
    from cadlib.dataset import open_dataset
    from cadlib.duplicates import find_duplicates
    from cadlib.labelled import check_labelled
    from cadlib.model import Model

    dataset = open_dataset(options.data, verify=False)
    print(dataset.report, file=sys.stderr)
    with Bars(images=True) as bars:
        if record is None:
            alone = find_duplicates(dataset, bars.progress)
        else:
            found = audit.audit_split(Model.load(options.model), find_model(options.model), dataset, bars.progress)
    print(alone if record is None else found)
    if options.sheet:
        page = audit_sheet.render(alone) if record is None else audit_sheet.render(found.duplicates, found)
        write_text(options.sheet, page)
    check_labelled(dataset, malignant_alone=True)  # after the search for duplicates, which needs no label
    if options.into_model and record is not None:
        if drifted or found.missing:
            raise CadError(
                f"Expected all images of the split, and a model that answers as it was made, but {found.missing:,} "
                f"images lack{' and its answers drifted' if drifted else ''}; the model is left as it was."
            )
        audit.write_into(find_model(options.model), record, found.result)
    return 1 if drifted or (record is not None and found.result.leaks) else 0


def _check_audit(options: argparse.Namespace) -> ModelRecord | None:
    if options.data is None and options.model is None:
        raise UsageError("Expected --data with the folder of a data set, --model with a model, or both.")
    if options.data is not None:
        check_data(options.data)
    if options.data is None and options.sheet:
        raise UsageError("Expected --sheet together with --data, from where its pictures come.")
    if options.into_model and None in (options.data, options.model):
        raise UsageError("Expected --into-model together with --data and --model.")
    if options.sheet:
        make_folder(options.sheet.absolute().parent)
    return check_model(options.model) if options.model is not None else None


def _print_drift(name: str, record: ModelRecord) -> bool:
    """Compare a model with its golden figures; print and return whether it drifted."""
    from cadlib import golden
    from cadlib.model import Model

    drifted = golden.drift(Model.load(name), find_model(name))
    for one in drifted:
        print(f"{record.model_id} drifted: {one}")
    if not drifted:
        print(f"{record.model_id}: its weights are those of its record, its answers as on the day it was made")
    return bool(drifted)
