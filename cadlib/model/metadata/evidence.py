"""One (8,) vector of logits for each feature of the facts, and how they are added to an image's probabilities."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cadlib.images.patient import FEATURES, PatientFacts
from cadlib.taxonomy import CODES

MAX_LOGIT = 10.0
"""No fact may outweigh the picture by more than e^10: a table beyond it is broken."""


@dataclass(frozen=True)
class MetadataEvidence:
    """`table` has for each of `facts.FEATURES` eight logits in taxonomy order, -MAX_LOGIT to MAX_LOGIT.

    Raise ValueError for a table that is no such one.
    """

    table: Mapping[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        if tuple(self.table) != FEATURES:
            raise ValueError(
                f"Expected evidence for {', '.join(FEATURES)} but got {', '.join(self.table)}."
            )
        for feature, row in self.table.items():
            numbers = [
                v
                for v in row
                if isinstance(v, int | float) and math.isfinite(v) and abs(v) <= MAX_LOGIT
            ]
            if len(row) != len(CODES) or len(numbers) != len(CODES):
                raise ValueError(
                    f"Expected {len(CODES)} logits for {feature}, from {-MAX_LOGIT:g} to {MAX_LOGIT:g}, but got {row}."
                )

    @classmethod
    def from_weights(cls, weights: NDArray[np.float64]) -> Self:
        """Take a (len(FEATURES), 8) matrix, rounded to six decimals as the JSON file has it."""
        return cls(
            {
                name: tuple(row)
                for name, row in zip(FEATURES, weights.round(6).tolist(), strict=True)
            }
        )

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read what to_json wrote; raise ValueError, TypeError or AttributeError for anything else."""
        return cls({name: tuple(row) for name, row in raw.items()})

    def to_json(self) -> dict[str, list[float]]:
        """Return feature -> its eight logits."""
        return {name: list(row) for name, row in self.table.items()}

    def logits(self, facts: PatientFacts) -> NDArray[np.float64]:
        """Return (8,) float64 to be added to calibrated logits: exactly zeros when nothing is known."""
        return self.logits_of(facts.design())

    def logits_of(self, design: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (…, 8) float64 for rows of a design matrix, (…, len(FEATURES))."""
        added: NDArray[np.float64] = design @ np.array(list(self.table.values()), np.float64)
        return added


def add_evidence(
    probabilities: NDArray[np.float64], evidence: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return softmax(log p + evidence), (…, 8) float64; a row without evidence stays as it is, bit for bit.

    `probabilities` are calibrated, (…, 8), so that log p is the image's logits divided by the temperature, up to a
    constant: a temperature for the sum is not needed, the evidence is fitted on this scale.
    """
    weighted = probabilities * np.exp(evidence - evidence.max(axis=-1, keepdims=True))
    some = evidence.any(axis=-1, keepdims=True)
    added: NDArray[np.float64] = np.where(
        some, weighted / weighted.sum(axis=-1, keepdims=True), probabilities
    )
    return added
