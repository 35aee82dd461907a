"""Converts a lesion image to the array that the network reads.

The steps are recorded with the model. Training, evaluation, the pages and the command line all call
`to_pixels` and `to_array`. Training applies its augmentation between the two. Neither needs torch.
"""

from functools import lru_cache
from typing import Annotated

import cv2
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from PIL import Image

from cadlib.files.json_types import JsonObject
from cadlib.images import LesionImage
from cadlib.images.turns import AS_IT_IS, canonical_turn, pixels_turned_back, turned

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

REDUCING_GAP = 2.0
"""The `reducing_gap` of Pillow's `resize`.

A square of at least twice this many times the size is first reduced by a whole number, to at least
this many times the size. This saves most of the time of resizing a photograph. The pixels differ by
a quarter of a level on average.
"""

Box = tuple[int, int, int, int]
ChannelMean = Annotated[float, Meta(ge=-10, le=10)]
ChannelStd = Annotated[float, Meta(ge=1e-3, le=10)]


class InputSpec(JsonObject, frozen=True):
    """The input of a network: the centred square of an image, resized and normalised.

    `size_px` is the width of the resized square. `interpolation` is a key of INTERPOLATIONS. `mean`
    and `std` are per RGB channel, in units of full scale (0 to 1). With `symmetric`, a turned image
    gives the same pixels, turned: models before version 7 of the format were trained without.
    """

    size_px: Annotated[int, Meta(ge=32, le=4096)]
    interpolation: str
    mean: tuple[ChannelMean, ChannelMean, ChannelMean]
    std: tuple[ChannelStd, ChannelStd, ChannelStd]
    symmetric: bool

    def __post_init__(self) -> None:
        if self.size_px < 32:
            raise ValueError(f"Expected `size_px` to be at least 32 but got {self.size_px!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"Expected `interpolation` to be one of {', '.join(INTERPOLATIONS)} "
                f"but got {self.interpolation!r}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                "Expected three means and three positive stds "
                f"but got {self.mean!r} and {self.std!r}."
            )

    def crop_box(self, width_px: int, height_px: int) -> Box:
        """Return (left, top, right, bottom) of the centred square, in image pixels.

        With `symmetric` it is one pixel wider or higher where a square would not be in the middle.
        """
        side = min(width_px, height_px)
        spare_width = width_px - side
        spare_height = height_px - side
        left = spare_width // 2
        top = spare_height // 2
        if self.symmetric:
            # As far from the right and the lower edge as from the others.
            return left, top, width_px - left, height_px - top
        return left, top, left + side, top + side


def to_pixels(image: LesionImage, spec: InputSpec) -> NDArray[np.uint8]:
    """Crop the centred square and resize it with antialiasing; return (S, S, 3) uint8 RGB."""
    box = spec.crop_box(image.width_px, image.height_px)
    if not spec.symmetric:
        return _resized(_crop(image.pixels, box), spec)
    left, top, right, bottom = box
    square = image.pixels[top:bottom, left:right]
    # Resizing rounds rows before columns. In one orientation, all views are rounded alike.
    turn = canonical_turn(square)
    if turn == AS_IT_IS:
        return _resized(_crop(image.pixels, box), spec)
    canonical = np.ascontiguousarray(turned(square, turn))
    resized = _resized(Image.fromarray(canonical), spec)
    return np.ascontiguousarray(pixels_turned_back(resized, turn))


def _resized(square: Image.Image, spec: InputSpec) -> NDArray[np.uint8]:
    """Return an image resized to the input's size, (S, S, 3) uint8."""
    resized = square.resize(
        (spec.size_px, spec.size_px),
        INTERPOLATIONS[spec.interpolation],
        reducing_gap=REDUCING_GAP,
    )
    return np.asarray(resized)


def _crop(pixels: NDArray[np.uint8], box: Box) -> Image.Image:
    """Return the part of (H, W, 3) C-contiguous uint8 RGB in `box` as a Pillow image."""
    left, top, right, bottom = box
    row_bytes = pixels.strides[0]
    first_byte = top * row_bytes + 3 * left
    # Image.fromarray would make another copy.
    data = pixels.data.cast("B")[first_byte:]
    size = (right - left, bottom - top)
    return Image.frombytes("RGB", size, data, "raw", "RGB", row_bytes, 1)


def to_array(pixels: NDArray[np.uint8], spec: InputSpec) -> NDArray[np.float32]:
    """Normalise uint8 RGB to float32 for the network.

    `pixels` is (S, S, 3) or (N, S, S, 3). The result is (N, 3, S, S), with the channels last in
    memory.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise ValueError(
            "Expected `pixels` to be (S, S, 3) or (N, S, S, 3) uint8 "
            f"but got {pixels.shape} {pixels.dtype}."
        )
    batch = pixels
    if pixels.ndim == 3:
        batch = pixels[None]
    # cv2.LUT takes two dimensions and channels, so the images are stacked as rows.
    rows = batch.reshape(-1, *batch.shape[2:])
    looked_up = cv2.LUT(rows, _normalised_values(spec))
    normalised: NDArray[np.float32] = np.asarray(looked_up, np.float32)
    normalised = normalised.reshape(batch.shape)
    return normalised.transpose(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _normalised_values(spec: InputSpec) -> NDArray[np.float32]:
    """Return the normalised values of the 256 levels of each channel, (1, 256, 3) float32."""
    levels = np.arange(256, dtype=np.float32)
    values = np.repeat(levels[None, :, None], 3, axis=2)
    # Mean and std are in units of full scale.
    values /= np.float32(255)
    values -= np.asarray(spec.mean, np.float32)
    values /= np.asarray(spec.std, np.float32)
    return values
