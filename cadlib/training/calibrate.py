"""Computes calibration, thresholds, prediction sets and metrics from validation logits.

Training does that once; `calibrate` repeats it for an existing model, where the method has changed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset, short_sides
from cadlib.data.splits import lesion_groups
from cadlib.evaluation import evaluate
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.metrics import balanced_rule, classification, cross_validation, operating_point
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.cross_validation import CrossValidation
from cadlib.metrics.operating_point import OperatingPoint
from cadlib.metrics.partial_labels import class_numbers
from cadlib.metrics.summary_schema import EvaluationMetrics
from cadlib.model import calibration, metrics_file
from cadlib.model.golden import golden_json
from cadlib.model.metadata import run_trial
from cadlib.model.metrics_file import Metrics
from cadlib.model.model import Model
from cadlib.model.out_of_fold import OutOfFold
from cadlib.model.record import GOLDEN_FILE, ConformalSets, Quantiles
from cadlib.progress import Progress, named, no_progress

COVERAGE = 0.90
"""Share of the images of each diagnosis whose prediction set should contain the truth."""


def read_out(
    table: pd.DataFrame,
    logits: NDArray[np.floating],
    lesions: "pd.Series[int]",
    dataset: str,
) -> tuple[dict[str, Any], EvaluationMetrics]:
    """Return the fields of a ModelRecord that depend on validation images, and their metrics.

    `table` has a row an image, each with a diagnosis, `logits` is (N, 8), `lesions` numbers the
    lesion of each row.
    """
    labels = class_numbers(table["diagnosis"])
    groups = lesions.to_numpy()
    short_side_px = short_sides(table)
    temperature, bias = calibration.fit(logits, labels, groups, short_side_px)
    probabilities = calibration.probabilities(logits, temperature.of(short_side_px), bias)
    sets = _prediction_sets(probabilities, labels)
    rule = balanced_rule.fit(probabilities, labels)
    metrics = evaluate.build_metrics(
        table,
        probabilities,
        _thresholds(probabilities, labels),
        lesions=lesions,
        uncalibrated=_uncalibrated(logits),
        sets=sets,
        balanced_rule=rule,
    )
    data = metrics_file.SplitFacts(name=dataset, split="validation", images=len(table))
    metrics = msgspec.structs.replace(metrics, data=data, rejected={})
    fields = {
        "temperature": temperature,
        "bias": bias,
        "conformal": sets,
        "balanced_rule": rule,
        "operating_points": _measured_points(metrics),
        "metadata": run_trial(table, probabilities, labels, groups, calibration.SMALL_PX),
    }
    return fields, metrics


def measure_folds(
    table: pd.DataFrame,
    out_of_fold: OutOfFold,
    backbones: Sequence[str],
    fields: Mapping[str, Any],
) -> CrossValidation:
    """Measure the network of each fold on the images that it was not trained on.

    `table` has the images of `out_of_fold` in its order, and `backbones` the network of each fold.
    `fields` are those that `read_out` returned.
    """
    temperature = fields["temperature"].of(short_sides(table))
    probabilities = calibration.probabilities(out_of_fold.logits, temperature, fields["bias"])
    labels = class_numbers(table["diagnosis"])
    rule = fields["balanced_rule"]
    return cross_validation.measure_folds(
        out_of_fold.folds,
        backbones,
        labels,
        probabilities,
        rule,
    )


def _uncalibrated(logits: NDArray[np.floating]) -> Floats:
    """Return the probabilities before the calibration, with which some metrics compare it."""
    return calibration.probabilities(logits, 1.0, calibration.NO_BIAS)


def _thresholds(probabilities: Floats, labels: Labels) -> tuple[operating_point.Threshold, ...]:
    """Return the thresholds of the operating points on these images."""
    malignant = classification.malignant_probability(probabilities)
    truth = classification.malignant_truth(labels)
    return operating_point.choose_thresholds(malignant, truth)


def _measured_points(metrics: EvaluationMetrics) -> tuple[OperatingPoint, ...]:
    """Return the operating points with their sensitivity and specificity on these images."""
    points = [OperatingPoint.of(point, "validation") for point in metrics.operating_points]
    return tuple(points)


def _prediction_sets(probabilities: Floats, labels: Labels) -> ConformalSets:
    """Return the prediction sets that reach COVERAGE on these images, for each diagnosis."""
    quantiles = calibration.conformal_quantiles(probabilities, labels, COVERAGE)
    return ConformalSets(COVERAGE, Quantiles(*quantiles.tolist()))


def calibrate(folder: Path, dataset: Dataset, progress: Progress = no_progress) -> Metrics:
    """Refit what depends on the validation images of a model's own split, and return its metrics.

    `folder` is the model's, `dataset` holds those images by `model.split.calibration_images`.
    Record, metrics.json, golden.json and card are replaced, all or none. Metrics of the former
    probabilities (the test split, damage) are dropped from metrics.json and have to be measured
    again. Raise ModelInvalid or DatasetInvalid for a model or data set that does not fit.
    """
    model = Model.load(folder)
    images_progress = named(progress, "images")
    outputs = model_outputs(model, dataset.table, images_progress, skip_unreadable=True)
    table = outputs.readable(dataset.table)
    fields, metrics = read_out(
        table,
        outputs.logits,
        lesion_groups(table),
        dataset.name,
    )
    record = msgspec.structs.replace(model.record, **fields)
    metrics = msgspec.structs.replace(
        metrics,
        model=metrics_file.model_facts(record),
        rejected=dict(outputs.rejected),
    )
    of_split = metrics_file.split_metrics(metrics)
    own = metrics_file.join_splits(of_split, None)
    former = metrics_file.measured(folder, model.record)
    # These do not depend on the calibration.
    own = msgspec.structs.replace(
        own,
        across_archives=former.across_archives,
        novelty=former.novelty,
        novelty_proof=former.novelty_proof,
        cross_validation=_folds_of(model, table, outputs.logits, fields),
    )
    golden = golden_json(model.with_record(record))
    metrics_file.rewrite(folder, record, own, {GOLDEN_FILE: golden})
    return own


def _folds_of(
    model: Model,
    table: pd.DataFrame,
    logits: NDArray[np.float32],
    fields: Mapping[str, Any],
) -> CrossValidation | None:
    """Return the metrics of each fold; None for a model that was not cross-validated."""
    if not model.folds:
        return None
    images = tuple(table["image"])
    fold_numbers = [model.folds[image] for image in images]
    folds = np.array(fold_numbers, np.int64)
    out_of_fold = OutOfFold(images, folds, logits)
    backbones = [member.backbone for member in model.record.members]
    return measure_folds(table, out_of_fold, backbones, fields)
