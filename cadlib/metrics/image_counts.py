"""How many images are behind each kind of figure in metrics.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cadlib.taxonomy import CLASSES

NO_DIAGNOSIS_NOTE = (
    "Not defined: no image here has a diagnosis. The labels tell only malignant or benign."
)
"""Stands in place of a chart or table of diagnoses that has no image behind it."""


@dataclass(frozen=True)
class Counts:
    """Images behind some figures: `n` with a label, `malignant` of them, and `diagnosed` with a diagnosis.

    Figures of malignancy are over `n` images, those of diagnoses over `diagnosed` ones.
    """

    n: int
    malignant: int
    diagnosed: int

    @classmethod
    def of(cls, figures: Mapping[str, Any]) -> Self:
        """Return the counts of metrics.json, or of one of its subgroups."""
        by_class = figures["n_by_class"]
        malignant = figures.get("n_malignant")
        if malignant is None:  # an earlier version measured images with a diagnosis alone
            malignant = sum(
                by_class[d.code] for d in CLASSES[len(by_class)].diagnoses if d.malignant
            )
        return cls(figures["n"], malignant, sum(by_class.values()))

    @property
    def benign(self) -> int:
        """Return how many images are benign."""
        return self.n - self.malignant

    @property
    def partial(self) -> bool:
        """Say whether some images have no diagnosis."""
        return self.diagnosed < self.n

    @property
    def n_text(self) -> str:
        """Return the images with a label as text, and how many have a diagnosis where not all have one."""
        if not self.partial:
            return f"{self.n:,}"
        return f"{self.n:,} ({self.diagnosed:,} with a diagnosis)"

    @property
    def malignant_text(self) -> str:
        """Return "3 malignant, 5 benign"."""
        return f"{self.malignant:,} malignant, {self.benign:,} benign"
