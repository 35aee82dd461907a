"""Adds (8,) vectors of logits, one for each patient feature, to probabilities."""

import math
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from cadlib.images.patient import FEATURES, PatientFacts
from cadlib.taxonomy import CODES

Floats = NDArray[np.float64]
# No fact may outweigh the image by more than e^10: a table with larger numbers is broken.
MAX_LOGIT = 10.0
Logit = Annotated[float, Meta(ge=-MAX_LOGIT, le=MAX_LOGIT)]
Logits = Annotated[tuple[Logit, ...], Meta(min_length=len(CODES), max_length=len(CODES))]
"""Eight logits in taxonomy order."""


@dataclass(frozen=True)
class MetadataEvidence:
    """`table` has eight logits in taxonomy order, -MAX_LOGIT to MAX_LOGIT, for each of `FEATURES`.

    Raise ValueError for any other table.
    """

    table: dict[str, tuple[float, ...]]

    def __post_init__(self) -> None:
        if tuple(self.table) != FEATURES:
            expected = ", ".join(FEATURES)
            features = ", ".join(self.table)
            raise ValueError(f"Expected evidence for {expected} but got {features}.")
        n_codes = len(CODES)
        for feature, row in self.table.items():
            n_valid = sum(_is_logit(value) for value in row)
            if len(row) != n_codes or n_valid != n_codes:
                raise ValueError(
                    f"Expected {n_codes} logits for {feature}, from {-MAX_LOGIT:g} "
                    f"to {MAX_LOGIT:g}, but got {row}."
                )

    @classmethod
    def from_weights(cls, weights: Floats) -> Self:
        """Build from a (len(FEATURES), 8) matrix, rounded to six decimals as in the file."""
        # Rounded here, the evidence equals the one that is read from the file later.
        rows = weights.round(6).tolist()
        table: dict[str, tuple[float, ...]] = {}
        for feature, row in zip(FEATURES, rows, strict=True):
            table[feature] = tuple(row)
        return cls(table)

    def logits(self, facts: PatientFacts) -> Floats:
        """Return (8,) float64 to add to calibrated logits: exact zeros without facts."""
        design = facts.design()
        return self.logits_of(design)

    def logits_of(self, design: Floats) -> Floats:
        """Return (…, 8) float64 for rows of a design matrix, (…, len(FEATURES))."""
        rows = list(self.table.values())
        weights = np.array(rows, np.float64)
        added: Floats = design @ weights
        return added


def _is_logit(value: object) -> bool:
    if not isinstance(value, int | float):
        return False
    if not math.isfinite(value):
        return False
    return abs(value) <= MAX_LOGIT


def add_evidence(probabilities: Floats, evidence: Floats) -> Floats:
    """Return softmax(log p + evidence), (…, 8) float64; rows without evidence stay bit-identical.

    `probabilities` are calibrated, (…, 8), so that log p is the image's logits divided by the
    temperature, up to a constant. The sum needs no temperature: the evidence is fitted on this
    scale.
    """
    # Subtracting the largest keeps the exponentials finite and cancels in the division.
    largest = evidence.max(axis=-1, keepdims=True)
    weighted = probabilities * np.exp(evidence - largest)
    sums = weighted.sum(axis=-1, keepdims=True)
    has_evidence = evidence.any(axis=-1, keepdims=True)
    added: Floats = np.where(has_evidence, weighted / sums, probabilities)
    return added
