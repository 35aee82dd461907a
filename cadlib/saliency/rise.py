"""Maps what supports each diagnosis from answers to partly hidden images.

RISE: Petsiuk, Das and Saenko, BMVC 2018 (arXiv 1806.07421). An image is shown many times, each time
with other regions painted with skin. A region supports a diagnosis if its log-odds are higher in
the images that show the region. Nothing inside the network is used, so the map holds for several
networks and views as well as for one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cadlib.images.preprocess import to_array
from cadlib.images.turns import TURNS, turned, turned_back
from cadlib.model.model import Model
from cadlib.saliency.agreement import agreement
from cadlib.saliency.faithfulness import skin_colour
from cadlib.taxonomy import CODES

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Answers = Callable[[Pixels], Doubles]
"""Returns the probabilities, (N, 8), of (N, S, S, 3) uint8 RGB."""

EDGE_STEEPNESS = 6.0
LEAST_PROBABILITY = 1e-6
"""Smaller probabilities count as this one, because 0 has no log-odds."""
LEAST_CHANGE = 1e-6
"""Smaller differences of log-odds come from rounding."""
_MARGIN_SHARE = 0.6
"""Margin around the noise that is cut off, because smoothing is different at an edge."""


@dataclass(frozen=True)
class MaskSet:
    """How the masks are drawn; `benchmarks/rise.py` compares other values.

    `n` is the number of masks, each of which is used on all eight views of the image.
    `region_share` is the standard deviation of the smoothing that makes the regions, as a share of
    the side. The masks show different shares of the image, from `least_shown` to `most_shown`.
    """

    n: int = 40
    region_share: float = 0.1
    least_shown: float = 0.1
    most_shown: float = 0.9


MASKS = MaskSet()


@dataclass(frozen=True, eq=False)
class RiseMaps:
    """The maps of one image for all eight diagnoses, read-only.

    `values`, (8, S, S) float32, is how much the log-odds of a diagnosis rise per share of the place
    that is visible; below 0 where the place speaks against it. `repeatability`, (8,) float64, is
    how similar the map would be with other masks: the correlation of the maps of two halves of the
    masks, stepped up to all masks (Spearman and Brown, 1910). It is NaN where a map is flat. All
    values are NaN where an answer is not finite.
    """

    values: Floats
    repeatability: Doubles


def rise(
    answers: Answers,
    pixels: Pixels,
    n_networks: int = 1,
    mask_set: MaskSet = MASKS,
) -> RiseMaps:
    """Return the maps of an image, (S, S, 3) uint8 RGB of the model's input size.

    `answers` is asked about the masked images of each of the eight views in turn. If several
    networks take turns to answer, mask i is that of network i modulo `n_networks`. The set of
    masked images is the same for every rotated or mirrored view of an image, so the map turns with
    the image.
    """
    shown = masks(len(pixels), mask_set)
    skin = skin_colour(pixels).astype(np.float32)
    by_view = [_log_odds(answers, turned(pixels, turn), shown, skin) for turn in TURNS]
    log_odds = np.stack(by_view)
    if not np.isfinite(log_odds).all():
        # A least-squares fit would not end with NaN.
        undefined = np.full((log_odds.shape[-1], *pixels.shape[:2]), np.nan, np.float32)
        return RiseMaps(undefined, undefined[:, 0, 0].astype(np.float64))
    # A rounding error is no evidence.
    same = np.ptp(log_odds, axis=(0, 1)) < LEAST_CHANGE
    log_odds[..., same] = 0
    values = _slopes(log_odds, shown, np.arange(len(shown)), n_networks)
    repeatability = _repeatability(log_odds, shown, n_networks)
    values.setflags(write=False)
    repeatability.setflags(write=False)
    return RiseMaps(values, repeatability)


def model_answers(model: Model, short_side_px: int) -> Answers:
    """Return a function that asks the networks of a model about masked images, in turns.

    Each masked image is read by one network, as it is: all networks and views of all masked images
    would take 40 times as long for a committee of five.
    """
    members = model.committee.members

    def answers(masked: Pixels) -> Doubles:
        logits = np.empty((len(masked), len(CODES)), np.float32)
        for place, member in enumerate(members):
            inputs = to_array(masked[place :: len(members)], model.record.input)
            logits[place :: len(members)] = member.run(inputs).logits
        # Damaged weights result in NaN, which is checked later.
        with np.errstate(invalid="ignore", over="ignore"):
            return model.calibrated(logits, short_side_px)

    return answers


@cache
def masks(size_px: int, mask_set: MaskSet = MASKS) -> Floats:
    """Return the masks of images of that side, (N, S, S) float32: 0 hidden, 1 visible.

    They are the same at each call. Smoothed noise is cut at a level, so that each mask shows
    another share of the image.
    """
    rng = np.random.default_rng(0)
    margin = round(_MARGIN_SHARE * size_px)
    noise_px = size_px + 2 * margin
    inside = slice(margin, margin + size_px)
    shares = np.linspace(mask_set.least_shown, mask_set.most_shown, mask_set.n)
    drawn = []
    for share in shares:
        noise = rng.standard_normal((noise_px, noise_px)).astype(np.float32)
        smooth = cv2.GaussianBlur(noise, (0, 0), mask_set.region_share * size_px)
        field = smooth[inside, inside]
        level = np.quantile(field, 1 - share)
        heights = (field - level) / field.std()
        mask = 1 / (1 + np.exp(-EDGE_STEEPNESS * heights))
        drawn.append(mask.astype(np.float32))
    all_masks = np.stack(drawn)
    all_masks.setflags(write=False)
    return all_masks


def _log_odds(
    answers: Answers,
    view: Pixels,
    shown: Floats,
    skin: Floats,
) -> Doubles:
    """Return the log-odds of each diagnosis under each mask of a view, (N, 8)."""
    visible = shown[..., None]
    painted = visible * view + (1 - visible) * skin
    masked = np.rint(painted).astype(np.uint8)
    probabilities = answers(masked)
    possible = np.clip(probabilities, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    log_odds: Doubles = np.log(possible) - np.log1p(-possible)
    return log_odds


def _slopes(
    log_odds: Doubles,
    shown: Floats,
    numbers: NDArray[np.int64],
    n_networks: int,
) -> Floats:
    """Return the slope of (V, N, 8) log-odds over the visibility of each place, (8, S, S).

    `numbers` are those of the masks that count. How much of the image a mask shows, wherever it is,
    is left out of both: else a place would get the credit for all that is visible with it. So is
    the level of the network that answers.
    """
    counted = shown[numbers]
    predictors = _predictors(counted, numbers, n_networks)
    visibility = _without(predictors, counted.reshape(len(numbers), -1))
    total = np.zeros((log_odds.shape[-1], *shown.shape[1:]))
    n_views = len(TURNS)
    answers = log_odds[:, numbers]
    rest = _without(np.tile(predictors, (n_views, 1)), answers.reshape(-1, len(total)))
    for turn, of_view in zip(TURNS, rest.reshape(answers.shape), strict=True):
        products = of_view.T @ visibility
        total += turned_back(products.reshape(total.shape), turn)
    n_answers = n_views * len(numbers)
    variance = np.mean(visibility**2)
    slopes: Floats = (total / (n_answers * variance)).astype(np.float32)
    return slopes


def _predictors(counted: Floats, numbers: NDArray[np.int64], n_networks: int) -> Doubles:
    """Return what predicts an answer without any place, a row for each mask."""
    shares = counted.mean(axis=(1, 2), dtype=np.float64)
    is_of_network = numbers[:, None] % n_networks == np.arange(n_networks)
    # The answers need not rise in a straight line with the share.
    return np.column_stack([is_of_network, shares, shares**2])


def _without(predictors: Doubles, columns: NDArray[np.floating]) -> Doubles:
    """Return what a linear fit of (N, K) columns on (N, P) predictors leaves over."""
    coefficients, *_ = np.linalg.lstsq(predictors, columns, rcond=None)
    remainder: Doubles = columns - predictors @ coefficients
    return remainder


def _repeatability(log_odds: Doubles, shown: Floats, n_networks: int) -> Doubles:
    """Return how similar maps would be with other masks, (8,), from the maps of two halves."""
    numbers = np.arange(len(shown))
    # Whole rounds of the networks, so that both halves have all of them and about the same shares.
    in_first = numbers // n_networks % 2 == 0
    first = _slopes(log_odds, shown, numbers[in_first], n_networks)
    second = _slopes(log_odds, shown, numbers[~in_first], n_networks)
    halves = zip(first, second, strict=True)
    correlations = np.array([agreement(*half) for half in halves])
    # A negative correlation has no such extrapolation.
    not_negative = np.maximum(correlations, 0)
    stepped_up: Doubles = 2 * not_negative / (1 + not_negative)
    return stepped_up
