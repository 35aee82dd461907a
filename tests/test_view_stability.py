from dataclasses import replace

import numpy as np
import pytest

from cadlib.images import read_image
from cadlib.images.synthetic import demo_lesions
from cadlib.saliency.test_time_views import TURNS, Stability, stability, turned
from cadlib.taxonomy import CODES
from cadlib.ui import about_the_turns


@pytest.fixture
def image():
    lesion = read_image(demo_lesions()[0].png())
    side = min(lesion.pixels.shape[:2])
    return replace(lesion, pixels=np.ascontiguousarray(lesion.pixels[:side, :side]))


def test_each_view_is_predicted_as_the_picture_that_was_turned(model, image):
    found = stability(model, image).probabilities
    assert found.shape == (8, len(CODES))
    for row, turn in zip(found, [(0, False), *TURNS.values()], strict=True):
        alone = model.predict(replace(image, pixels=turned(image.pixels, *turn))).probabilities
        assert (
            np.abs(row - alone).max() < 0.02
        )  # what is turned after resizing is rounded otherwise
    assert len(np.unique(found.round(6), axis=0)) == 8


def test_the_turns_are_the_symmetries_of_a_square():
    square = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    views = {turned(square, *turn).tobytes() for turn in [(0, False), *TURNS.values()]}
    assert len(views) == 8
    assert turned(square, 0, True)[0, 0].tolist() == square[0, 1].tolist()


def test_counts_and_names_the_changed_views():
    probabilities = np.zeros((8, 8))
    probabilities[:6, CODES.index("NV")], probabilities[:6, CODES.index("MEL")] = 0.9, 0.1
    probabilities[6:, CODES.index("NV")], probabilities[6:, CODES.index("MEL")] = 0.45, 0.55
    found = Stability(probabilities)
    assert (found.same, found.malignant_range) == (6, pytest.approx((0.1, 0.55)))
    said = "Rotated and mirrored: same top diagnosis in 6 of 8 views, malignant probability 0.10 to 0.55"
    assert about_the_turns(found, 0.2) == f"{said}; the range crosses the referral threshold."
    assert about_the_turns(found, 0.6) == about_the_turns(found, 0.1) == f"{said}."
