"""A trained model: load it in one line, verify it, predict. A model is a folder (see `cadlib.model.record`).

Predictions come from its model.onnx, without torch. `cadlib.network.backbones.network_of` gives the network in torch.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cadlib.errors import CadError, ModelInvalid
from cadlib.files.typed_json import one_line
from cadlib.images import LesionImage, preprocess, read_image, start_decoders
from cadlib.model import calibration, golden, weights
from cadlib.model.engine import Engine, Seen
from cadlib.model.metadata import PatientFacts, add_evidence
from cadlib.model.neighbours import NeighbourIndex, fingerprints
from cadlib.model.novelty import Novelty, NoveltyDetector, appearance
from cadlib.model.record import (
    GOLDEN_FILE,
    NEIGHBOURS_FILE,
    NOVELTY_FILE,
    ONNX_FILE,
    WEIGHTS_FILE,
    ModelRecord,
    find_model,
    read_folder,
)
from cadlib.taxonomy import CODES, MALIGNANT
from cadlib.thread_pool import threads as threads_of_answers

Source = str | os.PathLike[str] | bytes | Image.Image | LesionImage


@dataclass(frozen=True, eq=False)
class Prediction:
    """Calibrated probabilities of one image: (8,) float64, read-only, taxonomy order, summing to 1.

    `features` (C,) and `evidence` (8, h, w), float32 and read-only, are those of `engine.Seen` for this image;
    `fingerprint` (32,) uint8 is that of what the network saw of it.
    `novelty` says whether the picture is of a kind that was trained on; None for a model that cannot tell.
    With facts of the patient, `image_probabilities` are those without them; None where no fact was known.
    """

    probabilities: NDArray[np.float64]
    model_id: str
    image_sha256: str
    features: NDArray[np.float32]
    evidence: NDArray[np.float32]
    fingerprint: NDArray[np.uint8]
    novelty: Novelty | None = None
    facts: PatientFacts | None = None
    image_probabilities: NDArray[np.float64] | None = None

    @property
    def moved(self) -> NDArray[np.float64]:
        """Return how much the facts moved each probability: (8,) float64, -1 to 1, zeros where none was known."""
        before = (
            self.probabilities if self.image_probabilities is None else self.image_probabilities
        )
        change: NDArray[np.float64] = self.probabilities - before
        return change

    def ranking(self) -> list[tuple[str, float]]:
        """Return (code, probability) pairs, the most probable diagnosis first."""
        order = np.argsort(-self.probabilities, kind="stable")
        return [(CODES[index], float(self.probabilities[index])) for index in order]

    @property
    def malignant_probability(self) -> float:
        """Return the summed probability of the malignant diagnoses, 0 to 1."""
        return min(float(self.probabilities[np.array(MALIGNANT)].sum()), 1.0)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A picture as the network reads it, (S, S, 3) uint8 RGB, and what is measured of that before the pass."""

    sha256: str
    short_side_px: int
    pixels: NDArray[np.uint8]
    fingerprint: NDArray[np.uint8]
    looks: NDArray[np.float32]


class Model:
    """A network with its record and its `folder`. `Model.load` is the way to get one."""

    def __init__(
        self,
        record: ModelRecord,
        engine: Engine,
        folder: Path,
        neighbours: NeighbourIndex | None = None,
        detector: NoveltyDetector | None = None,
    ) -> None:
        self.record = record
        self.engine = engine
        self.neighbours = neighbours
        self.folder = folder
        self._detector = detector

    @classmethod
    def load(
        cls,
        name_or_path: str | os.PathLike[str],
        threads: int = 0,
        *,
        model_id: str | None = None,
        check_answers: bool = True,
    ) -> Self:
        """Load a model by its name under models/ or by the path of its folder; `threads` a pass, 0 for one a core.

        Every file is compared with the manifest, and the answers for two small drawn lesions with the golden ones;
        `check_answers` leaves that away for who compares all of them. Raise ModelInvalid when anything is missing or
        changed, and where the model is another than `model_id`.
        """
        folder = find_model(name_or_path)
        start_decoders()  # they are ready when the model is
        # Drawing and the first use of the image libraries take as long as the hashes and the network: beside them.
        if check_answers:
            threads_of_answers().submit(golden.quick_lesions)
        record, files = read_folder(folder)
        if check_answers:
            threads_of_answers().submit(_warm_up, record.input)
        if model_id is not None and record.model_id != model_id:
            raise ModelInvalid(
                f"Expected {model_id} in {folder}, but it was replaced by {record.model_id} meanwhile. Begin anew."
            )
        model = cls.assemble(record, files, folder, threads)
        if check_answers:
            model._check_answers(files[GOLDEN_FILE])
        return model

    @classmethod
    def assemble(
        cls, record: ModelRecord, files: Mapping[str, bytes], folder: Path, threads: int = 0
    ) -> Self:
        """Build a model from the bytes of its files by name; raise ModelInvalid for files that are none of a model."""
        engine = Engine(files[ONNX_FILE], weights.unpack(files[WEIGHTS_FILE]), threads)
        return cls(record, engine, folder, *_fitted(record, files))

    def with_record(self, record: ModelRecord) -> "Model":
        """Return the same network with another record."""
        return Model(record, self.engine, self.folder, self.neighbours, self._detector)

    def with_fitted(self, record: ModelRecord, files: Mapping[str, bytes]) -> "Model":
        """Return the same network with another record, and with the similar cases and the looks of these files."""
        return Model(record, self.engine, self.folder, *_fitted(record, files))

    def _check_answers(self, stored: bytes) -> None:
        try:
            golden.check_quick(self, stored, self.folder / GOLDEN_FILE)
        except CadError:
            raise
        except Exception as error:  # whatever a broken network raises, an answer would raise it too
            raise ModelInvalid(
                f"Expected {self.record.model_id} to answer, but it fails ({type(error).__name__}: "
                f"{one_line(str(error))}). Restore the folder {self.folder}."
            ) from error

    def predict(self, source: Source, facts: PatientFacts | None = None) -> Prediction:
        """Predict one image: a path, the bytes of a file, a PIL image or a LesionImage. May raise ImageRejected.

        `facts` are added as `with_facts` does.
        """
        return self.with_facts(self._predict_prepared([self._prepare(source)])[0], facts)

    def with_facts(self, prediction: Prediction, facts: PatientFacts | None) -> Prediction:
        """Add what is known of the patient to a prediction of the image alone, without running the network again.

        Without a fact that is known exactly enough the prediction is returned as it came. Raise FactsRejected when this
        model takes no facts, and ValueError when the prediction has some already.
        """
        if facts is None or not facts.known:
            return prediction
        if prediction.image_probabilities is not None:
            raise ValueError(
                "Expected a prediction of the image alone but got one with facts; facts are added once."
            )
        evidence = self.record.required_evidence()
        if not facts.usable:
            return prediction
        image_alone = prediction.probabilities
        added = add_evidence(image_alone, evidence.logits(facts))
        added.flags.writeable = False
        return replace(
            prediction, probabilities=added, facts=facts, image_probabilities=image_alone
        )

    def predict_batch(self, sources: Iterable[Source], batch_size: int = 32) -> list[Prediction]:
        """Predict many images in their order, decoding ahead in threads; raise ImageRejected at the first bad one."""
        waiting = iter(sources)
        predictions: list[Prediction] = []

        def submit() -> list[Future[_Prepared]]:
            return [
                threads_of_answers().submit(self._prepare, source)
                for source in islice(waiting, batch_size)
            ]

        ahead = submit()
        while ahead:
            ready = [future.result() for future in ahead]
            ahead = submit()
            predictions += self._predict_prepared(ready)
        return predictions

    def see(self, pixels: NDArray[np.uint8]) -> Seen:
        """Run the network on (N, S, S, 3) uint8 RGB of the model's input size, N at least 1."""
        return self.engine.run(preprocess.to_array(pixels, self.record.input))

    def calibrated(
        self, logits: NDArray[np.floating], short_side_px: ArrayLike
    ) -> NDArray[np.float64]:
        """Return the probabilities of (N, 8) logits, (N, 8) float64, of images of these short sides in their files."""
        return calibration.probabilities(
            logits, self.record.temperature.of(short_side_px), self.record.bias
        )

    def novelty(self, looks: NDArray[np.float32]) -> list[Novelty] | list[None]:
        """Judge N pictures by their looks, (N, F), as `appearance.measure` gives them; None for a model that cannot."""
        return self._detector.of(looks) if self._detector else [None] * len(looks)

    def _predict_prepared(self, pictures: Sequence[_Prepared]) -> list[Prediction]:
        seen = self.see(np.stack([one.pixels for one in pictures]))
        calibrated = self.calibrated(seen.logits, [one.short_side_px for one in pictures])
        prints, looks = (
            np.stack([getattr(one, name) for one in pictures]) for name in ("fingerprint", "looks")
        )
        for values in (calibrated, seen.features, seen.evidence, prints):
            values.flags.writeable = False
        of_each = zip(
            pictures,
            calibrated,
            seen.features,
            seen.evidence,
            prints,
            self.novelty(looks),
            strict=True,
        )
        return [
            Prediction(p, self.record.model_id, one.sha256, *found) for one, p, *found in of_each
        ]

    def _prepare(self, source: Source) -> _Prepared:
        return _prepared(source, self.record.input)


def _prepared(source: Source, spec: preprocess.InputSpec) -> _Prepared:
    image = source if isinstance(source, LesionImage) else read_image(source)
    pixels = preprocess.to_pixels(image, spec)
    [fingerprint], [looks] = fingerprints(pixels[None]), appearance.measure(pixels[None])
    return _Prepared(image.sha256, min(image.file_px), pixels, fingerprint, looks)


def _warm_up(spec: preprocess.InputSpec) -> None:
    """Prepare the lesions that are about to be checked, and forget them: the first time takes thirty times as long."""
    for lesion in golden.quick_lesions():
        _prepared(lesion.image, spec)


def _fitted(
    record: ModelRecord, files: Mapping[str, bytes]
) -> tuple[NeighbourIndex | None, NoveltyDetector | None]:
    index = NeighbourIndex.from_bytes(files[NEIGHBOURS_FILE]) if record.neighbours else None
    detector = NoveltyDetector(files[NOVELTY_FILE], record.novelty) if record.novelty else None
    if index and record.neighbours and len(index) != record.neighbours.images:
        raise ModelInvalid(
            f"Expected {record.neighbours.images:,} training images in {NEIGHBOURS_FILE}, but found {len(index):,}. "
            "Restore the folder."
        )
    return index, detector
