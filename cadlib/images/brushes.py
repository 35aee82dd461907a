"""Draws shapes, pigments and paints on an image.

The synthetic lesions and the corruptions use the same brushes. Golden answers and published
robustness metrics depend on the pixels, so the arithmetic of each brush is fixed to the last bit.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Pixels = NDArray[np.uint8]
"""An image, (H, W, 3), RGB, 0 to 255."""
Field = NDArray[np.float32]
"""One value per pixel, (H, W); a mask lies in 0 to 1."""
Floats = NDArray[np.float64]
Coordinates = NDArray[np.floating]
"""One of x and y, of each pixel or point."""
Path2D = NDArray[np.float64]
"""The corners of a line or polygon, (n, 2): x and y."""
Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 1, sRGB."""
Places = Iterable[tuple[float, float]]
"""Points, x and y of each."""


def polar(x: float, y: float, angle: Floats, reach: Floats | float) -> Path2D:
    """Return the points at these angles, in radians, and distances from x and y."""
    xs = x + reach * np.cos(angle)
    ys = y + reach * np.sin(angle)
    return np.stack([xs, ys], axis=1)


def ribbon(line: Path2D, width: Floats | float) -> Path2D:
    """Return the outline of a line of a certain width, or of a width at each corner."""
    along = np.gradient(line, axis=0)
    dx = along[:, 0]
    dy = along[:, 1]
    length = np.hypot(dx, dy)
    normal = np.stack([-dy, dx], axis=1) / length[:, None]
    half_width = np.asarray(width) / 2
    half_widths = np.broadcast_to(half_width, len(line))
    offset = normal * half_widths[:, None]
    forth = line + offset
    back = line - offset
    return np.concatenate([forth, back[::-1]])


def fill_polygons(canvas: Image.Image, polygons: Iterable[Path2D]) -> None:
    """Fill polygons, in pixels of a greyscale canvas, with white."""
    pen = ImageDraw.Draw(canvas)
    for polygon in polygons:
        pen.polygon(_corners(polygon), fill=255)


def draw_line(canvas: Image.Image, path: Path2D, width_px: float, taper: float = 1.0) -> None:
    """Draw a white line that narrows from `width_px` to `taper` times as much at its end."""
    pen = ImageDraw.Draw(canvas)
    corners = _corners(path)
    for index, segment in enumerate(pairwise(corners)):
        narrowing = 1 + (taper - 1) * index / len(corners)
        segment_px = round(width_px * narrowing)
        # Pillow draws a line of width 0 one pixel wide, but without its last point.
        pen.line(segment, fill=255, width=max(1, segment_px))


def soft_mask(shapes: Image.Image, blur_px: float) -> Field:
    """Return a greyscale image as a mask with borders softened by a Gaussian of `blur_px`."""
    blurred = shapes.filter(ImageFilter.GaussianBlur(blur_px))
    values = np.asarray(blurred, np.float32)
    return values / np.float32(255)


def stained(light: Field | Pixels, amount: Field, absorption: Field | float) -> Field:
    """Let a pigment absorb a share of the light, so that what lies below shows through."""
    absorbed = amount * absorption
    return np.asarray(light * (1 - absorbed), np.float32)


def painted(light: Field | Pixels, amount: Field, colour: Field | float) -> Field:
    """Cover what lies below: an amount of 0 changes nothing, 1 covers it completely."""
    difference = colour - light
    return np.asarray(light + amount * difference, np.float32)


def _corners(path: Path2D) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in path]
