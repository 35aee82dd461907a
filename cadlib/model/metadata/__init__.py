"""What age, sex and site say of a lesion beside its picture: evidence that is added, and can be absent.

The calibrated logits of the image and one (8,) vector a known fact are summed. A fact that is missing adds exactly
nothing, the network and its heatmap stay as they are, and what the facts moved is a difference of two probabilities.

    evidence   the vectors, and how they are added
    fitting    the vectors from validation images, within their archives
    trial      whether they help in every archive; only then a model keeps them
"""

from cadlib.images.patient import PatientFacts
from cadlib.model.metadata.evidence import MetadataEvidence, add_evidence
from cadlib.model.metadata.trial import MetadataTrial, run_trial

__all__ = ["MetadataEvidence", "MetadataTrial", "PatientFacts", "add_evidence", "run_trial"]
