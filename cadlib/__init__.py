"""cadlib: from a dermoscopic image to a calibrated diagnosis and its evidence.

The pipeline, in order:

    images       bytes, path or PIL image -> LesionImage, checked, upright, RGB, without identity
    preprocess   LesionImage -> what the network reads, by the model's InputSpec
    model        -> logits -> calibrated Prediction
    novelty      is the picture of a kind that the model knows?
    decision     malignant probability -> Decision at an operating point
    saliency     -> Heatmap of one diagnosis
    assessment   all of it for one image

and for those who make models: download, dataset, splits, training, packing, evaluation, metrics.

    from cadlib import Model
    Model.load("isic2019").predict("lesion.jpg").ranking()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cadlib import (
    libraries as libraries,
)  # first: libraries read these settings when they are imported

if TYPE_CHECKING:
    from cadlib.assessment import Assessment as Assessment
    from cadlib.assessment import assess as assess
    from cadlib.data.dataset import open_dataset as open_dataset
    from cadlib.errors import CadError as CadError
    from cadlib.evaluation.evaluate import evaluate as evaluate
    from cadlib.images import LesionImage as LesionImage
    from cadlib.images import read_image as read_image
    from cadlib.model.model import Model as Model
    from cadlib.model.model import Prediction as Prediction

__version__ = "0.1.0"

_HOMES = {
    "Assessment": "assessment",
    "assess": "assessment",
    "open_dataset": "data.dataset",
    "CadError": "errors",
    "evaluate": "evaluation.evaluate",
    "LesionImage": "images",
    "read_image": "images",
    "Model": "model.model",
    "Prediction": "model.model",
}
__all__ = [
    "Assessment",
    "CadError",
    "LesionImage",
    "Model",
    "Prediction",
    "assess",
    "evaluate",
    "open_dataset",
    "read_image",
]


def __getattr__(name: str) -> Any:
    # Imported when first asked for, so that what needs no torch does not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'cadlib' has no attribute {name!r}")
    return getattr(import_module(f"cadlib.{_HOMES[name]}"), name)
