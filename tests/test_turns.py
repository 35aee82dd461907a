"""The eight flips and quarter turns of an image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cadlib.images.turns import (
    AS_IT_IS,
    CHANGING_TURNS,
    TURNS,
    Turn,
    canonical_turn,
    pixels_turned_back,
    turned,
    turned_back,
)
from tests.encoded_images import asymmetric_picture

SIDES = st.integers(1, 5)
# Few levels, so that many pictures are symmetric in part.
PICTURES = st.tuples(SIDES, SIDES).flatmap(
    lambda size: arrays(np.uint8, (*size, 3), elements=st.integers(0, 2))
)


def test_a_quarter_turn_is_counter_clockwise_and_a_mirrored_image_swaps_left_and_right():
    left = [1, 2, 3]
    right = [4, 5, 6]
    row = np.array([[left, right]], np.uint8)
    assert turned(row, Turn(1, mirrored=False)).tolist() == [[right], [left]]
    assert turned(row, Turn(0, mirrored=True)).tolist() == [[right, left]]


def test_all_eight_turns_of_a_picture_without_symmetry_differ():
    picture = asymmetric_picture(50, 50)
    views = {turned(picture, turn).tobytes() for turn in TURNS}
    assert len(views) == 8
    assert TURNS[0] == AS_IT_IS
    assert AS_IT_IS not in CHANGING_TURNS.values()


@pytest.mark.parametrize("turn", TURNS)
def test_a_turn_that_is_undone_restores_the_image(turn):
    pictures = np.stack([asymmetric_picture(40, 70), asymmetric_picture(40, 70) // 2])
    views = turned(pictures, turn)
    assert np.array_equal(pixels_turned_back(views, turn), pictures)
    maps = pictures[..., 0]
    assert np.array_equal(turned_back(views[..., 0], turn), maps)


@given(PICTURES)
def test_every_view_of_a_picture_has_the_same_canonical_orientation(picture):
    expected = turned(picture, canonical_turn(picture))
    for turn in TURNS:
        view = turned(picture, turn)
        canonical = turned(view, canonical_turn(view))
        assert np.array_equal(canonical, expected)
