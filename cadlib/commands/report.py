"""Write all that is measured of a model on some images as one HTML file."""

import argparse
import shlex
import sys
from pathlib import Path

from cadlib.commands.bars import Bars
from cadlib.commands.usage import UsageError, check_data, check_model, check_subset, make_folder, write_text
from cadlib.record import CARD_FILE, METRICS_FILE, find_model, read_json
from cadlib.validation import ROLE


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument("--model", required=True, help="name under models/, or a path")
    command.add_argument("--data", type=Path, required=True, help="folder of a data set")
    command.add_argument("--split", choices=ROLE, help="only this part of the model's split")
    command.add_argument(
        "--subset", metavar="NAME", help="only the images of this saved subset, within --split where both are given"
    )
    command.add_argument("--output", type=Path, metavar="FILE", required=True, help="HTML file, which needs no other")


def run(options: argparse.Namespace) -> int:
    """Carry the command out and return its exit code."""
    record = check_model(options.model)
    check_data(options.data)
    subset = check_subset(options.subset) if options.subset else None
    if options.output.is_dir():
        raise UsageError(f"Expected --output to name an HTML file but {options.output} is a folder.")
    make_folder(options.output.absolute().parent)

    from cadlib.dataset import open_dataset
    from cadlib.evaluated import evaluated
    from cadlib.part import Part
    from cadlib.report import Subject, render

    part, folder = Part(options.split, subset), find_model(options.model)
    dataset = part.of(folder, record, open_dataset(options.data.absolute(), verify=False))
    print(dataset.report, file=sys.stderr)
    with Bars() as bars:
        found = evaluated(folder, record, dataset, bars.progress, part)
    own, card = (folder / name for name in (METRICS_FILE, CARD_FILE))
    subject = Subject(
        record,
        found.figures,
        part.named,
        *part.role(folder, record, dataset),
        found,
        read_json(own) if own.exists() else {},
        card.read_text(encoding="utf-8") if card.exists() else f"This model's folder has no {card.name}.",
    )
    write_text(options.output, render(subject, _command(options)))
    print(f"{options.output}: {found.figures['n']:,} images of {found.figures['n_lesions']:,} lesions")
    print(f"{record.model_id}: {record.validation_claim}")
    return 1 if found.figures["rejected"] else 0


def _command(options: argparse.Namespace) -> str:
    """Return the command without folders, for a report is passed on."""
    flags = (("model", Path(options.model).name), ("data", options.data.absolute().name), ("split", options.split),
             ("subset", options.subset), ("output", options.output.name))  # fmt: skip
    return "python -m cadlib report " + " ".join(shlex.join([f"--{name}", value]) for name, value in flags if value)
