"""Exports a trained network to model.onnx.

One graph computes logits, features and the evidence for each diagnosis.
"""

from copy import deepcopy

import onnx
import onnx_ir
import torch
from onnx.external_data_helper import set_external_data
from onnxscript.optimizer import fold_constants, remove_unused_nodes
from torch import Tensor, nn

from cadlib.errors import TrainingFailed
from cadlib.images.preprocess import InputSpec
from cadlib.model.engine import INPUT, OUTPUTS, WEIGHT, Engine
from cadlib.model.record import WEIGHTS_FILE
from cadlib.network.backbones import arrays_of

TOLERANCE = 1e-4
"""Largest difference between a logit of the graph and that of the network."""
# Number of random images on which graph and network are compared.
_TRIALS = 4


class _Tap:
    """Stores the last output of a layer.

    It is an object of its own, because the exporter rejects a tensor in a list of the module.
    """

    feature_map: Tensor

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        self.feature_map = output


class Seeing(nn.Module):
    """A network that also returns its features and its evidence.

    The features are the input of its head. The evidence is what each place of the last feature map
    adds to a logit.
    """

    def __init__(self, network: nn.Module, saliency_layer: str) -> None:
        super().__init__()
        self.network = network
        self._tap = _Tap()
        layer = network.get_submodule(saliency_layer)
        layer.register_forward_hook(self._tap)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the fields of `engine.Seen` for (N, 3, S, S) float32."""
        logits = self.network(pixels)
        feature_map = self._tap.feature_map
        head: nn.Linear = self.network.get_classifier()  # type: ignore[operator]
        # The order of these steps decides the names in the graph.
        kernel = head.weight[:, :, None, None]
        by_place = nn.functional.conv2d(feature_map, kernel)
        features = feature_map.mean(dim=(2, 3))
        height, width = feature_map.shape[2:]
        places = height * width
        # Divided by the places, the evidence sums to the logit without its bias.
        evidence = by_place / places
        return logits, features, evidence


def to_onnx(
    network: nn.Module,
    saliency_layer: str,
    spec: InputSpec,
) -> bytes:
    """Return the graph of a network without its weights.

    The network has to average its last feature map into one linear layer. Raise TrainingFailed for
    another network, whose heatmaps would not be exact, and where the graph's logits differ from the
    network's.
    """
    frozen = deepcopy(network).cpu().eval().requires_grad_(False)
    seeing = Seeing(frozen, saliency_layer).eval()
    images = _random_images(spec)
    logits, _, evidence = seeing(images)
    bias = seeing.network.get_classifier().bias  # type: ignore[operator]
    sums = evidence.sum(dim=(2, 3)) + bias
    off = _distance(sums, logits)
    # Written this way round so that NaN fails too.
    if not off <= TOLERANCE:
        raise TrainingFailed(
            "Expected a network that averages its last feature map into one linear layer, but the "
            f"places of the map add up to logits that are {off:.2g} off: its heatmaps would not "
            "tell what it saw. Take another backbone."
        )
    graph = _graph_of(seeing, images)
    engine = Engine(graph, arrays_of(network))
    outputs = engine.run(images.numpy())
    graph_logits = torch.from_numpy(outputs.logits)
    off = _distance(graph_logits, logits)
    if not off <= TOLERANCE:
        raise TrainingFailed(
            f"Expected model.onnx to give the logits of the network but they are {off:.2g} off."
        )
    return graph


def _random_images(spec: InputSpec) -> Tensor:
    """Return the same random images at each call, (4, 3, S, S) float32."""
    side = spec.size_px
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_TRIALS, 3, side, side, generator=generator)


def _graph_of(seeing: Seeing, images: Tensor) -> bytes:
    """Return the simplified graph without its weights."""
    program = torch.onnx.export(
        seeing,
        (images,),
        dynamo=True,
        # Optimizing would melt norms into kernels, so that the weights differ from the stored ones.
        optimize=False,
        external_data=False,
        input_names=[INPUT],
        output_names=OUTPUTS,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    # Only the old exporter returns None.
    assert program is not None
    fold_constants(program.model, should_fold=_reads_no_weight)
    remove_unused_nodes(program.model)
    return _bare(program.model_proto)


def _reads_no_weight(node: onnx_ir.Node) -> bool | None:
    """Return False for a node that reads a weight, else None: the optimizer decides."""
    for value in node.inputs:
        # An optional input that is left out is None, and a value may have no name.
        if value is None or value.name is None:
            continue
        if value.name.startswith(WEIGHT):
            return False
    return None


def _distance(values: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference."""
    differences = (values - expected).abs()
    return float(differences.max())


def _bare(model: onnx.ModelProto) -> bytes:
    """Return a graph without its weights and without the exporter's notes.

    The notes include paths of this machine.
    """
    parts = (
        model,
        model.graph,
        *model.functions,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
    )
    for part in parts:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in model.graph.initializer:
        if tensor.name.startswith(WEIGHT):
            set_external_data(tensor, WEIGHTS_FILE, offset=0, length=len(tensor.raw_data))
            tensor.ClearField("raw_data")
    text: bytes = model.SerializeToString(deterministic=True)
    return text
