"""From a lesion image to the array the network reads: one way, recorded with the model.

Training, evaluation, the pages and the command line all call `to_pixels` and `to_array`; training puts its
augmentation between the two. Neither needs torch.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cadlib.images import LesionImage

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

REDUCING_GAP = 2.0
"""A square of at least twice this many times the size is first reduced by a whole number, to at least this many times
the size: it saves most of the time of resizing a photograph, whose pixels differ by a quarter of a level on average."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class InputSpec:
    """What the network reads: the centred square of an image, `size_px` wide, normalised by `mean` and `std`.

    `mean` and `std` are per RGB channel, in units of full scale (0 to 1).
    """

    size_px: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.size_px < 32:
            raise ValueError(f"Expected `size_px` to be at least 32 but got {self.size_px!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"Expected `interpolation` to be one of {', '.join(INTERPOLATIONS)} but got {self.interpolation!r}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"Expected three means and three positive stds but got {self.mean!r} and {self.std!r}."
            )

    def crop_box(self, width_px: int, height_px: int) -> Box:
        """Return (left, top, right, bottom) in image pixels: the centred square that the network sees."""
        side = min(width_px, height_px)
        left, top = (width_px - side) // 2, (height_px - side) // 2
        return left, top, left + side, top + side

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "size_px": self.size_px,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "InputSpec":
        """Build from JSON values; a missing or unknown key is a TypeError, a bad value a ValueError."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)


def to_pixels(image: LesionImage, spec: InputSpec) -> NDArray[np.uint8]:
    """Crop the centred square and resize it with antialiasing; return (S, S, 3) uint8 RGB."""
    left, top, right, bottom = spec.crop_box(image.width_px, image.height_px)
    square = _pillow_image(image.pixels, (left, top, right, bottom))
    side = (spec.size_px, spec.size_px)
    resized = square.resize(side, INTERPOLATIONS[spec.interpolation], reducing_gap=REDUCING_GAP)
    return np.asarray(resized)


def _pillow_image(pixels: NDArray[np.uint8], box: Box) -> Image.Image:
    """Return a part of (H, W, 3) C-contiguous uint8 RGB; Image.fromarray would copy it once more."""
    left, top, right, bottom = box
    row_bytes = pixels.strides[0]
    data = pixels.data.cast("B")[top * row_bytes + 3 * left :]
    return Image.frombytes("RGB", (right - left, bottom - top), data, "raw", "RGB", row_bytes, 1)


def to_array(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Normalise (S, S, 3) or (N, S, S, 3) uint8 RGB to (N, 3, S, S) float32, channels last in memory."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise ValueError(
            f"Expected `pixels` to be (S, S, 3) or (N, S, S, 3) uint8 but got {pixels.shape} {pixels.dtype}."
        )
    batch = pixels if pixels.ndim == 4 else pixels[None]
    rows = cv2.LUT(batch.reshape(-1, *batch.shape[2:]), _normalised(spec))
    normalised: NDArray[np.float32] = np.asarray(rows, np.float32).reshape(batch.shape)
    return normalised.transpose(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _normalised(spec: InputSpec) -> NDArray[np.float32]:
    """Return what becomes of the 256 values of each channel, (1, 256, 3)."""
    values = np.repeat(np.arange(256, dtype=np.float32)[None, :, None], 3, axis=2)
    values /= np.float32(255)
    values -= np.asarray(spec.mean, np.float32)
    values /= np.asarray(spec.std, np.float32)
    return values
