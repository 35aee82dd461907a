"""What of a model rests on the images it was trained on, once it stands: fitted on their features, and measured.

Each of FITS gets the features of the whole split and the part to report on: that of metrics.json, so that the test
split stays unread until `evaluate` has read it. What is chosen is chosen on validation images.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cadlib.data.dataset import Dataset
from cadlib.evaluation.features import Fitted, SplitFeatures, split_features
from cadlib.model import metrics_file
from cadlib.model.golden import golden_json
from cadlib.model.model import Model
from cadlib.model.record import GOLDEN_FILE
from cadlib.progress import Progress
from cadlib.training import novelty_detector as novelty
from cadlib.training import similar_case_index as neighbours

FITS: tuple[Callable[[Model, SplitFeatures, str], Fitted], ...] = (neighbours.fit, novelty.fit)


def fit(folder: Path, dataset: Dataset, progress: Progress) -> dict[str, Any]:
    """Fit all of FITS for the model in `folder` on the images of its split, and return its new metrics.json.

    Record, metrics.json, card, golden answers and what else was fitted are replaced, all or none. Raise ModelInvalid
    for a model whose figures are of other weights, and as `split_features` does.
    """
    model = Model.load(folder)
    figures = metrics_file.measured(
        folder, model.record
    )  # asked before the minutes of work, not after
    seen = split_features(model, folder, dataset, progress)
    record, files = model.record, dict[str, bytes]()
    for one in FITS:
        fitted = one(model, seen, figures["data"]["split"])
        record = replace(record, **fitted.fields)
        figures.update(fitted.figures)
        files.update(fitted.files)
    # The golden answers progress how new a drawn lesion is and how similar its nearest case: those are others now.
    fitted_model = model.with_fitted(record, files)
    metrics_file.rewrite(folder, record, figures, {**files, GOLDEN_FILE: golden_json(fitted_model)})
    return figures
