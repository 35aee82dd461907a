import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from cadlib.likeness import SAME_PICTURE, SIDE_PX, detail, likeness, turned
from cadlib.synthetic import demo_lesions

SIDE = 176


def picture(number: int) -> Image.Image:
    return Image.fromarray(demo_lesions()[number].pixels).resize((SIDE, SIDE))


def alike(left: Image.Image, right: Image.Image) -> float:
    one, other = (detail(np.asarray(image)) for image in (left, right))
    return float(likeness(one.reshape(1, -1), turned(other[None]))[0, 0])


def recompressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


def shrunk(image: Image.Image) -> Image.Image:
    return image.resize((84, 84)).resize((SIDE, SIDE))


def recoloured(image: Image.Image) -> Image.Image:
    return ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(0.8)).enhance(0.5)


@pytest.mark.parametrize("change", [recompressed, shrunk, recoloured])
def test_one_picture_stays_one_after(change):
    assert alike(picture(0), change(picture(0))) >= SAME_PICTURE


@pytest.mark.parametrize("turn", list(Image.Transpose))
def test_one_picture_stays_one_mirrored_or_turned(turn):
    assert alike(picture(3), picture(3).transpose(turn)) == pytest.approx(1, abs=1e-4)


def test_different_pictures_are_not_alike():
    pictures = [picture(number) for number in range(10)]
    values = [alike(a, b) for i, a in enumerate(pictures) for b in pictures[:i]]
    assert max(values) < SAME_PICTURE


def test_a_black_rim_makes_no_two_pictures_alike():
    def rimmed(image: Image.Image) -> Image.Image:
        far = np.hypot(*np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j])
        return Image.fromarray((np.asarray(image) * np.clip((0.9 - far) * 8, 0, 1)[..., None]).astype(np.uint8))

    assert alike(rimmed(picture(0)), rimmed(picture(1))) < SAME_PICTURE
    assert alike(rimmed(picture(0)), rimmed(picture(0)).rotate(90)) > 0.9


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_flat_picture_has_no_detail_and_is_like_none(grey):
    flat = Image.new("RGB", (SIDE, SIDE), (grey, grey, grey))
    assert not detail(np.asarray(flat)).any()
    assert alike(flat, flat) == 0


def test_a_detail_is_of_mean_0_and_length_1():
    found = detail(np.asarray(picture(2)))
    assert found.shape == (SIDE_PX, SIDE_PX)
    assert found.dtype == np.float32
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    assert found.mean() == pytest.approx(0, abs=1e-4)
