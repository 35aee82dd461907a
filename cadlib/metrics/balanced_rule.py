"""Names the diagnosis for balanced accuracy: rare ones more often.

The most probable diagnosis is right most often. Balanced accuracy, ISIC's metric, is the mean of
the sensitivities, in which a rare diagnosis counts as much as a frequent one. The best rule for it
divides each probability by the frequency of the diagnosis (Menon et al., Long-tail learning via
logit adjustment, ICLR 2021). A power below 1 divides by less. Only the named diagnosis changes: a
page shows the calibrated probabilities.
"""

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta

from cadlib.files.json_types import JsonObject, type_by_code
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.taxonomy import CODES

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Powers that are tried; 0 is the most probable diagnosis."""

# A frequency of 0 would divide by 0.
_Frequency = Annotated[float, Meta(gt=0, le=1)]

if TYPE_CHECKING:
    Frequencies = JsonObject
else:
    Frequencies = type_by_code("Frequencies", _Frequency)


class BalancedRule(JsonObject, frozen=True):
    """Divides the probabilities by the `frequencies` of the diagnoses to a `power`, 0 to 1."""

    power: Annotated[float, Meta(ge=0, le=1)]
    frequencies: Frequencies

    def adjusted(self, probabilities: Floats) -> Floats:
        """Return (…, 8) probabilities divided by the rule and scaled to a sum of 1.

        The largest one is the diagnosis that the rule names.
        """
        frequencies = np.array(msgspec.structs.astuple(self.frequencies))
        divided = probabilities / frequencies**self.power
        adjusted: Floats = divided / divided.sum(axis=-1, keepdims=True)
        return adjusted


def fit(probabilities: Floats, labels: Labels) -> BalancedRule | None:
    """Return the rule of the power with the best balanced accuracy on (N, 8) probabilities.

    `labels` is (N,), the true diagnoses. Of equal powers the smallest is taken. Return None where a
    diagnosis has no image, because its frequency is not known.
    """
    counts = np.bincount(labels, minlength=len(CODES))
    if not counts.all():
        return None
    shares = counts / counts.sum()
    frequencies = Frequencies(*shares.tolist())
    rules = [BalancedRule(power, frequencies) for power in POWERS]
    accuracies = []
    for rule in rules:
        accuracy = classification.balanced_accuracy(labels, rule.adjusted(probabilities))
        accuracies.append(float(accuracy))
    best = int(np.argmax(accuracies))
    return rules[best]
