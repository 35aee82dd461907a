"""Finds the training images most similar to an image.

Each comes with its true diagnosis.

    fingerprint   256 bits of an image, by which a training image is recognised
    index         the training images in compact form, and the search among them
    fitting       the index of a model from the images of its split, and how good it is

The index holds no image, only its features: a page shows the images of the reader's own copy of the
data set.
"""

from cadlib.model.neighbours.fingerprint import fingerprints
from cadlib.model.neighbours.index import NeighbourIndex, Neighbours, SimilarCase

__all__ = ["NeighbourIndex", "Neighbours", "SimilarCase", "fingerprints"]
