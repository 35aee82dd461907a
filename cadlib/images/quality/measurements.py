"""Measures one image with classic operators of image processing.

No measurement is learned from data. The measurements are taken on an image of at most `WORKING_PX`
on its short side, those of ink and lesion on a quarter of that side.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from cadlib.images import LesionImage
from cadlib.images.quality.red_lead import red_lead

WORKING_PX = 256
SHORTEST_PERIOD = 6
"""Shortest period of a ruler's strokes, in px."""
LONGEST_PERIOD = 40
"""Longest period of a ruler's strokes, in px."""
BANDS = 12
"""Number of bands searched for a ruler, from a border to a third of the image."""
BLOCK_PX = 8
"""Side of the blocks that JPEG compresses one by one."""
Mask = NDArray[np.bool_]

_ROUGH = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
# Response of `_ROUGH` to noise with a standard deviation of full scale.
_ROUGH_OF_NOISE = 6 * 255
# Ratio of the median absolute value of Gaussian noise to its standard deviation.
_MEDIAN_OF_NOISE = 0.6745
_QUARTER = 0.25
_SIDES = (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT)
_CORNERS = ((0, 0), (0, -1), (-1, 0), (-1, -1))


@dataclass(frozen=True)
class QualityMeasurements:
    """Measurements of one image. Shares are of its pixels, 0 to 1.

    These are shares of full scale:

    - `detail`: roughness that 1 % of the pixels exceed
    - `noise`: standard deviation of the noise
    - `brightness`: grey value that 10 % of the pixels exceed
    - `contrast`: span from the darkest to the brightest channel of a pixel, without 0.5 % of the
      pixels at either end
    - `blue_cast`: how much bluer than red the image is

    `red_lead` is the result of `red_lead.red_lead`, below 0 where blue leads red. `blocks` is the
    ratio of the steps between a JPEG's blocks to the steps inside the blocks. `clipped` is the
    share of white pixels, `glare` of small white spots, `dark_frame` of the black around a round
    image, `hair` of thin dark lines, `ink` of colours that neither skin nor lesions have. `ruler`
    is the periodicity of the strokes along a border, 0 to 1. `lesion_contrast` is the distance of
    the lesion's colour from the skin's (CIELAB), `lesion_at_border` the share of the image's
    border that the lesion covers.
    """

    short_side_px: float
    detail: float
    noise: float
    blocks: float
    brightness: float
    clipped: float
    glare: float
    contrast: float
    dark_frame: float
    blue_cast: float
    red_lead: float
    hair: float
    ruler: float
    ink: float
    lesion_contrast: float
    lesion_at_border: float


def measure(image: LesionImage) -> QualityMeasurements:
    """Take every measurement of an image."""
    pixels = _at_working_size(image.pixels)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    brightest, darkest = _channel_extremes(pixels)
    frame = _dark_frame(brightest)
    usable = _inside(frame)
    # Before noise and lesion, because both leave hair or ink out.
    hair = _lines(brightest)
    detail, noise = _roughness(grey, usable, hair)
    light = _light(grey, brightest, darkest, usable)

    quarter = _quarter(pixels)
    quarter_usable = _quarter_mask(usable, quarter)
    ink, cast = _ink(quarter, quarter_usable)
    # Ink is no part of a lesion, however dark it is.
    lesion, lesion_contrast = _lesion(quarter, quarter_usable & ~ink)

    return QualityMeasurements(
        short_side_px=_short_side_px(image),
        detail=detail,
        noise=noise,
        blocks=_blocks(image),
        brightness=light.brightness,
        clipped=light.clipped,
        glare=_glare(darkest, light.skin),
        contrast=light.contrast,
        dark_frame=_share(frame),
        blue_cast=cast / 255,
        red_lead=red_lead(quarter, quarter_usable),
        hair=_share(hair),
        ruler=_ruler_along_any_border(brightest),
        ink=ink.mean().item(),
        lesion_contrast=lesion_contrast,
        lesion_at_border=_share_of_border(lesion),
    )


def _short_side_px(image: LesionImage) -> float:
    return float(min(image.file_px))


@dataclass(frozen=True)
class _Light:
    """Measurements of the light, see QualityMeasurements.

    `skin` is the usual darkest channel, 0 to 255.
    """

    brightness: float
    clipped: float
    contrast: float
    skin: float


def _light(grey: MatLike, brightest: MatLike, darkest: MatLike, usable: MatLike) -> _Light:
    grey_values = _Histogram(grey, usable)
    bright_values = _Histogram(brightest, usable)
    dark_values = _Histogram(darkest, usable)
    # Single pixels, such as a reflection, do not make a contrast.
    white = bright_values.quantile(0.995)
    black = dark_values.quantile(0.005)
    return _Light(
        brightness=grey_values.quantile(0.9) / 255,
        clipped=bright_values.share_from(254),
        contrast=(white - black) / 255,
        skin=dark_values.quantile(0.75),
    )


def _ruler_along_any_border(brightest: MatLike) -> float:
    horizontal = _ruler(brightest)
    turned = cv2.transpose(brightest)
    vertical = _ruler(turned)
    return max(horizontal, vertical)


def _share(mask: MatLike) -> float:
    return cv2.countNonZero(mask) / mask.size


class _Histogram:
    """How often each of the 256 values occurs where a mask is 1."""

    def __init__(self, values: MatLike, mask: MatLike) -> None:
        counts = cv2.calcHist([values], [0], mask, [256], [0, 256])
        self._counts = counts.ravel()
        self._up_to = self._counts.cumsum(dtype=np.float64)

    def quantile(self, share: float) -> float:
        """Return the value that a share of the pixels stays below.

        The pixels of each value are treated as spread evenly over its step.
        """
        target = share * self._up_to[-1]
        value = int(np.searchsorted(self._up_to, target))
        pixels_above = self._up_to[value] - target
        pixels_of_value = max(self._counts[value], 1)
        return float(value - 0.5 + 1 - pixels_above / pixels_of_value)

    def share_from(self, value: int) -> float:
        """Return the share of pixels that have at least this value."""
        pixels_from = self._counts[value:].sum()
        pixels = max(self._up_to[-1], 1)
        return float(pixels_from / pixels)


def _at_working_size(pixels: MatLike) -> MatLike:
    """Return an image of at most `WORKING_PX` on its short side.

    The image is halved, then slightly blurred and interpolated. Compared with `INTER_AREA` alone,
    noise and detail differ by a few percent for images of 600 × 450 px, by up to a third for large
    photographs. It takes a third of the time.
    """
    height, width = pixels.shape[:2]
    factor = min(height, width) / WORKING_PX
    if factor <= 1:
        return pixels
    size = (round(width / factor), round(height / factor))
    while factor >= 2:
        pixels = _halved(pixels)
        factor /= 2
    sigma = 0.35 * math.sqrt(factor**2 - 1)
    # A narrower blur would not change the pixels.
    if sigma > 0.05:
        pixels = cv2.GaussianBlur(pixels, (3, 3), sigma)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)


def _halved(pixels: MatLike) -> MatLike:
    """Return an image of half the sides. An odd last row or column is left out."""
    height, width = pixels.shape[:2]
    half_height = height // 2
    half_width = width // 2
    even = pixels[: 2 * half_height, : 2 * half_width]
    size = (half_width, half_height)
    return cv2.resize(even, size, interpolation=cv2.INTER_AREA)


def _quarter(pixels: MatLike) -> MatLike:
    """Return an image of a quarter of the sides, float32."""
    quarter = cv2.resize(pixels, None, fx=_QUARTER, fy=_QUARTER, interpolation=cv2.INTER_AREA)
    return quarter.astype(np.float32)


def _quarter_mask(mask: MatLike, quarter: MatLike) -> Mask:
    """Return a mask at the size of the image from `_quarter`."""
    height, width = quarter.shape[:2]
    reduced = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    return reduced.astype(bool)


def _channel_extremes(pixels: MatLike) -> tuple[MatLike, MatLike]:
    """Return the brightest and the darkest channel of each pixel."""
    red, green, blue = cv2.split(pixels)
    brightest = cv2.max(cv2.max(red, green), blue)
    darkest = cv2.min(cv2.min(red, green), blue)
    return brightest, darkest


def _roughness(
    grey: MatLike,
    usable: MatLike,
    hair: MatLike,
) -> tuple[float, float]:
    """Return the detail and the standard deviation of noise, as shares of full scale."""
    response = cv2.filter2D(grey, cv2.CV_16S, _ROUGH)
    rough = cv2.convertScaleAbs(response)
    rough_values = _Histogram(rough, usable)
    detail = rough_values.quantile(0.99) / 255
    # Edges of hair are rough without being noise.
    hairless = cv2.subtract(usable, hair)
    hairless_values = _Histogram(rough, hairless)
    median = hairless_values.quantile(0.5)
    noise = median / _MEDIAN_OF_NOISE / _ROUGH_OF_NOISE
    return detail, noise


def _dark_frame(brightest: MatLike) -> MatLike:
    """Return a mask of 1 where the image is dark and connected to a dark corner."""
    dark = cv2.threshold(brightest, 49, 1, cv2.THRESH_BINARY_INV)[1]
    corners = [corner for corner in _CORNERS if dark[corner]]
    if not corners:
        return np.zeros_like(dark)
    _, labels = cv2.connectedComponents(dark, connectivity=4)
    # A dark lesion is no frame: it does not reach a corner.
    corner_labels = [labels[corner] for corner in corners]
    frame = np.isin(labels, corner_labels)
    return frame.astype(np.uint8)


def _inside(frame: MatLike) -> MatLike:
    """Return a mask of 1 well inside the frame, or everywhere if the frame covers almost all."""
    if not cv2.countNonZero(frame):
        return np.ones_like(frame)
    # The border of the frame is a soft shadow.
    neighbourhood = np.ones((9, 9), np.uint8)
    widened = cv2.dilate(frame, neighbourhood)
    inside = 1 - widened
    share = _share(inside)
    if share < 0.1:
        return np.ones_like(frame)
    return inside


def _blocks(image: LesionImage) -> float:
    """Return the ratio of the steps between JPEG's blocks of 8 × 8 px to those inside a block.

    After Wang, Sheikh and Bovik (ICIP 2002). It is measured in the middle of the file's own pixels
    and is 1 for an image that was reduced.
    """
    # Blocks are not on their grid any more.
    if image.reduced:
        return 1.0
    rows = _middle(image.height_px)
    columns = _middle(image.width_px)
    grey = cv2.cvtColor(image.pixels[rows, columns], cv2.COLOR_RGB2GRAY)
    steps_across = cv2.absdiff(grey[:, 1:], grey[:, :-1])
    steps_down = cv2.absdiff(grey[1:], grey[:-1])
    ratio_across = _block_ratio(steps_across, 0)
    ratio_down = _block_ratio(steps_down, 1)
    return ratio_across / 2 + ratio_down / 2


def _middle(side_px: int) -> slice:
    """Return the middle 512 px of a side, which begin on the grid of the blocks."""
    margin = max(side_px - 512, 0) // 2
    start = margin // BLOCK_PX * BLOCK_PX
    return slice(start, start + 512)


def _block_ratio(steps: MatLike, axis: int) -> float:
    """Return the ratio of the greatest mean step to the second, by the place in a block."""
    reduced = cv2.reduce(steps, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    means = reduced.ravel()
    n_blocks = len(means) // BLOCK_PX
    whole_blocks = means[: n_blocks * BLOCK_PX]
    blocks = whole_blocks.reshape(n_blocks, BLOCK_PX)
    by_place = np.sort(blocks.mean(axis=0))
    second, first = by_place[-2:]
    # A flat image has steps of almost 0, whose ratio means nothing.
    return float(first) / max(float(second), 0.1)


def _glare(darkest: MatLike, skin: float) -> float:
    """Return the share of small, nearly white spots.

    They are much brighter than the pixels around them and than the skin.
    """
    neighbourhood = np.ones((7, 7), np.uint8)
    peaks = cv2.morphologyEx(darkest, cv2.MORPH_TOPHAT, neighbourhood)
    _, spots = cv2.threshold(peaks, 45, 1, cv2.THRESH_BINARY)
    least = max(190, skin + 15)
    _, bright = cv2.threshold(darkest, least, 1, cv2.THRESH_BINARY)
    return _share(cv2.bitwise_and(spots, bright))


def _lines(brightest: MatLike) -> MatLike:
    """Return a mask of 1 on thin and long dark lines.

    These are filled by a closing (Lee et al., DullRazor, 1997). The brightest channel of each pixel
    is used: hair is dark in it, a lesion's pigment network is hardly.
    """
    smooth = cv2.GaussianBlur(brightest, (3, 3), 0.7)
    neighbourhood = np.ones((7, 7), np.uint8)
    filled = cv2.morphologyEx(smooth, cv2.MORPH_BLACKHAT, neighbourhood)
    _, thin = cv2.threshold(filled, 32, 1, cv2.THRESH_BINARY)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        thin,
        connectivity=8,
        ltype=cv2.CV_16U,
    )
    sides = stats[:, _SIDES]
    # Shorter ones are streaks and dots of the lesion.
    long = sides.max(axis=1) >= 24
    # Component 0 is the background.
    long[0] = False
    if not long.any():
        return np.zeros_like(brightest)
    return np.take(long.view(np.uint8), np.asarray(labels))


def _ruler(brightest: MatLike) -> float:
    """Return the periodicity of the dark strokes along the upper or lower border, 0 to 1.

    It is the lowest of the autocorrelations at one, two and three periods, in the band where that
    is greatest.
    """
    _, width = brightest.shape
    longest = min(LONGEST_PERIOD, width // 4)
    strokes = _strokes(brightest)
    echo = _autocorrelation(strokes, 3 * longest + 3)
    searched = echo[:, SHORTEST_PERIOD:longest]
    period = SHORTEST_PERIOD + searched.argmax(axis=1)
    once = _echo_after(echo, period, 1)
    twice = _echo_after(echo, period, 2)
    thrice = _echo_after(echo, period, 3)
    periodicity = np.minimum(np.minimum(once, twice), thrice)
    # At either end of the search the echo has no peak.
    is_below_longest = period < longest - 1
    peaked = is_below_longest & (period > SHORTEST_PERIOD)
    clipped = np.clip(periodicity[peaked], 0, 1)
    return float(clipped.max(initial=0))


def _strokes(brightest: MatLike) -> NDArray[np.float32]:
    """Return the dark strokes of the bands along both borders, (bands, W), of mean 0."""
    height, width = brightest.shape
    rows = max(height // 3 // BANDS, 2)
    border_rows = BANDS * rows
    upper = brightest[:border_rows]
    lower = brightest[-border_rows:]
    borders = np.concatenate([upper, lower])
    reduced = cv2.resize(borders, (width, 2 * BANDS), interpolation=cv2.INTER_AREA)
    halves = reduced.astype(np.float32)
    # Bands overlap by half. The one that would join the two borders is left out.
    sums = halves[1:] + halves[:-1]
    bands = np.delete(sums, BANDS - 1, axis=0) / 2
    around = cv2.blur(bands, (25, 1))
    # Only what is darker than its surroundings: strokes are printed.
    strokes: NDArray[np.float32] = np.minimum(bands - around, 0)
    strokes -= strokes.mean(axis=1, keepdims=True)
    return strokes


def _autocorrelation(strokes: NDArray[np.float32], shifts: int) -> NDArray[np.floating]:
    """Return the autocorrelation of each band at the shifts from 0, (bands, shifts)."""
    _, width = strokes.shape
    power = np.square(strokes).sum(axis=1)
    # Padding keeps the end of a band from wrapping around to its start.
    padded = cv2.getOptimalDFTSize(width + shifts)
    spectrum = np.fft.rfft(strokes, padded)
    power_spectrum = np.square(np.abs(spectrum))
    all_shifts = np.fft.irfft(power_spectrum)
    echo = all_shifts[:, :shifts]
    # Bands without contrast would otherwise divide noise by noise.
    least_power = np.maximum(power, width)
    scale = least_power[:, None]
    _, n_shifts = echo.shape
    overlap = 1 - np.arange(n_shifts) / width
    correlation: NDArray[np.floating] = echo / scale / overlap
    return correlation


def _echo_after(
    echo: NDArray[np.floating],
    period: NDArray[np.intp],
    count: int,
) -> NDArray[np.floating]:
    """Return the highest autocorrelation of each band near a number of periods."""
    # An error of the period grows with their number.
    near = np.arange(1 - count, count)
    shifts = count * period[:, None] + near
    echoes = np.take_along_axis(echo, shifts, axis=1)
    highest: NDArray[np.floating] = echoes.max(axis=1)
    return highest


def _ink(quarter: MatLike, usable: Mask) -> tuple[Mask, float]:
    """Return the mask of ink and how much bluer than red the image is.

    Ink has colours that no pigment of skin or blood has.
    """
    red, green, blue = cv2.split(quarter)
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    chroma = brightest - darkest
    # The 8 keeps dark pixels from having a colour of noise.
    violet = (blue + 8) / (green + 8)
    usual_violet = np.median(violet[usable])
    lead_of_blue = blue - red
    cast = float(np.median(lead_of_blue[usable]))
    # Under bluish light skin is bluish too.
    is_bluish = blue > red + max(cast, 0)
    is_violet = violet > 1.5 * usual_violet
    is_colourful = chroma > 35
    ink = is_bluish & is_violet & is_colourful
    return ink & usable, cast


def _lesion(quarter: MatLike, usable: Mask) -> tuple[Mask, float]:
    """Return the mask of the lesion and the distance of its colour from the skin's in CIELAB."""
    distance = _distance_from_skin(quarter, usable)
    candidates = _far(distance, usable)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(
        candidates.astype(np.uint8),
        connectivity=8,
    )
    if count < 2:
        return np.zeros(usable.shape, bool), 0.0
    area = stats[:, cv2.CC_STAT_AREA]
    # A shadow in a corner may be larger than the lesion.
    score = area * _nearness_to_centre(centres, usable.shape)
    # Component 0 is the background.
    score[0] = 0
    lesion = labels == score.argmax()
    lesion_distance = distance[lesion].mean()
    rest = usable & ~lesion
    rest_distance = distance[rest].mean() if rest.any() else 0
    return lesion, float(lesion_distance - rest_distance)


def _far(distance: MatLike, usable: Mask) -> Mask:
    """Return the usable pixels beyond the distance that divides all distances best (Otsu)."""
    scaled = np.clip(distance * 4, 0, 255)
    levels = scaled.astype(np.uint8)
    usable_levels = levels[usable]
    threshold, _ = cv2.threshold(usable_levels[None], 0, 255, cv2.THRESH_OTSU)
    far: Mask = (levels > threshold) & usable
    return far


def _distance_from_skin(quarter: MatLike, usable: Mask) -> MatLike:
    """Return the distance of each pixel from the median colour of the skin in CIELAB."""
    sharp = cv2.cvtColor(quarter / 255, cv2.COLOR_RGB2LAB)
    lab = cv2.GaussianBlur(sharp, (0, 0), 0.8)
    ring = _skin_ring(usable)
    skin = np.median(lab[ring], axis=0)
    lightness, red, yellow = cv2.split(lab - skin)
    distance: MatLike = np.sqrt(lightness**2 + red**2 + yellow**2)
    return distance


def _skin_ring(usable: Mask) -> Mask:
    """Return the usable pixels along the border, or all where these are too few."""
    shorter_side = min(usable.shape)
    twelfth = shorter_side // 12
    edge = max(twelfth, 1)
    ring = usable.copy()
    ring[edge:-edge, edge:-edge] = False
    n_usable = ring.sum()
    if n_usable < 20:
        return usable
    return ring


def _nearness_to_centre(centres: MatLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a weight for each of (n, 2) places, x and y, 1 in the centre and less outside."""
    height, width = shape
    sides = np.array([width, height])
    offset = centres - sides / 2
    relative = offset / sides
    away = np.square(relative).sum(axis=1)
    nearness: NDArray[np.float64] = np.exp(-8 * away)
    return nearness


def _share_of_border(mask: Mask) -> float:
    """Return the share of the border pixels that lie in a mask. Corners count twice."""
    top_and_bottom = mask[[0, -1]]
    left_and_right = mask[:, [0, -1]]
    border = np.concatenate([top_and_bottom.ravel(), left_and_right.ravel()])
    return float(border.mean())
