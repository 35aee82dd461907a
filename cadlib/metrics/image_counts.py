"""Counts the images behind each kind of metric in metrics.json."""

from dataclasses import dataclass
from typing import Self

from msgspec import UNSET

from cadlib.metrics.summary_schema import Summary
from cadlib.taxonomy import CLASSES

NO_DIAGNOSIS_NOTE = (
    "Not defined: no image here has a diagnosis. The labels are only malignant or benign."
)
"""Replaces a chart or table of diagnoses that has no image behind it."""


@dataclass(frozen=True)
class Counts:
    """The images behind some metrics: all with a label, the malignant ones, those with a diagnosis.

    Metrics of malignancy are over `n` images, those of diagnoses over `diagnosed` ones.
    """

    n: int
    malignant: int
    diagnosed: int

    @classmethod
    def of(cls, summary: Summary) -> Self:
        """Return the counts of metrics.json, or of one of its subgroups."""
        by_class = summary.n_by_class
        malignant = summary.n_malignant
        # An earlier version measured only images with a diagnosis and stored no such count.
        if malignant is UNSET:
            diagnoses = CLASSES[len(by_class)].diagnoses
            malignant = sum(by_class[d.code] for d in diagnoses if d.malignant)
        diagnosed = sum(by_class.values())
        return cls(summary.n, malignant, diagnosed)

    @property
    def benign(self) -> int:
        """Return how many images are benign."""
        return self.n - self.malignant

    @property
    def partial(self) -> bool:
        """Return whether some images have no diagnosis."""
        return self.diagnosed < self.n

    @property
    def n_text(self) -> str:
        """Return the number of images as text, and how many have a diagnosis if not all do."""
        n = f"{self.n:,}"
        if not self.partial:
            return n
        diagnosed = f"{self.diagnosed:,} with a diagnosis"
        return f"{n} ({diagnosed})"

    @property
    def malignant_text(self) -> str:
        """Return "3 malignant, 5 benign"."""
        return f"{self.malignant:,} malignant, {self.benign:,} benign"
