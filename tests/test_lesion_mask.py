"""Tests of the mask of a lesion, and of where a map lies."""

import math

import numpy as np
import pytest

from cadlib.images.lesion_mask import lesion_mask, share_inside

SKIN = np.array((220, 170, 150), np.uint8)
SIDE = 120


def skin_with(*spots: tuple[int, int, int], colour: tuple[int, int, int] = (90, 50, 40)):
    """Return skin with round spots, each with a row, a column and a radius in pixels."""
    pixels = np.full((SIDE, SIDE, 3), SKIN, np.uint8)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for row, column, radius in spots:
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = colour
    return pixels


@pytest.mark.parametrize("colour", [(90, 50, 40), (250, 250, 250), (200, 60, 90)])
def test_a_lesion_of_any_colour_is_found(colour):
    mask = lesion_mask(skin_with((55, 65, 25), colour=colour), SKIN)
    assert mask[55, 65]
    assert mask.mean() == pytest.approx(math.pi * 25**2 / SIDE**2, rel=0.1)


def test_the_lesion_in_the_middle_counts_and_not_a_larger_corner():
    mask = lesion_mask(skin_with((60, 60, 15), (0, 0, 45)), SKIN)
    assert mask[60, 60]
    assert not mask[5, 5]


@pytest.mark.parametrize(
    "pixels",
    [
        skin_with(),
        skin_with((5, 5, 12)),
        skin_with((60, 60, 4)),
        skin_with((60, 60, 170)),
    ],
    ids=["bare skin", "corner alone", "tiny", "all"],
)
def test_no_lesion_is_found_where_there_is_none_to_see(pixels):
    assert lesion_mask(pixels, SKIN) is None


def test_the_share_inside_compares_means():
    mask = np.zeros((4, 4), np.bool_)
    mask[:2, :2] = True
    values = np.where(mask, 3.0, 1.0).astype(np.float32)
    assert share_inside(values, mask) == pytest.approx(0.75)
    assert share_inside(np.ones((4, 4), np.float32), mask) == pytest.approx(0.5)
    assert share_inside(mask.astype(np.float32), mask) == 1


def test_without_a_lesion_or_a_map_there_is_no_share():
    mask = np.eye(4, dtype=np.bool_)
    assert math.isnan(share_inside(np.zeros((4, 4), np.float32), mask))
    assert math.isnan(share_inside(np.ones((4, 4), np.float32), None))
