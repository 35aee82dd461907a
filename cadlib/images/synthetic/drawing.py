"""Provides the tools to draw a lesion: noise, shapes, lines and paints."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Field = NDArray[np.float32]
"""One value per pixel, (S, S); a mask lies in 0 to 1."""
Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 1, sRGB."""
Path2D = NDArray[np.float64]
"""The corners of a line or polygon, (n, 2), in unit coordinates."""

_SUPERSAMPLING: Final = 2


def step(low: float, high: float, values: Field) -> Field:
    """Return 0 below `low`, 1 above `high` and a smooth rise between. `low` may be the larger."""
    t = np.clip((values - low) / (high - low), 0, 1)
    smooth = t * t * (3 - 2 * t)
    return np.asarray(smooth, dtype=np.float32)


class Drawing:
    """An unfinished drawing: its random generator, unit coordinates and colours."""

    def __init__(self, rng: np.random.Generator, size_px: int) -> None:
        self.rng = rng
        self.size_px = size_px
        shape = (size_px, size_px)
        middles = np.arange(size_px, dtype=np.float32) + 0.5
        axis = (middles * 2 / size_px - 1).astype(np.float32)
        self.x = np.broadcast_to(axis, shape)
        self.y = np.broadcast_to(axis[:, None], shape)
        self.rgb = np.ones((3, *shape), dtype=np.float32)

    def between(self, low: float, high: float) -> float:
        """Draw one number from a uniform distribution."""
        return float(self.rng.uniform(low, high))

    def noise(self, cells: int) -> Field:
        """Return smooth noise about 0, mostly within ±1, with `cells` bumps along a side.

        It interpolates random knots by a cubic B-spline.
        """
        knots = self.rng.uniform(-2.2, 2.2, (cells + 3, cells + 3)).astype(np.float32)
        place = (np.arange(self.size_px) + 0.5) * cells / self.size_px
        first = place.astype(np.intp)
        fraction = (place - first).astype(np.float32)
        spline = _spline_weights(fraction)
        # Four sums along each side instead of a matrix product:
        # BLAS rounds differently from machine to machine.
        across = sum(knots[:, first + k] * spline[k] for k in range(4))
        down = sum(across[first + k] * spline[k][:, None] for k in range(4))
        return np.asarray(down, dtype=np.float32)

    def depth(
        self, radius: float, lobes: float, rough: float, x: float = 0.0, y: float = 0.0
    ) -> Field:
        """Return the depth of each pixel in a rounded shape centred on x and y.

        It is 1 at the centre, 0 on the border and negative outside.
        """
        dx, dy = self._stretched(self.x - x, self.y - y)
        angle = np.arctan2(dy, dx)
        border = np.full_like(angle, radius)
        for order in (2, 3, 4, 5):
            swing = radius * lobes * self.between(0.4, 1) / order
            phase = self.between(0, 2 * math.pi)
            border += swing * np.cos(order * angle + phase)
        coarse = self.noise(9)
        fine = self.noise(26)
        rim = rough * (coarse + 0.5 * fine)
        distance = np.hypot(dx, dy)
        return np.asarray(1 - distance / border + rim, dtype=np.float32)

    def _stretched(self, dx: Field, dy: Field) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Return coordinates in which a circle is an ellipse in a random direction."""
        turn = self.between(0, math.pi)
        stretch = math.sqrt(self.between(1, 1.35))
        cosine = math.cos(turn)
        sine = math.sin(turn)
        along = cosine * dx + sine * dy
        across = cosine * dy - sine * dx
        return along / stretch, across * stretch

    def stain(self, mask: Field, colour: Colour) -> None:
        """Let a pigment absorb light, so that what lies below shows through."""
        for channel, value in enumerate(colour):
            absorbed = mask * (1 - value)
            self.rgb[channel] *= 1 - absorbed

    def paint(self, mask: Field, colour: Colour) -> None:
        """Cover what lies below."""
        for channel, value in enumerate(colour):
            difference = value - self.rgb[channel]
            self.rgb[channel] += mask * difference

    def network(self, meshes: float, warp: float, width: float = 1.0) -> Field:
        """Return a honeycomb of lines, up to 1 on a line, with about `meshes` holes a side."""
        turn = self.between(0, math.pi)
        bent_x = self.x + warp * self._warping()
        bent_y = self.y + warp * self._warping()
        waves = np.zeros_like(bent_x)
        # Three plane waves at 60 degrees add up to a honeycomb.
        for angle in turn + np.arange(3) * math.pi / 3:
            across = math.cos(angle) * bent_x + math.sin(angle) * bent_y
            waves += np.cos(math.pi * meshes * across)
        uneven = waves + 0.6 * self.noise(24)
        lines = step(1.7 * width - 1.3, -1.3, uneven)
        strength = 0.72 + 0.28 * self.noise(9)
        return lines * strength

    def _warping(self) -> Field:
        """Return noise that bends straight lines."""
        coarse = self.noise(5)
        fine = self.noise(14)
        return coarse + 0.5 * fine

    def shapes(self, polygons: Iterable[Path2D], blur: float = 0.004) -> Field:
        """Return the mask of filled polygons with soft borders."""
        canvas, scale = self._canvas()
        pen = ImageDraw.Draw(canvas)
        for polygon in polygons:
            pen.polygon(_corners(polygon, scale), fill=255)
        return self._mask(canvas, blur)

    def strokes(
        self, paths: Iterable[Path2D], width: float, blur: float = 0.002, taper: float = 1.0
    ) -> Field:
        """Return the mask of lines that narrow from `width` to `taper` times `width`."""
        canvas, scale = self._canvas()
        pen = ImageDraw.Draw(canvas)
        for path in paths:
            corners = _corners(path, scale)
            for index, (start, end) in enumerate(pairwise(corners)):
                narrowing = 1 + (taper - 1) * index / len(corners)
                width_px = round(scale * width * narrowing)
                pen.line((start, end), fill=255, width=max(1, width_px))
        return self._mask(canvas, blur)

    def _canvas(self) -> tuple[Image.Image, float]:
        """Return an empty canvas, and its pixels for one unit of length."""
        side = self.size_px * _SUPERSAMPLING
        canvas = Image.new("L", (side, side))
        return canvas, side / 2

    def _mask(self, canvas: Image.Image, blur: float) -> Field:
        """Return a canvas at the size of the drawing, blurred, 0 to 1."""
        small = canvas.reduce(_SUPERSAMPLING)
        soft = small.filter(ImageFilter.GaussianBlur(blur * self.size_px / 2))
        values = np.asarray(soft, dtype=np.float32)
        return values / np.float32(255)

    def blob(self, x: float, y: float, radius: float, wobble: float = 0.15) -> Path2D:
        """Return a roundish polygon around x and y."""
        angle = np.linspace(0, 2 * math.pi, 28, endpoint=False)
        reach = np.full_like(angle, radius)
        for order in (2, 3, 5):
            swing = self.between(-wobble, wobble)
            phase = self.between(0, 2 * math.pi)
            reach += radius * swing * np.cos(order * angle + phase)
        return polar(x, y, angle, reach)

    def blobs(
        self, places: Iterable[tuple[float, float]], low: float, high: float, wobble: float = 0.15
    ) -> list[Path2D]:
        """Return a roundish polygon at each place, with a random radius from `low` to `high`."""
        polygons = []
        for x, y in places:
            radius = self.between(low, high)
            polygons.append(self.blob(x, y, radius, wobble))
        return polygons

    def scatter(self, count: int, reach: float, gap: float = 0.0) -> list[tuple[float, float]]:
        """Return up to `count` points in a disc around the centre, at least `gap` apart."""
        points: list[tuple[float, float]] = []
        for turn, draw in self.rng.uniform(0, 1, (6 * count, 2)):
            if len(points) == count:
                break
            angle = 2 * math.pi * turn
            # The square root spreads the points evenly over the area.
            distance = reach * np.sqrt(draw)
            x = float(distance * np.cos(angle))
            y = float(distance * np.sin(angle))
            if _is_apart(x, y, points, gap):
                points.append((x, y))
        return points

    def wander(
        self, x: float, y: float, heading: float, length: float, bend: float, steps: int = 14
    ) -> Path2D:
        """Return a curved line from a point. It turns at most `bend` radians from step to step."""
        bends = self.rng.uniform(-bend, bend, steps)
        turns = heading + np.cumsum(bends)
        directions = np.stack([np.cos(turns), np.sin(turns)], axis=1)
        moves = directions * (length / steps)
        start = [[x, y]]
        return np.cumsum(np.vstack([start, moves]), axis=0)

    def photograph(self) -> NDArray[np.uint8]:
        """Add the camera's fall-off and grain and return (S, S, 3) uint8, read-only."""
        distance = np.hypot(self.x, self.y)
        fall_off = 1 - 0.16 * step(0.55, 1.5, distance)
        grain = self.rng.uniform(-0.016, 0.016, self.rgb.shape[1:])
        light = self.rgb * fall_off + grain.astype(np.float32)
        levels = np.rint(np.clip(light, 0, 1) * 255)
        channels = levels.astype(np.uint8)
        pixels = np.ascontiguousarray(channels.transpose(1, 2, 0))
        pixels.setflags(write=False)
        return pixels


def polar(x: float, y: float, angle: NDArray[np.float64], reach: NDArray[np.float64]) -> Path2D:
    """Return the points at these angles and distances from x and y."""
    xs = x + reach * np.cos(angle)
    ys = y + reach * np.sin(angle)
    return np.stack([xs, ys], axis=1)


def _spline_weights(t: Field) -> NDArray[np.floating]:
    """Return the weights, (4, n), of four knots of a cubic B-spline, `t` after the second."""
    first = (1 - t) ** 3
    second = 3 * t**3 - 6 * t**2 + 4
    third = -3 * t**3 + 3 * t**2 + 3 * t + 1
    fourth = t**3
    return np.stack([first, second, third, fourth]) / 6


def _is_apart(x: float, y: float, points: Iterable[tuple[float, float]], gap: float) -> bool:
    """Return whether a point is at least `gap` from each of the points."""
    least = gap**2
    return all((x - other_x) ** 2 + (y - other_y) ** 2 >= least for other_x, other_y in points)


def _corners(path: Path2D, scale: float) -> list[tuple[float, float]]:
    """Return the corners of a path in pixels of a canvas."""
    pixels = (path + 1) * scale
    return [(float(x), float(y)) for x, y in pixels]
