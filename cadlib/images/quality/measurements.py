"""What is measured of one picture, by the classic operators of image processing; no figure is learnt."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from cadlib.images import LesionImage
from cadlib.images.quality.red_lead import red_lead

WORKING_PX = 256
SHORTEST_PERIOD, LONGEST_PERIOD = 6, 40  # of a ruler's strokes, in px
BANDS = 12  # in which a ruler is looked for, from a border to a third of the picture
BLOCK_PX = 8  # a side of what JPEG compresses by itself
Mask = NDArray[np.bool_]

_ROUGH = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_ROUGH_OF_NOISE = 6 * 255  # what `_ROUGH` makes of noise as great as full scale


@dataclass(frozen=True)
class QualityFigures:
    """What was measured of one picture; shares are of its pixels, 0 to 1.

    `detail` is the roughness that 1 % of the pixels exceed, `noise` the standard deviation of noise, `brightness` the
    grey value that 10 % of the pixels exceed, `contrast` the span from the darkest to the brightest channel of a pixel
    but for 0.5 % at either end, `blue_cast` how much bluer than red the picture is, all of full scale. `red_lead` is
    what `channels.red_lead` returns, below 0 where blue leads red. `blocks` is how much greater the steps between a
    JPEG's blocks are than those inside. `clipped` is the share of white, `glare` of small white spots, `dark_frame`
    of the black round a round picture, `hair` of thin dark lines, `ink` of colours that neither skin nor lesions
    have; `ruler` is how periodic the strokes along a border are, 0 to 1. `lesion_contrast` is
    the distance of the lesion's colour from the skin's (CIELAB), `lesion_at_border` how much of the picture's border
    it covers.
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


def measure(image: LesionImage) -> QualityFigures:
    """Take every figure of a picture."""
    pixels = _working(image.pixels)
    red, green, blue = cv2.split(pixels)
    most, least = cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    frame = _dark_frame(most)
    usable = _inside(frame)
    hair = _lines(most)
    bright, dark = _Histogram(most, usable), _Histogram(least, usable)
    rough = cv2.convertScaleAbs(cv2.filter2D(grey, cv2.CV_16S, _ROUGH))
    small = cv2.resize(pixels, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    inside = cv2.resize(usable, small.shape[1::-1], interpolation=cv2.INTER_NEAREST).astype(bool)
    ink, cast = _ink(small, inside)
    lesion, lesion_contrast = _lesion(small, inside & ~ink)
    return QualityFigures(
        short_side_px=float(min(image.file_px)),
        detail=_Histogram(rough, usable).quantile(0.99) / 255,
        noise=_Histogram(rough, cv2.subtract(usable, hair)).quantile(0.5)
        / 0.6745
        / _ROUGH_OF_NOISE,
        blocks=_blocks(image),
        brightness=_Histogram(grey, usable).quantile(0.9) / 255,
        clipped=bright.share_from(254),
        glare=_glare(least, dark.quantile(0.75)),
        contrast=(bright.quantile(0.995) - dark.quantile(0.005)) / 255,
        dark_frame=_share(frame),
        blue_cast=cast / 255,
        red_lead=red_lead(small, inside),
        hair=_share(hair),
        ruler=max(_ruler(most), _ruler(cv2.transpose(most))),
        ink=float(ink.mean()),
        lesion_contrast=lesion_contrast,
        lesion_at_border=float(
            np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]]).mean()
        ),
    )


def _share(mask: MatLike) -> float:
    return cv2.countNonZero(mask) / mask.size


class _Histogram:
    """How often each of the 256 values occurs where a mask is 1."""

    def __init__(self, values: MatLike, mask: MatLike) -> None:
        self._counts = cv2.calcHist([values], [0], mask, [256], [0, 256]).ravel()
        self._up_to = self._counts.cumsum(dtype=np.float64)

    def quantile(self, share: float) -> float:
        """Return the value that a share of the pixels stays below, as if each value were spread over its step."""
        wanted = share * self._up_to[-1]
        value = int(np.searchsorted(self._up_to, wanted))
        return float(value - 0.5 + 1 - (self._up_to[value] - wanted) / max(self._counts[value], 1))

    def share_from(self, value: int) -> float:
        """Return the share of pixels of at least a value."""
        return float(self._counts[value:].sum() / max(self._up_to[-1], 1))


def _working(pixels: MatLike) -> MatLike:
    """Return a picture of at most `WORKING_PX` on its short side.

    Halved, then slightly blurred and read between pixels: nearly as rough as by `INTER_AREA` alone (of pictures of 600
    × 450 px noise and detail differ by a few percent, of large photographs by up to a third), in a third of the time.
    """
    factor = min(pixels.shape[:2]) / WORKING_PX
    if factor <= 1:
        return pixels
    size = (round(pixels.shape[1] / factor), round(pixels.shape[0] / factor))
    while factor >= 2:
        height, width = (side // 2 for side in pixels.shape[:2])
        pixels = cv2.resize(
            pixels[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
        )
        factor /= 2
    if (sigma := 0.35 * math.sqrt(factor**2 - 1)) > 0.05:
        pixels = cv2.GaussianBlur(pixels, (3, 3), sigma)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)


def _dark_frame(most: MatLike) -> MatLike:
    """Return what is dark and hangs together with a corner, as 1."""
    dark = cv2.threshold(most, 49, 1, cv2.THRESH_BINARY_INV)[1]
    corners = [(y, x) for y in (0, -1) for x in (0, -1) if dark[y, x]]
    if not corners:
        return np.zeros_like(dark)
    _, labels = cv2.connectedComponents(dark, connectivity=4)
    return np.isin(labels, [labels[corner] for corner in corners]).astype(np.uint8)


def _inside(frame: MatLike) -> MatLike:
    """Return what lies well inside the frame, as 1; everything where next to nothing does."""
    if not cv2.countNonZero(frame):
        return np.ones_like(frame)
    inside = 1 - cv2.dilate(frame, np.ones((9, 9), np.uint8))
    return inside if _share(inside) >= 0.1 else np.ones_like(frame)


def _blocks(image: LesionImage) -> float:
    """Return how many times greater the steps between JPEG's blocks of 8 × 8 px are than those inside a block.

    After Wang, Sheikh and Bovik (ICIP 2002); in the middle of a picture as its file has it, 1 where it was reduced.
    """
    if image.reduced:
        return 1.0
    top, left = (max(side - 512, 0) // 2 // BLOCK_PX * BLOCK_PX for side in image.pixels.shape[:2])
    grey = cv2.cvtColor(image.pixels[top : top + 512, left : left + 512], cv2.COLOR_RGB2GRAY)
    found = 0.0
    for axis, steps in (
        (0, cv2.absdiff(grey[:, 1:], grey[:, :-1])),
        (1, cv2.absdiff(grey[1:], grey[:-1])),
    ):
        means = cv2.reduce(steps, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
        phases = means[: len(means) // BLOCK_PX * BLOCK_PX].reshape(-1, BLOCK_PX).mean(axis=0)
        second, first = np.sort(phases)[-2:]
        found += float(first) / max(float(second), 0.1) / 2
    return found


def _glare(least: MatLike, skin: float) -> float:
    """Return the share of small spots that are nearly white and much brighter than what is round them and the skin."""
    spots = cv2.morphologyEx(least, cv2.MORPH_TOPHAT, np.ones((7, 7), np.uint8))
    bright = cv2.threshold(least, max(190, skin + 15), 1, cv2.THRESH_BINARY)[1]
    return _share(cv2.bitwise_and(cv2.threshold(spots, 45, 1, cv2.THRESH_BINARY)[1], bright))


def _lines(most: MatLike) -> MatLike:
    """Return thin and long dark lines, as 1: what a closing fills (Lee et al., DullRazor, 1997).

    In the brightest channel of each pixel, in which hair is dark but a lesion's pigment network hardly is.
    """
    smooth = cv2.GaussianBlur(most, (3, 3), 0.7)
    filled = cv2.morphologyEx(smooth, cv2.MORPH_BLACKHAT, np.ones((7, 7), np.uint8))
    thin = cv2.threshold(filled, 32, 1, cv2.THRESH_BINARY)[1]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(thin, connectivity=8, ltype=cv2.CV_16U)
    long = stats[:, (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT)].max(axis=1) >= 24
    long[0] = False
    return np.take(long.view(np.uint8), np.asarray(labels)) if long.any() else np.zeros_like(most)


def _ruler(most: MatLike) -> float:
    """Return how periodic the dark strokes along the upper or lower border are, 0 to 1: of the best of some bands.

    The autocorrelation at one, two and three periods, the lowest of them.
    """
    height, width = most.shape
    rows = max(height // 3 // BANDS, 2)
    borders = np.concatenate([most[: BANDS * rows], most[-BANDS * rows :]])
    halves = cv2.resize(borders, (width, 2 * BANDS), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    bands = np.delete(halves[1:] + halves[:-1], BANDS - 1, axis=0) / 2
    strokes = np.minimum(bands - cv2.blur(bands, (25, 1)), 0)
    strokes -= strokes.mean(axis=1, keepdims=True)
    power = np.square(strokes).sum(axis=1)
    longest = min(LONGEST_PERIOD, width // 4)
    spectrum = np.fft.rfft(strokes, cv2.getOptimalDFTSize(width + 3 * longest + 3))
    echo = np.fft.irfft(np.square(np.abs(spectrum)))[:, : 3 * longest + 3]
    echo = echo / np.maximum(power, width)[:, None] / (1 - np.arange(echo.shape[1]) / width)
    period = SHORTEST_PERIOD + echo[:, SHORTEST_PERIOD:longest].argmax(axis=1)
    once, twice, thrice = (
        np.take_along_axis(echo, n * period[:, None] + np.arange(1 - n, n), axis=1).max(axis=1)
        for n in (1, 2, 3)
    )
    found = np.minimum(np.minimum(once, twice), thrice)
    within = (period > SHORTEST_PERIOD) & (period < longest - 1)
    return float(np.clip(found[within], 0, 1).max(initial=0))


def _ink(small: MatLike, inside: Mask) -> tuple[Mask, float]:
    """Return where colours are that no pigment of skin or blood has, and how much bluer than red the picture is."""
    red, green, blue = cv2.split(small)
    violet = (blue + 8) / (green + 8)
    cast = float(np.median((blue - red)[inside]))
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    ink = (blue > red + max(cast, 0)) & (violet > 1.5 * np.median(violet[inside])) & (chroma > 35)
    return ink & inside, cast


def _lesion(small: MatLike, usable: Mask) -> tuple[Mask, float]:
    """Return the lesion in a quarter of the picture, and how far its colour is from the skin's in CIELAB."""
    height, width = usable.shape
    lab = cv2.GaussianBlur(cv2.cvtColor(small / 255, cv2.COLOR_RGB2LAB), (0, 0), 0.8)
    edge = max(min(height, width) // 12, 1)
    ring = usable.copy()
    ring[edge:-edge, edge:-edge] = False
    if ring.sum() < 20:
        ring = usable
    lightness, red, yellow = cv2.split(lab - np.median(lab[ring], axis=0))
    distance = np.sqrt(lightness**2 + red**2 + yellow**2)
    scaled = np.clip(distance * 4, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(scaled[usable][None], 0, 255, cv2.THRESH_OTSU)
    mask = ((scaled > threshold) & usable).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return np.zeros(usable.shape, bool), 0.0
    away = np.square((centres - (width / 2, height / 2)) / (width, height)).sum(axis=1)
    score = stats[:, cv2.CC_STAT_AREA] * np.exp(-8 * away)
    score[0] = 0
    lesion = labels == score.argmax()
    rest = usable & ~lesion
    return lesion, float(distance[lesion].mean() - (distance[rest].mean() if rest.any() else 0))
