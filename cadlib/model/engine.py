"""Runs a model's network from its model.onnx, with ONNX Runtime: everything that is said of a picture, in one pass.

torch is not needed here, so that an application answers seconds after its start, and in little memory.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from cadlib.errors import ModelInvalid
from cadlib.files.typed_json import one_line
from cadlib.model.onnx_outputs import with_feature_map
from cadlib.model.weights import State
from cadlib.taxonomy import CODES

INPUT, OUTPUTS = "pixels", ("logits", "features", "evidence")
_FEW = 16
"""Pictures at a time, as of one picture's views. Larger batches, of a folder, are slower where memory is given back."""
WEIGHT = "network."
"""The names in model.onnx; a weight is called as in weights.safetensors, with this before it."""


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

    def __init__(self, graph: bytes, state: State, threads: int = 0) -> None:
        """Prepare the bytes of a model.onnx and the weights it names; `threads` a pass, 0 for one a core.

        Raise ModelInvalid for what is no such graph, and for weights of another network.
        """
        self._graph = graph
        self._threads = threads
        names = [
            name for name, array in state.items() if array.ndim
        ]  # the graph has no use for a count of batches
        # ONNX Runtime reads these arrays where they lie, so they have to stay; torch's network is built of them too.
        self.state: State = {}
        for name, array in state.items():
            self.state[name] = np.ascontiguousarray(array) if array.ndim else array
        try:
            self._weights = [
                onnxruntime.OrtValue.ortvalue_from_numpy(self.state[name]) for name in names
            ]
            self._weight_names = [WEIGHT + name for name in names]
            self._session = self._start_session(graph)
        except Exception as error:  # its errors share no base class
            reason = one_line(str(error))
            raise ModelInvalid(
                f"This model.onnx cannot be run, or its weights are not those of its network: {reason} "
                "Restore the model's folder."
            ) from error
        # An application holds what one picture needs between the layers; what its views need is given back.
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        if missing := {*OUTPUTS} - {one.name for one in self._session.get_outputs()}:
            raise ModelInvalid(
                f"Expected model.onnx to give {', '.join(OUTPUTS)} but it lacks {', '.join(sorted(missing))}; "
                "write the model anew."
            )

    @cached_property
    def head(self) -> NDArray[np.float32]:
        """Return the weights of the linear head, (8, C) float32; raise ModelInvalid where none or several fit."""
        _, channels = self._output_shape("features")
        heads = [array for array in self.state.values() if array.shape == (len(CODES), channels)]
        if len(heads) != 1:
            raise ModelInvalid(
                f"Expected one array of weights of shape ({len(CODES)}, {channels}) in weights.safetensors, but found "
                f"{len(heads)}. Restore the model's folder."
            )
        head: NDArray[Any] = heads[0]
        return head

    def feature_maps(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the last feature map of what `run` takes, (N, C, h, w) float32."""
        session, name = self._session_of_maps
        maps: NDArray[np.float32]
        [maps] = session.run([name], {INPUT: np.ascontiguousarray(inputs)})
        return maps

    @cached_property
    def _session_of_maps(self) -> tuple[Any, str]:
        graph, name = with_feature_map(self._graph, "features")
        return self._start_session(graph), name

    def _output_shape(self, name: str) -> tuple[Any, ...]:
        return next(
            tuple(output.shape) for output in self._session.get_outputs() if output.name == name
        )

    def _start_session(self, graph: bytes) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3  # errors alone: they are raised and told by us
        # Threads that spin between two passes make the pass a little faster and all that is measured beside it slow.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_external_initializers(self._weight_names, self._weights)
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: NDArray[np.float32]) -> Seen:
        """Run the network on what `preprocess.to_array` gives, (N, 3, S, S) float32, N at least 1."""
        options = self._shrinking if 1 < len(inputs) <= _FEW else None
        return Seen(*self._session.run(OUTPUTS, {INPUT: np.ascontiguousarray(inputs)}, options))
