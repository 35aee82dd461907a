"""Adds evidence from age, sex and site to a lesion's image.

The calibrated logits of the image and one (8,) vector for each available fact are summed. A missing
fact adds exactly nothing, the network and its heatmap stay as they are, and the effect of the facts
is a difference of two probabilities.

    evidence   the vectors, and how they are added
    fitting    the vectors from validation images, within their archives
    changes    how the facts change the metrics of images
    acceptance the rule by which a model uses the facts or not
    trial      applies the rule to validation images, and its record
"""

from cadlib.images.patient import PatientFacts
from cadlib.model.metadata.evidence import MetadataEvidence, add_evidence
from cadlib.model.metadata.trial import MetadataTrial, run_trial

__all__ = ["MetadataEvidence", "MetadataTrial", "PatientFacts", "add_evidence", "run_trial"]
