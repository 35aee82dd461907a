"""Golden figures: what a model said of the project's drawn lesions on the day it was made.

They catch what unit tests miss: preprocessing that drifted, labels in another order, a library that
computes something else.
"""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cadlib.errors import ModelInvalid
from cadlib.model import Model
from cadlib.record import GOLDEN_FILE, read_json
from cadlib.synthetic import demo_lesions
from cadlib.taxonomy import CODES

TOLERANCE = 1e-3


def golden_figures(model: Model) -> dict[str, Any]:
    """Return the content of golden.json: name of each drawn lesion -> code -> probability."""
    lesions = demo_lesions()
    predictions = model.predict_batch([Image.fromarray(lesion.pixels) for lesion in lesions])
    return {
        "tolerance": TOLERANCE,
        "probabilities": {
            lesion.name: {code: round(float(p), 6) for code, p in zip(CODES, prediction.probabilities, strict=True)}
            for lesion, prediction in zip(lesions, predictions, strict=True)
        },
    }


def drift(model: Model, folder: Path) -> dict[str, float]:
    """Return the drawn lesions whose probabilities differ from golden.json by more than its tolerance, and how far.

    Raise ModelInvalid when golden.json is missing or is of other lesions than the ones drawn today.
    """
    golden = read_json(folder / GOLDEN_FILE)
    today = golden_figures(model)["probabilities"]
    try:
        known, tolerance = golden["probabilities"], float(golden["tolerance"])
        distance = {
            name: float(np.max(np.abs([known[name][code] - figures[code] for code in CODES])))
            for name, figures in today.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"Expected {folder / GOLDEN_FILE} to have the figures of {', '.join(today)} but it has not ({error}); "
            "write the model anew."
        ) from error
    return {name: how_far for name, how_far in distance.items() if not how_far <= tolerance}
