"""Simulates camera faults: noise, blur, resolution, JPEG, exposure, contrast, colour.

Each function takes (H, W, 3) uint8 RGB, one level and a generator. It returns a new array of the
same shape and type.
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
"""Grains of noise along the short side of a larger image.

Finer ones would vanish when the image is reduced for a network."""
REFERENCE_PX = 224
"""The short side in px at which loss of resolution starts.

A thumbnail is enlarged to it before it is compressed."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""The weights of red, green and blue in brightness, in linear light (ITU-R BT.709)."""


def noise(pixels: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    """Add the Gaussian noise of an amplifier. `deviation` is a share of full scale."""
    amplitude = np.float32(255 * deviation)
    return rounded(pixels + amplitude * _grain(pixels, rng))


def shot_noise(pixels: Pixels, photons: float, rng: np.random.Generator) -> Pixels:
    """Add the noise of light that arrives in photons, `photons` of them for full scale.

    The variance grows with the light. The noise is Gaussian, as a Poisson distribution is where
    there is enough light to see.
    """
    light = _LINEAR[pixels]
    deviation = np.sqrt(light / np.float32(photons))
    return _encoded(light + deviation * _grain(pixels, rng))


def defocus(pixels: Pixels, radius: float, rng: np.random.Generator) -> Pixels:
    """Spread each point over a disc, as a lens out of focus does.

    `radius` is a share of the short side.
    """
    del rng
    reach_px = radius * min(pixels.shape[:2])
    axis = _kernel_axis(math.ceil(reach_px))
    distance = np.hypot(axis, axis[:, None])
    kernel = np.clip(reach_px + 0.5 - distance, 0, 1)
    return _convolved(pixels, kernel)


def motion(pixels: Pixels, length: float, rng: np.random.Generator) -> Pixels:
    """Smear along a straight line in a random direction, as a moving hand does.

    `length` is a share of the short side.
    """
    length_px = length * min(pixels.shape[:2])
    angle = rng.uniform(0, math.pi)
    cosine = math.cos(angle)
    sine = math.sin(angle)
    x = _kernel_axis(math.ceil(length_px / 2))
    y = x[:, None]
    along = np.abs(x * cosine + y * sine)
    across = np.abs(y * cosine - x * sine)
    within_length = np.clip(length_px / 2 + 0.5 - along, 0, 1)
    within_width = np.clip(1 - across, 0, 1)
    return _convolved(pixels, within_length * within_width)


def low_resolution(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """Shrink and enlarge again, as if the image was sent as a thumbnail.

    `share` is the share of the pixels of a side that are left.
    """
    del rng
    height, width = pixels.shape[:2]
    scale = share * min(1.0, REFERENCE_PX / min(height, width))
    small_width = max(round(width * scale), 1)
    small_height = max(round(height * scale), 1)
    shrunk = Image.fromarray(pixels).resize((small_width, small_height), Image.Resampling.BOX)
    enlarged = shrunk.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(enlarged)


def jpeg(pixels: Pixels, quality: float, rng: np.random.Generator) -> Pixels:
    """Write and read a JPEG file of a low quality (1 to 95, Pillow's).

    A thumbnail is enlarged first: its archive once compressed a larger image, and blocks of 8 px
    would leave nothing of 84 px.
    """
    del rng
    height, width = pixels.shape[:2]
    scale = max(REFERENCE_PX / min(height, width), 1.0)
    large = (round(width * scale), round(height * scale))
    enlarged = Image.fromarray(pixels).resize(large, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    enlarged.save(file, "JPEG", quality=round(quality))
    compressed = Image.open(file)
    return np.array(compressed.resize((width, height), Image.Resampling.BOX))


def expose(pixels: Pixels, stops: float, rng: np.random.Generator) -> Pixels:
    """Add `stops` of light, or remove them where negative. Light above full scale is lost."""
    del rng
    gain = np.float32(2**stops)
    curve = _encoded(_LINEAR * gain)
    return curve[pixels]


def contrast(pixels: Pixels, share: float, rng: np.random.Generator) -> Pixels:
    """Move every value towards the mean brightness, as stray light and a fogged lens do."""
    del rng
    channel_means = pixels.mean(axis=(0, 1))
    mean = float((channel_means * LUMINANCE).sum())
    offsets = np.arange(256, dtype=np.float32) - np.float32(mean)
    curve = rounded(mean + np.float32(share) * offsets)
    return curve[pixels]


def colour_cast(pixels: Pixels, stops: float, rng: np.random.Generator) -> Pixels:
    """Shift the white balance by `stops` between the gains of red and blue.

    The cast is warm or cold, with some green or magenta. It is a diagonal change in linear light,
    after von Kries. Grey keeps its brightness.
    """
    warm = rng.choice([-1.0, 1.0])
    green = rng.uniform(-0.25, 0.25)
    channel_stops = np.array([warm / 2, green, -warm / 2], np.float32)
    gains = 2 ** (stops * channel_stops)
    brightness = (gains * LUMINANCE).sum()
    gains /= brightness
    curves = _encoded(_LINEAR[:, None] * gains.astype(np.float32))
    channels = []
    for channel in range(3):
        curve = curves[:, channel]
        channels.append(curve[pixels[..., channel]])
    return np.stack(channels, axis=-1)


def rounded(values: Field) -> Pixels:
    """Return values as uint8. Values outside 0 to 255 are clipped."""
    clipped = np.clip(values, 0, 255)
    return np.rint(clipped).astype(np.uint8)


def _grain(pixels: Pixels, rng: np.random.Generator) -> Field:
    """Return noise of mean 0 and deviation 1, (H, W, 3).

    A grain is a pixel, or more in a large image.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, GRAIN / min(height, width))
    small = (round(height * scale), round(width * scale))
    grains = rng.standard_normal((3, *small), np.float32)
    if scale == 1:
        return grains.transpose(1, 2, 0)
    channels = []
    for grain in grains:
        enlarged = Image.fromarray(grain).resize((width, height), Image.Resampling.BICUBIC)
        channels.append(np.asarray(enlarged))
    field = np.stack(channels, axis=-1)
    # Interpolation between the grains made the deviation smaller.
    return np.asarray(field / field.std(), np.float32)


def _kernel_axis(half: int) -> Field:
    """Return the coordinates of a kernel's pixels, (2 half + 1,), 0 in the middle."""
    return np.arange(-half, half + 1, dtype=np.float32)


def _convolved(pixels: Pixels, kernel: Field) -> Pixels:
    """Convolve each channel with a kernel of odd sides. The image is mirrored at its border."""
    half = kernel.shape[0] // 2
    margins = ((half, half), (half, half), (0, 0))
    padded = np.pad(pixels, margins, "symmetric").astype(np.float32)
    normalised = kernel / kernel.sum()
    weights = normalised.astype(np.float32)[..., None]
    return rounded(oaconvolve(padded, weights, mode="valid", axes=(0, 1)))


def _linear_light() -> Field:
    """Return the linear light, 0 to 1, of each of the 256 values of sRGB (IEC 61966-2-1)."""
    value = np.arange(256, dtype=np.float64) / 255
    dark = value / 12.92
    bright = ((value + 0.055) / 1.055) ** 2.4
    return np.where(value <= 0.04045, dark, bright).astype(np.float32)


def _encoded(light: Field) -> Pixels:
    """Return linear light as sRGB values, the inverse of `_linear_light`, clipped to 0 to 255."""
    light = np.clip(light, 0, 1)
    dark = 12.92 * light
    bright = 1.055 * light ** (1 / 2.4) - 0.055
    return rounded(255 * np.where(light <= 0.0031308, dark, bright))


_LINEAR = _linear_light()
