from types import SimpleNamespace

import numpy as np
import pytest

from cadlib.model.calibration import NO_BIAS, probabilities
from cadlib.model.model import Model
from cadlib.saliency.faithfulness import SHARES, blanked, blurred, faithfulness, skin_colour

SIDE = 66
HALF = SIDE // 2
SKIN = (200, 160, 140)


class PatchReader:
    """Replaces a Model: a darker upper left quarter is more likely a melanoma."""

    def __init__(self, weight: float = 6.0) -> None:
        self._weight = weight
        self.batches = []

    def see(self, pixels: np.ndarray, views: int | None = None) -> SimpleNamespace:
        self.batches.append(len(pixels))
        darkness = 1 - pixels[:, :HALF, :HALF].mean(axis=(1, 2, 3)) / np.mean(SKIN)
        return SimpleNamespace(
            logits=(self._weight * darkness[:, None] * np.eye(8)[0]).astype(np.float32)
        )

    def calibrated(self, logits: np.ndarray, short_side_px: int) -> np.ndarray:
        assert short_side_px == 600
        return probabilities(logits, 1.0, NO_BIAS)


@pytest.fixture
def picture() -> np.ndarray:
    """Return skin with a dark lesion in the upper left quarter and another, that counts for nothing, below right."""
    pixels = np.full((SIDE, SIDE, 3), SKIN, np.uint8)
    pixels[8:HALF, 8:HALF] = pixels[HALF + 8 : -8, HALF + 8 : -8] = 20
    return pixels


def spot(row: int, column: int) -> np.ndarray:
    """Return a map that falls off round a place."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 400).astype(np.float32)


def scores_of(pixels, *maps, model=None):
    return faithfulness(model or PatchReader(), pixels, 600, maps, 0)


def test_a_map_that_points_at_what_counts_is_more_faithful_than_one_that_points_elsewhere(picture):
    right, centre, wrong = scores_of(picture, spot(20, 20), spot(HALF, HALF), spot(46, 46))
    assert right > 0.5
    assert right > centre > wrong
    assert wrong < 0


def test_the_same_map_upside_down_is_as_unfaithful(picture):
    values = spot(20, 20) + np.random.default_rng(0).normal(0, 1e-3, (SIDE, SIDE)).astype(
        np.float32
    )
    score, reverse_score = scores_of(picture, values, -values)
    assert reverse_score == pytest.approx(-score, abs=1e-6)


def test_maps_at_random_are_0_in_the_mean(picture):
    rng = np.random.default_rng(0)
    scores = scores_of(
        picture,
        *(spot(*rng.integers(0, SIDE, 2)) - spot(*rng.integers(0, SIDE, 2)) for _ in range(150)),
    )
    assert abs(scores.mean()) < 3 * scores.std() / np.sqrt(len(scores))
    assert np.quantile(scores, 0.9) < scores_of(picture, spot(20, 20))[0]


def test_a_map_is_unfaithful_where_blanking_its_peak_changes_nothing(picture):
    class Inverted(PatchReader):
        def see(self, pixels, views=None):
            return SimpleNamespace(logits=-super().see(pixels).logits)

    assert scores_of(picture, spot(20, 20), model=Inverted())[0] < -0.5


def test_a_flat_map_and_an_answer_that_nothing_changes_have_no_metric(picture):
    assert np.isnan(
        scores_of(picture, np.zeros((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.float32))
    ).all()
    assert np.isnan(scores_of(picture, spot(20, 20), model=PatchReader(0.0))[0])


def test_the_score_of_a_map_does_not_depend_on_its_batch(picture):
    maps = [spot(20, 20), spot(46, 46), spot(HALF, HALF), spot(0, 60)]
    assert scores_of(picture, *maps).tolist() == [
        scores_of(picture, single_map)[0] for single_map in maps
    ]


def test_a_map_takes_one_view_of_each_variant(model, monkeypatch):
    numbers = []
    see = Model.see

    def noted(self, pixels, views=None):
        numbers.append(views)
        return see(self, pixels, views)

    monkeypatch.setattr(Model, "see", noted)
    size_px = model.record.input.size_px
    pixels = np.zeros((size_px, size_px, 3), np.uint8)
    faithfulness(model, pixels, 600, [np.eye(size_px, dtype=np.float32)], 0)
    assert numbers == [1]


def test_blurred_regions_are_another_test(picture):
    filling = blurred(picture)
    model = PatchReader()
    [right, wrong] = faithfulness(model, picture, 600, [spot(20, 20), spot(46, 46)], 0, filling)
    assert right > 0 > wrong
    assert right != scores_of(picture, spot(20, 20))[0]


def test_a_blurred_image_keeps_place_and_colour_but_no_structure():
    pixels = np.full((SIDE, SIDE, 3), SKIN, np.uint8)
    pixels[::2, ::2] = 20
    # At an edge, a blur repeats the last line.
    inside = slice(HALF - 8, HALF + 8)
    smooth = blurred(pixels)[inside, inside].astype(float)
    assert smooth.std(axis=(0, 1)).max() < 2
    np.testing.assert_allclose(smooth.mean(axis=(0, 1)), pixels.mean(axis=(0, 1)), atol=3)


def test_a_single_map_takes_one_batch(picture):
    model = PatchReader()
    scores_of(picture, spot(20, 20), model=model)
    assert model.batches == [2 + 2 * len(SHARES)]


def test_blanking_paints_skin_with_a_soft_edge():
    dark = np.full((SIDE, SIDE, 3), 20, np.uint8)
    is_kept = np.ones((SIDE, SIDE), np.bool_)
    is_kept[:, :HALF] = False
    painted = blanked(dark, is_kept, np.array(SKIN, np.uint8))
    assert (painted[:, : HALF - 6] == SKIN).all()
    assert (painted[:, HALF + 6 :] == 20).all()
    assert 0 < np.abs(np.diff(painted[0, :, 0].astype(int))).max() < (SKIN[0] - 20) / 2


def test_the_skin_is_looked_for_at_the_edges(picture):
    picture[4:-4, 4:-4] = 20  # a lesion that fills nearly all
    assert skin_colour(picture).tolist() == list(SKIN)
