"""Builds a small network of random weights."""

import torch

from cadlib.images.preprocess import InputSpec
from cadlib.network import backbones

BACKBONE = "test_efficientnet"
SPEC = InputSpec(64, "bicubic", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), symmetric=True)


def random_network() -> torch.nn.Module:
    """Return the same network at each call, for images of 64 px a side."""
    torch.manual_seed(0)
    network = backbones.build(BACKBONE, SPEC.size_px)
    # A new head has weights near zero, whose answers hardly differ between images.
    torch.nn.init.normal_(network.get_classifier().weight)
    return network
