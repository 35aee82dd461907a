"""Stores training images in compact form and searches them for similar ones.

The similarity of two images is the cosine of the model's features, the ones that it classifies by:
after Tschandl et al., Br J Dermatol 181 (2019) 155. The features are projected on the directions
that hold most of their length, and stored as int8. The search compares every image; there is no
approximation for speed.
"""

from collections import Counter
from collections.abc import Iterator
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
# From 32 to all 1,280 dimensions the precision on validation images changes by 0.002
# (`benchmarks/neighbours.py --data`).
DIMENSIONS = 64
# Measured on 7,247 validation and test images, none of which is a training image: the nearest in
# bits, 14 and 16 of 256, are 0.63 and 0.66 similar (bright circles on black). Training images as
# their cameras made them are at most 6 bits away, and at least 0.95 similar
# (`benchmarks/neighbours.py --data DIR --originals DIR`).
SAME_BITS = 12
"""An image at most so many bits from a training image, if also similar enough, is that image."""
SAME_SIMILARITY = 0.7
"""An image at least so similar to a training image, if also near enough in bits, is that image."""
REMEDY = f"restore the folder, or create it again with `{command_hints.index()}`"
_BLOCK = 2048
# No name of a file and no text of a CSV has this byte, so it can separate texts in a file.
_BETWEEN = b"\0"

Vectors = NDArray[np.float32]
Directions = NDArray[np.int8]
Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class SimilarCase:
    """A training image: its id in the data set, true diagnosis, archive and cosine, -1 to 1.

    The archive is "" if it is not known.
    """

    image: str
    diagnosis: str
    archive: str
    similarity: float


@dataclass(frozen=True)
class Neighbours:
    """The training images most similar to an image, the most similar first, one for each lesion.

    `first` is the model's top diagnosis. `itself` is the training image that the image is equal to,
    None where there is none; its lesion is not among `cases`.
    """

    first: str
    cases: tuple[SimilarCase, ...]
    itself: SimilarCase | None

    @property
    def agreeing(self) -> int:
        """Return how many of the cases have the model's top diagnosis."""
        return sum(case.diagnosis == self.first for case in self.cases)

    @property
    def disagree(self) -> bool:
        """Return whether most of the cases have another diagnosis than the model's top one."""
        return 2 * self.agreeing < len(self.cases)

    @property
    def sentence(self) -> str:
        """Return a count of each diagnosis of the cases, and of the model's top diagnosis.

        The word "agree" is avoided: how often such a diagnosis is correct depends on the count (see
        `agreement`).
        """
        if not self.cases:
            return "No similar case of another lesion."
        n_cases = len(self.cases)
        counts = Counter(case.diagnosis for case in self.cases).most_common()
        (most_frequent, most), *others = counts
        parts = [f"{most} of {n_cases} {diagnosis(most_frequent).name}"]
        for code, count in others:
            parts.append(f"{count} {diagnosis(code).name}")
        listed = ", ".join(parts)
        if self.disagree:
            top = diagnosis(self.first).name
            return f"{listed}. Most differ from the model's top diagnosis, {top}."
        return f"{listed}. {self.agreeing} of {n_cases} have the model's top diagnosis."

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        values = asdict(self)
        # Only fields are in `asdict`, not what is derived from them.
        values["agreeing"] = self.agreeing
        values["disagree"] = self.disagree
        return values


@dataclass(frozen=True, eq=False)
class NeighbourIndex:
    """N training images to search, in about 130 bytes each, and 260 more after the first search.

    `basis` (C, D) float32 projects features, `vectors` (N, D) int8 are the projected directions,
    `fingerprints` is (N, 32) uint8. `images` (N,) holds ids in UTF-8, `diagnoses` (N,) uint8 places
    in taxonomy order, `lesions` (N,) int32 lesion groups, `archives` (N,) uint8 places in
    `archive_names`, in UTF-8, "" for one that is not known.
    """

    basis: Vectors
    vectors: Directions
    fingerprints: Bytes
    images: NDArray[np.bytes_]
    diagnoses: Bytes
    lesions: NDArray[np.int32]
    archives: Bytes
    archive_names: NDArray[np.bytes_]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def _lengths(self) -> Vectors:
        squares = np.einsum("nd,nd->n", self.vectors, self.vectors, dtype=np.float32)
        # A vector of zeros has a length too, so that nothing is divided by 0.
        squares = np.maximum(squares, 1)
        lengths: Vectors = np.sqrt(squares)
        return lengths

    @cached_property
    def _directions(self) -> Vectors:
        """Return `vectors` as float32."""
        # Converting them for each search would take longer than the search.
        return self.vectors.astype(np.float32)

    def similarities(self, features: Vectors) -> Vectors:
        """Return the cosine of (C,) features with those of each image, (N,) float32."""
        direction = features @ self.basis
        norm = float(np.linalg.norm(direction))
        # Features of zeros are similar to nothing, and must not be divided by 0.
        length = max(norm, 1e-12)
        similarities: Vectors = self._directions @ direction
        lengths = self._lengths * length
        similarities /= lengths
        return similarities

    def bits(self, fingerprint: Bytes, rows: Rows | slice = slice(None)) -> Rows:
        """Return how many of 256 bits differ between a (32,) fingerprint and each image's.

        `rows` selects images.
        """
        words = self.fingerprints[rows].view(np.uint64)
        different_bits = words ^ fingerprint.view(np.uint64)
        counts_of_words = np.bitwise_count(different_bits)
        counts: Rows = counts_of_words.sum(axis=1, dtype=np.int64)
        return counts

    def search(
        self,
        features: Vectors,
        fingerprint: Bytes,
        first: str,
        shown: int = SHOWN,
    ) -> Neighbours:
        """Return the cases most similar to an image of (C,) features and a (32,) fingerprint.

        `first` is the model's top diagnosis of the image, `shown` the number of cases.
        """
        similarities = self.similarities(features)
        row_of_itself = self._same(similarities, fingerprint)
        itself = None
        own_lesion = None
        if row_of_itself is not None:
            itself = self._case(row_of_itself, similarities)
            own_lesion = self.lesions[row_of_itself]
        rows = self._top_rows(similarities, own_lesion, shown)
        cases = tuple(self._case(row, similarities) for row in rows)
        return Neighbours(first, cases, itself)

    def _top_rows(self, similarities: Vectors, without: np.int32 | None, shown: int) -> list[int]:
        """Return the rows of the most similar images of different lesions, in this order."""
        # Several images can be of one lesion, so more than `shown` have to be sorted.
        n_candidates = 8 * shown
        while True:
            candidates = _highest(similarities, n_candidates)
            rows = self._one_a_lesion(candidates, without)[:shown]
            if len(rows) == shown or n_candidates >= len(self):
                return rows
            n_candidates *= 8

    def _same(self, similarities: Vectors, fingerprint: Bytes) -> int | None:
        """Return the row of the training image that this image is equal to."""
        alike = np.flatnonzero(similarities >= SAME_SIMILARITY)
        bits = self.bits(fingerprint, alike)
        is_same = bits <= SAME_BITS
        same = alike[is_same]
        if not len(same):
            return None
        most_similar = similarities[same].argmax()
        return int(same[most_similar])

    def _one_a_lesion(self, rows: Rows, without: np.int32 | None) -> list[int]:
        """Return the first row of each lesion, in the order of the rows, without one lesion."""
        lesions, places = np.unique(self.lesions[rows], return_index=True)
        excluded = -1 if without is None else without
        is_other = lesions != excluded
        firsts = np.sort(places[is_other])
        return [int(row) for row in rows[firsts]]

    def _case(self, row: int, similarities: Vectors) -> SimilarCase:
        archive_number = self.archives[row]
        archive = self.archive_names[archive_number]
        # Rounding can lift a cosine just above 1.
        similarity = min(float(similarities[row]), 1.0)
        image = self.images[row]
        return SimilarCase(
            image=image.decode(),
            diagnosis=CODES[self.diagnoses[row]],
            archive=archive.decode(),
            similarity=round(similarity, 4),
        )

    def to_bytes(self) -> bytes:
        """Return the index as the bytes of a safetensors file; equal indexes give equal bytes."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("images", "archive_names"):
            text = _BETWEEN.join(arrays[name].tolist())
            arrays[name] = np.frombuffer(text, np.uint8)
        return bytes(save(arrays))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the bytes of such a file; raise ModelInvalid for anything else."""
        arrays: dict[str, NDArray[Any]] = load_tensors(data, "neighbours.safetensors", REMEDY)
        try:
            for name in ("images", "archive_names"):
                # safetensors has no type for text, so names are stored as bytes with a separator.
                text = arrays[name].tobytes()
                names = text.split(_BETWEEN)
                arrays[name] = np.array(names)
            index = cls(**arrays)
            index._check()
        except (KeyError, TypeError, ValueError) as error:
            raise ModelInvalid(
                f"The similar cases are no index of this version: {error}; {REMEDY}."
            ) from error
        return index

    def _check(self) -> None:
        """Raise ValueError where the arrays do not form an index."""
        self._check_shapes()
        if not np.isfinite(self.basis).all():
            raise ValueError("expected `basis` to be finite")
        # Diagnoses and archives are places in CODES and `archive_names`.
        diagnoses_exist = self.diagnoses.max() < len(CODES)
        archives_exist = self.archives.max() < len(self.archive_names)
        if not diagnoses_exist or not archives_exist:
            raise ValueError("expected every diagnosis and archive to be a known one")
        names = self.images.tolist() + self.archive_names.tolist()
        for name in names:
            # Raises UnicodeDecodeError, a ValueError, where a name is not UTF-8.
            name.decode()

    def _check_shapes(self) -> None:
        n = len(self.images)
        dimensions = self.basis.shape[-1]
        self._check_shape("basis", np.float32, (len(self.basis), dimensions))
        self._check_shape("vectors", np.int8, (n, dimensions))
        self._check_shape("fingerprints", np.uint8, (n, BYTES))
        self._check_shape("diagnoses", np.uint8, (n,))
        self._check_shape("lesions", np.int32, (n,))
        self._check_shape("archives", np.uint8, (n,))

    def _check_shape(self, name: str, kind: type[np.generic], shape: tuple[int, ...]) -> None:
        array = getattr(self, name)
        if array.dtype != kind or array.shape != shape:
            raise ValueError(
                f"expected `{name}` as {shape} {kind.__name__}, "
                f"but found {array.shape} {array.dtype}"
            )


def compact(features: Vectors, dimensions: int = DIMENSIONS) -> tuple[Vectors, Directions]:
    """Return the basis (C, D) that holds most of the length of (N, C) features, and int8 vectors.

    The basis has the first right singular vectors of the features; the vectors, (N, D), are the
    directions of the features in it.
    """
    # The features are not centred: with centring, fewer cases had the true diagnosis on validation
    # images.
    products = sum(block.T @ block for block in _blocks(features))
    _, singular_vectors = np.linalg.eigh(products)
    # The eigenvalues ascend, so that the longest directions come last.
    longest_first = singular_vectors[:, ::-1]
    basis = longest_first[:, :dimensions].astype(np.float32)
    vectors = features @ basis
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    least = np.finfo(np.float32).tiny
    vectors *= 127 / np.maximum(largest, least)
    steps = np.rint(vectors)
    return basis, steps.astype(np.int8)


def _blocks(features: Vectors) -> Iterator[NDArray[np.float64]]:
    """Yield blocks of rows as float64: all at once would take too much memory."""
    for first in range(0, len(features), _BLOCK):
        block = features[first : first + _BLOCK]
        yield block.astype(np.float64)


def _highest(values: Vectors, n: int) -> Rows:
    """Return the places of the n highest values in descending order, stable for equal ones."""
    if n >= len(values):
        return np.argsort(-values, kind="stable")
    # Partitioning the values is a third faster than argpartition.
    place = len(values) - n
    least = np.partition(values, place)[place]
    candidates = np.flatnonzero(values >= least)
    order = np.argsort(-values[candidates], kind="stable")
    return candidates[order][:n]
