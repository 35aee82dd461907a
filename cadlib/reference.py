"""What of a model rests on the images it was trained on, once it stands: fitted on their features, and measured.

Each of FITS gets the features of the whole split and the part to report on: that of metrics.json, so that the test
split stays unread until `evaluate` has read it. What is chosen is chosen on validation images.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cadlib import own_figures
from cadlib.dataset import Dataset
from cadlib.duplicates import Say
from cadlib.features import Fitted, SplitFeatures, split_features
from cadlib.golden import golden_json
from cadlib.model import Model
from cadlib.neighbours import fitting as neighbours
from cadlib.novelty import fitting as novelty
from cadlib.record import GOLDEN_FILE

FITS: tuple[Callable[[Model, SplitFeatures, str], Fitted], ...] = (neighbours.fit, novelty.fit)


def fit(folder: Path, dataset: Dataset, say: Say) -> dict[str, Any]:
    """Fit all of FITS for the model in `folder` on the images of its split, and return its new metrics.json.

    Record, metrics.json, card, golden answers and what else was fitted are replaced, all or none. Raise ModelInvalid
    for a model whose figures are of other weights, and as `split_features` does.
    """
    model = Model.load(folder)
    figures = own_figures.measured(folder, model.record)  # asked before the minutes of work, not after
    seen = split_features(model, folder, dataset, say)
    record, files = model.record, dict[str, bytes]()
    for one in FITS:
        fitted = one(model, seen, figures["data"]["split"])
        record = replace(record, **fitted.fields)
        figures.update(fitted.figures)
        files.update(fitted.files)
    # The golden answers say how new a drawn lesion is and how similar its nearest case: those are others now.
    fitted_model = model.with_fitted(record, files)
    own_figures.rewrite(folder, record, figures, {**files, GOLDEN_FILE: golden_json(fitted_model)})
    return figures
