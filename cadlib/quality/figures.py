"""What is measured of one picture, by the classic operators of image processing; no figure is learnt."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cadlib.images import LesionImage

WORKING_PX = 256
SHORTEST_PERIOD, LONGEST_PERIOD = 6, 40  # of a ruler's strokes, in px
Grey = NDArray[np.uint8]
Field = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class QualityFigures:
    """What was measured of one picture; shares are of its pixels, 0 to 1.

    `blur` is 0 (sharp) to 1. `noise` is a standard deviation, `brightness` the median and `contrast` the span from the
    2nd to the 98th percentile of the grey values, `blue_cast` how much bluer than red the picture is, all of full
    scale. `clipped` is the share of white, `glare` of small white spots, `dark_frame` of the black round a round
    picture, `hair` of thin dark lines, `ink` of what is bluer or greener than skin; `ruler` is how periodic the strokes
    along a border are, 0 to 1. `lesion_contrast` is the distance of the lesion's colour from the skin's (CIELAB),
    `lesion_at_border` how much of the picture's border it covers.
    """

    short_side_px: float
    blur: float
    noise: float
    brightness: float
    clipped: float
    glare: float
    contrast: float
    dark_frame: float
    blue_cast: float
    hair: float
    ruler: float
    ink: float
    lesion_contrast: float
    lesion_at_border: float


def measure(image: LesionImage) -> QualityFigures:
    """Take every figure of a picture."""
    pixels = _working(image.pixels)
    red, green, blue = cv2.split(pixels)
    most, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    frame = _dark_frame(most)
    usable = 1 - cv2.dilate(frame, np.ones((9, 9), np.uint8)) if frame.any() else np.ones_like(frame)
    if usable.mean() < 0.1:
        usable[:] = 1
    inside = usable.astype(bool)
    counts = cv2.calcHist([grey], [0], usable, [256], [0, 256]).ravel().cumsum()
    low, middle, high = (int(np.searchsorted(counts, share * counts[-1])) for share in (0.02, 0.5, 0.98))
    blueness = cv2.subtract(blue.astype(np.int16), red.astype(np.int16))
    cast = float(np.median(blueness[::4, ::4][inside[::4, ::4]])) if inside[::4, ::4].any() else 0.0
    ink = ((blueness > max(25, cast + 40)) | (cv2.subtract(green, red) > max(20, cast + 25))) & inside
    lines = _lines(grey) & inside
    lesion, lesion_contrast = _lesion(pixels, inside & ~ink)
    exact = grey.astype(np.float32)
    return QualityFigures(
        short_side_px=float(min(image.file_px)),
        blur=_blur(exact, inside),
        noise=_noise(exact, inside & ~lines),
        brightness=middle / 255,
        clipped=float(((most >= 254) & inside).sum() / inside.sum()),
        glare=float((_glare(least) & inside).mean()),
        contrast=(high - low) / 255,
        dark_frame=float(frame.mean()),
        blue_cast=cast / 255,
        hair=float(lines.mean()),
        ruler=_ruler(exact),
        ink=float(ink.mean()),
        lesion_contrast=lesion_contrast,
        lesion_at_border=float(np.concatenate([lesion[0], lesion[-1], lesion[:, 0], lesion[:, -1]]).mean()),
    )


def _working(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    factor = WORKING_PX / min(height, width)
    if factor >= 1:
        return pixels
    size = (round(width * factor), round(height * factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))


def _blur(grey: Field, inside: Mask) -> float:
    """Crete et al., The blur effect (SPIE 6492, 2007): 0 sharp to 1; how little more blur changes neighbours."""
    found = []
    for axis, size in ((0, (1, 9)), (1, (9, 1))):
        blurred = cv2.blur(grey, size)
        sharp, soft = np.abs(np.diff(grey, axis=axis)), np.abs(np.diff(blurred, axis=axis))
        seen = inside[1:] if axis == 0 else inside[:, 1:]
        total = float(sharp[seen].sum())
        found.append(1 - float(np.maximum(sharp - soft, 0)[seen].sum()) / total if total else 1.0)
    return max(found)


def _noise(grey: Field, inside: Mask) -> float:
    """Immerkaer, Fast noise variance estimation (CVIU 64, 1996): sigma over full scale, by the median for edges."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    rough = np.abs(cv2.filter2D(grey, -1, kernel))[::2, ::2][inside[::2, ::2]]
    return float(np.median(rough)) / 0.6745 / 6 / 255 if rough.size else 0.0


def _dark_frame(most: Grey) -> Grey:
    """Return what is dark and hangs together with a corner, as 1."""
    dark = cv2.threshold(most, 49, 1, cv2.THRESH_BINARY_INV)[1]
    corners = [(y, x) for y in (0, -1) for x in (0, -1) if dark[y, x]]
    if not corners:
        return np.zeros_like(dark)
    _, labels = cv2.connectedComponents(dark, connectivity=4)
    return np.isin(labels, [labels[corner] for corner in corners]).astype(np.uint8)


def _glare(least: Grey) -> Mask:
    """Return small spots much brighter than what is round them, and nearly white."""
    disc = cv2.getStructuringElement(cv2.MORPH_RECT, (13, 13))
    spots = cv2.morphologyEx(least, cv2.MORPH_TOPHAT, disc)
    return np.asarray((spots > 45) & (least > 190))


def _lines(grey: Grey) -> Mask:
    """Return thin dark lines: what a closing along four directions fills (Lee et al., DullRazor, 1997)."""
    length = 11
    across = np.zeros((length, length), np.uint8)
    across[length // 2] = 1
    slope = np.eye(length, dtype=np.uint8)
    smooth = cv2.GaussianBlur(grey, (3, 3), 0.7)
    filled = np.zeros_like(grey)
    for line in (across, across.T, slope, slope[::-1]):
        filled = np.maximum(filled, cv2.morphologyEx(smooth, cv2.MORPH_BLACKHAT, line))
    _, labels, stats, _ = cv2.connectedComponentsWithStats((filled > 22).astype(np.uint8), connectivity=8)
    long = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) >= 24
    long[0] = False
    return np.asarray(long[labels])


def _ruler(grey: Field) -> float:
    """Return how periodic the dark strokes along a border are: 0 to 1, the best band of the four borders."""
    bands = []
    for turned in (grey, grey[::-1], grey.T, grey.T[::-1]):
        depth = max(len(turned) // 3, 8)
        bands += [turned[start : start + max(depth // 5, 4)] for start in range(0, depth, max(depth // 5, 2))]
    return max(_periodicity(band.mean(axis=0)) for band in bands)


def _periodicity(line: Field) -> float:
    """Return the autocorrelation of a line's dark strokes at one and at two periods, the lower; 0 without strokes."""
    strokes = np.minimum(line - cv2.blur(line[None], (25, 1))[0], 0)
    strokes = strokes - strokes.mean()
    length, power = len(strokes), float(strokes @ strokes)
    if power < length:
        return 0.0
    echo = np.fft.irfft(np.abs(np.fft.rfft(strokes, 2 * length)) ** 2)[:length] / power
    periods = echo[SHORTEST_PERIOD : min(LONGEST_PERIOD, length // 4)]
    peak = int(periods.argmax()) if len(periods) else 0
    if not 0 < peak < len(periods) - 1:
        return 0.0
    period = SHORTEST_PERIOD + peak
    second = echo[2 * period - 1 : 2 * period + 2].max(initial=0) / (1 - 2 * period / length)
    return float(max(min(periods[peak], second), 0))


def _lesion(pixels: NDArray[np.uint8], usable: Mask) -> tuple[Mask, float]:
    """Return the lesion at a quarter of the size, and how far its colour is from the skin's in CIELAB."""
    height, width = (max(side // 4, 16) for side in usable.shape)
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    usable = cv2.resize(usable.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
    lab = cv2.GaussianBlur(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), (0, 0), 0.8)
    edge = max(min(height, width) // 12, 1)
    ring = usable.copy()
    ring[edge:-edge, edge:-edge] = False
    if ring.sum() < 20:
        ring = usable
    distance = np.sqrt(np.square(lab - np.median(lab[ring], axis=0)).sum(axis=2))
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
