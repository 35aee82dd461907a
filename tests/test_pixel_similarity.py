import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from cadlib.data.pixel_similarity import (
    SAME,
    SIDE_PX,
    Details,
    details_of,
    likely_pairs,
    shows_the_same,
    similarity,
)
from cadlib.images.synthetic import demo_lesions

SIDE = 176


def picture(number: int) -> Image.Image:
    return Image.fromarray(demo_lesions()[number].pixels).resize((SIDE, SIDE))


def details(image: Image.Image) -> Details:
    return details_of(np.asarray(image)[None])


def alike(first: Image.Image, second: Image.Image) -> float:
    return float(similarity(details(first), details(second))[0, 0])


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


def shrunk(image: Image.Image) -> Image.Image:
    return image.resize((84, 84)).resize((SIDE, SIDE))


def recoloured(image: Image.Image) -> Image.Image:
    return ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(0.8)).enhance(0.5)


@pytest.mark.parametrize("change", [recompressed, shrunk, recoloured])
def test_an_image_matches_itself_after(change):
    assert alike(picture(0), change(picture(0))) >= SAME


@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_an_image_matches_itself_mirrored_or_rotated(turn):
    # not 1: Pillow shrinks a picture row by row, then column by column, and rounds between
    assert alike(picture(3), picture(3).transpose(turn)) >= 0.99


def test_different_pictures_are_not_alike():
    pictures = [picture(number) for number in range(10)]
    values = [alike(a, b) for i, a in enumerate(pictures) for b in pictures[:i]]
    assert max(values) < SAME


def test_a_black_rim_makes_no_two_pictures_alike():
    def rimmed(image: Image.Image) -> Image.Image:
        far = np.hypot(*np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j])
        return Image.fromarray(
            (np.asarray(image) * np.clip((0.9 - far) * 8, 0, 1)[..., None]).astype(np.uint8)
        )

    assert alike(rimmed(picture(0)), rimmed(picture(1))) < SAME
    assert alike(rimmed(picture(0)), rimmed(picture(0)).rotate(90)) > 0.9


def test_a_narrow_field_of_view_requires_a_higher_similarity():
    wide = Details(np.zeros((2, 32, 32)), np.array([1, 0.9]))
    narrow = Details(np.zeros((1, 32, 32)), np.array([0.3]))
    alike = np.array([[0.8], [0.8]], np.float32)
    apart = np.zeros((2, 1), bool)
    assert shows_the_same(alike, wide, wide.of(np.array([0])), apart).all()
    assert not shows_the_same(alike, wide, narrow, apart).any()
    assert not shows_the_same(alike, wide, narrow, ~apart).any()


def test_an_image_nearest_by_the_network_needs_less_similarity():
    wide = Details(np.zeros((1, 32, 32)), np.ones(1))
    alike = np.array([[0.7]], np.float32)
    nearest = np.ones((1, 1), bool)
    assert shows_the_same(alike, wide, wide, nearest)
    assert not shows_the_same(alike, wide, wide, ~nearest)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_flat_picture_has_no_detail_and_is_like_none(grey):
    flat = Image.new("RGB", (SIDE, SIDE), (grey, grey, grey))
    assert not details(flat).values.any()
    assert alike(flat, flat) == 0


def test_a_detail_is_of_mean_0_and_length_1():
    detail = details(picture(2))
    assert detail.values.shape == (1, SIDE_PX, SIDE_PX)
    assert detail.values.dtype == np.float32
    assert np.linalg.norm(detail.values) == pytest.approx(1, abs=1e-5)
    assert detail.values.mean() == pytest.approx(0, abs=1e-4)


def test_the_field_of_view_is_the_share_that_is_not_black():
    assert details(picture(2)).fields == 1
    half = np.asarray(picture(2)).copy()
    half[:, : SIDE // 2] = 0
    assert 0.3 < details(Image.fromarray(half)).fields[0] < 0.5


def test_many_images_give_the_details_of_each_alone():
    pictures = [np.asarray(picture(number)) for number in range(3)]
    together = details_of(np.stack(pictures))
    alone = [details_of(pixels[None]) for pixels in pictures]
    assert np.array_equal(together.values, np.concatenate([pixels.values for pixels in alone]))
    similarities = similarity(together, together.of(np.array([2, 0])))
    assert similarities.shape == (3, 2)
    assert similarities[2, 0] == pytest.approx(1, abs=1e-5)
    assert similarities[1, 1] == pytest.approx(similarity(alone[1], alone[0])[0, 0], abs=1e-5)


def test_the_pairs_of_a_split_are_those_of_the_same_content_in_either_order(monkeypatch):
    monkeypatch.setattr("cadlib.data.pixel_similarity._BLOCK", 3)
    images = [
        picture(0),
        picture(1),
        picture(2),
        picture(3),
        recompressed(picture(1)),
        picture(0).rotate(90),
    ]
    pairs = likely_pairs(details_of(np.stack([np.asarray(image) for image in images])))
    assert {(0, 5), (1, 4)} <= set(map(tuple, pairs.T.tolist()))
    assert (pairs[0] < pairs[1]).all()


def test_a_single_image_has_no_pair():
    assert likely_pairs(details(picture(0))).shape == (2, 0)
