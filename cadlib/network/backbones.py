"""Builds backbones with a linear head, and finds their saliency layer.

Any timm network can be used that ends in global average pooling and one linear layer: for such a
network Grad-CAM equals the class activation map. A vision transformer is built that way too.
"""

import math
from copy import deepcopy
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import timm
import torch
from timm.models import is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cadlib.errors import ModelInvalid, TrainingFailed
from cadlib.model import weights
from cadlib.model.model import Model
from cadlib.model.record import ModelRecord
from cadlib.network.pretrained import PACKAGES, load_packaged
from cadlib.taxonomy import CODES

_NETWORKS: WeakKeyDictionary[Model, nn.Module] = WeakKeyDictionary()
# Building takes a second, and two threads would need twice the memory.
_BUILDING = Lock()


def build(
    backbone: str,
    input_px: int,
    *,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    patch_drop_rate: float = 0.0,
) -> nn.Module:
    """Build a timm network with random weights and a head of zeros.

    It maps (N, 3, S, S) float32 to (N, 8) logits. `input_px` is the side S of the input. A vision
    transformer has position embeddings for that side, and resamples them for another. `drop_rate`
    is dropout before the head. `drop_path_rate`, 0 to below 1, is how often the last residual block
    is left out in training, earlier ones in proportion (Huang et al., Deep Networks with Stochastic
    Depth, ECCV 2016). `patch_drop_rate` is the share of a transformer's patches left out in
    training (Li et al., Scaling Language-Image Pre-training via Masking, CVPR 2023). Raise
    TrainingFailed for an unknown backbone, for a side that is no multiple of a transformer's patch,
    and for a network that cannot leave blocks or patches out.
    """
    _check_backbone(backbone)
    # timm passes on what is not None, and not every network has these arguments.
    rates: dict[str, Any] = {
        "drop_path_rate": drop_path_rate or None,
        "patch_drop_rate": patch_drop_rate or None,
    }
    try:
        network: nn.Module = timm.create_model(
            backbone,
            num_classes=len(CODES),
            drop_rate=drop_rate,
            **rates,
            **_transformer_arguments(backbone, input_px),
        )
    except TypeError as error:
        raise TrainingFailed(
            "Expected a `backbone` that can leave out blocks and patches in training but "
            f"{backbone!r} cannot ({error}); train it with --drop-path-rate 0 --patch-drop-rate 0."
        ) from error
    if isinstance(network, VisionTransformer):
        check_side(network, input_px)
        # timm calls this attribute for a custom pooling.
        network.attn_pool = TokenPool()  # type: ignore[assignment]
    # timm draws the head of an EfficientNet so wide that the first steps spoil the pretrained
    # layers below it. From zeros, the first loss is the entropy of the classes and the features
    # stay as they are.
    for parameter in network.get_classifier().parameters():  # type: ignore[operator]
        nn.init.zeros_(parameter)
    return network


def _check_backbone(backbone: str) -> None:
    """Raise TrainingFailed for a name that timm does not have, with similar names."""
    if timm.is_model(backbone):
        return
    similar = timm.list_models(f"*{backbone[:8]}*")[:5]
    near = ", ".join(similar) or "see timm.list_models()"
    raise TrainingFailed(
        f"Expected `backbone` to be a timm network but got {backbone!r}; near it: {near}."
    )


class TokenPool(nn.Module):
    """Average the patch tokens of a transformer, (N, h w, C) -> (N, C).

    The tokens pass through `map` as a feature map, (N, C, h, w). The last norm is before it and the
    linear head after it, so Grad-CAM of `map` equals the class activation map, as it does for a
    convolutional network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Average tokens in reading order.

        Where patches are left out, the tokens fill no square and form one row.
        """
        n, count, channels = tokens.shape
        side = math.isqrt(count)
        rows = side if side * side == count else 1
        by_channel = tokens.transpose(1, 2)
        grid = by_channel.reshape(n, channels, rows, -1)
        feature_map = self.map(grid)
        pooled: Tensor = feature_map.mean(dim=(2, 3))
        return pooled


def check_side(network: nn.Module, side_px: int) -> None:
    """Raise TrainingFailed for a side that is no multiple of a transformer's patch.

    Other networks accept any side.
    """
    if not isinstance(network, VisionTransformer):
        return
    patch_px = network.patch_embed.patch_size[0]
    if side_px % patch_px:
        patches = side_px // patch_px
        lower = patches * patch_px
        upper = (patches + 1) * patch_px
        raise TrainingFailed(
            f"Expected sides that are multiples of the network's patches, {patch_px} px, but got "
            f"{side_px} px; choose {lower} or {upper}."
        )


def _transformer_arguments(backbone: str, input_px: int) -> dict[str, Any]:
    """Return timm's arguments for a transformer that averages its tokens at sides of any length."""
    if not is_model_in_modules(backbone, ["vision_transformer"]):
        return {}
    return {"img_size": input_px, "dynamic_img_size": True, "global_pool": "avg", "fc_norm": False}


def network_of(model: Model) -> nn.Module:
    """Return the first torch network of a model, ready to predict.

    It is built at the first call and cached as long as the model exists. Raise ModelInvalid for a
    backbone that timm does not have, and for weights of another network.
    """
    with _BUILDING:
        network = _NETWORKS.get(model)
        if network is None:
            network = _build_network(
                model.committee.members[0].state,
                model.record,
                model.folder,
            )
            _NETWORKS[model] = network
    return network


def _build_network(state: weights.State, record: ModelRecord, folder: Path) -> nn.Module:
    """Build the first network of a record with its weights, frozen."""
    member = record.members[0]
    try:
        network = build(member.backbone, record.input.size_px)
    except TrainingFailed as error:
        raise ModelInvalid(
            f"{folder} is of a network that this version of timm does not have: {error}"
        ) from error
    try:
        load_arrays(network, state)
        network.get_submodule(member.saliency_layer)
    except (RuntimeError, AttributeError) as error:
        raise ModelInvalid(
            f"The weights in {folder} are not those of {member.backbone}: {error}"
        ) from error
    frozen = network.eval().requires_grad_(False)
    return frozen.to(memory_format=torch.channels_last)


def untrained_network(model: Model, seed: int) -> nn.Module:
    """Return a network like the model's first one with every weight drawn at random."""
    backbone = model.record.members[0].backbone
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(backbone, model.record.input.size_px)
        # The head is built with zeros.
        network.get_classifier().reset_parameters()  # type: ignore[operator]
    return network.eval().requires_grad_(False)


def arrays_of(network: nn.Module) -> weights.State:
    """Return the weights of a network as arrays, which share its memory."""
    arrays = {}
    for name, tensor in network.state_dict().items():
        without_gradient = tensor.detach()
        on_cpu = without_gradient.cpu()
        arrays[name] = on_cpu.numpy()
    return arrays


def load_arrays(network: nn.Module, state: weights.State) -> None:
    """Load weights into a network, in place. Raise RuntimeError for those of another network."""
    tensors = {}
    for name, array in state.items():
        # A copy: the arrays may be read-only.
        tensors[name] = torch.tensor(array)
    network.load_state_dict(tensors)


def private_copy(network: nn.Module, layer: str) -> tuple[nn.Module, nn.Module]:
    """Copy the modules but not the weights, and return the copy and its layer of that name.

    It takes milliseconds. Hooks on a shared network would also catch the inputs of other threads.
    """
    shared = [*network.parameters(), *network.buffers()]
    # deepcopy returns the objects in its memo without copying them.
    memo: dict[int, Any] = {}
    for tensor in shared:
        memo[id(tensor)] = tensor
    copied = deepcopy(network, memo)
    copied_layer = copied.get_submodule(layer)
    return copied, copied_layer


def load_pretrained(
    network: nn.Module,
    backbone: str,
    input_px: int,
) -> str:
    """Load pretrained weights into everything but the head, in place, and return their source.

    The source is the package in `pretrained.PACKAGES`, if there is one, else timm's hub. Raise
    TrainingFailed when the weights cannot be loaded.
    """
    # The pretrained head has the same shape but knows nothing of these eight classes.
    head = network.get_classifier()  # type: ignore[operator]
    head_state = {}
    for name, tensor in head.state_dict().items():
        head_state[name] = tensor.clone()
    package = PACKAGES.get(backbone)
    if package is None:
        _load_from_hub(network, backbone, input_px)
        source = f"timm {backbone}"
    else:
        load_packaged(network, package)
        source = package.name
    head.load_state_dict(head_state)
    return source


def _load_from_hub(network: nn.Module, backbone: str, input_px: int) -> None:
    """Load timm's pretrained weights into a network, in place."""
    try:
        pretrained = timm.create_model(
            backbone,
            pretrained=True,
            num_classes=len(CODES),
            **_transformer_arguments(backbone, input_px),
        )
    except (RuntimeError, OSError, ValueError) as error:
        packaged = ", ".join(PACKAGES)
        raise TrainingFailed(
            f"Expected pretrained weights for {backbone} but timm could not load them ({error}). "
            f"Without a network choose one of {packaged}, or train with --no-pretrained."
        ) from error
    network.load_state_dict(pretrained.state_dict())


def saliency_layer(network: nn.Module) -> str:
    """Return the name of the last module whose output is the feature map before the head.

    In EfficientNets timm calls it `conv_head` with its norm, but the activation after it counts. So
    the module is identified by its output, (1, C, h, w) with h > 1, not by its name. Raise
    TrainingFailed for a network that has none.
    """
    maps = []
    for name, shape in _output_shapes(network):
        # After the pooling the output has one place, or two dimensions.
        if len(shape) == 4 and shape[2] > 1:
            maps.append(name)
    if not maps:
        raise TrainingFailed(
            "Expected a convolutional network with a feature map before its head but found none."
        )
    return maps[-1]


def _output_shapes(network: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    """Return the name of each module that returns a tensor, and its shape, in order of the calls.

    The network reads an image of 112 px.
    """
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def record_shape(
        name: str,
        _module: nn.Module,
        _inputs: object,
        output: object,
    ) -> None:
        # Some modules return several tensors: no feature map is among these.
        if isinstance(output, torch.Tensor):
            shape = tuple(output.shape)
            named_shape = (name, shape)
            shapes.append(named_shape)

    hooks = []
    for name, module in network.named_modules():
        # The network itself has an empty name.
        if name:
            hooks.append(module.register_forward_hook(partial(record_shape, name)))
    was_training = network.training
    device = next(network.parameters()).device
    image = torch.zeros(1, 3, 112, 112, device=device)
    try:
        with torch.inference_mode():
            network.eval()(image)
    except (AssertionError, RuntimeError) as error:
        raise TrainingFailed(
            f"Expected a network that reads images of any size but it does not: {error}"
        ) from error
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return shapes
