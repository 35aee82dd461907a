"""From logits on the validation images to all of a model that rests on them: probabilities, thresholds, sets, figures.

`train` does that once; `calibrate` does it again for a model that stands, where the way has changed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.data.dataset import Dataset, short_sides
from cadlib.data.splits import lesion_groups
from cadlib.evaluation import evaluate
from cadlib.metrics import classification, operating_point
from cadlib.metrics.classification import Labels
from cadlib.model import calibration, metrics_file
from cadlib.model.golden import golden_json
from cadlib.model.metadata import run_trial
from cadlib.model.model import Model
from cadlib.model.record import GOLDEN_FILE, ConformalSets
from cadlib.progress import Progress, no_progress
from cadlib.taxonomy import CODES

COVERAGE = 0.90
"""Share of the images of each diagnosis whose prediction set is to hold the truth."""


def read_out(
    table: pd.DataFrame, logits: NDArray[np.floating], lesions: "pd.Series[int]", dataset: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields of a ModelRecord that rest on validation images, and the figures of metrics.json over them.

    `table` has a row an image, each with a diagnosis, `logits` is (N, 8), `lesions` numbers the lesion of each row.
    """
    labels: Labels = table["diagnosis"].map(CODES.index).to_numpy(np.int64)
    groups = lesions.to_numpy()
    short_side_px = short_sides(table)
    temperature, bias = calibration.fit(logits, labels, groups, short_side_px)
    probabilities = calibration.probabilities(logits, temperature.of(short_side_px), bias)
    thresholds = operating_point.choose_thresholds(
        classification.malignant_probability(probabilities), classification.malignant_truth(labels)
    )
    quantiles = calibration.conformal_quantiles(probabilities, labels, COVERAGE)
    sets = ConformalSets(COVERAGE, dict(zip(CODES, quantiles.tolist(), strict=True)))
    figures = {
        **evaluate.build_metrics(
            table,
            probabilities,
            thresholds,
            lesions=lesions,
            uncalibrated=calibration.probabilities(logits, 1.0, calibration.NO_BIAS),
            sets=sets,
        ),
        "data": {"name": dataset, "split": "validation", "images": len(table)},
        "rejected": {},
    }
    fields = {
        "temperature": temperature,
        "bias": bias,
        "conformal": sets,
        "operating_points": metrics_file.operating_points(figures),
        "metadata": run_trial(table, probabilities, labels, groups, calibration.SMALL_PX),
    }
    return fields, figures


def calibrate(folder: Path, dataset: Dataset, progress: Progress = no_progress) -> dict[str, Any]:
    """Fit anew what rests on the validation images of a model's own split, and return its figures over them.

    `folder` is the model's, `dataset` holds those images by `model.split.part_of_split`. Record, metrics.json,
    golden.json and card are replaced, all or none; what metrics.json said of the probabilities as they were (the test
    split, damage) is dropped and has to be measured anew. Raise ModelInvalid or DatasetInvalid for what does not fit.
    """
    model = Model.load(folder)
    table, predictions, rejected = evaluate.predict_table(model, dataset.table, progress)
    probabilities = evaluate.probabilities_of(predictions)
    temperature = model.record.temperature.of(short_sides(table))
    logits = np.log(
        calibration.uncalibrated(probabilities, temperature, model.record.bias)
    )  # up to a constant each
    fields, figures = read_out(table, logits, lesion_groups(table), dataset.name)
    record = replace(model.record, **fields)
    figures |= {"model": metrics_file.model_facts(record), "rejected": rejected}
    former = metrics_file.measured(folder, model.record)
    figures |= {
        key: former[key] for key in ("across_archives", "novelty", "novelty_proof") if key in former
    }
    metrics_file.rewrite(
        folder, record, figures, {GOLDEN_FILE: golden_json(model.with_record(record))}
    )
    return figures
