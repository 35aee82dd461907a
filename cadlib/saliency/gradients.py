"""Saliency methods that need the gradients of the network, or its feature map anew, by pytorch-grad-cam."""

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
"""By the key of `saliency.METHODS`."""


def raw_maps(
    network: nn.Module,
    record: ModelRecord,
    pixels: NDArray[np.uint8],
    target: int,
    methods: Sequence[str],
) -> list[NDArray[np.float32]]:
    """Return the map of each method at the layer's own size, (h, w) float32, negative values and NaN included.

    `pixels` is (S, S, 3) uint8 RGB of the model's input size, `target` the number of the diagnosis. The network runs
    forward and back once for all methods.
    """
    copied, layer = private_copy(network, record.saliency_layer)
    # Calling a cam would stretch each map to 0..1, so the two steps before that are taken one by one;
    # its `with` swallows an IndexError, hence try and finally.
    cams = [CAMS[method](copied, [layer]) for method in methods]
    hooks = cams[0].activations_and_grads
    specific = any(not isinstance(cam, EigenCAM) for cam in cams)
    try:
        # A caller may stand in inference mode; gradients are needed here all the same.
        with torch.inference_mode(mode=False), torch.enable_grad():
            tensor = torch.from_numpy(to_array(pixels, record.input)).clone().requires_grad_()
            score = ClassifierOutputTarget(target)
            loss = score(hooks(tensor)[0])
            if specific:
                loss.backward()
            [activations] = [found.numpy() for found in hooks.activations]
            gradients = hooks.gradients[0].numpy() if specific else None
            if not np.isfinite(activations).all():  # EigenCAM would read a NaN as 0
                return [np.full(activations.shape[2:], np.nan, np.float32)] * len(cams)
            found = [
                cam.get_cam_image(
                    tensor, layer, [score], activations, gradients, eigen_smooth=False
                )[0]
                for cam in cams
            ]
    finally:
        for cam in cams:
            cam.activations_and_grads.release()
    return [
        -raw if isinstance(cam, EigenCAM) and -raw.min() > raw.max() else raw
        for cam, raw in zip(cams, found, strict=True)
    ]


def raw_map(
    network: nn.Module, record: ModelRecord, pixels: NDArray[np.uint8], target: int, method: str
) -> NDArray[np.float32]:
    """Return the map of one method, as `raw_maps` does."""
    return raw_maps(network, record, pixels, target, [method])[0]
