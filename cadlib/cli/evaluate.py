"""Compares a model, or its earlier predictions, with labels."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import (
    SplitName,
    data_option,
    file_option,
    flag,
    folder_option,
    model_option,
    subset_option,
)
from cadlib.cli.usage import UsageError, check_model, check_subset, make_folder, model_folder
from cadlib.errors import CadError
from cadlib.taxonomy import CLASSES, CODES

# `--help` and bad usage do not wait for these imports.
if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset
    from cadlib.data.subsets import Subset
    from cadlib.evaluation.evaluate import Evaluation
    from cadlib.evaluation.image_selection import Part
    from cadlib.model.record import ModelRecord


@dataclass(frozen=True, kw_only=True)
class Evaluate(CliCommand):
    """Evaluates a model or a file of predictions on images with labels."""

    EXAMPLE: ClassVar[str] = (
        "cadlib evaluate --model mymodel --data isic2019/ --split validation --output results/\n"
        "cadlib evaluate --predictions results/predictions.csv --ground-truth labels.csv "
        "--output again/"
    )

    model: Annotated[str | None, model_option()] = None
    predictions: Annotated[
        Path | None, file_option("Instead of a model: the predictions.csv of an evaluation.")
    ] = None
    images: Annotated[Path | None, folder_option("Folder of images, named by their ids.")] = None
    ground_truth: Annotated[
        Path | None, file_option("Table of labels: a column for each class, or one of diagnoses.")
    ] = None
    metadata: Annotated[
        Path | None, file_option("Table of patients: age_approx (years), sex, lesion_id, …")
    ] = None
    data: Annotated[
        Path | None, data_option("Instead of these three: the folder of a data set.")
    ] = None
    split: Annotated[
        SplitName | None, typer.Option(help="Of --data only this part of the model's split.")
    ] = None
    subset: Annotated[str | None, subset_option()] = None
    with_metadata: Annotated[
        bool, flag("with-metadata", "Use age, sex and site of the patients, too.")
    ] = False
    output: Annotated[Path, folder_option("Folder for predictions.csv and metrics.json.")]
    classes: Annotated[
        Literal[7, 8],
        typer.Option(help="Number of classes; 7: as ISIC 2018 Task 3 scores, AK with SCC."),
    ] = 8
    into_model: Annotated[
        bool, flag("into-model", "With --split: save the metrics as those of the model.")
    ] = False

    def run(self) -> int:
        """Run the command and return its exit code."""
        self._check()
        if self.predictions:
            return self._evaluate_predictions(self.predictions)
        # `_check` refuses a command without either.
        assert self.model is not None
        return self._evaluate_model(self.model)

    def _evaluate_model(self, name: str) -> int:
        """Evaluate the model, write and print its metrics, and return the exit code."""
        record = check_model(name)
        model_id = record.model_id
        if self.with_metadata and record.evidence is None:
            raise UsageError(f"Expected no --with-metadata: {model_id} takes no age, sex or site.")
        subset = self._subset()

        from cadlib.evaluation.image_selection import Part

        folder = model_folder(name)
        make_folder(self.output)
        if self.into_model:
            make_folder(folder)
        print(f"Evaluating {model_id}", file=sys.stderr)
        part = Part(self.split, subset)
        dataset = self._labelled_part(part, folder, record)
        evaluation = self._evaluated(folder, dataset, part)
        if self.into_model and self.split:
            # Before anything is written: the model's own results must not be of a part.
            n_split = record.training.images[self.split]
            _check_whole_split(evaluation, n_split)
        self._write(evaluation, folder, record)
        print(evaluation)
        print(f"\n{model_id}: {record.validation_claim}")
        unreadable = dataset.report.count("unreadable images")
        has_failures = evaluation.rejected or unreadable
        return 1 if has_failures else 0

    def _labelled_part(self, part: "Part", folder: Path, record: "ModelRecord") -> "Dataset":
        """Open the images to evaluate on, and print what is known about them."""
        from cadlib.data.label_check import check_labelled

        dataset = part.of(folder, record, self._dataset())
        print(dataset.report, file=sys.stderr)
        check_labelled(dataset, malignant_alone=True)
        if not self.split and not self.subset:
            return dataset
        message, _ = part.role(folder, record, dataset)
        if self.split:
            n_split = record.training.images[self.split]
            images = f"{len(dataset.table):,} of the {n_split:,} images of the {self.split} split"
            message = f"{images}. {message}"
        print(message, file=sys.stderr)
        return dataset

    def _evaluated(self, folder: Path, dataset: "Dataset", part: "Part") -> "Evaluation":
        """Evaluate the model on the images."""
        from cadlib.evaluation.evaluate import evaluate
        from cadlib.model.model import Model
        from cadlib.progress import ProgressBars

        with ProgressBars() as progress:
            return evaluate(
                Model.load(folder),
                dataset,
                progress,
                classes=CLASSES[self.classes],
                part=part,
                with_metadata=self.with_metadata,
            )

    def _dataset(self) -> "Dataset":
        """Open the data set, or join the single files."""
        from cadlib.data.dataset import join_dataset, open_dataset

        if self.data:
            return open_dataset(self.data, verify=False)
        # `_check` refuses a command without --data and without these two.
        assert self.images is not None
        assert self.ground_truth is not None
        return join_dataset(
            self.images,
            self.ground_truth,
            self.metadata,
            verify=False,
        )

    def _subset(self) -> "Subset | None":
        return check_subset(self.subset) if self.subset else None

    def _write(self, evaluation: "Evaluation", folder: Path, record: "ModelRecord") -> None:
        """Write the results, with --into-model into the model's folder too."""
        from msgspec import structs

        from cadlib.model import metrics_file

        # The id is only in the copy in --output: it may change while the metrics in the model's
        # own folder stay.
        model_facts = metrics_file.model_facts(record)
        facts_with_id = structs.replace(model_facts, id=record.model_id)
        metrics = structs.replace(evaluation.metrics, model=facts_with_id)
        written = replace(evaluation, metrics=metrics)
        try:
            written.write(self.output)
            if self.into_model:
                own = metrics_file.split_metrics(evaluation.metrics)
                metrics_file.write_into(folder, record, own)
        except OSError as error:
            raise _unwritten(self.output, error) from error

    def _evaluate_predictions(self, predictions: Path) -> int:
        """Evaluate the predictions of a file, write and print their metrics, and return 0."""
        subset = self._subset()
        make_folder(self.output)

        from cadlib.data.label_check import check_labelled
        from cadlib.data.predictions_csv import join_predictions, read_unknown
        from cadlib.evaluation.evaluate import evaluate_predictions
        from cadlib.evaluation.image_selection import Part

        # `_check` refuses --predictions without it.
        assert self.ground_truth is not None
        dataset, probabilities = join_predictions(predictions, self.ground_truth, self.metadata)
        if subset:
            # Each row of probabilities belongs to a row of the table, so both are selected.
            in_subset = dataset.table["image"].isin(subset.images)
            probabilities = probabilities[in_subset]
            dataset = subset.of(dataset)
        print(dataset.report, file=sys.stderr)
        check_labelled(dataset, malignant_alone=True)
        # In the order of the table, which may differ from that of the file.
        unknown = read_unknown(predictions).loc[dataset.table["image"]]
        part = Part(subset=subset)
        classes = CLASSES[self.classes]
        evaluation = evaluate_predictions(dataset, probabilities, classes, unknown, part=part)
        try:
            evaluation.write(self.output)
        except OSError as error:
            raise _unwritten(self.output, error) from error
        print(evaluation)
        return 0

    def _check(self) -> None:
        """Raise UsageError for options that do not fit each other, or for missing files."""
        tables = (self.images, self.ground_truth, self.metadata)
        for path in (*tables, self.data, self.predictions):
            if path is not None and not path.exists():
                raise UsageError(f"Expected {path} to exist but there is no such file or folder.")
        # Both were given, or neither.
        if (self.model is None) == (self.predictions is None):
            raise UsageError(
                "Expected either --model or --predictions, "
                "the predictions.csv that an evaluation wrote."
            )
        if self.predictions:
            self._check_predictions()
        else:
            self._check_model(tables)
            self._check_into_model()

    def _check_predictions(self) -> None:
        if self.ground_truth is None:
            raise UsageError(
                "Expected --ground-truth with --predictions: the labels to compare them with."
            )
        if self.images or self.data or self.split or self.into_model:
            raise UsageError(
                "Expected --predictions with --ground-truth, --metadata and --subset: "
                "no image is read again."
            )

    def _check_model(self, tables: tuple[Path | None, ...]) -> None:
        if self.data is None and None in (self.images, self.ground_truth):
            raise UsageError(
                "Expected --images with --ground-truth, or --data with the folder of a data set."
            )
        has_tables = any(table is not None for table in tables)
        if self.data is not None and has_tables:
            raise UsageError(
                "Expected --data or single files but got both; "
                "the folder of --data holds its CSV files."
            )
        if self.with_metadata and self.into_model:
            raise UsageError(
                "Expected --into-model without --with-metadata: "
                "the model's own results are of images alone."
            )
        if (self.split and not self.data) or (self.into_model and not self.split):
            raise UsageError(
                "Expected --split together with --data, and --into-model together with --split."
            )

    def _check_into_model(self) -> None:
        """Raise UsageError for metrics that cannot become the model's own."""
        if not self.into_model:
            return
        if self.split == "train":
            raise UsageError(
                "Expected --into-model with --split validation or test: "
                "training images would overstate the performance."
            )
        if self.subset:
            raise UsageError(
                "Expected --into-model without --subset: "
                "the model's own results are of a whole split."
            )
        if self.classes != len(CODES):
            raise UsageError(
                f"Expected --into-model with the {len(CODES)} classes of the model, "
                "without --classes."
            )


def _unwritten(folder: Path, error: OSError) -> CadError:
    return CadError(f"The results could not be written to {folder}: {error}.")


def _check_whole_split(evaluation: "Evaluation", n_split: int) -> None:
    """Raise CadError where an evaluation is not of all `n_split` images of the model's split."""
    from cadlib.metrics.image_counts import Counts

    n_images = len(evaluation.predictions)
    if n_images != n_split:
        raise CadError(
            f"Expected all {n_split:,} images of the split for the model's own results "
            f"but found {n_images:,}."
        )
    # The model's own results are compared with others, so all have the same images behind them.
    diagnosed = Counts.of(evaluation.metrics).diagnosed
    if diagnosed < n_split:
        raise CadError(
            f"Expected a diagnosis for all {n_split:,} images of the split "
            f"for the model's own results, but found {diagnosed:,}. "
            "Give the data set with its diagnoses."
        )
