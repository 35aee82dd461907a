"""Is this a dermoscopic picture of a lesion, as the model was trained on? UNK of ISIC 2019 is what this answers.

A picture is held against the training image that looks most like it, by the figures of `appearance`: the distance to
the nearest neighbour (Sun et al., Out-of-Distribution Detection with Deep Nearest Neighbors, ICML 2022), of plain
figures instead of deep ones. `benchmarks/novelty.py` prints why: the features of a network that tells diagnoses apart
miss what these figures find. A lesion of a diagnosis that was never trained on looks like any other lesion, and is not
found so.

    appearance   what is measured of a picture
    fitting      the looks and the limit of a model from the images of its split
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from cadlib import command_hints
from cadlib.errors import ModelInvalid
from cadlib.model.novelty import appearance
from cadlib.model.weights import load_tensors

NOT_KNOWN = (
    "This does not look like the dermoscopic pictures of lesions that the model was trained on; for another kind of "
    "picture its answer means nothing."
)
NOT_CHECKED = "Whether a picture is of a kind that the model knows was not checked"
"""For a model without a detector; to be followed by the command that fits one."""

_STEPS = 12
"""In which a looked-at figure is stored, to its standard deviation: in eight bits it reaches 10 of them."""
_STEEPNESS = 8
_BATCH = 256


@dataclass(frozen=True)
class Novelty:
    """How unlike the training images a picture is: `score` is 1 at the limit, 0 for one that was trained on."""

    score: float

    @property
    def known(self) -> bool:
        """Tell whether it is like what the model was trained on."""
        return self.score <= 1

    @property
    def unknown_share(self) -> float:
        """Return the score as UNK of ISIC's files, 0 to 1: one half at the limit, above it for what is not known."""
        return float(1 / (1 + np.float64(max(self.score, 1e-9)) ** -_STEEPNESS))

    @property
    def sentence(self) -> str:
        """Return what a reader has to know of it, empty where the picture is known."""
        return "" if self.known else NOT_KNOWN


def scores_of(unknown_shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the score of each `Novelty.unknown_share`, (N,); NaN for 0, which stands for "not checked".

    UNK of ISIC's files has a scale of its own, so a reader sees the score everywhere, with its limit
    of 1. A score above 98 is that of the largest share below 1.
    """
    shares = np.minimum(unknown_shares, 1 - np.finfo(np.float64).epsneg)
    scores: NDArray[np.float64] = (shares / (1 - shares)) ** (1 / _STEEPNESS)
    scores[unknown_shares == 0] = np.nan
    return scores


@dataclass(frozen=True)
class NoveltyFacts:
    """What model.json says: a picture is known up to `limit`, in standard deviations of the training images' figures.

    `known_share` of the validation images, `validation_images` in number, are; `images` is how many training images a
    picture is held against, `sha256` the hash of their file. Raise ValueError for other values.
    """

    limit: float
    known_share: float
    images: int
    validation_images: int
    sha256: str

    def __post_init__(self) -> None:
        if not (
            self.limit > 0
            and 0 < self.known_share <= 1
            and self.images > 0
            and self.validation_images > 0
        ):
            raise ValueError(f"Expected positive numbers and a share up to 1 but got {self}.")
        if not isinstance(self.sha256, str):
            raise ValueError(
                f"Expected the hash of novelty.safetensors to be text but got {self.sha256!r}."
            )


@dataclass(frozen=True, eq=False)
class Looks:
    """The looks of the training images: `stored` (N, F) int8, in steps of the figures' `scale` about their `mean`."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    stored: NDArray[np.int8]

    @classmethod
    def learn(cls, figures: NDArray[np.float32]) -> "Looks":
        """Keep the figures of the training images, (N, F), by `appearance.measure`."""
        mean, scale = figures.mean(axis=0), figures.std(axis=0) / _STEPS + np.float32(1e-6)
        return cls(
            mean, scale, np.clip(np.rint((figures - mean) / scale), -127, 127).astype(np.int8)
        )

    @cached_property
    def _known(self) -> NDArray[np.float32]:
        return self.stored.astype(np.float32)

    @cached_property
    def _lengths(self) -> NDArray[np.float32]:
        lengths: NDArray[np.float32] = np.square(self._known).sum(axis=1)
        return lengths

    def distances(self, figures: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how far each of (N, F) pictures is from the training image most like it, (N,), in mean deviations."""
        known, lengths, found = self._known, self._lengths, []
        for first in range(0, len(figures), _BATCH):
            asked = (figures[first : first + _BATCH] - self.mean) / self.scale
            squares = (lengths - 2 * asked @ known.T).min(axis=1) + np.square(asked).sum(axis=1)
            found.append(np.sqrt(np.maximum(squares, 0)) / _STEPS)
        return np.concatenate(found).astype(np.float64)

    def pack(self) -> bytes:
        """Return the content of novelty.safetensors."""
        return save({"mean": self.mean, "scale": self.scale, "stored": self.stored})

    @classmethod
    def unpack(cls, data: bytes) -> "Looks":
        """Read such a file; raise ModelInvalid for what is none."""
        arrays: dict[str, NDArray[Any]] = load_tensors(data, "novelty.safetensors")
        try:
            looks = cls(**arrays)
        except TypeError as error:
            raise ModelInvalid(
                f"The looks it knows cannot be read: {error}. Restore the folder."
            ) from error
        if looks.stored.ndim != 2 or looks.stored.shape[1] != appearance.N_FIGURES:
            raise ModelInvalid(
                f"Expected {appearance.N_FIGURES} figures a picture in novelty.safetensors but got an array of "
                f"{looks.stored.shape}; fit it anew with `{command_hints.index()}`."
            )
        figures = (appearance.N_FIGURES,)
        if (
            looks.stored.dtype != np.int8
            or not len(looks.stored)
            or {looks.mean.shape, looks.scale.shape} != {figures}
        ):
            raise ModelInvalid(
                "Expected the looks of training images in novelty.safetensors. Restore the folder."
            )
        if not (
            np.isfinite(looks.mean).all()
            and np.isfinite(looks.scale).all()
            and (looks.scale > 0).all()
        ):
            raise ModelInvalid(
                "Expected finite figures, and positive scales, in novelty.safetensors. Restore the folder."
            )
        return looks


class NoveltyDetector:
    """The content of a model's novelty.safetensors, with the limit of its record."""

    def __init__(self, data: bytes, facts: NoveltyFacts) -> None:
        """Raise ModelInvalid for what is no such content."""
        self._looks, self._limit = Looks.unpack(data), facts.limit

    def of(self, figures: NDArray[np.float32]) -> list[Novelty]:
        """Judge pictures, N at least 1, by the (N, F) figures of `appearance.measure` of what the network reads."""
        return [
            Novelty(float(distance) / self._limit) for distance in self._looks.distances(figures)
        ]
