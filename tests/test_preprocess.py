import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from PIL import Image

from cadlib.images import LesionImage, read_image
from cadlib.images.preprocess import REDUCING_GAP, InputSpec, to_array, to_pixels
from cadlib.images.turns import TURNS, turned

SPEC = InputSpec(192, "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), symmetric=False)
SYMMETRIC = structs.replace(SPEC, symmetric=True)


def lesion(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return LesionImage(pixels, "0" * 64, "PNG", ())


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(600, 450, (75, 0, 525, 450)), (450, 601, (0, 75, 450, 525)), (84, 84, (0, 0, 84, 84))],
)
def test_the_crop_is_the_centred_square(width, height, box):
    assert SPEC.crop_box(width, height) == box


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (600, 450, (75, 0, 525, 450)),
        (601, 450, (75, 0, 526, 450)),
        (450, 601, (0, 75, 450, 526)),
        (84, 84, (0, 0, 84, 84)),
        (85, 84, (0, 0, 85, 84)),
    ],
)
def test_a_symmetric_crop_is_as_far_from_each_edge_as_from_the_opposite_one(width, height, box):
    assert SYMMETRIC.crop_box(width, height) == box
    left, top, right, bottom = box
    assert (left, top) == (width - right, height - bottom)


@pytest.mark.parametrize("turn", TURNS)
@given(
    st.tuples(st.integers(16, 240), st.integers(16, 240)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([32, 33, 48]),
)
@settings(max_examples=25)
def test_a_turned_image_gives_the_same_pixels_turned(turn, size, seed, size_px):
    spec = structs.replace(SYMMETRIC, size_px=size_px)
    height, width = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    upright = to_pixels(LesionImage(pixels, "", "PNG", ()), spec)
    view = np.ascontiguousarray(turned(pixels, turn))
    assert np.array_equal(
        to_pixels(LesionImage(view, "", "PNG", ()), spec),
        turned(upright, turn),
    )


@pytest.mark.parametrize(("height", "width"), [(97, 97), (100, 161), (450, 600), (1000, 1500)])
def test_a_symmetric_crop_differs_from_pillows_by_rounding_alone(height, width):
    noise = lesion(height, width).pixels
    # Near black and white, Pillow also cuts off what lies outside of the range, after each pass.
    image = LesionImage(96 + noise // 4, "", "PNG", ())
    box = SYMMETRIC.crop_box(width, height)
    square = Image.fromarray(image.pixels).crop(box)
    expected = square.resize((192, 192), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
    difference = to_pixels(image, SYMMETRIC).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


def test_pixels_outside_the_crop_have_no_effect():
    image = lesion(100, 160)
    painted = image.pixels.copy()
    painted[:, :30] = 0
    assert np.array_equal(
        to_pixels(image, SPEC), to_pixels(LesionImage(painted, "", "PNG", ()), SPEC)
    )


@pytest.mark.parametrize(("height", "width"), [(100, 161), (161, 100), (97, 97), (450, 600)])
def test_the_square_is_that_of_pillow(height, width):
    image = lesion(height, width)
    left, top, right, bottom = SPEC.crop_box(width, height)
    square = Image.fromarray(np.ascontiguousarray(image.pixels[top:bottom, left:right]))
    expected = square.resize((192, 192), Image.Resampling.BICUBIC)
    assert np.array_equal(to_pixels(image, SPEC), np.asarray(expected))


def test_an_image_of_the_input_size_is_kept_pixel_for_pixel():
    image = lesion(192, 192)
    assert np.array_equal(to_pixels(image, SPEC), image.pixels)


def test_normalisation_is_per_channel_in_units_of_full_scale():
    array = to_array(np.full((192, 192, 3), 255, np.uint8), SPEC)
    assert array.shape == (1, 3, 192, 192)
    assert array.dtype == np.float32
    expected = [(1 - mean) / std for mean, std in zip(SPEC.mean, SPEC.std, strict=True)]
    assert array[0, :, 0, 0] == pytest.approx(expected, rel=1e-6)


def test_an_image_in_a_batch_equals_the_image_alone():
    pixels = np.stack([to_pixels(lesion(100, 100), SPEC), to_pixels(lesion(300, 200), SPEC)])
    assert np.array_equal(to_array(pixels, SPEC)[1:], to_array(pixels[1], SPEC))


def test_training_and_prediction_read_the_same_tensor_bit_for_bit(data_dir):
    from cadlib.training.loop import normalise

    for path in sorted((data_dir / "uploads").glob("*.jpg"))[:4]:
        pixels = to_pixels(read_image(path), SPEC)
        trained = normalise(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None], SPEC)
        assert torch.equal(trained, torch.from_numpy(to_array(pixels, SPEC)))


def square_of(picture):
    """Return the central square of a picture at the model's size, resized by Pillow in one step."""
    square = picture.crop(SPEC.crop_box(*picture.size))
    resized = square.resize((SPEC.size_px, SPEC.size_px), Image.Resampling.BICUBIC)
    return np.asarray(resized).astype(int)


def test_a_photograph_decoded_smaller_and_resized_in_two_steps_is_as_if_resized_at_once(data_dir):
    images = {path: read_image(path) for path in sorted((data_dir / "uploads").glob("*.jpg"))}
    photographs = {path: image for path, image in images.items() if image.reduced}
    assert len(photographs) >= 2
    for path, image in photographs.items():
        original = Image.open(path).convert("RGB")
        assert original.size == image.file_px
        assert np.abs(to_pixels(image, SPEC) - square_of(original)).mean() < 0.5
        read = Image.fromarray(image.pixels)
        assert np.abs(to_pixels(image, SPEC) - square_of(read)).mean() < 0.3


def test_the_spec_survives_json():
    assert msgspec.json.decode(msgspec.json.encode(SPEC), type=InputSpec) == SPEC


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_px": 8}, "size_px"),
        ({"interpolation": "nearest"}, "interpolation"),
        ({"std": (0.0, 1.0, 1.0)}, "positive stds"),
    ],
)
def test_refuses_a_spec_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(SPEC, **change)


def test_refuses_pixels_that_are_not_bytes():
    with pytest.raises(ValueError, match="uint8"):
        to_array(np.zeros((192, 192, 3), np.float32), SPEC)
