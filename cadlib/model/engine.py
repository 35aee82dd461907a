"""Runs a model's network from its model.onnx, with ONNX Runtime.

One pass gives everything that is predicted from an image. torch is not needed here, so that an
application predicts seconds after its start, and in little memory.
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

Floats = NDArray[np.float32]
INPUT = "pixels"
OUTPUTS = ("logits", "features", "evidence")
# Larger batches, of a folder, are slower where memory is released after each pass.
_FEW = 16
"""Largest batch after which memory is released, such as the views of one image."""
WEIGHT = "network."
"""Prefix of a weight's name in model.onnx, before its name in weights.safetensors."""


@dataclass(frozen=True, eq=False)
class Seen:
    """The network's outputs for N images, float32.

    `logits` is (N, 8). `features`, (N, C), is the input of its linear head: its last feature map,
    averaged over the places. `evidence`, (N, 8, h, w), is the class activation map of each
    diagnosis: the contribution of each place to the logit, so that its sum over the places is the
    logit without the bias of the head (Zhou et al., CVPR 2016, eq. 2). Where an average and a
    linear head follow the map, Grad-CAM before its ReLU is the same (Selvaraju et al., ICCV 2017,
    3.1).
    """

    logits: Floats
    features: Floats
    evidence: Floats


class Engine:
    """A network ready to run. Any number of threads may use it at once."""

    def __init__(self, graph: bytes, state: State, threads: int = 0) -> None:
        """Prepare the bytes of a model.onnx and the weights that it names.

        `threads` is the number of threads a pass, 0 for one a core. Raise ModelInvalid for bytes
        that are no such graph, and for weights of another network.
        """
        self._graph = graph
        self._threads = threads
        # ONNX Runtime reads these arrays in place, so they have to stay in memory; torch's network
        # is built from them too.
        self.state: State = {}
        for name, array in state.items():
            if array.ndim:
                array = np.ascontiguousarray(array)
            self.state[name] = array
        # The graph does not use scalars, which are counts of batches.
        names = [name for name, array in state.items() if array.ndim]
        try:
            self._weights = [
                onnxruntime.OrtValue.ortvalue_from_numpy(self.state[name]) for name in names
            ]
            self._weight_names = [WEIGHT + name for name in names]
            self._session = self._start_session(graph)
        # The errors of ONNX Runtime share no base class.
        except Exception as error:
            reason = one_line(str(error))
            raise ModelInvalid(
                "This model.onnx cannot be run, or its weights are not those of its network: "
                f"{reason} Restore the model's folder."
            ) from error
        # An application keeps the memory that one image needs between the layers; the memory of
        # its views is released.
        self._shrinking = onnxruntime.RunOptions()
        self._shrinking.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self._check_outputs()

    def _check_outputs(self) -> None:
        outputs = {output.name for output in self._session.get_outputs()}
        missing = sorted(set(OUTPUTS) - outputs)
        if missing:
            raise ModelInvalid(
                f"Expected model.onnx to give {', '.join(OUTPUTS)} "
                f"but {', '.join(missing)} is missing; write the model again."
            )

    @cached_property
    def head(self) -> Floats:
        """Return the weights of the linear head, (8, C) float32.

        Raise ModelInvalid where no array, or more than one, has this shape.
        """
        _, channels = self._output_shape("features")
        shape = (len(CODES), channels)
        heads = [array for array in self.state.values() if array.shape == shape]
        n_heads = len(heads)
        if n_heads != 1:
            raise ModelInvalid(
                f"Expected one array of weights of shape {shape} "
                f"in weights.safetensors, but found {n_heads}. Restore the model's folder."
            )
        head: NDArray[Any] = heads[0]
        return head

    def feature_maps(self, inputs: Floats) -> Floats:
        """Return the last feature map for the inputs of `run`, (N, C, h, w) float32."""
        session, name = self._session_of_maps
        contiguous = np.ascontiguousarray(inputs)
        feed = {INPUT: contiguous}
        maps: Floats
        [maps] = session.run([name], feed)
        return maps

    @cached_property
    def _session_of_maps(self) -> tuple[Any, str]:
        graph, name = with_feature_map(self._graph, "features")
        return self._start_session(graph), name

    def _output_shape(self, name: str) -> tuple[Any, ...]:
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        return tuple(shapes[name])

    def _start_session(self, graph: bytes) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        # Level 3 logs errors only, which are raised here with a message of our own.
        options.log_severity_level = 3
        # Threads that spin between two passes make a pass a little faster, and everything that
        # runs beside it slow.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_external_initializers(self._weight_names, self._weights)
        return onnxruntime.InferenceSession(
            graph,
            options,
            providers=["CPUExecutionProvider"],
        )

    def run(self, inputs: Floats) -> Seen:
        """Run the network on (N, 3, S, S) float32 of `preprocess.to_array`, N at least 1."""
        is_few = 1 < len(inputs) <= _FEW
        options = self._shrinking if is_few else None
        feed = {INPUT: np.ascontiguousarray(inputs)}
        logits, features, evidence = self._session.run(OUTPUTS, feed, options)
        return Seen(logits, features, evidence)
