"""Loads a trained model, verifies it and predicts with it.

A model is a folder (see `cadlib.model.record`). Predictions come from its model.onnx and need no
torch. `cadlib.network.backbones.network_of` returns the network in torch.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from cadlib.errors import CadError, ModelInvalid
from cadlib.files.typed_json import one_line
from cadlib.images import LesionImage, preprocess, read_image, start_decoders
from cadlib.metrics.classification import malignant_probability
from cadlib.model import calibration, golden, manifest, weights
from cadlib.model.committee import Committee, Outputs
from cadlib.model.engine import Engine
from cadlib.model.metadata import PatientFacts, add_evidence
from cadlib.model.neighbours import NeighbourIndex, fingerprints
from cadlib.model.novelty import Novelty, NoveltyDetector, appearance
from cadlib.model.out_of_fold import read_folds
from cadlib.model.record import (
    GOLDEN_FILE,
    NEIGHBOURS_FILE,
    NOVELTY_FILE,
    ModelRecord,
    find_model,
    read_folder,
)
from cadlib.taxonomy import CODES
from cadlib.thread_pool import threads as threads_of_answers

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | Image.Image | LesionImage


@dataclass(frozen=True, eq=False)
class Prediction:
    """Calibrated probabilities of one image: (8,) float64, read-only, taxonomy order, sum 1.

    `member_probabilities`, (M, 8), are those of each network of the model alone, and
    `view_probabilities`, (V, 8), those of each view of the image alone, in the order of `TURNS` and
    without patient facts.

    `logits` (8,), `features` (C,) and `evidence` (8, h, w), float32 and read-only, are those of
    `committee.Outputs` for this image: the logits are before temperature and bias. `fingerprint`
    (32,) uint8 is that of the network's input. `novelty` states whether the image is of the kind
    that the model was trained on; None for a model without a detector. With patient facts,
    `image_probabilities` are the ones without them; None without facts.
    """

    probabilities: Doubles
    member_probabilities: Doubles
    view_probabilities: Doubles
    logits: Floats
    model_id: str
    image_sha256: str
    features: Floats
    evidence: Floats
    fingerprint: Bytes
    novelty: Novelty | None = None
    facts: PatientFacts | None = None
    image_probabilities: Doubles | None = None

    @property
    def moved(self) -> Doubles:
        """Return the change of each probability by the facts: (8,) float64, -1 to 1.

        All are 0 without facts.
        """
        before = self.image_probabilities
        if before is None:
            before = self.probabilities
        change: Doubles = self.probabilities - before
        return change

    def ranking(self) -> list[tuple[str, float]]:
        """Return (code, probability) pairs, the most probable diagnosis first."""
        # Stable, so that equal probabilities are in taxonomy order.
        order = np.argsort(-self.probabilities, kind="stable")
        pairs: list[tuple[str, float]] = []
        for index in order:
            code = CODES[index]
            probability = float(self.probabilities[index])
            pairs.append((code, probability))
        return pairs

    @property
    def malignant_probability(self) -> float:
        """Return the summed probability of the malignant diagnoses, 0 to 1."""
        return float(malignant_probability(self.probabilities))

    @property
    def member_range(self) -> tuple[float, float] | None:
        """Return the lowest and the highest malignant probability of the model's networks.

        None for a model of one network.
        """
        if len(self.member_probabilities) == 1:
            return None
        malignant = malignant_probability(self.member_probabilities)
        return float(malignant.min()), float(malignant.max())


@dataclass(frozen=True, eq=False)
class _Prepared:
    """An image as the network reads it, (S, S, 3) uint8 RGB, with measurements of these pixels."""

    sha256: str
    short_side_px: int
    pixels: Bytes
    fingerprint: Bytes
    looks: Floats


class Model:
    """The networks of a model, its record and its `folder`; create one with `Model.load`."""

    def __init__(
        self,
        record: ModelRecord,
        committee: Committee,
        folder: Path,
        neighbours: NeighbourIndex | None = None,
        detector: NoveltyDetector | None = None,
    ) -> None:
        self.record = record
        self.committee = committee
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
        views: Literal[1] | None = None,
    ) -> Self:
        """Load a model by its name under models/ or by the path of its folder.

        `threads` is the number of threads a pass, 0 for one a core. Every file is compared with the
        manifest, and the answers for two small drawn lesions with the golden ones;
        `check_answers=False` skips the answers, for callers that compare all of them. Raise
        ModelInvalid when anything is missing or changed, and when the model is not `model_id`.

        With `views=1` the networks read each image only as it is, which takes an eighth of the
        time. The answers then change when an image is turned, and the thresholds were not chosen
        for them.
        """
        folder = find_model(name_or_path)
        # The decoders are ready by the time the model is.
        start_decoders()
        # Drawing, and the first use of the image libraries, take as long as the hashes and the
        # network. They run in threads beside them.
        if check_answers:
            threads_of_answers().submit(golden.quick_lesions)
        record, files = read_folder(folder)
        if check_answers:
            threads_of_answers().submit(_warm_up, record.input)
        # Another process can have replaced the folder since the caller read its record.
        if model_id is not None and record.model_id != model_id:
            raise ModelInvalid(
                f"Expected {model_id} in {folder}, but it was replaced by {record.model_id} "
                "meanwhile. Start again."
            )
        model = cls.assemble(record, files, folder, threads)
        if check_answers:
            model._check_answers(files[GOLDEN_FILE])
        if views is not None:
            model.committee = Committee(model.committee.members, views, record.average)
        return model

    @classmethod
    def assemble(
        cls,
        record: ModelRecord,
        files: Mapping[str, bytes],
        folder: Path,
        threads: int = 0,
    ) -> Self:
        """Build a model from the bytes of its files by name.

        Raise ModelInvalid when the files do not form a model.
        """
        members = []
        for number in range(len(record.members)):
            state = weights.unpack(files[manifest.weights_file(number)])
            graph = files[manifest.onnx_file(number)]
            members.append(Engine(graph, state, threads))
        committee = Committee(members, record.views, record.average)
        index, detector = _fitted(record, files)
        return cls(record, committee, folder, index, detector)

    def with_record(self, record: ModelRecord) -> "Model":
        """Return the same network with another record."""
        return Model(record, self.committee, self.folder, self.neighbours, self._detector)

    def with_fitted(self, record: ModelRecord, files: Mapping[str, bytes]) -> "Model":
        """Return the same network with another record and the index and detector of `files`."""
        index, detector = _fitted(record, files)
        return Model(record, self.committee, self.folder, index, detector)

    @property
    def views(self) -> int:
        """Return the number of views of an image that the networks read, 1 or 8."""
        return len(self.committee.turns)

    @cached_property
    def folds(self) -> Mapping[str, int]:
        """Return the network that was not trained on an image, counted from 0, by the image's id.

        It is empty for a model whose networks were not cross-validated.
        """
        if not self.record.cross_validated:
            return {}
        return read_folds(self.folder)

    def held_out(self, image: str) -> "Model":
        """Return the model that may predict an image as if it were new, by the image's id.

        For an image that all networks but one were trained on, it is the model of this network
        alone, else the whole model.
        """
        fold = self.folds.get(image)
        return self if fold is None else self._alone[fold]

    @cached_property
    def _alone(self) -> "list[Model]":
        """Return the model of each network alone."""
        models = []
        for member in self.committee.members:
            committee = Committee([member], self.views, self.committee.average)
            models.append(Model(self.record, committee, self.folder, None, self._detector))
        return models

    def _check_answers(self, stored: bytes) -> None:
        try:
            golden.check_quick(self, stored, self.folder / GOLDEN_FILE)
        except CadError:
            raise
        # A broken network can raise anything, and every prediction would raise the same.
        except Exception as error:
            reason = one_line(str(error))
            raise ModelInvalid(
                f"Expected {self.record.model_id} to answer, but it fails ({type(error).__name__}: "
                f"{reason}). Restore the folder {self.folder}."
            ) from error

    def predict(self, source: Source, facts: PatientFacts | None = None) -> Prediction:
        """Predict one image: a path, the bytes of a file, a PIL image or a LesionImage.

        `facts` are added as `with_facts` does. May raise ImageRejected.
        """
        prepared = self._prepare(source)
        [prediction] = self._predict_prepared([prepared])
        return self.with_facts(prediction, facts)

    def with_facts(self, prediction: Prediction, facts: PatientFacts | None) -> Prediction:
        """Add patient facts to a prediction of the image alone, without running the network again.

        Return the same prediction when no fact is exact enough. Raise FactsRejected when this model
        takes no facts, and ValueError when the prediction already has some.
        """
        if facts is None or not facts.known:
            return prediction
        if prediction.image_probabilities is not None:
            raise ValueError(
                "Expected a prediction of the image alone but got one with facts; "
                "facts are added once."
            )
        evidence = self.record.required_evidence()
        if not facts.usable:
            return prediction
        # The probabilities without facts stay, so that a page can show the change.
        image_alone = prediction.probabilities
        logits = evidence.logits(facts)
        added = add_evidence(image_alone, logits)
        members = add_evidence(prediction.member_probabilities, logits)
        _protect(added, members)
        return replace(
            prediction,
            probabilities=added,
            member_probabilities=members,
            facts=facts,
            image_probabilities=image_alone,
        )

    def predict_batch(self, sources: Iterable[Source], batch_size: int = 32) -> list[Prediction]:
        """Predict many images in their order, and decode the next ones in threads meanwhile.

        Raise ImageRejected at the first image that cannot be used.
        """
        waiting = iter(sources)
        predictions: list[Prediction] = []

        def submit() -> list[Future[_Prepared]]:
            threads = threads_of_answers()
            batch = islice(waiting, batch_size)
            return [threads.submit(self._prepare, source) for source in batch]

        ahead = submit()
        while ahead:
            ready = [future.result() for future in ahead]
            # The next batch is decoded while the network works on this one.
            ahead = submit()
            predictions += self._predict_prepared(ready)
        return predictions

    def see(self, pixels: Bytes, views: int | None = None) -> Outputs:
        """Run the networks on (N, S, S, 3) uint8 RGB of the model's input size, N at least 1.

        `views` is the number of views that they read of each image, by default the model's own.
        """
        committee = self.committee
        if views is not None:
            committee = committee.with_views(views)
        return committee.run(pixels, self.record.input)

    def calibrated(self, logits: NDArray[np.floating], short_side_px: ArrayLike) -> Doubles:
        """Return the probabilities of (N, 8) logits, (N, 8) float64.

        `short_side_px` is the short side of each image in its file, (N,).
        """
        temperature = self.record.temperature.of(short_side_px)
        return calibration.probabilities(logits, temperature, self.record.bias)

    def novelty(self, looks: Floats) -> list[Novelty] | list[None]:
        """Return the novelty of N images from their (N, F) measurements of `appearance.measure`.

        Each is None for a model without a detector.
        """
        if self._detector is None:
            # One for each image, so that callers need no special case.
            return [None] * len(looks)
        return self._detector.of(looks)

    def _predict_prepared(self, images: Sequence[_Prepared]) -> list[Prediction]:
        pixels = np.stack([image.pixels for image in images])
        looks = np.stack([image.looks for image in images])
        outputs = self.see(pixels)
        novelties = self.novelty(looks)
        predictions: list[Prediction] = []
        for place, image in enumerate(images):
            prediction = self._predicted(image, outputs, place, novelties[place])
            predictions.append(prediction)
        return predictions

    def _predicted(
        self,
        image: _Prepared,
        outputs: Outputs,
        place: int,
        novelty: Novelty | None,
    ) -> Prediction:
        """Return the prediction for one image of a batch, which has `place` in the outputs."""
        logits = outputs.logits[place]
        features = outputs.features[place]
        evidence = outputs.evidence[place]
        member_logits = outputs.member_logits[place]
        view_logits = outputs.view_logits[place]
        # One call for all, because each takes as long as the next step for an image.
        rows = np.concatenate([logits[None], member_logits, view_logits])
        calibrated = self.calibrated(rows, image.short_side_px)
        first_view = 1 + len(member_logits)
        # Predictions share these arrays, so nobody may write to them.
        _protect(calibrated, logits, features, evidence, image.fingerprint)
        return Prediction(
            probabilities=calibrated[0],
            member_probabilities=calibrated[1:first_view],
            view_probabilities=calibrated[first_view:],
            logits=logits,
            model_id=self.record.model_id,
            image_sha256=image.sha256,
            features=features,
            evidence=evidence,
            fingerprint=image.fingerprint,
            novelty=novelty,
        )

    def _prepare(self, source: Source) -> _Prepared:
        return _prepared(source, self.record.input)


def _prepared(source: Source, spec: preprocess.InputSpec) -> _Prepared:
    image = source if isinstance(source, LesionImage) else read_image(source)
    pixels = preprocess.to_pixels(image, spec)
    batch = pixels[None]
    [fingerprint] = fingerprints(batch)
    [looks] = appearance.measure(batch)
    short_side_px = min(image.file_px)
    return _Prepared(image.sha256, short_side_px, pixels, fingerprint, looks)


def _protect(*arrays: NDArray[Any]) -> None:
    """Make arrays read-only."""
    for values in arrays:
        values.flags.writeable = False


def _warm_up(spec: preprocess.InputSpec) -> None:
    """Prepare the lesions of the check once and drop the result."""
    # The first preparation takes thirty times as long as the next ones.
    for lesion in golden.quick_lesions():
        _prepared(lesion.image, spec)


def _fitted(
    record: ModelRecord,
    files: Mapping[str, bytes],
) -> tuple[NeighbourIndex | None, NoveltyDetector | None]:
    """Return the index and the detector of a model, None where it has none."""
    index = None
    if record.neighbours is not None:
        index = NeighbourIndex.from_bytes(files[NEIGHBOURS_FILE])
    detector = None
    if record.novelty is not None:
        detector = NoveltyDetector(files[NOVELTY_FILE], record.novelty)
    if index and record.neighbours:
        n_expected = record.neighbours.images
        n_images = len(index)
        if n_images != n_expected:
            raise ModelInvalid(
                f"Expected {n_expected:,} training images in {NEIGHBOURS_FILE}, "
                f"but found {n_images:,}. Restore the folder."
            )
    return index, detector
