"""Draws objects between lens and skin: frame, hair, ruler, ink, bubbles.

Each function takes (H, W, 3) uint8 RGB, one level and a generator. It returns a new array of the
same shape and type. Places are in short sides from the centre: the square that a network reads is
from -0.5 to 0.5.
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
"""The short side on which shapes are drawn before they are reduced to a smaller image.

It avoids jagged edges at 84 px."""
_HAIRS: tuple[Colour, ...] = ((0.1, 0.07, 0.06), (0.17, 0.11, 0.08), (0.3, 0.2, 0.13))
_HAIR_SHADOW = (0.45, 0.35, 0.32)
_INKS: tuple[Colour, ...] = ((0.36, 0.18, 0.62), (0.2, 0.22, 0.66), (0.16, 0.4, 0.66))
"""Gentian violet and the blues of surgical markers."""
_PRINT = (0.1, 0.1, 0.12)
_RULER_LABELS = ((-5, "0"), (0, "5"), (5, "10"))
"""The tick and the text of each number on a ruler."""
_BUBBLE_BORDER = (0.35, 0.28, 0.26)
_BUBBLE_INSIDE = (1.0, 0.97, 0.95)
_WHITE = (1.0, 1.0, 1.0)


def dark_frame(pixels: Pixels, lost: float, rng: np.random.Generator) -> Pixels:
    """Darken towards the corners, with a round black stop, as the tube of a dermatoscope does.

    `lost` is the share of light lost in the corners of the square. The more is lost, the narrower
    is the stop.
    """
    x, y = _axes(pixels)
    centre_x = rng.uniform(-0.03, 0.03)
    centre_y = rng.uniform(-0.03, 0.03)
    distance = np.hypot(x - centre_x, y - centre_y)
    radius = 0.9 - 0.57 * lost
    softness = 0.012
    light = 1 - np.float32(lost) * np.minimum(2 * distance**2, 1)
    stop = np.clip((radius + softness - distance) / (2 * softness), 0, 1)
    # The stop is not perfectly black.
    passed = light * (0.04 + 0.96 * stop)
    return rounded(np.asarray(pixels * passed[..., None], np.float32))


def hair(pixels: Pixels, count: float, rng: np.random.Generator) -> Pixels:
    """Draw hairs, mostly in one direction, each with a faint shadow."""
    colour = _HAIRS[rng.integers(len(_HAIRS))]
    heading = rng.uniform(0, 2 * math.pi)
    hairs = round(count * _squares(pixels))
    strands = [_strand(pixels, heading, rng) for _ in range(hairs)]
    shadow = _mask(pixels, [strand + 0.004 for strand in strands], 0.004)
    body = _mask(pixels, strands, 0.0007)
    shaded = _stained(pixels, 0.25 * shadow, _HAIR_SHADOW)
    return _stained(shaded, 0.93 * body, colour)


def ruler(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Print a scale in millimetres along one border, as on the glass of a dermatoscope."""
    quarters = int(rng.integers(4))
    step = rng.uniform(0.042, 0.058)
    shift = rng.uniform(-0.5, 0.5) * step
    offset = 0.47 - 0.21 * level
    ticks = _ruler_ticks(level, step, shift, offset)
    printed = _mask(pixels, [_turned(tick, quarters) for tick in ticks], 0.0012)
    size = 0.032 + 0.02 * level
    for number, text in _RULER_LABELS:
        place = np.array([[number * step + shift, offset + 0.025 + 0.012 * level]])
        [turned] = _turned(place, quarters)
        label = _lettering(pixels, text, turned, size)
        printed = np.maximum(printed, label)
    return _stained(pixels, (0.35 + 0.6 * level) * printed, _PRINT)


def _ruler_ticks(level: float, step: float, shift: float, offset: float) -> list[Path2D]:
    """Return the outlines of a ruler's ticks and of its line, along the lower border."""
    reach = 0.03 + 0.06 * level
    ticks = []
    for number in range(-9, 10):
        # Every fifth tick is longer.
        length = reach * (1.0 if number % 5 == 0 else 0.55)
        x = number * step + shift
        tick = np.array([[x, offset], [x, offset - length]])
        ticks.append(_ribbon(tick, 0.002 + 0.004 * level))
    line = np.array([[-0.5, offset], [0.5, offset]])
    ticks.append(_ribbon(line, 0.002 + 0.003 * level))
    return ticks


def ink(pixels: Pixels, level: float, rng: np.random.Generator) -> Pixels:
    """Mark the lesion with a surgeon's pen.

    The mark grows from a faint stroke at the border to an almost closed ring.
    """
    colour = _INKS[rng.integers(len(_INKS))]
    start = rng.uniform(0, 2 * math.pi)
    angle = start + np.linspace(0, 2 * math.pi, 160) * (0.08 + 0.72 * level)
    ring = _ink_ring(angle, level, rng)
    width = (0.014 + 0.02 * level) * (1 + 0.25 * np.cos(3 * angle + start))
    texture = _ink_texture(pixels, rng)
    wet = _mask(pixels, [_ribbon(ring, width)], 0.0035)
    bled = _mask(pixels, [_ribbon(ring, 1.5 * width)], 0.012)
    stroke = np.clip(wet * texture, 0, 1) * (0.45 + 0.5 * level)
    amount = stroke + 0.18 * level * bled
    return _stained(pixels, np.clip(amount, 0, 1), colour)


def _ink_ring(angle: NDArray[np.float64], level: float, rng: np.random.Generator) -> Path2D:
    """Return the line of a pen around the lesion, at these angles, as unsteady as a hand."""
    waves = []
    for order in (2, 3, 5):
        swing = rng.uniform(-0.02, 0.02)
        phase = rng.uniform(0, 2 * math.pi)
        waves.append(swing * np.cos(order * angle + phase))
    reach = 0.44 - 0.06 * level + np.sum(waves, axis=0)
    x = reach * np.cos(angle)
    y = reach * np.sin(angle)
    return np.stack([x, y], axis=1)


def _ink_texture(pixels: Pixels, rng: np.random.Generator) -> Field:
    """Return the density of ink on skin, (H, W), about 0.85."""
    coarse = _clouds(pixels, rng, 0.02)
    fine = _clouds(pixels, rng, 0.004)
    return 0.85 + 0.2 * coarse + 0.06 * fine


def bubbles(pixels: Pixels, count: float, rng: np.random.Generator) -> Pixels:
    """Draw air bubbles in the gel.

    They are rings with a bright rim, a dark border and the reflection of the lamp.
    """
    lamp = rng.uniform(0, 2 * math.pi)
    rounds = _bubble_rounds(pixels, count, rng)
    outer_discs = [_disc(place, 1.12 * size) for place, size in rounds]
    inner_discs = [_disc(place, 0.92 * size) for place, size in rounds]
    outside = _mask(pixels, outer_discs, 0.0015)
    inside = _mask(pixels, inner_discs, 0.0015)
    border = np.clip(outside - inside, 0, 1)
    values = _stained(pixels, 0.5 * border, _BUBBLE_BORDER)
    values = _painted(values, 0.16 * inside, _BUBBLE_INSIDE)
    reflection = _bubble_reflection(pixels, rounds, lamp)
    return _painted(values, reflection, _WHITE)


def _bubble_rounds(
    pixels: Pixels, count: float, rng: np.random.Generator
) -> list[tuple[Path2D, float]]:
    """Return the centre and the radius of each bubble."""
    rounds = []
    for _ in range(round(count * _squares(pixels))):
        place = _place(pixels, rng)
        # Most bubbles are small.
        size = 0.009 + 0.05 * rng.uniform() ** 2.5
        rounds.append((place, size))
    return rounds


def _bubble_reflection(
    pixels: Pixels, rounds: Iterable[tuple[Path2D, float]], lamp: float
) -> Field:
    """Return the mask of the reflections: a crescent towards the lamp and a spark opposite."""
    towards = np.array([math.cos(lamp), math.sin(lamp)])
    crescents = []
    sparks = []
    for place, size in rounds:
        crescents.append(_arc(place, 0.8 * size, lamp, 0.16 * size))
        sparks.append(_disc(place - 0.45 * size * towards, 0.16 * size))
    crescent = _mask(pixels, crescents, 0.0015)
    spark = _mask(pixels, sparks, 0.0012)
    return np.clip(0.75 * crescent + 0.95 * spark, 0, 1)


def _axes(pixels: Pixels) -> tuple[Field, Field]:
    """Return the coordinates of the pixels, x as (1, W) and y as (H, 1)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)
    x = (columns + 0.5 - width / 2) / side
    y = (rows + 0.5 - height / 2) / side
    return x[None, :], y[:, None]


def _squares(pixels: Pixels) -> float:
    """Return the area in squares of the short side: 1 for a square image, 1.33 for 4 : 3."""
    height, width = pixels.shape[:2]
    return float(max(height, width) / min(height, width))


def _place(pixels: Pixels, rng: np.random.Generator) -> Path2D:
    """Return a random place in the image, (2,)."""
    height, width = pixels.shape[:2]
    share = rng.uniform(-0.5, 0.5, 2)
    return np.asarray(share * np.array([width, height]) / min(height, width))


def _strand(pixels: Pixels, heading: float, rng: np.random.Generator) -> Path2D:
    """Return the outline of one hair: gently bent, thick at its root and thin at its tip."""
    steps = 24
    length = rng.uniform(0.35, 1.1)
    curve = rng.uniform(-1.1, 1.1) * length * np.linspace(0, 1, steps)
    jitter = 0.04 * rng.standard_normal(steps).cumsum()
    bend = curve + jitter
    turns = heading + rng.normal(0, 0.45) + bend
    moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * length / steps
    line = _place(pixels, rng) + moves.cumsum(axis=0) - moves.sum(axis=0) / 2
    width = rng.uniform(0.0035, 0.0075) * np.linspace(1, 0.35, steps)
    return _ribbon(line, width)


def _ribbon(line: Path2D, width: float | NDArray[np.float64]) -> Path2D:
    """Return the outline of a line of a certain width, or of a width at each corner."""
    along = np.gradient(line, axis=0)
    dx = along[:, 0]
    dy = along[:, 1]
    length = np.hypot(dx, dy)
    normal = np.stack([-dy, dx], axis=1) / length[:, None]
    half_width = np.broadcast_to(np.asarray(width) / 2, len(line))
    offset = normal * half_width[:, None]
    forth = line + offset
    back = (line - offset)[::-1]
    return np.concatenate([forth, back])


def _turned(points: Path2D, quarters: int) -> Path2D:
    """Return points rotated by a number of quarter turns, 0 to 3."""
    x = points[:, 0]
    y = points[:, 1]
    rotations = [(x, y), (-y, x), (-x, -y), (y, -x)]
    return np.stack(rotations[quarters], axis=1)


def _circle(angle: NDArray[np.float64]) -> Path2D:
    """Return the points of the unit circle at these angles, (n, 2)."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _disc(place: Path2D, radius: float) -> Path2D:
    angle = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    return place + radius * _circle(angle)


def _arc(place: Path2D, radius: float, middle: float, width: float) -> Path2D:
    angle = middle + np.linspace(-0.9, 0.9, 16)
    line = place + radius * _circle(angle)
    return _ribbon(line, width)


def _canvas(pixels: Pixels) -> tuple[Image.Image, float]:
    """Return an empty canvas in the format of an image, and its short side in pixels."""
    height, width = pixels.shape[:2]
    scale = max(_CANVAS_PX / min(height, width), 1.0)
    size = (round(width * scale), round(height * scale))
    return Image.new("L", size), float(min(size))


def _on_canvas(points: Path2D, canvas: Image.Image, side: float) -> Path2D:
    """Return points in pixels of a canvas."""
    centre = np.array(canvas.size) / 2
    return np.asarray(points * side + centre)


def _mask(pixels: Pixels, polygons: Iterable[Path2D], blur: float) -> Field:
    """Return the share of each pixel in the polygons, (H, W), 0 to 1, with a soft border."""
    canvas, side = _canvas(pixels)
    pen = ImageDraw.Draw(canvas)
    for polygon in polygons:
        corners = _on_canvas(polygon, canvas, side)
        pen.polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return _shrunk(canvas, pixels, blur)


def _lettering(pixels: Pixels, text: str, place: Path2D, size: float) -> Field:
    """Return the mask of a text around a place, (H, W), 0 to 1."""
    canvas, side = _canvas(pixels)
    x, y = _on_canvas(place, canvas, side)
    font = ImageFont.load_default(size * side)
    ImageDraw.Draw(canvas).text((x, y), text, 255, font, anchor="mm")
    return _shrunk(canvas, pixels, 0.0012)


def _shrunk(canvas: Image.Image, pixels: Pixels, blur: float) -> Field:
    """Return a canvas at the size of the image, blurred, 0 to 1."""
    height, width = pixels.shape[:2]
    small = canvas.resize((width, height), Image.Resampling.BOX)
    kernel = ImageFilter.GaussianBlur(blur * min(height, width))
    soft = np.asarray(small.filter(kernel), np.float32)
    return soft / np.float32(255)


def _clouds(pixels: Pixels, rng: np.random.Generator, size: float) -> Field:
    """Return smooth noise, (H, W), of mean 0 and deviation 1 before it is reduced.

    A bump is `size` short sides wide.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    rows = math.ceil(height / side / size)
    columns = math.ceil(width / side / size)
    field = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
    clouds = field.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(clouds, np.float32)


def _stained(pixels: Pixels, amount: Field, colour: Colour) -> Pixels:
    """Let a pigment absorb light, so that the skin below shows through."""
    absorption = 1 - np.array(colour, np.float32)
    absorbed = amount[..., None] * absorption
    return rounded(np.asarray(pixels * (1 - absorbed), np.float32))


def _painted(pixels: Pixels, amount: Field, colour: Colour) -> Pixels:
    """Cover the skin: an amount of 0 changes nothing, 1 covers it completely."""
    difference = 255 * np.array(colour, np.float32) - pixels
    covered = amount[..., None] * difference
    return rounded(np.asarray(pixels + covered, np.float32))
