"""A trained model: load it in one line, verify it, predict. A model is a folder (see `cadlib.record`)."""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cadlib import calibration, preprocess, weights
from cadlib.errors import ModelInvalid, TrainingFailed
from cadlib.images import LesionImage, read_image
from cadlib.metadata import PatientFacts, add_evidence
from cadlib.network import build
from cadlib.record import WEIGHTS_FILE, ModelRecord, find_model, read_record
from cadlib.taxonomy import CODES, MALIGNANT

Source = str | os.PathLike[str] | bytes | Image.Image | LesionImage


@dataclass(frozen=True, eq=False)
class Prediction:
    """Calibrated probabilities of one image: (8,) float64, read-only, taxonomy order, summing to 1.

    With facts of the patient, `image_probabilities` are those without them; None where no fact was known.
    """

    probabilities: NDArray[np.float64]
    model_id: str
    image_sha256: str
    facts: PatientFacts | None = None
    image_probabilities: NDArray[np.float64] | None = None

    @property
    def moved(self) -> NDArray[np.float64]:
        """Return how much the facts moved each probability: (8,) float64, -1 to 1, zeros where none was known."""
        before = self.probabilities if self.image_probabilities is None else self.image_probabilities
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


class Model:
    """A network with its record. `Model.load` is the way to get one."""

    def __init__(self, record: ModelRecord, network: nn.Module) -> None:
        self.record = record
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Self:
        """Load a model by its name under models/ or by the path of its folder.

        Raise ModelInvalid when it is missing, incomplete or when the weights are not those of the record.
        """
        folder = find_model(name_or_path)
        record = read_record(folder)
        try:
            network = build(record.backbone, record.input.size_px)
        except TrainingFailed as error:
            raise ModelInvalid(f"{folder} is of a network that this version of timm does not have: {error}") from error
        try:
            network.load_state_dict(_verified_weights(folder / WEIGHTS_FILE, record.weights_sha256))
            network.get_submodule(record.saliency_layer)
        except (RuntimeError, AttributeError) as error:
            raise ModelInvalid(f"The weights in {folder} are not those of {record.backbone}: {error}") from error
        return cls(record, network)

    @property
    def target_layer(self) -> nn.Module:
        """Return the layer whose output, (1, C, h, w), the saliency maps read."""
        return self.network.get_submodule(self.record.saliency_layer)

    def private_copy(self) -> tuple[nn.Module, nn.Module]:
        """Copy the modules but not the weights, which takes milliseconds; return the copy and the target layer in it.

        Hooks on the shared network would also catch what other threads send through it, predictions included.
        """
        layer = self.target_layer
        memo: dict[int, Any] = {id(tensor): tensor for tensor in (*self.network.parameters(), *self.network.buffers())}
        copied = deepcopy(self.network, memo)
        return copied, memo[id(layer)]

    def tensor(self, image: LesionImage) -> torch.Tensor:
        """Return what the network reads of an image: (1, 3, S, S) float32, normalised."""
        spec = self.record.input
        return torch.from_numpy(preprocess.to_array(preprocess.to_pixels(image, spec), spec))

    def predict(self, source: Source, facts: PatientFacts | None = None) -> Prediction:
        """Predict one image: a path, the bytes of a file, a PIL image or a LesionImage. May raise ImageRejected.

        `facts` are added as `with_facts` does.
        """
        return self.with_facts(self.predict_batch([source])[0], facts)

    def with_facts(self, prediction: Prediction, facts: PatientFacts | None) -> Prediction:
        """Add what is known of the patient to a prediction of the image alone, without running the network again.

        Without a known fact the prediction is returned as it came. Raise FactsRejected when this model takes no facts,
        and ValueError when the prediction has some already.
        """
        if facts is None or not facts.known:
            return prediction
        if prediction.image_probabilities is not None:
            raise ValueError("Expected a prediction of the image alone but got one with facts; facts are added once.")
        image_alone, evidence = prediction.probabilities, self.record.required_evidence()
        added = add_evidence(image_alone, evidence.logits(facts))
        added.flags.writeable = False
        return replace(prediction, probabilities=added, facts=facts, image_probabilities=image_alone)

    def predict_batch(self, sources: Iterable[Source], batch_size: int = 32) -> list[Prediction]:
        """Predict many images in their order, decoding ahead in threads; raise ImageRejected at the first bad one."""
        waiting = iter(sources)
        predictions: list[Prediction] = []
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:

            def submit() -> list[Future[tuple[str, NDArray[np.uint8]]]]:
                return [pool.submit(self._prepare, source) for source in islice(waiting, batch_size)]

            ahead = submit()
            while ahead:
                hashes, pixels = zip(*(future.result() for future in ahead), strict=True)
                ahead = submit()
                predictions += self._predict_pixels(hashes, np.stack(pixels))
        return predictions

    def _predict_pixels(self, hashes: Iterable[str], pixels: NDArray[np.uint8]) -> list[Prediction]:
        calibrated = calibration.probabilities(self.logits(pixels), self.record.temperature, self.record.bias)
        calibrated.flags.writeable = False
        return [Prediction(row, self.record.model_id, sha256) for sha256, row in zip(hashes, calibrated, strict=True)]

    def _prepare(self, source: Source) -> tuple[str, NDArray[np.uint8]]:
        image = source if isinstance(source, LesionImage) else read_image(source)
        return image.sha256, preprocess.to_pixels(image, self.record.input)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run the network on (N, S, S, 3) uint8 RGB of the model's input size; return (N, 8) float32."""
        inputs = torch.from_numpy(preprocess.to_array(pixels, self.record.input))
        with torch.inference_mode():
            outputs: NDArray[np.float32] = self.network(inputs).numpy()
        return outputs

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return what the head reads of (N, S, S, 3) uint8 RGB of the input size, N at least 1: (N, C) float32.

        That is the output of the target layer, averaged over its places.
        """
        network, layer = self.private_copy()
        pooled: list[torch.Tensor] = []
        layer.register_forward_hook(lambda _layer, _inputs, output: pooled.append(output.mean(dim=(2, 3))))
        with torch.inference_mode():
            network(torch.from_numpy(preprocess.to_array(pixels, self.record.input)))
        found: NDArray[np.float32] = pooled[0].numpy()
        return found


def _verified_weights(path: Path, expected_sha256: str) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelInvalid(f"Expected the weights in {path} but they cannot be read: {error.strerror}.") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected_sha256:
        raise ModelInvalid(
            f"Expected {path} to have the SHA-256 {expected_sha256[:16]}… of its model.json but got "
            f"{actual[:16]}…: the file was changed or is incomplete. Restore the folder."
        )
    return weights.unpack(data)
