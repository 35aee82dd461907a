"""Computes saliency maps for any torch network by pytorch-grad-cam."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from cadlib.images.preprocess import to_array
from cadlib.model.record import ModelRecord
from cadlib.network.backbones import private_copy

CAMS: dict[str, type[BaseCAM]] = {
    "grad-cam": GradCAM,
    "grad-cam++": GradCAMPlusPlus,
    "hirescam": HiResCAM,
    "layercam": LayerCAM,
    "eigencam": EigenCAM,
}
"""Class of each method, by the key of `heatmap.METHODS`."""
_IMAGES_IN_PASS = 8


def raw_maps(
    network: nn.Module,
    record: ModelRecord,
    pixels: NDArray[np.uint8],
    target: int,
    methods: Sequence[str],
) -> list[NDArray[np.float32]]:
    """Return the map of each method at the layer's own size, (h, w) float32.

    Negative values and NaN are included. `pixels` is (S, S, 3) uint8 RGB of the model's input size,
    `target` the number of the diagnosis. The network runs forward and backward once for all
    methods.
    """
    copied, layer = private_copy(network, record.members[0].saliency_layer)
    cams = [CAMS[method](copied, [layer]) for method in methods]
    # Calling a cam would stretch each map to 0..1, so its steps before that are called one by one.
    # Its `with` swallows an IndexError, so try and finally release the hooks.
    try:
        return _maps_of(cams, layer, to_array(pixels, record.input), target)
    finally:
        for cam in cams:
            cam.activations_and_grads.release()


def logits_of(
    network: nn.Module,
    record: ModelRecord,
    pixels: NDArray[np.uint8],
) -> NDArray[np.float32]:
    """Return the logits of a network for (N, S, S, 3) uint8 RGB, (N, 8)."""
    inputs = torch.from_numpy(to_array(pixels, record.input))
    with torch.inference_mode():
        # Small passes: their memory is used again, and large ones get new pages each time.
        logits = [network(part) for part in torch.split(inputs, _IMAGES_IN_PASS)]
        joined: NDArray[np.float32] = torch.cat(logits).numpy()
    return joined


def _maps_of(
    cams: Sequence[BaseCAM],
    layer: nn.Module,
    array: NDArray[np.float32],
    target: int,
) -> list[NDArray[np.float32]]:
    """Return the map of each cam for the network's input, (1, 3, S, S)."""
    hooks = cams[0].activations_and_grads
    needs_gradients = any(not isinstance(cam, EigenCAM) for cam in cams)
    score = ClassifierOutputTarget(target)
    # The caller may be in inference mode, but gradients are needed here.
    with torch.inference_mode(mode=False), torch.enable_grad():
        # A copy, because the caller's array may be read-only.
        tensor = torch.from_numpy(array).clone().requires_grad_()
        logits = hooks(tensor)[0]
        gradients = None
        if needs_gradients:
            score(logits).backward()
            gradients = hooks.gradients[0].numpy()
        [activation] = hooks.activations
        activations = activation.numpy()
        # EigenCAM would read a NaN as 0.
        if not np.isfinite(activations).all():
            return [_undefined_map(activations)] * len(cams)
        maps = []
        for cam in cams:
            [raw] = cam.get_cam_image(
                tensor,
                layer,
                [score],
                activations,
                gradients,
                eigen_smooth=False,
            )
            signed = _with_sign(cam, raw)
            maps.append(signed)
    return maps


def _undefined_map(activations: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map of NaN in the size of the layer's (1, C, h, w) activations."""
    size = activations.shape[2:]
    return np.full(size, np.nan, np.float32)


def _with_sign(cam: BaseCAM, raw: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map, for EigenCAM with the sign that makes the value farthest from 0 positive."""
    # The sign of a principal component is arbitrary.
    if isinstance(cam, EigenCAM) and -raw.min() > raw.max():
        return -raw
    return raw
