"""Augments training images between `preprocess.to_pixels` and `preprocess.to_array`.

Each draw depends only on its seed, so a resumed run gets the same images.
"""

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional


class RandomResolution(v2.Transform):  # type: ignore[misc]
    """Shrink to a random side and enlarge again, so that blur does not reveal an image's archive.

    In ISIC 2019 the resolution depends on the archive, and the archive hints at the diagnosis.
    """

    def __init__(self, smallest_px: int) -> None:
        super().__init__()
        self.smallest_px = smallest_px

    def forward(self, image: Tensor) -> Tensor:
        """Degrade a (3, S, S) uint8 image to a side drawn log-uniformly from `smallest_px` to S."""
        side = image.shape[-1]
        full_size = [side, side]
        ratio = self.smallest_px / side
        # An even exponent draws the side log-uniformly: halving is as likely at every size.
        exponent = torch.rand(()).item()
        small_side = round(side * ratio**exponent)
        small_size = [small_side, small_side]
        small = functional.resize(image, small_size, antialias=True)
        restored: Tensor = functional.resize(small, full_size, antialias=True)
        return restored


def training_transform() -> v2.Compose:
    """Return the augmentation that preserves size: flips, rotation, resolution, colour.

    It maps (3, S, S) uint8 to the same.
    """
    # Grey corners: black ones would look like the dark border of a lens.
    rotation = v2.RandomRotation(180, v2.InterpolationMode.BILINEAR, fill=127)
    resolution = RandomResolution(smallest_px=84)
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomApply([rotation], p=0.3),
            v2.RandomApply([resolution], p=0.5),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ]
    )


def mix(pixels: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Blend each image of a batch with its neighbour, and their targets alike.

    The share is drawn from Beta(alpha, alpha); with alpha 0 nothing is blended. `pixels` is
    (N, 3, S, S) float, `targets` (N, K) float, for example the share of each class. Return both.
    Zhang et al., mixup: Beyond Empirical Risk Minimization (ICLR 2018).
    """
    # Beta(0, 0) is not defined.
    if not alpha:
        return pixels, targets
    mixup = v2.MixUp(alpha=alpha)
    mixed: tuple[Tensor, Tensor] = mixup(pixels, targets)
    return mixed


def augment(image: Tensor, side_px: int, seed: int, least_crop: float) -> Tensor:
    """Crop a random part of a (3, S, S) uint8 image to `side_px` and vary it.

    The crop shows at least the share `least_crop` of the image's area. The same seed gives the same
    image.
    """
    # The transforms draw from torch's global generator, which dropout uses too.
    with torch.random.fork_rng(devices=[]):
        # The images are on the CPU. `torch.manual_seed` would also seed accelerators, or note a
        # stack trace for each one that is not in use, which takes as long as the transforms.
        torch.default_generator.manual_seed(seed)
        crop = v2.RandomResizedCrop(
            side_px,
            scale=(least_crop, 1.0),
            ratio=(0.85, 1.18),
            antialias=True,
        )
        vary = training_transform()
        cropped = crop(image)
        varied: Tensor = vary(cropped)
        return varied
