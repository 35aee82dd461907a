from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cadlib.images import read_image
from cadlib.images.corruptions import CORRUPTIONS, STRENGTHS, Corruption
from cadlib.images.synthetic import render_lesion

every_corruption = pytest.mark.parametrize(
    "corruption", CORRUPTIONS, ids=lambda corruption: corruption.name
)


@pytest.fixture(scope="module")
def lesion() -> np.ndarray:
    return render_lesion("MEL", 0, 200)


def named(name: str) -> Corruption:
    return next(corruption for corruption in CORRUPTIONS if corruption.name == name)


def change(before: np.ndarray, after: np.ndarray) -> float:
    """Return the mean absolute difference, 0 to 255."""
    return float(np.abs(after.astype(np.float64) - before).mean())


def test_there_are_fifteen_of_different_names():
    assert len({corruption.name for corruption in CORRUPTIONS}) == len(CORRUPTIONS) == 15
    assert all(len(set(corruption.levels)) == len(STRENGTHS) for corruption in CORRUPTIONS)


def test_a_corruption_is_frozen():
    with pytest.raises(FrozenInstanceError):
        CORRUPTIONS[0].name = "another"


@every_corruption
def test_the_same_seed_gives_the_same_picture(corruption, lesion):
    assert np.array_equal(corruption(lesion, 3, 7), corruption(lesion, 3, 7))


@pytest.mark.parametrize(
    "name",
    [
        "noise",
        "shot noise",
        "motion",
        "colour cast",
        "dark frame",
        "hair",
        "ruler",
        "ink",
        "gel bubbles",
    ],
)
def test_random_damage_differs_between_seeds(name, lesion):
    pictures = [named(name)(lesion, 4, seed).tobytes() for seed in range(6)]
    assert len(set(pictures)) > 1


@every_corruption
@pytest.mark.parametrize("size_px", [84, 300])
def test_a_greater_strength_changes_a_picture_more(corruption, size_px):
    lesion = render_lesion("NV", 1, size_px)
    for seed in (0, 1):
        changes = [change(lesion, corruption(lesion, strength, seed)) for strength in STRENGTHS]
        assert changes == sorted(set(changes)), changes
        assert changes[-1] > 1


@every_corruption
def test_a_real_picture_is_changed_more_by_a_greater_strength(corruption, data_dir):
    pixels = read_image(
        data_dir / "isic2019" / "ISIC_2019_Training_Input" / "ISIC_0024403.jpg"
    ).pixels
    changes = [change(pixels, corruption(pixels, strength, 3)) for strength in STRENGTHS]
    assert changes == sorted(set(changes))


@every_corruption
def test_the_strongest_damage_leaves_lesion_and_skin_distinct(corruption):
    lesion = render_lesion("MEL", 0, 200)
    for seed in (0, 1):
        grey = corruption(lesion, 5, seed).astype(np.float64).mean(axis=2)
        assert np.median(grey[80:120, 80:120]) < 0.9 * np.median(grey[30:50, 60:140])


@every_corruption
@settings(max_examples=6, deadline=None)
@given(
    height=st.integers(16, 130), width=st.integers(16, 130), strength=st.sampled_from(STRENGTHS),
    seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_picture_keeps_its_shape_and_type_and_is_not_written_to(
    corruption, height, width, strength, seed
):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    pixels.flags.writeable = False
    damaged = corruption(pixels, strength, seed)
    assert (damaged.shape, damaged.dtype) == (pixels.shape, np.uint8)
    assert not np.shares_memory(damaged, pixels)


@pytest.mark.parametrize("name", ["defocus", "hair", "ruler", "ink", "gel bubbles", "dark frame"])
def test_a_length_is_a_share_of_the_short_side(name):
    flat = [np.full((size, size, 3), 200, np.uint8) for size in (200, 800)]
    for pixels in flat:
        pixels[:, len(pixels) // 2 :] = 80
    corruption = named(name)
    small = corruption(flat[0], 5, 2).astype(np.float64)
    large = corruption(flat[1], 5, 2).astype(np.float64)
    shrunk = large.reshape(200, 4, 200, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 0.25 * change(flat[0], small)


def test_a_stop_of_light_is_a_factor_of_two_in_linear_light():
    grey = np.full(
        (20, 20, 3), 188, np.uint8
    )  # half of full scale in linear light, by IEC 61966-2-1
    assert set(np.unique(named("overexposure").damage(grey, 1.0, np.random.default_rng(0)))) == {
        255
    }
    assert set(np.unique(named("underexposure").damage(grey, -1.0, np.random.default_rng(0)))) == {
        137
    }


def test_the_noise_has_the_deviation_it_names():
    grey = np.full((250, 250, 3), 128, np.uint8)
    for strength, deviation in zip(STRENGTHS, named("noise").levels, strict=True):
        assert named("noise")(grey, strength, 0).std() == pytest.approx(255 * deviation, rel=0.02)


def test_blur_keeps_a_flat_picture_flat():
    grey = np.full((60, 90, 3), 128, np.uint8)
    for name in ("defocus", "motion", "low resolution"):
        assert set(np.unique(named(name)(grey, 5, 0))) == {128}


def test_a_colour_cast_keeps_the_brightness_of_grey():
    grey = np.full((20, 20, 3), 100, np.uint8)
    for seed in range(4):
        red, green, blue = named("colour cast")(grey, 5, seed)[0, 0].astype(np.float64) / 255
        assert abs(red - blue) > 0.08
        light = np.dot(
            [0.2126, 0.7152, 0.0722], [((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)]
        )
        assert light == pytest.approx(((100 / 255 + 0.055) / 1.055) ** 2.4, rel=0.02)


@pytest.mark.parametrize("strength", [0, 6, -1, 2.5])
def test_rejects_a_strength_outside_1_to_5(strength, lesion):
    with pytest.raises(
        ValueError, match=f"`strength` to be one of 1, 2, 3, 4, 5 but got {strength}"
    ):
        CORRUPTIONS[0](lesion, strength, 0)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((32, 32), np.uint8),
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((32, 32, 3)),
        np.zeros((8, 32, 3), "u1"),
    ],
    ids=["grey", "RGBA", "float", "tiny"],
)
def test_rejects_what_is_no_picture(pixels):
    with pytest.raises(ValueError, match=r"`pixels` to be \(H, W, 3\) uint8"):
        CORRUPTIONS[0](pixels, 1, 0)


def test_rejects_a_negative_seed(lesion):
    with pytest.raises(ValueError, match="`seed` to be 0 or more but got -1"):
        CORRUPTIONS[0](lesion, 1, -1)
