import pytest
import torch

from cadlib.augment import RandomResolution, augment


@pytest.fixture
def picture():
    return torch.randint(0, 256, (3, 192, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_the_same_seed_gives_the_same_picture(picture):
    assert torch.equal(augment(picture, 160, 7), augment(picture, 160, 7))


def test_another_seed_gives_another_picture(picture):
    assert not torch.equal(augment(picture, 160, 7), augment(picture, 160, 8))


def test_the_crop_has_the_side_that_was_asked_for(picture):
    varied = augment(picture, 128, 0)
    assert varied.shape == (3, 128, 128)
    assert varied.dtype == torch.uint8


def test_the_randomness_of_the_caller_is_left_alone(picture):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    augment(picture, 160, 1)
    assert torch.equal(torch.rand(3), expected)


def test_losing_resolution_removes_detail_and_keeps_the_mean(picture):
    torch.manual_seed(1)
    blurred = RandomResolution(smallest_px=24)(picture)
    assert blurred.shape == picture.shape
    assert blurred.float().std() < 0.8 * picture.float().std()
    assert blurred.float().mean() == pytest.approx(picture.float().mean().item(), abs=1)
