"""Write all that is measured of a model on some images as one HTML file."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cadlib.cli.usage import (
    UsageError,
    check_data,
    check_file,
    check_model,
    check_subset,
    write_text,
)
from cadlib.model.audit_result import ROLE
from cadlib.model.record import (
    CARD_FILE,
    METRICS_FILE,
    ModelRecord,
    find_model,
    read_checked,
    read_record,
)
from cadlib.progress import ProgressBars

if TYPE_CHECKING:  # `--help` and bad usage do not wait for it
    from cadlib.data.dataset import Dataset
    from cadlib.evaluation.cached import Evaluated
    from cadlib.metrics.comparison_table import Compared
    from cadlib.progress import Progress


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument("--model", required=True, help="name under models/, or a path")
    command.add_argument("--data", type=Path, required=True, help="folder of a data set")
    command.add_argument("--split", choices=ROLE, help="only this part of the model's split")
    command.add_argument(
        "--subset",
        metavar="NAME",
        help="only the images of this saved subset, within --split where both are given",
    )
    command.add_argument(
        "--against", metavar="MODEL", help="another model, compared with it on the same images"
    )
    command.add_argument(
        "--output", type=Path, metavar="FILE", required=True, help="HTML file, which needs no other"
    )


def run(options: argparse.Namespace) -> int:
    """Carry the command out and return its exit code."""
    record = check_model(options.model)
    if options.against and check_model(options.against) == record:
        raise UsageError(
            f"Expected --against to name another model than --model but got {options.against}."
        )
    check_data(options.data)
    subset = check_subset(options.subset) if options.subset else None
    check_file(options.output)

    from cadlib.data.dataset import open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.evaluation.cached import evaluated
    from cadlib.evaluation.image_selection import Part
    from cadlib.metrics.image_counts import Counts
    from cadlib.report import Subject, render

    part, folder = Part(options.split, subset), find_model(options.model)
    dataset = part.of(folder, record, open_dataset(options.data.absolute(), verify=False))
    print(dataset.report, file=sys.stderr)
    check_labelled(dataset, malignant_alone=True)
    with ProgressBars() as progress:
        found = evaluated(folder, record, dataset, progress, part)
        against = _against(options, record, found, dataset, progress) if options.against else None
    figures, card = (read_checked(folder, name) for name in (METRICS_FILE, CARD_FILE))
    subject = Subject(
        record,
        found.figures,
        part.named,
        *part.role(folder, record, dataset),
        found,
        json.loads(figures) if figures else {},
        card.decode() if card else f"This model's folder has no {CARD_FILE}.",
        against=against,
    )
    write_text(options.output, render(subject, _command(options)))
    images = Counts.of(found.figures)
    lesions = f"{images.n:,} images of {found.figures['n_lesions']:,} lesions"
    print(
        f"{options.output}: {lesions}" + f", {images.diagnosed:,} with a diagnosis" * images.partial
    )
    print(f"{record.model_id}: {record.validation_claim}")
    return 1 if found.figures["rejected"] else 0


def _against(
    options: argparse.Namespace,
    record: ModelRecord,
    found: "Evaluated",
    dataset: "Dataset",
    progress: "Progress",
) -> "Compared":
    from cadlib.evaluation.cached import compared, evaluated
    from cadlib.metrics.comparison_table import Compared
    from cadlib.model.split import part_in_training

    folder = find_model(options.against)
    other = read_record(folder)
    names = (
        (record.name, other.name)
        if record.name != other.name
        else (record.model_id, other.model_id)
    )
    comparison = compared(found, evaluated(folder, other, dataset, progress))
    return Compared(*names, comparison, *part_in_training(folder, other, dataset))


def _command(options: argparse.Namespace) -> str:
    """Return the command without folders, for a report is passed on."""
    against = options.against and Path(options.against).name
    flags = (("model", Path(options.model).name), ("data", options.data.absolute().name), ("split", options.split),
             ("subset", options.subset), ("against", against), ("output", options.output.name))  # fmt: skip
    return "python -m cadlib report " + " ".join(
        shlex.join([f"--{name}", value]) for name, value in flags if value
    )
