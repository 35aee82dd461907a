"""Backbones with a linear head, and the layer that saliency maps read.

Any timm network serves that ends in global average pooling and one linear layer: for such a network
Grad-CAM equals the class activation map. A vision transformer is built that way too.
"""

import math
from copy import deepcopy
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
_BUILDING = Lock()  # it takes a second; two threads would need twice the memory


def build(
    backbone: str,
    input_px: int,
    *,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    patch_drop_rate: float = 0.0,
) -> nn.Module:
    """Build a timm network, (N, 3, S, S) float32 -> (N, 8) logits, with random weights and a head of zeros.

    `input_px` is the side S it is to read; a vision transformer has position embeddings for that side, and resamples
    them for another. `drop_rate` is dropout before the head; `drop_path_rate`, 0 to below 1, is how often the last
    residual block is left out in training, earlier ones in proportion (Huang et al., Deep Networks with Stochastic
    Depth, ECCV 2016); `patch_drop_rate` is the share of a transformer's patches left out in training (Li et al.,
    Scaling Language-Image Pre-training via Masking, CVPR 2023). Raise TrainingFailed for an unknown backbone, for a
    side that is no multiple of a transformer's patch, and for a network that cannot leave blocks or patches out.
    """
    if not timm.is_model(backbone):
        near = ", ".join(timm.list_models(f"*{backbone[:8]}*")[:5]) or "see timm.list_models()"
        raise TrainingFailed(
            f"Expected `backbone` to be a timm network but got {backbone!r}; near it: {near}."
        )
    # timm passes on what is not None, and not every network has it
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
            f"Expected a `backbone` that can leave out blocks and patches in training but {backbone!r} cannot "
            f"({error}); train it with --drop-path-rate 0 --patch-drop-rate 0."
        ) from error
    if isinstance(network, VisionTransformer):
        check_side(network, input_px)
        network.attn_pool = TokenPool()  # type: ignore[assignment] # timm's place for a pooling of one's own
    # timm draws the head of an EfficientNet so wide that the first steps spoil the pretrained layers below it:
    # from zeros, the first loss is the entropy of the classes and the features are kept.
    for parameter in network.get_classifier().parameters():  # type: ignore[operator]
        nn.init.zeros_(parameter)
    return network


class TokenPool(nn.Module):
    """Average the patch tokens of a transformer, (N, h w, C) -> (N, C), seen on the way as the feature map `map`.

    The last norm is before it and the linear head behind it, so Grad-CAM of `map`, (N, C, h, w), equals the class
    activation map, as it does for a convolutional network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        """Take tokens in reading order; where they fill no square, patches left out, in one row."""
        n, count, channels = tokens.shape
        side = math.isqrt(count)
        rows = side if side * side == count else 1
        grid = self.map(tokens.transpose(1, 2).reshape(n, channels, rows, -1))
        pooled: Tensor = grid.mean(dim=(2, 3))
        return pooled


def check_side(network: nn.Module, side_px: int) -> None:
    """Raise TrainingFailed for a side that a transformer cannot cut into its patches; other networks take any."""
    patch_px = network.patch_embed.patch_size[0] if isinstance(network, VisionTransformer) else 1
    if side_px % patch_px:
        raise TrainingFailed(
            f"Expected sides that are multiples of the network's patches, {patch_px} px, but got {side_px} px; "
            f"choose {side_px // patch_px * patch_px} or {(side_px // patch_px + 1) * patch_px}."
        )


def _transformer_arguments(backbone: str, input_px: int) -> dict[str, Any]:
    if not is_model_in_modules(backbone, ["vision_transformer"]):
        return {}
    return {"img_size": input_px, "dynamic_img_size": True, "global_pool": "avg", "fc_norm": False}


def network_of(model: Model) -> nn.Module:
    """Return the torch network of a model, ready to predict; it is built at the first call and kept with the model.

    Raise ModelInvalid for a backbone that timm does not have, and for weights of another network.
    """
    with _BUILDING:
        network = _NETWORKS.get(model)
        if network is None:
            network = _build_network(model.engine.state, model.record, model.folder)
            _NETWORKS[model] = network
    return network


def _build_network(state: weights.State, record: ModelRecord, folder: Path) -> nn.Module:
    try:
        network = build(record.backbone, record.input.size_px)
    except TrainingFailed as error:
        raise ModelInvalid(
            f"{folder} is of a network that this version of timm does not have: {error}"
        ) from error
    try:
        load_arrays(network, state)
        network.get_submodule(record.saliency_layer)
    except (RuntimeError, AttributeError) as error:
        raise ModelInvalid(
            f"The weights in {folder} are not those of {record.backbone}: {error}"
        ) from error
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def untrained_network(model: Model, seed: int) -> nn.Module:
    """Return a network like the model's with every weight drawn at random."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = build(model.record.backbone, model.record.input.size_px)
        drawn.get_classifier().reset_parameters()  # type: ignore[operator] # built with zeros
    return drawn.eval().requires_grad_(False)


def arrays_of(network: nn.Module) -> weights.State:
    """Return the weights of a network as arrays, which share its memory."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}


def load_arrays(network: nn.Module, state: weights.State) -> None:
    """Put weights into a network, in place; raise RuntimeError where they are those of another."""
    network.load_state_dict({name: torch.tensor(array) for name, array in state.items()})


def private_copy(network: nn.Module, layer: str) -> tuple[nn.Module, nn.Module]:
    """Copy the modules but not the weights, which takes milliseconds; return the copy and the layer of that name in it.

    Hooks on a shared network would also catch what other threads send through it.
    """
    memo: dict[int, Any] = {
        id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())
    }
    copied = deepcopy(network, memo)
    return copied, copied.get_submodule(layer)


def load_pretrained(network: nn.Module, backbone: str, input_px: int) -> str:
    """Put pretrained weights into everything but the head, in place; return where they came from.

    A packaged state_dict is taken where `pretrained.PACKAGES` names one, else timm's own hub. Raise TrainingFailed
    when neither can be had.
    """
    head = network.get_classifier()  # type: ignore[operator]
    fresh = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    if package := PACKAGES.get(backbone):
        load_packaged(network, package)
        source = package.name
    else:
        try:
            hub = timm.create_model(
                backbone,
                pretrained=True,
                num_classes=len(CODES),
                **_transformer_arguments(backbone, input_px),
            )
        except (RuntimeError, OSError, ValueError) as error:
            raise TrainingFailed(
                f"Expected pretrained weights for {backbone} but timm could not load them ({error}). "
                f"Without a network choose one of {', '.join(PACKAGES)}, or train with --no-pretrained."
            ) from error
        network.load_state_dict(hub.state_dict())
        source = f"timm {backbone}"
    head.load_state_dict(fresh)
    return source


def saliency_layer(network: nn.Module) -> str:
    """Return the name of the last module whose output is the feature map that is pooled into the head.

    timm calls it `conv_head` with its norm in EfficientNets: the activation behind it is what counts, so
    the module is found by what it returns, (1, C, h, w) with h > 1, not by its name. Raise TrainingFailed for
    a network that has none.
    """
    shapes: list[tuple[str, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_hook(
            lambda _module, _inputs, output, name=name: (
                shapes.append((name, tuple(output.shape)))
                if isinstance(output, torch.Tensor)
                else None
            )
        )
        for name, module in network.named_modules()
        if name
    ]
    was_training = network.training
    device = next(network.parameters()).device
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, 112, 112, device=device))
    except (AssertionError, RuntimeError) as error:
        raise TrainingFailed(
            f"Expected a network that reads pictures of any size but it does not: {error}"
        ) from error
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    maps = [name for name, shape in shapes if len(shape) == 4 and shape[2] > 1]
    if not maps:
        raise TrainingFailed(
            "Expected a convolutional network with a feature map before its head but found none."
        )
    return maps[-1]
