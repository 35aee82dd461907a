from dataclasses import replace

import numpy as np
import pytest
import torch
from msgspec import structs
from timm.layers import Conv2dSame

from cadlib.images import read_image
from cadlib.images.preprocess import to_pixels
from cadlib.images.synthetic import demo_lesions
from cadlib.images.turns import CHANGING_TURNS, TURNS, turned, turned_back
from cadlib.model.committee import Committee
from cadlib.model.model import Model
from cadlib.saliency.feature_map_cells import enlargement
from cadlib.saliency.heatmap import explain
from cadlib.saliency.trust import agreement


def with_pixels(image, pixels):
    return replace(image, pixels=np.ascontiguousarray(pixels))


def centre_of(weights, cell):
    """Return the middle of the pixels where a cell has its largest weight."""
    return np.flatnonzero(weights[:, cell] == weights[:, cell].max()).mean()


@pytest.mark.parametrize("size_px", [176, 160, 240])
def test_a_cell_of_a_network_with_padding_of_tensorflow_is_at_the_centre_of_its_input(size_px):
    layers = torch.nn.Sequential(*(Conv2dSame(1, 1, 3, stride=2, bias=False) for _ in range(5)))
    for layer in layers:
        torch.nn.init.ones_(layer.weight)
    picture = torch.zeros(1, 1, size_px, size_px, requires_grad=True)
    outputs = layers(picture)
    cells = outputs.shape[-1]
    weights = enlargement("tf_efficientnet_lite2", size_px, cells)
    for cell in range(1, cells - 1):
        (read,) = torch.autograd.grad(outputs[0, 0, cell, cells // 2], picture, retain_graph=True)
        rows = read[0, 0].sum(dim=1).numpy()
        # Near the edge a part of it is cut off, and its centre moves.
        if rows[0] == rows[-1] == 0:
            centre_of_input = np.average(np.arange(size_px), weights=rows)
            assert abs(centre_of_input - centre_of(weights, cell)) <= 0.5


def test_other_networks_have_the_cells_of_a_bilinear_enlargement():
    row = np.random.default_rng(0).random(7).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.tensor(row)[None, None], 224, mode="linear")[
        0, 0
    ]
    np.testing.assert_allclose(
        enlargement("vit_small_patch14_dinov2", 224, 7) @ row, expected, atol=1e-5
    )


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite2", "resnet18"])
def test_a_flat_row_stays_flat(backbone):
    np.testing.assert_allclose(enlargement(backbone, 176, 6).sum(axis=1), 1)


def test_maps_of_a_rotated_image_agree_better_than_with_even_cells(model):
    """The padding of the shipped network is on one side, so that a cell in the wrong place moves when turned."""
    turn = CHANGING_TURNS["turned 180°"]
    agreed = {"tf_efficientnet_lite2": [], "even parts": []}
    for lesion in demo_lesions():
        pixels = to_pixels(read_image(lesion.png()), model.record.input)
        outputs = model.see(np.stack([pixels, turned(pixels, turn)]))
        top_class = outputs.logits[0].argmax()
        upright_cells, turned_cells = np.maximum(outputs.evidence[:, top_class], 0)
        for backbone, agreements in agreed.items():
            weights = enlargement(backbone, len(pixels), len(upright_cells)).astype(np.float32)
            upright_map = weights @ upright_cells @ weights.T
            turned_map = weights @ turned_cells @ weights.T
            agreements.append(agreement(upright_map, turned_back(turned_map, turn)))
    placed = np.nanmean(agreed["tf_efficientnet_lite2"])
    even = np.nanmean(agreed["even parts"])
    assert placed > even + 0.03


@pytest.mark.parametrize("size_px", [176, 208, 161])
def test_cells_averaged_over_all_views_lie_as_in_a_mirrored_image(size_px):
    cells = -(-size_px // 32)
    weights = enlargement("tf_efficientnet_lite2", size_px, cells, all_views=True)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=1), 1)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam++", "layercam"])
@pytest.mark.parametrize("turn", TURNS)
def test_a_map_of_all_views_turns_with_the_image(model, turn, method):
    spec = structs.replace(model.record.input, symmetric=True)
    record = structs.replace(model.record, input=spec)
    several = Model(record, Committee(model.committee.members, 8), model.folder)
    image = read_image(demo_lesions()[0].png())
    pixels = image.pixels[:401, :401]
    upright = explain(several, with_pixels(image, pixels), "MEL", method)
    view = explain(several, with_pixels(image, turned(pixels, turn)), "MEL", method)
    peak = upright.raw_peak
    np.testing.assert_allclose(turned_back(view.values, turn), upright.values, atol=1e-4 * peak)
