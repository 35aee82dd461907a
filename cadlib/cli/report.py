"""Writes the metrics of a model as one HTML file."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import (
    SplitName,
    data_option,
    file_option,
    model_option,
    subset_option,
)
from cadlib.cli.usage import (
    UsageError,
    check_data,
    check_file,
    check_model,
    check_subset,
    model_folder,
    write_text,
)

# `--help` and bad usage do not wait for these imports.
if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset
    from cadlib.evaluation.cached import Evaluated
    from cadlib.evaluation.image_selection import Part
    from cadlib.metrics.comparison_table import Compared
    from cadlib.metrics.summary_schema import EvaluationMetrics
    from cadlib.model.record import ModelRecord
    from cadlib.progress import Progress
    from cadlib.report import Subject


@dataclass(frozen=True, kw_only=True)
class Report(CliCommand):
    """Writes the evaluation report of a model."""

    EXAMPLE: ClassVar[str] = (
        "cadlib report --model mymodel --data isic2019/ --split test --output report.html"
    )

    model: Annotated[str, model_option()]
    data: Annotated[Path, data_option()]
    split: Annotated[
        SplitName | None, typer.Option(help="Only this part of the model's split.")
    ] = None
    subset: Annotated[str | None, subset_option()] = None
    against: Annotated[
        str | None, model_option("Another model, compared with it on the same images.")
    ] = None
    output: Annotated[Path, file_option("HTML file, which needs no other file.")]

    def run(self) -> int:
        """Run the command and return its exit code."""
        record = check_model(self.model)
        # Two names can lead to the same model, so the records are compared.
        if self.against and check_model(self.against) == record:
            raise UsageError(
                f"Expected --against to name another model than --model but got {self.against}."
            )
        check_data(self.data)
        subset = check_subset(self.subset) if self.subset else None
        check_file(self.output)

        # Imported after the checks, so that bad usage is reported at once.
        from cadlib.evaluation.image_selection import Part
        from cadlib.report import render

        subject = self._subject(record, Part(self.split, subset))
        write_text(self.output, render(subject, self._command()))
        print(f"{self.output}: {_summary(subject.metrics)}")
        print(f"{record.model_id}: {record.validation_claim}")
        return 1 if subject.metrics.rejected else 0

    def _subject(self, record: "ModelRecord", part: "Part") -> "Subject":
        """Evaluate the model, and return what the report shows."""
        from cadlib.evaluation.cached import cached_evaluation
        from cadlib.model import metrics_file
        from cadlib.progress import ProgressBars
        from cadlib.report import Subject

        folder = model_folder(self.model)
        dataset = self._images(part, folder, record)
        with ProgressBars() as progress:
            evaluation = cached_evaluation(folder, record, dataset, progress, part)
            against = None
            if self.against:
                against = _compared(self.against, record, evaluation, dataset, progress)
        role, flattered = part.role(folder, record, dataset)
        return Subject(
            record,
            evaluation.metrics,
            part.named,
            role,
            flattered,
            evaluation,
            metrics_file.read(folder),
            _card(folder),
            against=against,
        )

    def _images(self, part: "Part", folder: Path, record: "ModelRecord") -> "Dataset":
        """Open the images of the report, and print what was found in their folder."""
        from cadlib.data.dataset import open_dataset
        from cadlib.data.label_check import check_labelled

        # A report names its data set, so "." becomes the name of the folder.
        dataset = open_dataset(self.data.absolute(), verify=False)
        dataset = part.of(folder, record, dataset)
        print(dataset.report, file=sys.stderr)
        check_labelled(dataset, malignant_alone=True)
        return dataset

    def _command(self) -> str:
        """Return the command without folders, because a report is shared."""
        against = Path(self.against).name if self.against else None
        flags = {
            "model": Path(self.model).name,
            "data": self.data.absolute().name,
            "split": self.split,
            "subset": self.subset,
            "against": against,
            "output": self.output.name,
        }
        words = []
        for name, value in flags.items():
            if value:
                words += [f"--{name}", value]
        return "python -m cadlib report " + shlex.join(words)


def _summary(metrics: "EvaluationMetrics") -> str:
    """Return how many images and lesions a report covers."""
    from cadlib.metrics.image_counts import Counts

    images = Counts.of(metrics)
    summary = f"{images.n:,} images of {metrics.n_lesions:,} lesions"
    if images.partial:
        summary += f", {images.diagnosed:,} with a diagnosis"
    return summary


def _card(folder: Path) -> str:
    """Return the card of a model, or a note that it has none."""
    from cadlib.model.record import CARD_FILE, read_checked

    content = read_checked(folder, CARD_FILE)
    if not content:
        return f"This model's folder has no {CARD_FILE}."
    return content.decode()


def _compared(
    name: str,
    record: "ModelRecord",
    evaluation: "Evaluated",
    dataset: "Dataset",
    progress: "Progress",
) -> "Compared":
    """Compare the model with another one on the same images."""
    from cadlib.evaluation.cached import cached_evaluation, compared
    from cadlib.metrics.comparison_table import Compared
    from cadlib.model.record import read_record
    from cadlib.model.split import part_in_training

    folder = model_folder(name)
    other_record = read_record(folder)
    names = (record.name, other_record.name)
    if record.name == other_record.name:
        # Two versions of a model have one name, but the table must show which is which.
        names = (record.model_id, other_record.model_id)
    other_evaluation = cached_evaluation(folder, other_record, dataset, progress)
    comparison = compared(evaluation, other_evaluation)
    return Compared(*names, comparison, *part_in_training(folder, other_record, dataset))
