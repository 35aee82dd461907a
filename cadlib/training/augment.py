"""What training does to an image between `preprocess.to_pixels` and `preprocess.to_array`.

Each draw depends only on the seed it is given, so a run resumed in its middle sees the same pictures.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional


class RandomResolution(v2.Transform):  # type: ignore[misc]
    """Shrink to a random side and enlarge again, so that blur says nothing of the archive an image is from.

    In ISIC 2019 resolution tells the source, and the source hints at the diagnosis.
    """

    def __init__(self, smallest_px: int) -> None:
        super().__init__()
        self.smallest_px = smallest_px

    def forward(self, image: Tensor) -> Tensor:
        """Degrade a (3, S, S) uint8 image to a side drawn log-uniformly from `smallest_px` to S."""
        side = image.shape[-1]
        ratio = self.smallest_px / side
        drawn = round(side * ratio ** torch.rand(()).item())
        small = functional.resize(image, [drawn, drawn], antialias=True)
        restored: Tensor = functional.resize(small, [side, side], antialias=True)
        return restored


def training_transform() -> v2.Compose:
    """Return the augmentation that keeps size: flips, rotation, resolution, colour; (3, S, S) uint8 to the same."""
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomApply(
                [v2.RandomRotation(180, v2.InterpolationMode.BILINEAR, fill=127)], p=0.3
            ),
            v2.RandomApply([RandomResolution(smallest_px=84)], p=0.5),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2),
        ]
    )


def mix(pixels: Tensor, labels: Tensor, n_classes: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Blend each image of a batch with its neighbour, and their labels alike, by a share drawn from Beta(alpha, alpha).

    `pixels` is (N, 3, S, S) float, `labels` (N,) int; return pixels and (N, n_classes) float labels, rows sum to 1.
    Zhang et al., mixup: Beyond Empirical Risk Minimization (ICLR 2018). With alpha 0 nothing is blended.
    """
    if not alpha:
        return pixels, one_hot(labels, n_classes).float()
    mixed: tuple[Tensor, Tensor] = v2.MixUp(alpha=alpha, num_classes=n_classes)(pixels, labels)
    return mixed


def augment(image: Tensor, side_px: int, seed: int, least_crop: float) -> Tensor:
    """Crop a random part of a (3, S, S) uint8 image to `side_px` and vary it; the same seed gives the same picture.

    The crop shows at least the share `least_crop` of the image's area.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        crop = v2.RandomResizedCrop(
            side_px, scale=(least_crop, 1.0), ratio=(0.85, 1.18), antialias=True
        )
        varied: Tensor = training_transform()(crop(image))
        return varied
