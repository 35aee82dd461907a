"""Writes the metrics of a model as one HTML file."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    ModelRecord,
    find_model,
    read_checked,
    read_record,
)
from cadlib.progress import ProgressBars

# `--help` and bad usage do not wait for these imports.
if TYPE_CHECKING:
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
    """Run the command and return its exit code."""
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

    part = Part(options.split, subset)
    folder = find_model(options.model)
    # A report names its data set, so "." becomes the name of the folder.
    dataset = open_dataset(options.data.absolute(), verify=False)
    dataset = part.of(folder, record, dataset)
    print(dataset.report, file=sys.stderr)
    check_labelled(dataset, malignant_alone=True)
    with ProgressBars() as progress:
        evaluation = evaluated(folder, record, dataset, progress, part)
        against = None
        if options.against:
            against = _against(options, record, evaluation, dataset, progress)
    role, flattered = part.role(folder, record, dataset)
    subject = Subject(
        record,
        evaluation.figures,
        part.named,
        role,
        flattered,
        evaluation,
        _own_figures(folder),
        _card(folder),
        against=against,
    )
    write_text(options.output, render(subject, _command(options)))
    images = Counts.of(evaluation.figures)
    summary = f"{images.n:,} images of {evaluation.figures['n_lesions']:,} lesions"
    if images.partial:
        summary += f", {images.diagnosed:,} with a diagnosis"
    print(f"{options.output}: {summary}")
    print(f"{record.model_id}: {record.validation_claim}")
    return 1 if evaluation.figures["rejected"] else 0


def _own_figures(folder: Path) -> dict[str, Any]:
    """Return the metrics.json of a model, empty where it has none."""
    from cadlib.model import metrics_file

    metrics = metrics_file.read(folder)
    return metrics_file.to_json_dict(metrics) if metrics else {}


def _card(folder: Path) -> str:
    """Return the card of a model, or a note that it has none."""
    content = read_checked(folder, CARD_FILE)
    return content.decode() if content else f"This model's folder has no {CARD_FILE}."


def _against(
    options: argparse.Namespace,
    record: ModelRecord,
    evaluation: "Evaluated",
    dataset: "Dataset",
    progress: "Progress",
) -> "Compared":
    """Compare the model with the one of --against on the same images."""
    from cadlib.evaluation.cached import compared, evaluated
    from cadlib.metrics.comparison_table import Compared
    from cadlib.model.split import part_in_training

    folder = find_model(options.against)
    other = read_record(folder)
    names = (record.name, other.name)
    if record.name == other.name:
        names = (record.model_id, other.model_id)
    other_evaluation = evaluated(folder, other, dataset, progress)
    comparison = compared(evaluation, other_evaluation)
    return Compared(*names, comparison, *part_in_training(folder, other, dataset))


def _command(options: argparse.Namespace) -> str:
    """Return the command without folders, because a report is shared."""
    flags = {
        "model": Path(options.model).name,
        "data": options.data.absolute().name,
        "split": options.split,
        "subset": options.subset,
        "against": Path(options.against).name if options.against else None,
        "output": options.output.name,
    }
    words = [shlex.join([f"--{name}", value]) for name, value in flags.items() if value]
    return "python -m cadlib report " + " ".join(words)
