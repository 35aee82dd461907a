"""From a trained network to model.onnx: logits, features and the evidence for each diagnosis in one graph."""

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
"""How far a logit of the graph may be from that of the network."""
_TRIED = 4


class _Tap:
    """Keeps what a layer gave last; not a list of the module, in which the exporter wants no tensor."""

    seen: Tensor

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        self.seen = output


class Seeing(nn.Module):
    """A network that also gives what its head reads, and what each place of its last feature map adds to a logit."""

    def __init__(self, network: nn.Module, saliency_layer: str) -> None:
        super().__init__()
        self.network = network
        self._tap = _Tap()
        network.get_submodule(saliency_layer).register_forward_hook(self._tap)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `engine.Seen` holds for (N, 3, S, S) float32."""
        logits = self.network(pixels)
        found = self._tap.seen
        head: nn.Linear = self.network.get_classifier()  # type: ignore[operator]
        by_place = nn.functional.conv2d(found, head.weight[:, :, None, None])
        return logits, found.mean(dim=(2, 3)), by_place / (found.shape[2] * found.shape[3])


def to_onnx(network: nn.Module, saliency_layer: str, spec: InputSpec) -> bytes:
    """Return the graph of a network that averages its last feature map into one linear layer, without its weights.

    Raise TrainingFailed for a network that does something else, whose heatmaps would not be exact, and where the graph
    does not give what the network gives.
    """
    seeing = Seeing(deepcopy(network).cpu().eval().requires_grad_(False), saliency_layer).eval()
    drawn = torch.randn(
        _TRIED, 3, spec.size_px, spec.size_px, generator=torch.Generator().manual_seed(0)
    )
    logits, _, evidence = seeing(drawn)
    bias = seeing.network.get_classifier().bias  # type: ignore[operator]
    if not (off := _distance(evidence.sum(dim=(2, 3)) + bias, logits)) <= TOLERANCE:
        raise TrainingFailed(
            "Expected a network that averages its last feature map into one linear layer, but the places of the map "
            f"add up to logits that are {off:.2g} off: its heatmaps would not tell what it saw. Take another backbone."
        )
    program = torch.onnx.export(
        seeing,
        (drawn,),
        dynamo=True,
        optimize=False,  # it would melt norms into kernels, and the weights be others than the stored ones
        external_data=False,
        input_names=[INPUT],
        output_names=OUTPUTS,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        verbose=False,
    )
    fold_constants(program.model, should_fold=_reads_no_weight)  # type: ignore[union-attr] # None is of the old exporter
    remove_unused_nodes(program.model)  # type: ignore[union-attr]
    graph = _bare(program.model_proto)  # type: ignore[union-attr]
    seen = Engine(graph, arrays_of(network)).run(drawn.numpy())
    if not (off := _distance(torch.from_numpy(seen.logits), logits)) <= TOLERANCE:
        raise TrainingFailed(
            f"Expected model.onnx to give the logits of the network but they are {off:.2g} off."
        )
    return graph


def _reads_no_weight(node: onnx_ir.Node) -> bool | None:
    return (
        False
        if any(one is not None and (one.name or "").startswith(WEIGHT) for one in node.inputs)
        else None
    )


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


def _bare(model: onnx.ModelProto) -> bytes:
    """Return a graph without its weights, and without what the exporter notes beside it, paths of this machine too."""
    parts = (
        model.graph,
        *model.functions,
        *model.graph.node,
        *model.graph.value_info,
        *model.graph.initializer,
    )
    for part in (model, *parts, *model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for tensor in model.graph.initializer:
        if tensor.name.startswith(WEIGHT):
            set_external_data(tensor, WEIGHTS_FILE, offset=0, length=len(tensor.raw_data))
            tensor.ClearField("raw_data")
    text: bytes = model.SerializeToString(deterministic=True)
    return text
