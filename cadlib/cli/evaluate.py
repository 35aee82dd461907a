"""Compare a model, or predictions it made earlier, with the labels of a data set."""

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

if TYPE_CHECKING:  # `--help` and bad usage do not wait for it
    import pandas as pd

    from cadlib.data.dataset import Dataset
    from cadlib.evaluation.evaluate import Evaluation


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
    """Carry the command out and return its exit code."""
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

    from cadlib.data.dataset import join_dataset, open_dataset
    from cadlib.data.label_check import check_labelled
    from cadlib.evaluation.evaluate import evaluate
    from cadlib.evaluation.image_selection import Part
    from cadlib.model import metrics_file
    from cadlib.model.model import Model
    from cadlib.model.split import own_split

    print(f"Evaluating {record.model_id}", file=sys.stderr)
    if options.data:
        dataset = open_dataset(options.data, verify=False)
    else:
        dataset = join_dataset(options.images, options.ground_truth, options.metadata, verify=False)
    part, folder = Part(options.split, subset), find_model(options.model)
    dataset = part.of(folder, record, dataset)
    print(dataset.report, file=sys.stderr)
    check_labelled(dataset, malignant_alone=True)
    if options.split:
        asked = record.training.images[options.split]
        these = f"{len(dataset.table):,} of the {asked:,} images of the {options.split} split"
        print(f"{these}. {part.role(folder, record, dataset)[0]}", file=sys.stderr)
    elif subset:
        _tell_training_images(dataset, own_split(folder, record))
    with ProgressBars() as progress:
        found = evaluate(
            Model.load(options.model),
            dataset,
            progress,
            classes=CLASSES[options.classes],
            part=part,
            with_metadata=options.with_metadata,
        )
    if options.into_model:
        _check_whole_split(found, asked)
    try:
        # The id belongs to the written copy alone: in the model's own folder it may change while its figures stay.
        figures = {**found.metrics, "model": {**found.metrics["model"], "id": record.model_id}}
        replace(found, metrics=figures).write(options.output)
        if options.into_model:
            metrics_file.write_into(folder, record, found.metrics)
    except OSError as error:
        raise CadError(f"The results could not be written to {options.output}: {error}.") from error
    print(found)
    print(f"\n{record.model_id}: {record.validation_claim}")
    return 1 if found.rejected or dataset.report.count("unreadable images") else 0


def _tell_training_images(dataset: "Dataset", split: "pd.DataFrame") -> None:
    trained = dataset.table["image"].isin(split["image"][split["split"] == "train"]).sum()
    if trained:
        said = f"{trained:,} of these {len(dataset.table):,} images trained the model, and their figures flatter it"
        print(f"{said}; --split validation or test leaves them out.", file=sys.stderr)


def _check_whole_split(found: "Evaluation", asked: int) -> None:
    """Refuse figures for a model's folder that are not of all `asked` images of its split."""
    from cadlib.metrics.image_counts import Counts

    missing = asked - len(found.predictions)
    if missing:
        raise CadError(
            f"Expected all {asked:,} images of the split for the model's own figures but {missing:,} lack."
        )
    diagnosed = Counts.of(found.metrics).diagnosed
    if diagnosed < asked:
        raise CadError(
            f"Expected a diagnosis for all {asked:,} images of the split for the model's own figures, but found "
            f"{diagnosed:,}. Give the data set with its diagnoses."
        )


def _evaluate_predictions(options: argparse.Namespace) -> int:
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
        probabilities = probabilities[dataset.table["image"].isin(subset.images)]
        dataset = subset.of(dataset)
    print(dataset.report, file=sys.stderr)
    check_labelled(dataset, malignant_alone=True)
    unknown = read_unknown(options.predictions).loc[dataset.table["image"]]
    found = evaluate_predictions(
        dataset, probabilities, CLASSES[options.classes], unknown, part=Part(subset=subset)
    )
    try:
        found.write(options.output)
    except OSError as error:
        raise CadError(f"The results could not be written to {options.output}: {error}.") from error
    print(found)
    return 0


def _check_evaluate(options: argparse.Namespace) -> None:
    tables = (options.images, options.ground_truth, options.metadata)
    for given in (*tables, options.data, options.predictions):
        if given is not None and not given.exists():
            raise UsageError(f"Expected {given} to exist but there is no such file or folder.")
    if (options.model is None) == (options.predictions is None):
        raise UsageError(
            "Expected either --model or --predictions, the predictions.csv that an evaluation wrote."
        )
    if options.predictions:
        _check_evaluate_predictions(options)
    else:
        _check_evaluate_model(options, tables)


def _check_evaluate_predictions(options: argparse.Namespace) -> None:
    if options.ground_truth is None:
        raise UsageError(
            "Expected --ground-truth with --predictions: the labels to compare them with."
        )
    if options.images or options.data or options.split or options.into_model:
        raise UsageError(
            "Expected --predictions with --ground-truth, --metadata and --subset: no image is read again."
        )


def _check_evaluate_model(options: argparse.Namespace, tables: tuple[Path | None, ...]) -> None:
    if options.data is None and None in (options.images, options.ground_truth):
        raise UsageError(
            "Expected --images with --ground-truth, or --data with the folder of a data set."
        )
    if options.data is not None and any(given is not None for given in tables):
        raise UsageError(
            "Expected --data or single files but got both; the folder of --data holds its CSV files."
        )
    if options.with_metadata and options.into_model:
        raise UsageError(
            "Expected --into-model without --with-metadata: the model's own figures are of images alone."
        )
    if (options.split and not options.data) or (options.into_model and not options.split):
        raise UsageError(
            "Expected --split together with --data, and --into-model together with --split."
        )
    if options.into_model and options.split == "train":
        raise UsageError(
            "Expected --into-model with --split validation or test: on the images it learnt a model is good."
        )
    if options.into_model and options.subset:
        raise UsageError(
            "Expected --into-model without --subset: the model's own figures are of a whole split."
        )
    if options.into_model and options.classes != len(CODES):
        raise UsageError(
            f"Expected --into-model with the {len(CODES)} classes of the model, without --classes."
        )
