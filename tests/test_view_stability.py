from dataclasses import replace

import numpy as np
import pytest

from cadlib.images import read_image
from cadlib.images.synthetic import demo_lesions
from cadlib.images.turns import TURNS, turned
from cadlib.model.committee import Committee
from cadlib.model.model import Model
from cadlib.saliency.test_time_views import Stability, stability
from cadlib.taxonomy import CODES
from cadlib.ui import about_the_turns


@pytest.fixture
def image():
    lesion = read_image(demo_lesions()[0].png())
    side = min(lesion.pixels.shape[:2])
    return replace(lesion, pixels=np.ascontiguousarray(lesion.pixels[:side, :side]))


@pytest.mark.parametrize("views", [1, 8])
def test_each_view_is_predicted_as_the_picture_that_was_turned(model, image, views):
    committee = Committee(model.committee.members, views)
    several = Model(model.record, committee, model.folder)
    view_probabilities = stability(several, image, several.predict(image)).probabilities
    assert view_probabilities.shape == (8, len(CODES))
    for row, turn in zip(view_probabilities, TURNS, strict=True):
        view = replace(image, pixels=np.ascontiguousarray(turned(image.pixels, turn)))
        alone = model.predict(view).probabilities
        # A view that is turned after resizing is rounded differently.
        assert np.abs(row - alone).max() < 0.02
    assert len(np.unique(view_probabilities.round(6), axis=0)) == 8


def test_a_model_of_eight_views_runs_no_second_time(model, image):
    several = Model(model.record, Committee(model.committee.members, 8), model.folder)
    prediction = several.predict(image)
    several.committee = None
    assert np.array_equal(
        stability(several, image, prediction).probabilities, prediction.view_probabilities
    )


def test_counts_and_names_the_changed_views():
    probabilities = np.zeros((8, 8))
    probabilities[:6, CODES.index("NV")] = 0.9
    probabilities[:6, CODES.index("MEL")] = 0.1
    probabilities[6:, CODES.index("NV")] = 0.45
    probabilities[6:, CODES.index("MEL")] = 0.55
    views = Stability(probabilities, top=CODES.index("NV"), averaged=False)
    assert (views.same, views.malignant_range) == (6, pytest.approx((0.1, 0.55)))
    facts = "same top diagnosis in 6 of 8 views, malignant probability 0.10 to 0.55"
    sentence = f"Rotated and mirrored: {facts}"
    assert about_the_turns(views, 0.2) == f"{sentence}; the range crosses the referral threshold."
    assert about_the_turns(views, 0.6) == about_the_turns(views, 0.1) == f"{sentence}."
    averaged = replace(views, averaged=True)
    expected = f"Each rotated and mirrored view before averaging: {facts}."
    assert about_the_turns(averaged, 0.6) == expected
