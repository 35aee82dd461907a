"""Simulates camera faults: noise, blur, resolution, JPEG, exposure, contrast, colour.

Each function takes (H, W, 3) uint8 RGB, one level and a generator. It returns a new array of the
same shape and type.
"""

import io
import math

import numpy as np
from numpy.random import Generator
from PIL import Image
from scipy.signal import oaconvolve

from cadlib.images.brushes import Field, Pixels

GRAIN = 300
"""Grains of noise along the short side of a larger image.

Finer ones would vanish when the image is reduced for a network."""
REFERENCE_PX = 224
"""The short side in px at which loss of resolution starts.

A thumbnail is enlarged to it before it is compressed."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""The weights of red, green and blue in brightness, in linear light (ITU-R BT.709)."""


def noise(pixels: Pixels, deviation: float, rng: Generator) -> Pixels:
    """Add the Gaussian noise of an amplifier. `deviation` is a share of full scale."""
    amplitude = np.float32(255 * deviation)
    noise = amplitude * _grain(pixels, rng)
    return rounded(pixels + noise)


def shot_noise(pixels: Pixels, photons: float, rng: Generator) -> Pixels:
    """Add the noise of light that arrives in photons, `photons` of them for full scale.

    The variance grows with the light. The noise is Gaussian, as a Poisson distribution is where
    there is enough light to see.
    """
    light = _LINEAR[pixels]
    deviation = np.sqrt(light / np.float32(photons))
    noise = deviation * _grain(pixels, rng)
    return _encoded(light + noise)


def defocus(pixels: Pixels, radius: float, rng: Generator) -> Pixels:
    """Spread each point over a disc, as a lens out of focus does.

    `radius` is a share of the short side.
    """
    del rng
    reach_px = radius * min(pixels.shape[:2])
    axis = _kernel_axis(math.ceil(reach_px))
    distance = np.hypot(axis, axis[:, None])
    # A pixel that the border of the disc cuts counts by the share that lies inside.
    kernel = np.clip(reach_px + 0.5 - distance, 0, 1)
    return _convolved(pixels, kernel)


def motion(pixels: Pixels, length: float, rng: Generator) -> Pixels:
    """Smear along a straight line in a random direction, as a moving hand does.

    `length` is a share of the short side.
    """
    length_px = length * min(pixels.shape[:2])
    half_length = length_px / 2
    angle = rng.uniform(0, math.pi)
    cosine = math.cos(angle)
    sine = math.sin(angle)
    x = _kernel_axis(math.ceil(half_length))
    y = x[:, None]
    along = np.abs(x * cosine + y * sine)
    across = np.abs(y * cosine - x * sine)
    within_length = np.clip(half_length + 0.5 - along, 0, 1)
    within_width = np.clip(1 - across, 0, 1)
    return _convolved(pixels, within_length * within_width)


def low_resolution(pixels: Pixels, share: float, rng: Generator) -> Pixels:
    """Shrink and enlarge again, as if the image was sent as a thumbnail.

    `share` is the share of the pixels of a side that are left.
    """
    del rng
    height, width = pixels.shape[:2]
    to_reference = REFERENCE_PX / min(height, width)
    scale = share * min(1.0, to_reference)
    small_width = max(round(width * scale), 1)
    small_height = max(round(height * scale), 1)
    image = Image.fromarray(pixels)
    shrunk = image.resize((small_width, small_height), Image.Resampling.BOX)
    enlarged = shrunk.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(enlarged)


def jpeg(pixels: Pixels, quality: float, rng: Generator) -> Pixels:
    """Write and read a JPEG file of a low quality (1 to 95, Pillow's).

    A thumbnail is enlarged first: its archive once compressed a larger image, and blocks of 8 px
    would leave nothing of 84 px.
    """
    del rng
    height, width = pixels.shape[:2]
    scale = max(REFERENCE_PX / min(height, width), 1.0)
    large_width = round(width * scale)
    large_height = round(height * scale)
    image = Image.fromarray(pixels)
    enlarged = image.resize(
        (large_width, large_height),
        Image.Resampling.BICUBIC,
    )
    file = io.BytesIO()
    enlarged.save(file, "JPEG", quality=round(quality))
    compressed = Image.open(file)
    reduced = compressed.resize((width, height), Image.Resampling.BOX)
    return np.array(reduced)


def expose(pixels: Pixels, stops: float, rng: Generator) -> Pixels:
    """Add `stops` of light, or remove them where negative. Light above full scale is lost."""
    del rng
    # Each stop doubles the light.
    factor = 2**stops
    gain = np.float32(factor)
    exposed = _LINEAR * gain
    curve = _encoded(exposed)
    return curve[pixels]


def contrast(pixels: Pixels, share: float, rng: Generator) -> Pixels:
    """Move every value towards the mean brightness, as stray light and a fogged lens do."""
    del rng
    channel_means = pixels.mean(axis=(0, 1))
    weighted = channel_means * LUMINANCE
    mean = float(weighted.sum())
    values = np.arange(256, dtype=np.float32)
    offsets = values - np.float32(mean)
    reduced = np.float32(share) * offsets
    # A curve of 256 values instead of the whole image: each value maps to one value.
    curve = rounded(mean + reduced)
    return curve[pixels]


def colour_cast(pixels: Pixels, stops: float, rng: Generator) -> Pixels:
    """Shift the white balance by `stops` between the gains of red and blue.

    The cast is warm or cold, with some green or magenta. It is a diagonal change in linear light,
    after von Kries. Grey keeps its brightness.
    """
    warm = rng.choice([-1.0, 1.0])
    green = rng.uniform(-0.25, 0.25)
    red = warm / 2
    channel_stops = np.array([red, green, -red], np.float32)
    gains = 2 ** (stops * channel_stops)
    # Grey keeps its brightness: a cast is no change of exposure.
    brightness = (gains * LUMINANCE).sum()
    gains /= brightness
    lit = _LINEAR[:, None] * gains.astype(np.float32)
    curves = _encoded(lit)
    channels = []
    for channel in range(3):
        curve = curves[:, channel]
        values = pixels[..., channel]
        channels.append(curve[values])
    return np.stack(channels, axis=-1)


def rounded(values: Field) -> Pixels:
    """Return values as uint8. Values outside 0 to 255 are clipped."""
    clipped = np.clip(values, 0, 255)
    return np.rint(clipped).astype(np.uint8)


def _grain(pixels: Pixels, rng: Generator) -> Field:
    """Return noise of mean 0 and deviation 1, (H, W, 3).

    A grain is a pixel, or more in a large image.
    """
    height, width = pixels.shape[:2]
    # A small image has a grain in each pixel.
    scale = min(1.0, GRAIN / min(height, width))
    n_rows = round(height * scale)
    n_columns = round(width * scale)
    grains = rng.standard_normal((3, n_rows, n_columns), np.float32)
    if scale == 1:
        return grains.transpose(1, 2, 0)
    channels = []
    for grain in grains:
        image = Image.fromarray(grain)
        enlarged = image.resize((width, height), Image.Resampling.BICUBIC)
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
    both = (half, half)
    padded = np.pad(pixels, (both, both, (0, 0)), "symmetric")
    normalised = kernel / kernel.sum()
    weights = normalised.astype(np.float32)
    convolved = oaconvolve(
        padded.astype(np.float32),
        weights[..., None],
        mode="valid",
        axes=(0, 1),
    )
    return rounded(convolved)


def _linear_light() -> Field:
    """Return the linear light, 0 to 1, of each of the 256 values of sRGB (IEC 61966-2-1)."""
    value = np.arange(256, dtype=np.float64) / 255
    dark = value / 12.92
    bright = ((value + 0.055) / 1.055) ** 2.4
    light = np.where(value <= 0.04045, dark, bright)
    return light.astype(np.float32)


def _encoded(light: Field) -> Pixels:
    """Return linear light as sRGB values, the inverse of `_linear_light`, clipped to 0 to 255."""
    light = np.clip(light, 0, 1)
    dark = 12.92 * light
    bright = 1.055 * light ** (1 / 2.4) - 0.055
    values = np.where(light <= 0.0031308, dark, bright)
    return rounded(255 * values)


_LINEAR = _linear_light()
