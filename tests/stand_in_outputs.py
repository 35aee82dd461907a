"""Outputs of a stand-in for a model of one network and one view."""

import numpy as np
from numpy.typing import NDArray

from cadlib.model.committee import Outputs


def outputs_of(
    logits: NDArray[np.float32],
    features: NDArray[np.float32] | None = None,
    evidence: NDArray[np.float32] | None = None,
) -> Outputs:
    """Return outputs with these (N, 8) logits; what is left out is zero."""
    n = len(logits)
    alone = logits[:, None]
    if features is None:
        features = np.zeros((n, 4), np.float32)
    if evidence is None:
        evidence = np.zeros((n, 8, 2, 2), np.float32)
    return Outputs(logits, alone, alone, features, evidence)
