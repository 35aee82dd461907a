"""The training images in compact form, and the search for those most like a picture.

Two pictures are as alike as the features of the model are (cosine), the ones by which it tells diagnoses apart: after
Tschandl et al., Br J Dermatol 181 (2019) 155. The features are projected on the directions that hold most of their
length, and kept as int8. Every image is compared; nothing is left out to be faster.
"""

from collections import Counter
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from cadlib import command_hints
from cadlib.errors import ModelInvalid
from cadlib.model.neighbours.fingerprint import BYTES
from cadlib.model.weights import load_tensors
from cadlib.taxonomy import CODES, diagnosis

SHOWN = 5
DIMENSIONS = 64
"""From 32 to all 1,280 the precision on validation images moves by 0.002 (`benchmarks/neighbours.py --data`)."""
SAME_BITS, SAME_SIMILARITY = 12, 0.7
"""A picture at most so many bits from a training image, and at least so similar, is that image.

Read off 7,247 validation and test images, which are none: the nearest in bits, 14 and 16 of 256, are 0.63 and 0.66
similar (bright circles on black). Training images as their cameras made them are at most 6 bits away, and at least 0.95
similar (`benchmarks/neighbours.py --data DIR --originals DIR`).
"""
REMEDY = f"restore the folder, or create it again with `{command_hints.index()}`"
_BLOCK = 2048
_BETWEEN = b"\0"
"""Separates texts in a file: no name of a file and no text of a CSV has it."""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class SimilarCase:
    """A training image: its id in the data set, its true diagnosis, archive ("" if not known), and cosine, -1 to 1."""

    image: str
    diagnosis: str
    archive: str
    similarity: float


@dataclass(frozen=True)
class Neighbours:
    """The training images most like a picture, the most similar first and one a lesion; `first` is the model's first.

    `itself` is the training image that this very picture is, None where it is none; its lesion is not among `cases`.
    """

    first: str
    cases: tuple[SimilarCase, ...]
    itself: SimilarCase | None

    @property
    def agreeing(self) -> int:
        """Return how many of the cases have the model's first diagnosis."""
        return sum(case.diagnosis == self.first for case in self.cases)

    @property
    def disagree(self) -> bool:
        """Tell whether most of the cases have another diagnosis than the model's first."""
        return 2 * self.agreeing < len(self.cases)

    @property
    def sentence(self) -> str:
        """Return how many cases have which diagnosis, and how many have the model's first.

        It does not say "agree": how often such a diagnosis is right depends on the count (see `agreement`).
        """
        counts = Counter(case.diagnosis for case in self.cases).most_common()
        (first, most), *others = [(diagnosis(code).name, n) for code, n in counts]
        cases = ", ".join(
            [f"{most} of {len(self.cases)} {first}", *(f"{n} {name}" for name, n in others)]
        )
        if not self.disagree:
            return f"{cases}. {self.agreeing} of {len(self.cases)} have the model's top diagnosis."
        return f"{cases}. Most differ from the model's top diagnosis, {diagnosis(self.first).name}."

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {**asdict(self), "agreeing": self.agreeing, "disagree": self.disagree}


@dataclass(frozen=True, eq=False)
class NeighbourIndex:
    """N training images to search among, in about 130 bytes each, and 260 more once one was searched for.

    `basis` (C, D) float32 projects features, `vectors` (N, D) int8 are directions after that, `fingerprints` (N, 32)
    uint8. `images` (N,) holds ids in UTF-8, `diagnoses` (N,) uint8 places in taxonomy order, `lesions` (N,) int32
    lesion groups, `archives` (N,) uint8 places in `archive_names`, in UTF-8, "" for one that is not known.
    """

    basis: Vectors
    vectors: NDArray[np.int8]
    fingerprints: NDArray[np.uint8]
    images: NDArray[np.bytes_]
    diagnoses: NDArray[np.uint8]
    lesions: NDArray[np.int32]
    archives: NDArray[np.uint8]
    archive_names: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def _lengths(self) -> Vectors:
        squares = np.einsum("nd,nd->n", self.vectors, self.vectors, dtype=np.float32)
        lengths: Vectors = np.sqrt(np.maximum(squares, 1))
        return lengths

    @cached_property
    def _directions(self) -> Vectors:
        """Hold `vectors` as float32: to convert them for each search takes longer than the search."""
        return self.vectors.astype(np.float32)

    def similarities(self, features: Vectors) -> Vectors:
        """Return the cosine of (C,) features with those of each image, (N,) float32."""
        direction = features @ self.basis
        similarities: Vectors = self._directions @ direction
        similarities /= self._lengths * max(float(np.linalg.norm(direction)), 1e-12)
        return similarities

    def bits(
        self, fingerprint: NDArray[np.uint8], rows: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[np.int64]:
        """Return in how many of its 256 bits a (32,) fingerprint differs from that of each image, or of those rows."""
        words = self.fingerprints[rows].view(np.uint64) ^ fingerprint.view(np.uint64)
        different: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
        return different

    def search(
        self, features: Vectors, fingerprint: NDArray[np.uint8], first: str, shown: int = SHOWN
    ) -> Neighbours:
        """Return the cases most like a picture of (C,) features and (32,) fingerprint that the model calls `first`."""
        similarities = self.similarities(features)
        itself = self._same(similarities, fingerprint)
        own = None if itself is None else self.lesions[itself]
        rows, asked = list[int](), 8 * shown
        while True:
            rows = self._one_a_lesion(_highest(similarities, asked), own)[:shown]
            if len(rows) == shown or asked >= len(self):
                break
            asked *= 8
        cases = tuple(self._case(row, similarities) for row in rows)
        return Neighbours(
            first, cases, None if itself is None else self._case(itself, similarities)
        )

    def _same(self, similarities: Vectors, fingerprint: NDArray[np.uint8]) -> int | None:
        alike = np.flatnonzero(similarities >= SAME_SIMILARITY)
        same = alike[self.bits(fingerprint, alike) <= SAME_BITS]
        return int(same[similarities[same].argmax()]) if len(same) else None

    def _one_a_lesion(self, rows: NDArray[np.int64], without: np.int32 | None) -> list[int]:
        lesions, places = np.unique(self.lesions[rows], return_index=True)
        return [
            int(row)
            for row in rows[np.sort(places[lesions != (-1 if without is None else without)])]
        ]

    def _case(self, row: int, similarities: Vectors) -> SimilarCase:
        archive = self.archive_names[self.archives[row]].decode()
        similarity = round(min(float(similarities[row]), 1.0), 4)
        return SimilarCase(
            self.images[row].decode(), CODES[self.diagnoses[row]], archive, similarity
        )

    def to_bytes(self) -> bytes:
        """Return the index as a safetensors file, the same for the same index."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("images", "archive_names"):
            arrays[name] = np.frombuffer(_BETWEEN.join(arrays[name].tolist()), np.uint8)
        return bytes(save(arrays))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read such a file; raise ModelInvalid for what is none."""
        arrays: dict[str, NDArray[Any]] = load_tensors(data, "neighbours.safetensors", REMEDY)
        try:
            for name in ("images", "archive_names"):
                arrays[name] = np.array(arrays[name].tobytes().split(_BETWEEN))
            index = cls(**arrays)
            index._check()
        except (KeyError, TypeError, ValueError) as error:
            raise ModelInvalid(
                f"The similar cases are no index of this version: {error}; {REMEDY}."
            ) from error
        return index

    def _check(self) -> None:
        """Raise ValueError where the arrays are not those of one index."""
        self._check_shapes()
        if not np.isfinite(self.basis).all():
            raise ValueError("expected `basis` to be finite")
        if self.diagnoses.max() >= len(CODES) or self.archives.max() >= len(self.archive_names):
            raise ValueError("expected every diagnosis and archive to be a known one")
        for name in (*self.images.tolist(), *self.archive_names.tolist()):
            name.decode()

    def _check_shapes(self) -> None:
        n, dimensions = len(self.images), self.basis.shape[-1]
        shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "basis": (np.float32, (len(self.basis), dimensions)),
            "vectors": (np.int8, (n, dimensions)),
            "fingerprints": (np.uint8, (n, BYTES)),
            "diagnoses": (np.uint8, (n,)),
            "lesions": (np.int32, (n,)),
            "archives": (np.uint8, (n,)),
        }
        for name, (kind, shape) in shapes.items():
            array = getattr(self, name)
            if array.dtype != kind or array.shape != shape:
                raise ValueError(
                    f"expected `{name}` as {shape} {kind.__name__}, but found {array.shape} {array.dtype}"
                )


def compact(features: Vectors, dimensions: int = DIMENSIONS) -> tuple[Vectors, NDArray[np.int8]]:
    """Return the basis (C, D) in which (N, C) features keep most of their length, and their directions in it as int8.

    The basis has the first right singular vectors of the features. They are not centred: that found fewer of the true
    diagnosis on validation images.
    """
    blocks = [slice(first, first + _BLOCK) for first in range(0, len(features), _BLOCK)]
    products = sum(
        block.T @ block for block in (features[rows].astype(np.float64) for rows in blocks)
    )
    basis = np.linalg.eigh(products)[1][:, ::-1][:, :dimensions].astype(np.float32)
    vectors = features @ basis
    vectors *= 127 / np.maximum(
        np.abs(vectors).max(axis=1, keepdims=True), np.finfo(np.float32).tiny
    )
    return basis, np.rint(vectors).astype(np.int8)


def _highest(values: Vectors, n: int) -> NDArray[np.int64]:
    """Return the places of the n highest values, the highest first, and the first of equals first."""
    if n >= len(values):
        return np.argsort(-values, kind="stable")
    least = np.partition(values, len(values) - n)[
        len(values) - n
    ]  # a third faster than argpartition
    some = np.flatnonzero(values >= least)
    return some[np.argsort(-values[some], kind="stable")][:n]
