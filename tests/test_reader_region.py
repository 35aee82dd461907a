"""Comparing a saliency map with the region that a reader marked."""

import numpy as np
import pytest

from cadlib.errors import CaseRejected
from cadlib.saliency.heatmap import Heatmap
from cadlib.saliency.reader_region import check_region, compare_with_region, random_map


def heatmap(values: np.ndarray, box: tuple[int, int, int, int]) -> Heatmap:
    values = values.astype(np.float32)
    return Heatmap(values, "MEL", "grad-cam", float(values.max()), box)


@pytest.fixture
def left_half() -> Heatmap:
    """Return a map of a 100 × 100 px image whose left half is highlighted."""
    values = np.zeros((100, 100))
    values[:, :50] = 1
    values[50, 20] = 2
    return heatmap(values, (0, 0, 100, 100))


def rectangle(left: float, top: float, right: float, bottom: float):
    return check_region([(left, top), (right, top), (right, bottom), (left, bottom)])


def test_a_region_of_the_highlighted_places_agrees_fully(left_half):
    result = compare_with_region(left_half, rectangle(0, 0, 0.49, 1), (100, 100))
    assert result.peak_inside
    assert result.iou == pytest.approx(1, abs=0.03)


def test_a_region_of_half_of_them_has_an_iou_of_a_half(left_half):
    result = compare_with_region(left_half, rectangle(0, 0, 0.49, 0.49), (100, 100))
    assert result.iou == pytest.approx(0.5, abs=0.03)


def test_a_region_elsewhere_does_not_agree(left_half):
    result = compare_with_region(left_half, rectangle(0.6, 0, 1, 1), (100, 100))
    assert not result.peak_inside
    assert result.iou == 0


def test_the_part_of_a_region_outside_the_square_counts():
    """The network reads the centred square of a wide image."""
    values = np.ones((50, 50))
    wide = heatmap(values, (50, 0, 150, 100))
    result = compare_with_region(wide, rectangle(0, 0, 1, 1), (200, 100))
    assert result.iou == pytest.approx(0.5, abs=0.02)


def test_a_map_of_zeros_has_no_agreement():
    zeros = heatmap(np.zeros((10, 10)), (0, 0, 100, 100))
    assert compare_with_region(zeros, rectangle(0, 0, 1, 1), (100, 100)) is None


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(0, 0), (1, 1)], "3 to 500 points, but got 2"),
        ([(0, 0)] * 501, "but got 501"),
        ([(0, 0), (1, 1), (2, 0)], "points from 0 to 1"),
        ([(0, 0), (1, 1), (float("nan"), 0)], "points from 0 to 1"),
        ([(0, 0), (1, 1), (1, 0, 1)], "points from 0 to 1"),
    ],
)
def test_points_that_are_no_region_are_refused(points, message):
    with pytest.raises(CaseRejected, match=message):
        check_region(points)


def test_a_random_map_has_the_same_values_at_other_places(left_half):
    moved = random_map(left_half, 1)
    assert np.array_equal(np.sort(moved.values, axis=None), np.sort(left_half.values, axis=None))
    assert abs(np.corrcoef(moved.values.ravel(), left_half.values.ravel())[0, 1]) < 0.5
    assert np.array_equal(moved.values, random_map(left_half, 1).values)
    assert not np.array_equal(moved.values, random_map(left_half, 2).values)


def test_random_maps_do_not_resemble_the_map_on_average(left_half):
    correlations = []
    for seed in range(60):
        moved = random_map(left_half, seed).values
        correlations.append(np.corrcoef(moved.ravel(), left_half.values.ravel())[0, 1])
    assert abs(np.mean(correlations)) < 0.12
