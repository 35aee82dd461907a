"""What lies between lens and skin: the frame of a dermatoscope, hair, a ruler, a surgeon's ink, bubbles in the gel.

Each takes (H, W, 3) uint8 RGB, one level and a generator, and returns a new array of the same shape and type.
Places are in short sides from the centre: the square that a network sees reaches from -0.5 to 0.5.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from cadlib.images.corruptions.camera import rounded

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]
Path2D = NDArray[np.float64]
"""The corners of a line or polygon, (n, 2): x and y."""
Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 1, sRGB."""

_CANVAS_PX = 1000
"""The short side on which shapes are drawn before they are shrunk to a smaller picture: no stair-steps at 84 px."""
_HAIRS: tuple[Colour, ...] = ((0.1, 0.07, 0.06), (0.17, 0.11, 0.08), (0.3, 0.2, 0.13))
_INKS: tuple[Colour, ...] = ((0.36, 0.18, 0.62), (0.2, 0.22, 0.66), (0.16, 0.4, 0.66))
"""Gentian violet and the blues of surgical markers."""


def dark_frame(pixels: Pixels, lost: float, rng: np.random.Generator) -> Pixels:
    """Darken towards the corners and set a round black stop before them, as a dermatoscope's tube does.

    `lost` is the share of light that lacks in the corners of the square; the more, the narrower is the stop.
    """
    x, y = _axes(pixels)
    distance = np.hypot(x - rng.uniform(-0.03, 0.03), y - rng.uniform(-0.03, 0.03))
    radius, softness = 0.9 - 0.57 * lost, 0.012
    light = 1 - np.float32(lost) * np.minimum(2 * distance**2, 1)
    stop = np.clip((radius + softness - distance) / (2 * softness), 0, 1)
    return rounded(np.asarray(pixels * (light * (0.04 + 0.96 * stop))[..., None], np.float32))


def hair(pixels: Pixels, count: float, rng: np.random.Generator) -> Pixels:
    """Lay hairs over the picture, mostly in one direction, each with the faint shadow it throws."""
    colour, heading = _HAIRS[rng.integers(len(_HAIRS))], rng.uniform(0, 2 * math.pi)
    strands = [_strand(pixels, heading, rng) for _ in range(round(count * _squares(pixels)))]
    shadow = _mask(pixels, [strand + 0.004 for strand in strands], 0.004)
    body = _mask(pixels, strands, 0.0007)
    return _stained(_stained(pixels, 0.25 * shadow, (0.45, 0.35, 0.32)), 0.93 * body, colour)


def ruler(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Print a scale in millimetres along one border, as on the glass of a dermatoscope."""
    turn, step = int(rng.integers(4)), rng.uniform(0.042, 0.058)
    offset, reach = 0.47 - 0.21 * level, 0.03 + 0.06 * level
    ticks, shift = [], rng.uniform(-0.5, 0.5) * step
    for number in range(-9, 10):
        length = reach * (1.0 if number % 5 == 0 else 0.55)
        at = number * step + shift
        ticks.append(
            _ribbon(np.array([[at, offset], [at, offset - length]]), 0.002 + 0.004 * level)
        )
    ticks.append(_ribbon(np.array([[-0.5, offset], [0.5, offset]]), 0.002 + 0.003 * level))
    printed = _mask(pixels, [_turned(tick, turn) for tick in ticks], 0.0012)
    for number, text in ((-5, "0"), (0, "5"), (5, "10")):
        place = _turned(np.array([[number * step + shift, offset + 0.025 + 0.012 * level]]), turn)[
            0
        ]
        printed = np.maximum(printed, _lettering(pixels, text, place, 0.032 + 0.02 * level))
    return _stained(pixels, (0.35 + 0.6 * level) * printed, (0.1, 0.1, 0.12))


def ink(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Mark the lesion with a surgeon's pen: from a faint stroke at the border to a ring that nearly closes."""
    colour, start = _INKS[rng.integers(len(_INKS))], rng.uniform(0, 2 * math.pi)
    angle = start + np.linspace(0, 2 * math.pi, 160) * (0.08 + 0.72 * level)
    waves = [
        rng.uniform(-0.02, 0.02) * np.cos(order * angle + rng.uniform(0, 2 * math.pi))
        for order in (2, 3, 5)
    ]
    reach = 0.44 - 0.06 * level + np.sum(waves, axis=0)
    ring = np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)
    width = (0.014 + 0.02 * level) * (1 + 0.25 * np.cos(3 * angle + start))
    texture = 0.85 + 0.2 * _clouds(pixels, rng, 0.02) + 0.06 * _clouds(pixels, rng, 0.004)
    wet = _mask(pixels, [_ribbon(ring, width)], 0.0035)
    bled = _mask(pixels, [_ribbon(ring, 1.5 * width)], 0.012)
    amount = np.clip(wet * texture, 0, 1) * (0.45 + 0.5 * level) + 0.18 * level * bled
    return _stained(pixels, np.clip(amount, 0, 1), colour)


def bubbles(pixels: Pixels, count: float, rng: np.random.Generator) -> Pixels:
    """Leave air in the gel: rings with a bright rim, a dark border and the reflection of the lamp."""
    lamp, values = rng.uniform(0, 2 * math.pi), pixels
    rounds = [
        (_place(pixels, rng), 0.009 + 0.05 * rng.uniform() ** 2.5)
        for _ in range(round(count * _squares(pixels)))
    ]
    towards = np.array([math.cos(lamp), math.sin(lamp)])
    outside = _mask(pixels, [_disc(place, 1.12 * size) for place, size in rounds], 0.0015)
    inside = _mask(pixels, [_disc(place, 0.92 * size) for place, size in rounds], 0.0015)
    crescent = _mask(
        pixels, [_arc(place, 0.8 * size, lamp, 0.16 * size) for place, size in rounds], 0.0015
    )
    spark = _mask(
        pixels,
        [_disc(place - 0.45 * size * towards, 0.16 * size) for place, size in rounds],
        0.0012,
    )
    values = _stained(values, 0.5 * np.clip(outside - inside, 0, 1), (0.35, 0.28, 0.26))
    values = _painted(values, 0.16 * inside, (1.0, 0.97, 0.95))
    return _painted(values, np.clip(0.75 * crescent + 0.95 * spark, 0, 1), (1.0, 1.0, 1.0))


def _axes(pixels: Pixels) -> tuple[Field, Field]:
    height, width = pixels.shape[:2]
    side = min(height, width)
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / side
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / side
    return x[None, :], y[:, None]


def _squares(pixels: Pixels) -> float:
    """Return the area in squares of the short side: 1 for a square picture, 1.33 for one of 4 : 3."""
    return float(max(pixels.shape[:2]) / min(pixels.shape[:2]))


def _place(pixels: Pixels, rng: np.random.Generator) -> Path2D:
    height, width = pixels.shape[:2]
    return np.asarray(rng.uniform(-0.5, 0.5, 2) * np.array([width, height]) / min(height, width))


def _strand(pixels: Pixels, heading: float, rng: np.random.Generator) -> Path2D:
    """Return the outline of one hair: gently bent, thick at its root and thin at its tip."""
    steps, length = 24, rng.uniform(0.35, 1.1)
    bend = (
        rng.uniform(-1.1, 1.1) * length * np.linspace(0, 1, steps)
        + 0.04 * rng.standard_normal(steps).cumsum()
    )
    turns = heading + rng.normal(0, 0.45) + bend
    moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * length / steps
    way = _place(pixels, rng) + moves.cumsum(axis=0) - moves.sum(axis=0) / 2
    return _ribbon(way, rng.uniform(0.0035, 0.0075) * np.linspace(1, 0.35, steps))


def _ribbon(way: Path2D, width: float | NDArray[np.float64]) -> Path2D:
    """Return the outline of a line of a given width, or of one width a corner."""
    along = np.gradient(way, axis=0)
    normal = (
        np.stack([-along[:, 1], along[:, 0]], axis=1) / np.hypot(along[:, 0], along[:, 1])[:, None]
    )
    offset = normal * np.broadcast_to(np.asarray(width) / 2, len(way))[:, None]
    return np.concatenate([way + offset, (way - offset)[::-1]])


def _turned(points: Path2D, quarters: int) -> Path2D:
    x, y = points[:, 0], points[:, 1]
    return np.stack([(x, y), (-y, x), (-x, -y), (y, -x)][quarters], axis=1)


def _disc(place: Path2D, radius: float) -> Path2D:
    angle = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    return place + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _arc(place: Path2D, radius: float, middle: float, width: float) -> Path2D:
    angle = middle + np.linspace(-0.9, 0.9, 16)
    return _ribbon(place + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1), width)


def _canvas(pixels: Pixels) -> tuple[Image.Image, float]:
    """Return an empty canvas in the form of a picture, and how many of its pixels a short side has."""
    height, width = pixels.shape[:2]
    scale = max(_CANVAS_PX / min(height, width), 1.0)
    canvas = Image.new("L", (round(width * scale), round(height * scale)))
    return canvas, float(min(canvas.size))


def _mask(pixels: Pixels, polygons: Iterable[Path2D], blur: float) -> Field:
    """Return how much of each pixel lies in the polygons, (H, W), 0 to 1, with a soft border."""
    canvas, side = _canvas(pixels)
    pen, centre = ImageDraw.Draw(canvas), np.array(canvas.size) / 2
    for polygon in polygons:
        pen.polygon([(float(x), float(y)) for x, y in polygon * side + centre], fill=255)
    return _shrunk(canvas, pixels, blur)


def _lettering(pixels: Pixels, text: str, place: Path2D, size: float) -> Field:
    canvas, side = _canvas(pixels)
    x, y = place * side + np.array(canvas.size) / 2
    ImageDraw.Draw(canvas).text((x, y), text, 255, ImageFont.load_default(size * side), anchor="mm")
    return _shrunk(canvas, pixels, 0.0012)


def _shrunk(canvas: Image.Image, pixels: Pixels, blur: float) -> Field:
    height, width = pixels.shape[:2]
    small = canvas.resize((width, height), Image.Resampling.BOX)
    soft = small.filter(ImageFilter.GaussianBlur(blur * min(height, width)))
    return np.asarray(soft, np.float32) / np.float32(255)


def _clouds(pixels: Pixels, rng: np.random.Generator, size: float) -> Field:
    """Return smooth noise, (H, W), of mean 0 and deviation 1 before it is shrunk; a bump is `size` short sides wide."""
    height, width = pixels.shape[:2]
    cells = [math.ceil(length / min(height, width) / size) for length in (height, width)]
    field = Image.fromarray(rng.standard_normal(cells, np.float32))
    return np.asarray(field.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _stained(pixels: Pixels, amount: Field, colour: Colour) -> Pixels:
    """Let a pigment swallow light: what lies under it shows through."""
    swallowed = amount[..., None] * (1 - np.array(colour, np.float32))
    return rounded(np.asarray(pixels * (1 - swallowed), np.float32))


def _painted(pixels: Pixels, amount: Field, colour: Colour) -> Pixels:
    """Cover what is there, 0 not at all, 1 wholly."""
    covered = amount[..., None] * (255 * np.array(colour, np.float32) - pixels)
    return rounded(np.asarray(pixels + covered, np.float32))
