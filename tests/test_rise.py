"""Tests of the maps by RISE."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from cadlib.images import read_image
from cadlib.images.synthetic import demo_lesions
from cadlib.images.turns import CHANGING_TURNS, turned, turned_back
from cadlib.model.committee import Committee
from cadlib.model.engine import Seen
from cadlib.saliency.heatmap import RISE, explain
from cadlib.saliency.rise import MASKS, MaskSet, masks, model_answers, rise
from cadlib.saliency.trust import trust

SIDE = 48
DARK = (slice(8, 20), slice(26, 38))
"""Rows and columns of the dark square of `picture`."""


@pytest.fixture
def picture() -> np.ndarray:
    pixels = np.full((SIDE, SIDE, 3), 220, np.uint8)
    pixels[DARK] = 30
    return pixels


def darkness(pixels: np.ndarray) -> np.ndarray:
    """Return the share of the image that is darker than skin, (N,)."""
    return np.mean(220 - pixels.astype(np.float64), axis=(1, 2, 3)) / 220


def sees_darkness(pixels: np.ndarray) -> np.ndarray:
    """Return probabilities: the log-odds of the first diagnosis rise with the dark in view."""
    first = 1 / (1 + np.exp(2 - 40 * darkness(pixels)))
    rest = np.repeat((1 - first)[:, None] / 7, 7, axis=1)
    return np.column_stack([first, rest])


def test_masks_show_shares_from_few_to_many():
    shown = masks(SIDE)
    assert shown.shape == (MASKS.n, SIDE, SIDE)
    assert shown.min() >= 0
    assert shown.max() <= 1
    shares = (shown > 0.5).mean(axis=(1, 2))
    assert shares == pytest.approx(
        np.linspace(MASKS.least_shown, MASKS.most_shown, MASKS.n), abs=0.001
    )


def test_more_masks_are_more_repeatable(picture):
    rng = np.random.default_rng(0)

    def unsure(pixels: np.ndarray) -> np.ndarray:
        noisy = sees_darkness(pixels) * rng.uniform(0.2, 1, (len(pixels), 8))
        return noisy / noisy.sum(axis=1, keepdims=True)

    few = rise(unsure, picture, mask_set=MaskSet(n=8)).repeatability[0]
    many = rise(unsure, picture, mask_set=MaskSet(n=80)).repeatability[0]
    assert many > few


def test_the_place_that_the_answer_depends_on_is_the_hottest(picture):
    values = rise(sees_darkness, picture).values[0]
    inside = values[DARK]
    outside = values.copy()
    outside[DARK] = np.nan
    assert inside.mean() > 5 * abs(np.nanmean(outside))
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert DARK[0].start <= row < DARK[0].stop
    assert DARK[1].start <= column < DARK[1].stop


def test_what_speaks_for_one_diagnosis_speaks_against_another(picture):
    values = rise(sees_darkness, picture).values
    assert values[0][DARK].min() > 0
    assert values[1][DARK].max() < 0


def test_a_map_turns_with_its_image_even_if_the_answers_do_not(picture):
    weights = np.random.default_rng(0).random((SIDE, SIDE, 1))

    def sees_one_side(pixels: np.ndarray) -> np.ndarray:
        # An upper left corner counts more than a lower right one.
        return sees_darkness(220 - (220 - pixels) * weights)

    upright = rise(sees_one_side, picture)
    for turn in CHANGING_TURNS.values():
        again = rise(sees_one_side, np.ascontiguousarray(turned(picture, turn)))
        np.testing.assert_allclose(turned_back(again.values, turn), upright.values, atol=1e-4)
        np.testing.assert_allclose(again.repeatability, upright.repeatability, atol=1e-4)


def test_how_much_is_visible_is_no_evidence_for_a_place(picture):
    def sees_the_amount(pixels: np.ndarray) -> np.ndarray:
        # The square is dark, so what is visible of it is an amount without a place.
        amount = masks(SIDE).mean(axis=(1, 2))[: len(pixels)]
        first = 1 / (1 + np.exp(-amount))
        return np.column_stack([first, *[(1 - first) / 7] * 7])

    maps = rise(sees_the_amount, picture)
    assert np.abs(maps.values[0]).max() < 0.01


def test_the_levels_of_networks_that_take_turns_are_no_evidence(picture):
    levels = np.array([0.0, 3.0, -2.0])[np.arange(MASKS.n) % 3]

    def answers(pixels: np.ndarray) -> np.ndarray:
        odds = 40 * darkness(pixels) - 2 + levels
        first = 1 / (1 + np.exp(-odds))
        return np.column_stack([first, *[(1 - first) / 7] * 7])

    level = rise(sees_darkness, picture).values[0]
    together = rise(answers, picture, n_networks=3).values[0]
    assert np.corrcoef(level.ravel(), together.ravel())[0, 1] > 0.95
    # Without the levels, each network's own is taken for evidence.
    ignored = rise(answers, picture).values[0]
    assert np.abs(ignored - level).max() > 3 * np.abs(together - level).max()


def test_repeatability_is_high_for_a_clear_answer_and_low_for_noise(picture):
    rng = np.random.default_rng(0)

    def guesses(pixels: np.ndarray) -> np.ndarray:
        drawn = rng.random((len(pixels), 8))
        return drawn / drawn.sum(axis=1, keepdims=True)

    assert rise(sees_darkness, picture).repeatability[0] > 0.9
    assert np.mean(rise(guesses, picture).repeatability) < 0.5


def test_an_answer_that_never_changes_has_a_flat_map(picture):
    maps = rise(lambda pixels: np.full((len(pixels), 8), 1 / 8), picture)
    assert not maps.values.any()
    assert np.isnan(maps.repeatability).all()


def test_an_answer_that_is_not_finite_has_no_map(picture):
    maps = rise(lambda pixels: np.full((len(pixels), 8), np.nan), picture)
    assert np.isnan(maps.values).all()
    assert maps.values.shape == (8, SIDE, SIDE)


class Constant:
    """Stands in for a network that has one answer."""

    def __init__(self, logit: float) -> None:
        self.logit = logit

    def run(self, inputs: np.ndarray) -> Seen:
        logits = np.full((len(inputs), 8), self.logit, np.float32)
        return Seen(logits, logits, logits)


def test_the_networks_of_a_model_answer_in_turns(model):
    networks = [Constant(number) for number in range(3)]
    several = SimpleNamespace(
        committee=Committee(networks),
        record=model.record,
        calibrated=lambda logits, _short_side_px: logits,
    )
    size_px = model.record.input.size_px
    pixels = np.zeros((7, size_px, size_px, 3), np.uint8)
    answers = model_answers(several, 450)(pixels)
    assert answers[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_a_lesion_that_decides_has_a_map_that_may_be_interpreted(model):
    image = read_image(demo_lesions()[0].png())
    code, _ = model.predict(image).ranking()[0]
    heatmap = explain(model, image, code, RISE.key)
    measured = trust(model, image, heatmap, code)
    assert measured.stability == pytest.approx(heatmap.repeatability)
    assert measured.by_masks
    assert measured.readable
    assert measured.sentence.endswith("the map stays similar with other random masks.")
    assert not math.isnan(measured.faithfulness)
