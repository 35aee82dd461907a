"""What a camera does to a picture: noise, blur, resolution, JPEG, exposure, contrast, colour.

Each takes (H, W, 3) uint8 RGB, one level and a generator, and returns a new array of the same shape and type.
"""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import oaconvolve

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]

GRAIN = 300
"""Grains of noise along the short side of a larger picture: finer ones would be gone before a network sees them."""
REFERENCE_PX = 224
"""The short side that resolution is lost from, and that a thumbnail is enlarged to before it is compressed."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""What red, green and blue give to brightness, in linear light (ITU-R BT.709)."""


def noise(pixels: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    """Add Gaussian noise, the amplifier's; `deviation` is of full scale."""
    return rounded(pixels + np.float32(255 * deviation) * _grain(pixels, rng))


def shot_noise(pixels: Pixels, photons: float, rng: np.random.Generator) -> Pixels:
    """Let light arrive in photons, `photons` of them for full scale: a variance as great as the light itself.

    Gaussian, as a Poisson distribution is where there is enough light to see by.
    """
    light = _LINEAR[pixels]
    return _encoded(light + np.sqrt(light / np.float32(photons)) * _grain(pixels, rng))


def defocus(pixels: Pixels, radius: float, rng: np.random.Generator) -> Pixels:
    """Spread each point over a disc, as a lens out of focus does; `radius` is of the short side."""
    del rng
    reach_px = radius * min(pixels.shape[:2])
    axis = np.arange(-math.ceil(reach_px), math.ceil(reach_px) + 1, dtype=np.float32)
    kernel = np.clip(reach_px + 0.5 - np.hypot(axis, axis[:, None]), 0, 1)
    return _convolved(pixels, kernel)


def motion(pixels: Pixels, length: float, rng: np.random.Generator) -> Pixels:
    """Smear along a straight way in a drawn direction, as a hand that moves; `length` is of the short side."""
    way_px, angle = length * min(pixels.shape[:2]), rng.uniform(0, math.pi)
    half = math.ceil(way_px / 2)
    axis = np.arange(-half, half + 1, dtype=np.float32)
    along = np.abs(axis * math.cos(angle) + axis[:, None] * math.sin(angle))
    across = np.abs(axis[:, None] * math.cos(angle) - axis * math.sin(angle))
    kernel = np.clip(way_px / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return _convolved(pixels, kernel)


def low_resolution(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """Shrink and enlarge again, as a picture that was sent as a thumbnail; `share` is of a side's pixels."""
    del rng
    height, width = pixels.shape[:2]
    scale = share * min(1.0, REFERENCE_PX / min(height, width))
    small = (max(round(width * scale), 1), max(round(height * scale), 1))
    shrunk = Image.fromarray(pixels).resize(small, Image.Resampling.BOX)
    return np.array(shrunk.resize((width, height), Image.Resampling.BICUBIC))


def jpeg(pixels: Pixels, quality: float, rng: np.random.Generator) -> Pixels:
    """Write and read a JPEG file of a low quality (1 to 95, Pillow's).

    A thumbnail is enlarged for it: its archive once compressed a larger picture, and blocks of 8 px would leave
    nothing of 84 px.
    """
    del rng
    height, width = pixels.shape[:2]
    scale, file = max(REFERENCE_PX / min(height, width), 1.0), io.BytesIO()
    picture = Image.fromarray(pixels).resize(
        (round(width * scale), round(height * scale)), Image.Resampling.BICUBIC
    )
    picture.save(file, "JPEG", quality=round(quality))
    return np.array(Image.open(file).resize((width, height), Image.Resampling.BOX))


def expose(pixels: Pixels, stops: float, rng: np.random.Generator) -> Pixels:
    """Give `stops` more light, fewer where negative; what exceeds full scale is lost."""
    del rng
    return _encoded(_LINEAR * np.float32(2**stops))[pixels]


def contrast(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """Draw every value towards the mean brightness, as stray light and a fogged lens do."""
    del rng
    mean = float((pixels.mean(axis=(0, 1)) * LUMINANCE).sum())
    return rounded(
        mean + np.float32(share) * (np.arange(256, dtype=np.float32) - np.float32(mean))
    )[pixels]


def colour_cast(pixels: Pixels, stops: float, rng: np.random.Generator) -> Pixels:
    """Shift the white balance: `stops` between the gains of red and blue, warm or cold, with some green or magenta.

    A diagonal change in linear light, after von Kries; grey keeps its brightness.
    """
    warm, green = rng.choice([-1.0, 1.0]), rng.uniform(-0.25, 0.25)
    gains = 2 ** (stops * np.array([warm / 2, green, -warm / 2], np.float32))
    gains /= (gains * LUMINANCE).sum()
    curves = _encoded(_LINEAR[:, None] * gains.astype(np.float32))
    return np.stack([curves[:, channel][pixels[..., channel]] for channel in range(3)], axis=-1)


def rounded(values: Field) -> Pixels:
    """Return values about 0 to 255 as uint8; what lies outside is cut off."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def _grain(pixels: Pixels, rng: np.random.Generator) -> Field:
    """Return noise of mean 0 and deviation 1, (H, W, 3): a grain is a pixel, or more in a large picture."""
    height, width = pixels.shape[:2]
    scale = min(1.0, GRAIN / min(height, width))
    small = (round(height * scale), round(width * scale))
    grains = rng.standard_normal((3, *small), np.float32)
    if scale == 1:
        return grains.transpose(1, 2, 0)
    enlarged = [
        np.asarray(Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC))
        for grain in grains
    ]
    field = np.stack(enlarged, axis=-1)
    return np.asarray(field / field.std(), np.float32)


def _convolved(pixels: Pixels, kernel: Field) -> Pixels:
    """Convolve each channel with a kernel of odd sides; beyond the border the picture is mirrored."""
    half = kernel.shape[0] // 2
    padded = np.pad(pixels, ((half, half), (half, half), (0, 0)), "symmetric").astype(np.float32)
    weights = (kernel / kernel.sum()).astype(np.float32)[..., None]
    return rounded(oaconvolve(padded, weights, mode="valid", axes=(0, 1)))


def _linear_light() -> Field:
    """Return the linear light, 0 to 1, of each of the 256 values of sRGB (IEC 61966-2-1)."""
    value = np.arange(256, dtype=np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )


def _encoded(light: Field) -> Pixels:
    """Return linear light as sRGB values; the inverse of `_linear_light`, cut to 0 to 255."""
    light = np.clip(light, 0, 1)
    return rounded(
        255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    )


_LINEAR = _linear_light()
