"""Measures how unlike the training images an image is.

ISIC 2019 calls an image that is too unlike UNK. An image is compared with the training image that
looks most similar, by the measurements of `appearance`: the distance to the nearest neighbour (Sun
et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022), of plain measurements
instead of deep features. `benchmarks/novelty.py` prints the reason: the features of a network that
classifies lesions miss what these measurements detect. A lesion of an untrained diagnosis looks
like any other lesion, so this method does not detect it.

    appearance   the measurements of an image
    fitting      the looks and the limit of a model from the images of its split
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from safetensors.numpy import save

from cadlib import command_hints
from cadlib.errors import ModelInvalid
from cadlib.files.json_types import Digest, JsonObject, Positive
from cadlib.model.novelty import appearance
from cadlib.model.weights import load_tensors

NOT_KNOWN = (
    "This image does not look like the dermoscopic images of lesions in the training set. "
    "For other types of image, the result has no meaning."
)
NOT_CHECKED = "Image type not checked: this model has no novelty detector"
"""For a model without a detector; to be followed by the command that fits one."""

# With 12 steps, eight bits reach 10 standard deviations.
_STEPS = 12
"""Steps a standard deviation in which a measurement is stored."""
_STEEPNESS = 8
_BATCH = 256


Measurements = NDArray[np.float32]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Novelty:
    """How unlike the training images an image is: `score` is 1 at the limit, 0 for one of them."""

    score: float

    @property
    def known(self) -> bool:
        """Return whether the image is like those that the model was trained on."""
        return self.score <= 1

    @property
    def unknown_share(self) -> float:
        """Return the score as UNK of ISIC's files, 0 to 1: one half at the limit, more above it."""
        # A score of 0 cannot be raised to a negative power.
        score = np.float64(max(self.score, 1e-9))
        return float(1 / (1 + score**-_STEEPNESS))

    @property
    def sentence(self) -> str:
        """Return the warning for a reader, empty for a known image."""
        return "" if self.known else NOT_KNOWN


def scores_of(unknown_shares: Scores) -> Scores:
    """Return the score of each `Novelty.unknown_share`, (N,); NaN for 0, which is "not checked".

    UNK of ISIC's files has its own scale, so a reader sees the score everywhere, with its limit of
    1. A score above 98 is that of the largest share below 1.
    """
    largest = 1 - np.finfo(np.float64).epsneg
    shares = np.minimum(unknown_shares, largest)
    odds = shares / (1 - shares)
    scores: Scores = odds ** (1 / _STEEPNESS)
    scores[unknown_shares == 0] = np.nan
    return scores


class NoveltyFacts(JsonObject, frozen=True):
    """The part of model.json on novelty: an image is known up to `limit`.

    The limit is in standard deviations of the training images' measurements. `known_share` is the
    share of the `validation_images` that are known, `images` the number of training images to
    compare with, and `sha256` the hash of their file. Raise ValueError for other values.
    """

    limit: Annotated[float, Meta(ge=1e-6, le=1e6)]
    known_share: Annotated[float, Meta(gt=0, le=1)]
    images: Positive
    validation_images: Positive
    sha256: Digest

    def __post_init__(self) -> None:
        numbers_are_positive = self.limit > 0 and self.images > 0 and self.validation_images > 0
        if not numbers_are_positive or not 0 < self.known_share <= 1:
            raise ValueError(f"Expected positive numbers and a share up to 1 but got {self}.")


@dataclass(frozen=True, eq=False)
class Looks:
    """The measurements of the training images.

    `stored` (N, F) is int8, in steps of the measurements' `scale` about their `mean`.
    """

    mean: Measurements
    scale: Measurements
    stored: NDArray[np.int8]

    @classmethod
    def learn(cls, measurements: Measurements) -> "Looks":
        """Build from the measurements of the training images, (N, F), by `appearance.measure`."""
        mean = measurements.mean(axis=0)
        # The small constant keeps a measurement that never varies from a division by 0.
        scale = measurements.std(axis=0) / _STEPS + np.float32(1e-6)
        steps = np.rint((measurements - mean) / scale)
        stored = np.clip(steps, -127, 127).astype(np.int8)
        return cls(mean, scale, stored)

    @cached_property
    def _training(self) -> Measurements:
        return self.stored.astype(np.float32)

    @cached_property
    def _lengths(self) -> Measurements:
        squares = np.square(self._training)
        lengths: Measurements = squares.sum(axis=1)
        return lengths

    def distances(self, measurements: Measurements) -> Scores:
        """Return the distance of (N, F) measurements to the most similar training image's, (N,).

        The distance is in mean standard deviations.
        """
        distances: list[NDArray[np.floating]] = []
        # Batches limit the memory of the matrix of products.
        for first in range(0, len(measurements), _BATCH):
            batch = measurements[first : first + _BATCH]
            steps = (batch - self.mean) / self.scale
            distances.append(self._distances(steps))
        return np.concatenate(distances).astype(np.float64)

    def _distances(self, steps: Measurements) -> NDArray[np.floating]:
        """Return the distances of one batch of measurements, (N, F), in steps of the scale."""
        # |a - b|² = |a|² - 2ab + |b|², so that one product of matrices gives all distances.
        partial = self._lengths - 2 * steps @ self._training.T
        own_lengths = np.square(steps).sum(axis=1)
        squares = partial.min(axis=1) + own_lengths
        # Rounding can leave a square just below 0.
        roots = np.sqrt(np.maximum(squares, 0))
        distances: NDArray[np.floating] = roots / _STEPS
        return distances

    def pack(self) -> bytes:
        """Return the content of novelty.safetensors."""
        return save({"mean": self.mean, "scale": self.scale, "stored": self.stored})

    @classmethod
    def unpack(cls, data: bytes) -> "Looks":
        """Read the content of such a file; raise ModelInvalid for anything else."""
        arrays: dict[str, NDArray[Any]] = load_tensors(data, "novelty.safetensors")
        try:
            looks = cls(**arrays)
        except TypeError as error:
            raise ModelInvalid(
                f"The looks it knows cannot be read: {error}. Restore the folder."
            ) from error
        looks._check()
        return looks

    def _check(self) -> None:
        """Raise ModelInvalid where the arrays are not those of one file."""
        n_measurements = appearance.N_MEASUREMENTS
        shape = self.stored.shape
        if self.stored.ndim != 2 or shape[1] != n_measurements:
            raise ModelInvalid(
                f"Expected {n_measurements} values for each image in novelty.safetensors "
                f"but got an array of {shape}; "
                f"fit it again with `{command_hints.index()}`."
            )
        one_image = (n_measurements,)
        shapes_match = self.mean.shape == one_image and self.scale.shape == one_image
        if self.stored.dtype != np.int8 or not len(self.stored) or not shapes_match:
            raise ModelInvalid(
                "Expected the looks of training images in novelty.safetensors. Restore the folder."
            )
        all_finite = np.isfinite(self.mean).all() and np.isfinite(self.scale).all()
        if not all_finite or not (self.scale > 0).all():
            raise ModelInvalid(
                "Expected finite measurements, and positive scales, in novelty.safetensors. "
                "Restore the folder."
            )


class NoveltyDetector:
    """The content of a model's novelty.safetensors, with the limit of its record."""

    def __init__(self, data: bytes, facts: NoveltyFacts) -> None:
        """Read the content of the file; raise ModelInvalid for anything else."""
        self._looks = Looks.unpack(data)
        self._limit = facts.limit

    def of(self, measurements: Measurements) -> list[Novelty]:
        """Return the novelty of N images, at least 1, from their (N, F) measurements.

        The measurements are those of `appearance.measure` of the network's input.
        """
        distances = self._looks.distances(measurements)
        return [Novelty(float(distance) / self._limit) for distance in distances]
