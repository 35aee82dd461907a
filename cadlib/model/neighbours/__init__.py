"""The training images most like a picture, with their true diagnoses: what an answer can be held against.

    fingerprint   a picture in 256 bits, by which a training image is known again
    index         the training images in compact form, and the search among them
    fitting       the index of a model from the images of its split, and how good it is

No picture is kept, only what tells it apart: a page shows those that the reader's own copy of the data set has.
"""

from cadlib.model.neighbours.fingerprint import fingerprints
from cadlib.model.neighbours.index import NeighbourIndex, Neighbours, SimilarCase

__all__ = ["NeighbourIndex", "Neighbours", "SimilarCase", "fingerprints"]
