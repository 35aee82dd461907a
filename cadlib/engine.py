"""Runs a model's network from its model.onnx, with ONNX Runtime: everything that is said of a picture, in one pass.

torch is not needed here, so that an application answers seconds after its start, and in little memory.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cadlib.errors import ModelInvalid

INPUT, OUTPUTS = "pixels", ("logits", "features", "evidence")
"""The names in model.onnx."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What the network gives for N pictures, float32.

    `logits` is (N, 8). `features`, (N, C), is what its linear head reads: its last feature map, averaged over the
    places. `evidence`, (N, 8, h, w), is the class activation map of each diagnosis: what each place adds to the logit,
    so that its sum over the places is the logit without the bias of the head (Zhou et al., CVPR 2016, eq. 2). Where an
    average and a linear head follow the map, Grad-CAM before its ReLU is the same (Selvaraju et al., ICCV 2017, 3.1).
    """

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    evidence: NDArray[np.float32]


class Engine:
    """A network ready to run. Any number of threads may use it at once."""

    def __init__(self, graph: bytes, threads: int = 0) -> None:
        """Prepare the bytes of a model.onnx for `threads` threads a pass, 0 for one a core; may raise ModelInvalid."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone: they are raised and told by us
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base class
            raise ModelInvalid(f"This model.onnx cannot be run: {error} Restore the model's folder.") from error
        names = {one.name for one in self._session.get_outputs()}
        if missing := {*OUTPUTS} - names:
            raise ModelInvalid(
                f"Expected model.onnx to give {', '.join(OUTPUTS)} but it lacks {', '.join(sorted(missing))}; "
                "write the model anew."
            )

    @classmethod
    def load(cls, path: Path, sha256: str, threads: int = 0) -> Self:
        """Read a model.onnx; raise ModelInvalid when it is missing or is not the one of that SHA-256."""
        return cls(verified(path, sha256), threads)

    def run(self, inputs: NDArray[np.float32]) -> Seen:
        """Run the network on what `preprocess.to_array` gives, (N, 3, S, S) float32, N at least 1."""
        found = self._session.run(OUTPUTS, {INPUT: np.ascontiguousarray(inputs)})
        return Seen(*found)


def verified(path: Path, sha256: str) -> bytes:
    """Return the bytes of a file of a model; raise ModelInvalid when they are not those of its record."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelInvalid(f"Expected {path} but it cannot be read: {error.strerror}. Restore the folder.") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise ModelInvalid(
            f"Expected {path} to have the SHA-256 {sha256[:16]}… of its model.json but got {actual[:16]}…: "
            "the file was changed or is incomplete. Restore the folder."
        )
    return data
