import pytest
import torch
from torch.nn.functional import one_hot

from cadlib.training.augment import RandomResolution, augment, mix


@pytest.fixture
def picture():
    return torch.randint(
        0, 256, (3, 192, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_the_same_seed_gives_the_same_picture(picture):
    assert torch.equal(augment(picture, 160, 7, 0.6), augment(picture, 160, 7, 0.6))


def test_another_seed_gives_another_picture(picture):
    assert not torch.equal(augment(picture, 160, 7, 0.6), augment(picture, 160, 8, 0.6))


def test_the_crop_has_the_requested_side(picture):
    varied = augment(picture, 128, 0, 0.6)
    assert varied.shape == (3, 128, 128)
    assert varied.dtype == torch.uint8


def test_the_randomness_of_the_caller_is_left_alone(picture):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    augment(picture, 160, 1, 0.6)
    assert torch.equal(torch.rand(3), expected)


def test_losing_resolution_removes_detail_and_keeps_the_mean(picture):
    torch.manual_seed(1)
    blurred = RandomResolution(smallest_px=24)(picture)
    assert blurred.shape == picture.shape
    assert blurred.float().std() < 0.8 * picture.float().std()
    assert blurred.float().mean() == pytest.approx(picture.float().mean().item(), abs=1)


def test_a_smaller_least_crop_shows_smaller_parts():
    slope = torch.arange(192).expand(3, 192, 192).to(torch.uint8)

    def smallest_span(least_crop):
        spans = [augment(slope, 64, seed, least_crop).float() for seed in range(40)]
        return min(float(span.amax() - span.amin()) for span in spans)

    assert smallest_span(0.1) < 0.75 * smallest_span(0.9)


def test_mixing_blends_pictures_and_labels_by_one_share():
    torch.manual_seed(0)
    pixels = torch.stack([torch.full((3, 4, 4), float(value)) for value in range(5)])
    mixed, shares = mix(pixels, one_hot(torch.arange(5), 8).float(), alpha=0.4)
    assert shares.shape == (5, 8)
    assert torch.allclose(shares.sum(dim=1), torch.ones(5))
    assert ((shares > 0).sum(dim=1) == 2).all()
    # The images hold the number of their class, so a blend is the mean of its labels.
    assert torch.allclose(mixed[:, 0, 0, 0], shares @ torch.arange(8.0))


def test_alpha_zero_leaves_pictures_and_labels_as_they_are():
    pixels = torch.rand(3, 3, 4, 4)
    mixed, shares = mix(pixels, one_hot(torch.tensor([2, 0, 7]), 8).float(), alpha=0)
    assert torch.equal(mixed, pixels)
    assert shares.argmax(dim=1).tolist() == [2, 0, 7]
    assert shares.sum() == 3
