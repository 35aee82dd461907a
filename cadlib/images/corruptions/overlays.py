"""Draws objects between lens and skin: frame, hair, ruler, ink, bubbles.

Each function takes (H, W, 3) uint8 RGB, one level and a generator. It returns a new array of the
same shape and type. Places are in short sides from the centre: the square that a network reads is
from -0.5 to 0.5.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont

from cadlib.images.brushes import (
    Colour,
    Coordinates,
    Field,
    Floats,
    Path2D,
    Pixels,
    fill_polygons,
    painted,
    polar,
    ribbon,
    soft_mask,
    stained,
)
from cadlib.images.corruptions.camera import rounded

_FULL_TURN = 2 * math.pi
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


def dark_frame(pixels: Pixels, lost: float, rng: Generator) -> Pixels:
    """Darken towards the corners, with a round black stop, as the tube of a dermatoscope does.

    `lost` is the share of light lost in the corners of the square. The more is lost, the narrower
    is the stop.
    """
    x, y = _axes(pixels)
    # The tube never sits quite straight.
    centre_x = rng.uniform(-0.03, 0.03)
    centre_y = rng.uniform(-0.03, 0.03)
    distance = np.hypot(x - centre_x, y - centre_y)
    radius = 0.9 - 0.57 * lost
    softness = 0.012
    fall_off = np.minimum(2 * distance**2, 1)
    light = 1 - np.float32(lost) * fall_off
    inside = radius + softness - distance
    stop = np.clip(inside / (2 * softness), 0, 1)
    # The stop is not perfectly black.
    passed = light * (0.04 + 0.96 * stop)
    darkened = pixels * passed[..., None]
    return rounded(np.asarray(darkened, np.float32))


def hair(pixels: Pixels, count: float, rng: Generator) -> Pixels:
    """Draw hairs, mostly in one direction, each with a faint shadow."""
    colour = _HAIRS[rng.integers(len(_HAIRS))]
    heading = rng.uniform(0, _FULL_TURN)
    n_hairs = round(count * _squares(pixels))
    strands = [_strand(pixels, heading, rng) for _ in range(n_hairs)]
    # The lamp throws the shadow a little to the lower right.
    shadows = [strand + 0.004 for strand in strands]
    shadow = _mask(pixels, shadows, 0.004)
    body = _mask(pixels, strands, 0.0007)
    shaded = _stain(pixels, 0.25 * shadow, _HAIR_SHADOW)
    return _stain(shaded, 0.93 * body, colour)


def ruler(pixels: Pixels, level: float, rng: Generator) -> Pixels:
    """Print a scale in millimetres along one border, as on the glass of a dermatoscope."""
    quarters = int(rng.integers(4))
    step = rng.uniform(0.042, 0.058)
    shift = rng.uniform(-0.5, 0.5) * step
    offset = 0.47 - 0.21 * level
    ticks = _ruler_ticks(level, step, shift, offset)
    turned_ticks = [_turned(tick, quarters) for tick in ticks]
    printed = _mask(pixels, turned_ticks, 0.0012)
    label_y = offset + 0.025 + 0.012 * level
    label_size = 0.032 + 0.02 * level
    for number, text in _RULER_LABELS:
        label_x = number * step + shift
        [place] = _turned(np.array([[label_x, label_y]]), quarters)
        label = _lettering(pixels, text, place, label_size)
        printed = np.maximum(printed, label)
    strength = 0.35 + 0.6 * level
    return _stain(pixels, strength * printed, _PRINT)


def _ruler_ticks(level: float, step: float, shift: float, offset: float) -> list[Path2D]:
    """Return the outlines of a ruler's ticks and of its line, along the lower border."""
    long_tick = 0.03 + 0.06 * level
    tick_width = 0.002 + 0.004 * level
    line_width = 0.002 + 0.003 * level
    outlines = []
    for number in range(-9, 10):
        # Every fifth tick is longer.
        share = 1.0 if number % 5 == 0 else 0.55
        x = number * step + shift
        top = offset - long_tick * share
        tick = np.array([[x, offset], [x, top]])
        outlines.append(ribbon(tick, tick_width))
    line = np.array([[-0.5, offset], [0.5, offset]])
    outlines.append(ribbon(line, line_width))
    return outlines


def ink(pixels: Pixels, level: float, rng: Generator) -> Pixels:
    """Mark the lesion with a surgeon's pen.

    The mark grows from a faint stroke at the border to an almost closed ring.
    """
    colour = _INKS[rng.integers(len(_INKS))]
    start = rng.uniform(0, _FULL_TURN)
    share_of_ring = 0.08 + 0.72 * level
    angle = start + np.linspace(0, _FULL_TURN, 160) * share_of_ring
    ring = _ink_ring(angle, level, rng)
    # A hand presses harder on some sides.
    pressure = 1 + 0.25 * np.cos(3 * angle + start)
    width = (0.014 + 0.02 * level) * pressure
    texture = _ink_texture(pixels, rng)
    wet = _mask(pixels, [ribbon(ring, width)], 0.0035)
    # Ink runs along the furrows of the skin: a wide, faint border.
    bled = _mask(pixels, [ribbon(ring, 1.5 * width)], 0.012)
    strength = 0.45 + 0.5 * level
    stroke = np.clip(wet * texture, 0, 1) * strength
    amount = stroke + 0.18 * level * bled
    return _stain(pixels, np.clip(amount, 0, 1), colour)


def _ink_ring(angle: Floats, level: float, rng: Generator) -> Path2D:
    """Return the line of a pen around the lesion, at these angles, as unsteady as a hand."""
    waves = []
    for order in (2, 3, 5):
        swing = rng.uniform(-0.02, 0.02)
        phase = rng.uniform(0, _FULL_TURN)
        waves.append(swing * np.cos(order * angle + phase))
    reach = 0.44 - 0.06 * level
    return polar(0, 0, angle, reach + np.sum(waves, axis=0))


def _ink_texture(pixels: Pixels, rng: Generator) -> Field:
    """Return the density of ink on skin, (H, W), about 0.85."""
    # Furrows take the ink, and their ridges do not.
    coarse = _clouds(pixels, rng, 0.02)
    fine = _clouds(pixels, rng, 0.004)
    return 0.85 + 0.2 * coarse + 0.06 * fine


def bubbles(pixels: Pixels, count: float, rng: Generator) -> Pixels:
    """Draw air bubbles in the gel.

    They are rings with a bright rim, a dark border and the reflection of the lamp.
    """
    lamp = rng.uniform(0, _FULL_TURN)
    rounds = _bubble_rounds(pixels, count, rng)
    outer_discs = [_disc(place, 1.12 * size) for place, size in rounds]
    inner_discs = [_disc(place, 0.92 * size) for place, size in rounds]
    outside = _mask(pixels, outer_discs, 0.0015)
    inside = _mask(pixels, inner_discs, 0.0015)
    border = np.clip(outside - inside, 0, 1)
    values = _stain(pixels, 0.5 * border, _BUBBLE_BORDER)
    values = _paint(values, 0.16 * inside, _BUBBLE_INSIDE)
    reflection = _bubble_reflection(pixels, rounds, lamp)
    return _paint(values, reflection, _WHITE)


def _bubble_rounds(
    pixels: Pixels,
    count: float,
    rng: Generator,
) -> list[tuple[Path2D, float]]:
    """Return the centre and the radius of each bubble."""
    n_bubbles = round(count * _squares(pixels))
    rounds = []
    for _ in range(n_bubbles):
        place = _place(pixels, rng)
        # Most bubbles are small.
        size = 0.009 + 0.05 * rng.uniform() ** 2.5
        rounds.append((place, size))
    return rounds


def _bubble_reflection(
    pixels: Pixels,
    rounds: Iterable[tuple[Path2D, float]],
    lamp: float,
) -> Field:
    """Return the mask of the reflections: a crescent towards the lamp and a spark opposite."""
    towards = np.array([math.cos(lamp), math.sin(lamp)])
    crescents = []
    sparks = []
    for place, size in rounds:
        crescent = _arc(place, 0.8 * size, lamp, 0.16 * size)
        crescents.append(crescent)
        opposite = place - 0.45 * size * towards
        spark = _disc(opposite, 0.16 * size)
        sparks.append(spark)
    crescent_mask = _mask(pixels, crescents, 0.0015)
    spark_mask = _mask(pixels, sparks, 0.0012)
    return np.clip(0.75 * crescent_mask + 0.95 * spark_mask, 0, 1)


def _sides(pixels: Pixels) -> tuple[int, int, int]:
    """Return height, width and short side of an image in px."""
    height, width = pixels.shape[:2]
    return height, width, min(height, width)


def _axes(pixels: Pixels) -> tuple[Coordinates, Coordinates]:
    """Return the coordinates of the pixels, x as (1, W) and y as (H, 1)."""
    height, width, side = _sides(pixels)
    columns = np.arange(width, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)
    # The middle of a pixel is half a pixel behind its beginning.
    x = (columns + 0.5 - width / 2) / side
    y = (rows + 0.5 - height / 2) / side
    return x[None, :], y[:, None]


def _squares(pixels: Pixels) -> float:
    """Return the area in squares of the short side: 1 for a square image, 1.33 for 4 : 3."""
    height, width, side = _sides(pixels)
    return float(max(height, width) / side)


def _place(pixels: Pixels, rng: Generator) -> Path2D:
    """Return a random place in the image, (2,)."""
    height, width, side = _sides(pixels)
    share = rng.uniform(-0.5, 0.5, 2)
    place = share * np.array([width, height]) / side
    return np.asarray(place)


def _strand(pixels: Pixels, heading: float, rng: Generator) -> Path2D:
    """Return the outline of one hair: gently bent, thick at its root and thin at its tip."""
    steps = 24
    length = rng.uniform(0.35, 1.1)
    curve = rng.uniform(-1.1, 1.1) * length
    # The sum of random steps, so that a hair has no sharp corner.
    jitter = 0.04 * rng.standard_normal(steps).cumsum()
    along = np.linspace(0, 1, steps)
    bend = curve * along + jitter
    turns = heading + rng.normal(0, 0.45) + bend
    directions = polar(0, 0, turns, 1)
    moves = directions * length / steps
    # The middle of a hair, not its root, is at a random place: else the centre would be bald.
    middle = moves.sum(axis=0) / 2
    line = _place(pixels, rng) + moves.cumsum(axis=0) - middle
    root_width = rng.uniform(0.0035, 0.0075)
    return ribbon(line, root_width * np.linspace(1, 0.35, steps))


def _turned(points: Path2D, quarters: int) -> Path2D:
    """Return points rotated by a number of quarter turns, 0 to 3."""
    x = points[:, 0]
    y = points[:, 1]
    rotations = [(x, y), (-y, x), (-x, -y), (y, -x)]
    return np.stack(rotations[quarters], axis=1)


def _disc(place: Path2D, radius: float) -> Path2D:
    angle = np.linspace(0, _FULL_TURN, 40, endpoint=False)
    x, y = place
    return polar(x, y, angle, radius)


def _arc(
    place: Path2D,
    radius: float,
    middle: float,
    width: float,
) -> Path2D:
    angle = middle + np.linspace(-0.9, 0.9, 16)
    x, y = place
    line = polar(x, y, angle, radius)
    return ribbon(line, width)


def _canvas(pixels: Pixels) -> Image.Image:
    """Return an empty canvas in the format of an image, at least as large as the image."""
    height, width, side = _sides(pixels)
    scale = max(_CANVAS_PX / side, 1.0)
    canvas_width = round(width * scale)
    canvas_height = round(height * scale)
    return Image.new("L", (canvas_width, canvas_height))


def _on_canvas(points: Path2D, canvas: Image.Image) -> Path2D:
    """Return points in pixels of a canvas."""
    side = float(min(canvas.size))
    centre = np.array(canvas.size) / 2
    return np.asarray(points * side + centre)


def _mask(pixels: Pixels, polygons: Iterable[Path2D], blur: float) -> Field:
    """Return the share of each pixel in the polygons, (H, W), 0 to 1, with a soft border."""
    canvas = _canvas(pixels)
    fill_polygons(canvas, [_on_canvas(polygon, canvas) for polygon in polygons])
    return _shrunk(canvas, pixels, blur)


def _lettering(pixels: Pixels, text: str, place: Path2D, size: float) -> Field:
    """Return the mask of a text around a place, (H, W), 0 to 1."""
    canvas = _canvas(pixels)
    x, y = _on_canvas(place, canvas)
    font = ImageFont.load_default(size * min(canvas.size))
    pen = ImageDraw.Draw(canvas)
    pen.text((x, y), text, 255, font, anchor="mm")
    return _shrunk(canvas, pixels, 0.0012)


def _shrunk(canvas: Image.Image, pixels: Pixels, blur: float) -> Field:
    """Return a canvas at the size of the image, blurred, 0 to 1."""
    height, width, side = _sides(pixels)
    shapes = canvas.resize((width, height), Image.Resampling.BOX)
    return soft_mask(shapes, blur * side)


def _clouds(pixels: Pixels, rng: Generator, size: float) -> Field:
    """Return smooth noise, (H, W), of mean 0 and deviation 1 before it is reduced.

    A bump is `size` short sides wide.
    """
    height, width, side = _sides(pixels)
    rows = math.ceil(height / side / size)
    columns = math.ceil(width / side / size)
    bumps = rng.standard_normal((rows, columns), np.float32)
    field = Image.fromarray(bumps)
    clouds = field.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(clouds, np.float32)


def _stain(pixels: Pixels, amount: Field, colour: Colour) -> Pixels:
    absorption = 1 - np.array(colour, np.float32)
    return rounded(stained(pixels, amount[..., None], absorption))


def _paint(pixels: Pixels, amount: Field, colour: Colour) -> Pixels:
    full_scale = 255 * np.array(colour, np.float32)
    return rounded(painted(pixels, amount[..., None], full_scale))
