from dataclasses import fields, replace

import numpy as np
import pytest

from cadlib.images import LesionImage, read_image
from cadlib.images.corruptions import CORRUPTIONS
from cadlib.images.quality import LIMITS, SWAPPED, QualityMeasurements, inspect
from cadlib.images.red_blue_swap import SWAPPED_NOTE, swap_red_and_blue
from cadlib.images.synthetic import demo_lesions

DAMAGE = {corruption.name: corruption for corruption in CORRUPTIONS}


def image_of(pixels: np.ndarray) -> LesionImage:
    return LesionImage(np.ascontiguousarray(pixels), "0" * 64, "PIL")


@pytest.fixture(scope="module")
def lesion() -> LesionImage:
    return read_image(demo_lesions()[1].png())


def flagged(image: LesionImage) -> dict[str, str]:
    return {check.name: check.severity for check in inspect(image).flagged}


def test_every_measurement_has_one_limit_and_every_check_its_place():
    assert [limit.measurement for limit in LIMITS] != []
    assert sorted(limit.measurement for limit in LIMITS) == sorted(
        field.name for field in fields(QualityMeasurements)
    )
    assert len({limit.name for limit in LIMITS}) == len(LIMITS)
    for limit in LIMITS:
        if limit.unreadable is not None:
            assert (limit.unreadable < limit.poor) == limit.below


def test_a_clear_lesion_is_readable(lesion):
    report = inspect(lesion)
    assert report.readable
    assert [check.name for check in report.checks] == [limit.name for limit in LIMITS]


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        ("noise", "noise"), ("defocus", "sharpness"), ("motion", "sharpness"), ("underexposure", "underexposure"),
        ("dark frame", "dark frame"), ("hair", "hair"), ("ruler", "ruler"), ("ink", "ink"), ("gel bubbles", "glare"),
        ("low resolution", "sharpness"), ("JPEG", "compression"), ("low contrast", "contrast"),
        ("overexposure", "overexposure"),
    ],
)  # fmt: skip
def test_severe_damage_is_named(lesion, damage, name):
    assert name not in flagged(lesion)
    assert name in flagged(replace(lesion, pixels=DAMAGE[damage](lesion.pixels, 5, 0)))


@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_more_damage_never_makes_a_picture_readable_again(lesion, damage):
    readable = [
        inspect(replace(lesion, pixels=DAMAGE[damage](lesion.pixels, s, 0))).readable
        for s in (1, 3, 5)
    ]
    assert readable == sorted(readable, reverse=True)


@pytest.mark.parametrize(
    ("grey", "name"), [(0, "underexposure"), (255, "overexposure"), (128, "contrast")]
)
def test_a_picture_of_one_grey_is_unreadable(grey, name):
    report = inspect(image_of(np.full((200, 300, 3), grey, np.uint8)))
    assert not report.readable
    assert (name, "unreadable") in {(check.name, check.severity) for check in report.checks}


def test_a_thumbnail_is_named_small(lesion):
    assert flagged(image_of(lesion.pixels[::5, ::5]))["size"] == "poor"


def test_the_size_of_a_photograph_changes_no_check(lesion):
    large = np.asarray(lesion.pixels).repeat(4, axis=0).repeat(4, axis=1)
    assert flagged(image_of(large)) == flagged(lesion)


def test_blocks_are_not_looked_for_where_the_file_was_read_at_a_fraction(lesion):
    damaged = replace(lesion, pixels=DAMAGE["JPEG"](lesion.pixels, 5, 0))
    assert inspect(damaged).measurements.blocks > 2
    assert (
        inspect(
            replace(damaged, reduced=(4 * lesion.width_px, 4 * lesion.height_px))
        ).measurements.blocks
        == 1
    )


def test_blocks_are_found_wherever_a_picture_was_cropped(lesion):
    cropped = DAMAGE["JPEG"](lesion.pixels, 5, 0)[3:, 5:]
    assert "compression" in flagged(image_of(cropped))


def test_a_picture_turned_upside_down_has_the_same_measurements(lesion):
    turned = inspect(image_of(lesion.pixels[::-1, ::-1])).measurements
    for name, value in vars(inspect(lesion).measurements).items():
        assert getattr(turned, name) == pytest.approx(value, rel=0.1, abs=0.02), name


def test_the_worst_comes_first():
    severities = [
        check.severity for check in inspect(image_of(np.zeros((100, 100, 3), np.uint8))).flagged
    ]
    assert severities == sorted(severities, key=["unreadable", "poor"].index)
    assert {*severities} == {"unreadable", "poor"}


@pytest.mark.parametrize("demo", demo_lesions(), ids=lambda demo: demo.name)
def test_swapped_red_and_blue_are_named_and_no_colour_cast(demo):
    image = read_image(demo.png())
    assert SWAPPED not in flagged(image)
    problems = flagged(swap_red_and_blue(image))
    assert SWAPPED in problems
    assert "colour cast" not in problems
    assert "ink" not in problems


def test_swapping_red_and_blue_turns_the_sign_of_the_measurement(lesion):
    swapped = swap_red_and_blue(lesion)
    assert inspect(swapped).measurements.red_lead == pytest.approx(
        -inspect(lesion).measurements.red_lead, abs=1e-6
    )


def test_every_measurement_is_given_as_json_where_colours_are_swapped(lesion):
    assert list(inspect(swap_red_and_blue(lesion)).to_json()["figures"]) == [
        limit.name for limit in LIMITS
    ]


def test_a_greyscale_image_does_not_look_swapped(lesion):
    grey = lesion.pixels.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
    assert inspect(image_of(grey)).measurements.red_lead == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("colour", [(40, 60, 200), (0, 160, 160), (120, 40, 180)])
def test_ink_beside_a_lesion_does_not_look_swapped(lesion, colour):
    pixels = lesion.pixels.copy()
    pixels[: pixels.shape[0] // 4] = colour
    assert SWAPPED not in flagged(image_of(pixels))


@pytest.mark.parametrize("strength", [1, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_light_of_another_colour_does_not_look_swapped(lesion, strength, seed):
    assert SWAPPED not in flagged(image_of(DAMAGE["colour cast"](lesion.pixels, strength, seed)))


def test_swapping_twice_gives_the_image_back(lesion):
    swapped = swap_red_and_blue(lesion)
    assert swapped.notes == (*lesion.notes, SWAPPED_NOTE)
    assert (swapped.sha256, swapped.key) == (lesion.sha256, f"{lesion.sha256}-swapped")
    assert not swapped.pixels.flags.writeable
    restored = swap_red_and_blue(swapped)
    assert np.array_equal(restored.pixels, lesion.pixels)
    assert (restored.notes, restored.key) == (lesion.notes, lesion.key)


def test_real_images_look_swapped_when_they_are_and_only_then(data_dir):
    images = [read_image(path) for path in sorted((data_dir / "uploads").glob("*.jpg"))]
    assert images
    assert not [image for image in images if inspect(image).swapped]
    swapped = [inspect(swap_red_and_blue(image)).swapped for image in images]
    assert (
        np.mean(swapped) >= 0.9
    )  # one of them has bluish light, which swapping turns into that of skin
