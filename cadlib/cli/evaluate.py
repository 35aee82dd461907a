"""Compares a model, or its earlier predictions, with labels."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cadlib.cli.usage import UsageError, check_model, check_subset, make_folder
from cadlib.errors import CadError
from cadlib.model.audit_result import ROLE
from cadlib.model.record import find_model
from cadlib.progress import ProgressBars
from cadlib.taxonomy import CLASSES, CODES

# `--help` and bad usage do not wait for these imports.
if TYPE_CHECKING:
    import pandas as pd

    from cadlib.data.dataset import Dataset
    from cadlib.data.subsets import Subset
    from cadlib.evaluation.evaluate import Evaluation
    from cadlib.model.record import ModelRecord


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument("--model", help="name under models/, or a path")
    command.add_argument(
        "--predictions",
        type=Path,
        help="instead of a model: the predictions.csv of one, read again",
    )
    command.add_argument("--images", type=Path, help="folder of images, named by their ids")
    command.add_argument(
        "--ground-truth",
        type=Path,
        help="table with labels: one column a class, or one of diagnoses",
    )
    command.add_argument(
        "--metadata", type=Path, help="table with patients: age_approx, sex, lesion_id, …"
    )
    command.add_argument(
        "--data", type=Path, help="instead of these three: the folder of a data set"
    )
    command.add_argument(
        "--split", choices=ROLE, help="of --data only this part of the model's split"
    )
    command.add_argument(
        "--subset",
        metavar="NAME",
        help="only the images of this saved subset, within --split where both are given",
    )
    command.add_argument(
        "--with-metadata", action="store_true", help="add what age, sex and site say"
    )
    command.add_argument(
        "--output", type=Path, required=True, help="folder for predictions.csv and metrics.json"
    )
    command.add_argument(
        "--classes",
        type=int,
        choices=CLASSES,
        default=len(CODES),
        help="7: as ISIC 2018 Task 3 scores, AK with SCC",
    )
    command.add_argument(
        "--into-model",
        action="store_true",
        help="with --split: they become the model's own figures",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    _check_evaluate(options)
    if options.predictions:
        return _evaluate_predictions(options)
    record = check_model(options.model)
    if options.with_metadata and record.evidence is None:
        raise UsageError(
            f"Expected no --with-metadata: {record.model_id} takes no age, sex or site."
        )
    subset = check_subset(options.subset) if options.subset else None
    make_folder(options.output)
    if options.into_model:
        make_folder(find_model(options.model))
    return _evaluate_model(options, record, subset)


def _evaluate_model(
    options: argparse.Namespace, record: "ModelRecord", subset: "Subset | None"
) -> int:
    """Evaluate the model, write and print its figures, and return the exit code."""
    from cadlib.data.label_check import check_labelled
    from cadlib.evaluation.evaluate import evaluate
    from cadlib.evaluation.image_selection import Part
    from cadlib.model.model import Model
    from cadlib.model.split import own_split

    print(f"Evaluating {record.model_id}", file=sys.stderr)
    part = Part(options.split, subset)
    folder = find_model(options.model)
    dataset = part.of(folder, record, _dataset(options))
    print(dataset.report, file=sys.stderr)
    check_labelled(dataset, malignant_alone=True)
    if options.split:
        n_split = record.training.images[options.split]
        images = f"{len(dataset.table):,} of the {n_split:,} images of the {options.split} split"
        role, _ = part.role(folder, record, dataset)
        print(f"{images}. {role}", file=sys.stderr)
    elif subset:
        _print_training_images(dataset, own_split(folder, record))
    with ProgressBars() as progress:
        evaluation = evaluate(
            Model.load(options.model),
            dataset,
            progress,
            classes=CLASSES[options.classes],
            part=part,
            with_metadata=options.with_metadata,
        )
    if options.into_model:
        _check_whole_split(evaluation, record.training.images[options.split])
    _write(evaluation, options, record)
    print(evaluation)
    print(f"\n{record.model_id}: {record.validation_claim}")
    unreadable = dataset.report.count("unreadable images")
    return 1 if evaluation.rejected or unreadable else 0


def _dataset(options: argparse.Namespace) -> "Dataset":
    """Open the data set, or join the single files."""
    from cadlib.data.dataset import join_dataset, open_dataset

    if options.data:
        return open_dataset(options.data, verify=False)
    return join_dataset(options.images, options.ground_truth, options.metadata, verify=False)


def _write(evaluation: "Evaluation", options: argparse.Namespace, record: "ModelRecord") -> None:
    """Write the results, with --into-model into the model's folder too."""
    from cadlib.model import metrics_file

    # The id is only in the copy in --output: it may change while the figures in the model's own
    # folder stay.
    model_facts = {**evaluation.metrics["model"], "id": record.model_id}
    figures = {**evaluation.metrics, "model": model_facts}
    try:
        replace(evaluation, metrics=figures).write(options.output)
        if options.into_model:
            metrics_file.write_into(find_model(options.model), record, evaluation.metrics)
    except OSError as error:
        raise CadError(f"The results could not be written to {options.output}: {error}.") from error


def _print_training_images(dataset: "Dataset", split: "pd.DataFrame") -> None:
    """Warn about images in the data set that the model was trained on."""
    train_images = split["image"][split["split"] == "train"]
    n_trained = dataset.table["image"].isin(train_images).sum()
    if n_trained:
        print(
            f"{n_trained:,} of these {len(dataset.table):,} images trained the model, "
            "and their figures flatter it; --split validation or test leaves them out.",
            file=sys.stderr,
        )


def _check_whole_split(evaluation: "Evaluation", n_split: int) -> None:
    """Raise CadError where an evaluation is not of all `n_split` images of the model's split."""
    from cadlib.metrics.image_counts import Counts

    missing = n_split - len(evaluation.predictions)
    if missing:
        raise CadError(
            f"Expected all {n_split:,} images of the split for the model's own figures "
            f"but {missing:,} lack."
        )
    diagnosed = Counts.of(evaluation.metrics).diagnosed
    if diagnosed < n_split:
        raise CadError(
            f"Expected a diagnosis for all {n_split:,} images of the split "
            f"for the model's own figures, but found {diagnosed:,}. "
            "Give the data set with its diagnoses."
        )


def _evaluate_predictions(options: argparse.Namespace) -> int:
    """Evaluate the predictions of a file, write and print their figures, and return 0."""
    subset = check_subset(options.subset) if options.subset else None
    make_folder(options.output)

    from cadlib.data.label_check import check_labelled
    from cadlib.data.predictions_csv import join_predictions, read_unknown
    from cadlib.evaluation.evaluate import evaluate_predictions
    from cadlib.evaluation.image_selection import Part

    dataset, probabilities = join_predictions(
        options.predictions, options.ground_truth, options.metadata
    )
    if subset:
        in_subset = dataset.table["image"].isin(subset.images)
        probabilities = probabilities[in_subset]
        dataset = subset.of(dataset)
    print(dataset.report, file=sys.stderr)
    check_labelled(dataset, malignant_alone=True)
    unknown = read_unknown(options.predictions).loc[dataset.table["image"]]
    evaluation = evaluate_predictions(
        dataset, probabilities, CLASSES[options.classes], unknown, part=Part(subset=subset)
    )
    try:
        evaluation.write(options.output)
    except OSError as error:
        raise CadError(f"The results could not be written to {options.output}: {error}.") from error
    print(evaluation)
    return 0


def _check_evaluate(options: argparse.Namespace) -> None:
    """Raise UsageError for flags that do not fit each other, or for missing files."""
    tables = (options.images, options.ground_truth, options.metadata)
    for path in (*tables, options.data, options.predictions):
        if path is not None and not path.exists():
            raise UsageError(f"Expected {path} to exist but there is no such file or folder.")
    if (options.model is None) == (options.predictions is None):
        raise UsageError(
            "Expected either --model or --predictions, "
            "the predictions.csv that an evaluation wrote."
        )
    if options.predictions:
        _check_evaluate_predictions(options)
    else:
        _check_evaluate_model(options, tables)
        _check_into_model(options)


def _check_evaluate_predictions(options: argparse.Namespace) -> None:
    if options.ground_truth is None:
        raise UsageError(
            "Expected --ground-truth with --predictions: the labels to compare them with."
        )
    if options.images or options.data or options.split or options.into_model:
        raise UsageError(
            "Expected --predictions with --ground-truth, --metadata and --subset: "
            "no image is read again."
        )


def _check_evaluate_model(options: argparse.Namespace, tables: tuple[Path | None, ...]) -> None:
    if options.data is None and None in (options.images, options.ground_truth):
        raise UsageError(
            "Expected --images with --ground-truth, or --data with the folder of a data set."
        )
    has_tables = any(table is not None for table in tables)
    if options.data is not None and has_tables:
        raise UsageError(
            "Expected --data or single files but got both; "
            "the folder of --data holds its CSV files."
        )
    if options.with_metadata and options.into_model:
        raise UsageError(
            "Expected --into-model without --with-metadata: "
            "the model's own figures are of images alone."
        )
    if (options.split and not options.data) or (options.into_model and not options.split):
        raise UsageError(
            "Expected --split together with --data, and --into-model together with --split."
        )


def _check_into_model(options: argparse.Namespace) -> None:
    """Raise UsageError for figures that cannot become the model's own."""
    if not options.into_model:
        return
    if options.split == "train":
        raise UsageError(
            "Expected --into-model with --split validation or test: "
            "on the images it learnt a model is good."
        )
    if options.subset:
        raise UsageError(
            "Expected --into-model without --subset: the model's own figures are of a whole split."
        )
    if options.classes != len(CODES):
        raise UsageError(
            f"Expected --into-model with the {len(CODES)} classes of the model, without --classes."
        )
