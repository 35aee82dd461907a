"""Golden figures: what a model said of the project's drawn lesions on the day it was made.

They catch what unit tests miss: preprocessing that drifted, labels in another order, a library that
computes something else.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from cadlib.errors import ModelInvalid
from cadlib.model import Model
from cadlib.record import GOLDEN_FILE, read_json
from cadlib.synthetic import demo_lesions
from cadlib.taxonomy import CODES

TOLERANCE = 1e-3


@dataclass(frozen=True)
class Drift:
    """A probability of a drawn lesion that is not what it was: `golden` then, `today` now, both 0 to 1."""

    lesion: str
    code: str
    golden: float
    today: float

    @property
    def distance(self) -> float:
        """Return how far it moved, 0 to 1; NaN where the model gives no number."""
        return abs(self.today - self.golden)

    def __str__(self) -> str:
        return f"{self.lesion} {self.code}: {self.golden:.4f} became {self.today:.4f}, {self.distance:.4f} away"


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


def drift(model: Model, folder: Path) -> tuple[Drift, ...]:
    """Return the probabilities of drawn lesions that differ from golden.json by more than its tolerance.

    Raise ModelInvalid when golden.json is missing or is of other lesions than the ones drawn today.
    """
    golden = read_json(folder / GOLDEN_FILE)
    today = golden_figures(model)["probabilities"]
    try:
        known, tolerance = golden["probabilities"], float(golden["tolerance"])
        compared = [
            Drift(name, code, float(known[name][code]), figures[code])
            for name, figures in today.items()
            for code in CODES
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelInvalid(
            f"Expected {folder / GOLDEN_FILE} to have the figures of {', '.join(today)} but it has not ({error}); "
            "write the model anew."
        ) from error
    return tuple(one for one in compared if not one.distance <= tolerance)  # NaN is a drift
