"""Diagnoses a dermoscopic image with calibrated probabilities and their evidence.

The pipeline, in order:

    images       bytes, path or PIL image -> LesionImage, checked, upright, RGB, without identity
    preprocess   LesionImage -> input of the network, by the model's InputSpec
    model        -> logits -> calibrated Prediction
    novelty      is the image like the training images?
    decision     malignant probability -> Decision at an operating point
    saliency     -> Heatmap of one diagnosis
    assessment   all of it for one image

For the makers of models there are: download, dataset, splits, training, packing, evaluation,
metrics.

    from cadlib import Model
    Model.load("isic2019").predict("lesion.jpg").ranking()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# First, because libraries read these settings when they are imported.
from cadlib import libraries as libraries

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
    # Imported on first use, so that code without torch does not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'cadlib' has no attribute {name!r}")
    module = import_module(f"cadlib.{_HOMES[name]}")
    return getattr(module, name)
