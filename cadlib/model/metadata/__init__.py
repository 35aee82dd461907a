"""Adds evidence from age, sex and site to a lesion's image.

The calibrated logits of the image and one (8,) vector for each available fact are summed. A missing
fact adds exactly nothing, the network and its heatmap stay as they are, and the effect of the facts
is a difference of two probabilities.

    evidence   the vectors, and how they are added
    fitting    the vectors from validation images, within their archives
    trial      whether they help in every archive; a model uses them only then
"""

from cadlib.images.patient import PatientFacts
from cadlib.model.metadata.evidence import MetadataEvidence, add_evidence
from cadlib.model.metadata.trial import MetadataTrial, run_trial

__all__ = ["MetadataEvidence", "MetadataTrial", "PatientFacts", "add_evidence", "run_trial"]
