"""Fits the similar-case index and the novelty detector of a model.

Both are fitted on the features of its training images, and measured. Each of FITS gets the features
of the whole split and the part to report on: that of metrics.json, so that the test split stays
unread until `evaluate` has read it. Limits are chosen on validation images.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from cadlib.data.dataset import Dataset
from cadlib.evaluation.features import Fitted, SplitFeatures, split_features
from cadlib.metrics.summary_schema import Split
from cadlib.model import metrics_file
from cadlib.model.golden import golden_json
from cadlib.model.metrics_file import Metrics
from cadlib.model.model import Model
from cadlib.model.record import GOLDEN_FILE
from cadlib.progress import Progress
from cadlib.training import novelty_detector as novelty
from cadlib.training import similar_case_index as neighbours

FITS: tuple[Callable[[Model, SplitFeatures, Split], Fitted], ...] = (neighbours.fit, novelty.fit)


def fit(folder: Path, dataset: Dataset, progress: Progress) -> Metrics:
    """Fit all of FITS for the model in `folder`, and return its new metrics.json.

    `dataset` has the images of its split. Record, metrics.json, card, golden answers and the fitted
    files are replaced, all or none. Raise ModelInvalid for a model whose metrics are of other
    weights, and as `split_features` does.
    """
    model = Model.load(folder)
    # This may raise, so it comes before the minutes of work.
    metrics = metrics_file.measured(folder, model.record)
    features = split_features(model, folder, dataset, progress)
    record = model.record
    files: dict[str, bytes] = {}
    for fit_one in FITS:
        fitted = fit_one(model, features, metrics.data.split)
        record = msgspec.structs.replace(record, **fitted.fields)
        metrics = msgspec.structs.replace(metrics, **fitted.metrics)
        files.update(fitted.files)
    # The golden answers include novelty and the nearest case of a drawn lesion, which have changed.
    fitted_model = model.with_fitted(record, files)
    golden = golden_json(fitted_model)
    metrics_file.rewrite(folder, record, metrics, {**files, GOLDEN_FILE: golden})
    return metrics
