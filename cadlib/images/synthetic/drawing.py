"""Provides the drawing of a lesion: noise, shapes, lines and paints.

Paths are in unit coordinates, fields are (S, S).
"""

import math
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.random import Generator
from PIL import Image

from cadlib.images.brushes import (
    Colour,
    Coordinates,
    Field,
    Path2D,
    Pixels,
    Places,
    draw_line,
    fill_polygons,
    painted,
    polar,
    soft_mask,
    stained,
)

_SUPERSAMPLING: Final = 2


def step(low: float, high: float, values: Field) -> Field:
    """Return 0 below `low`, 1 above `high` and a smooth rise between. `low` may be the larger."""
    span = high - low
    t = np.clip((values - low) / span, 0, 1)
    smooth = t * t * (3 - 2 * t)
    return np.asarray(smooth, np.float32)


class Drawing:
    """An unfinished drawing: its random generator, unit coordinates and colours."""

    def __init__(self, rng: Generator, size_px: int) -> None:
        self.rng = rng
        self.size_px = size_px
        middles = np.arange(size_px, dtype=np.float32) + 0.5
        from_border = middles * 2 / size_px
        axis = (from_border - 1).astype(np.float32)
        shape = (size_px, size_px)
        self.x = np.broadcast_to(axis, shape)
        self.y = np.broadcast_to(axis[:, None], shape)
        self.rgb = np.ones((3, *shape), np.float32)

    def between(self, low: float, high: float) -> float:
        """Draw one number from a uniform distribution."""
        return float(self.rng.uniform(low, high))

    def angle(self) -> float:
        """Draw a direction, 0 to 2π."""
        return self.between(0, 2 * math.pi)

    def noise(self, cells: int) -> Field:
        """Return smooth noise about 0, mostly within ±1, with `cells` bumps along a side.

        It interpolates random knots by a cubic B-spline.
        """
        # Beyond each border the spline needs knots: one before the first bump, two after the last.
        n_knots = cells + 3
        draws = self.rng.uniform(-2.2, 2.2, (n_knots, n_knots))
        knots = draws.astype(np.float32)
        middles = np.arange(self.size_px) + 0.5
        place = middles * cells / self.size_px
        first = place.astype(np.intp)
        fraction = place - first
        spline = _spline_weights(fraction.astype(np.float32))
        # Four sums along each side instead of a matrix product:
        # BLAS rounds differently from machine to machine.
        across = sum(knots[:, first + k] * spline[k] for k in range(4))
        down = sum(across[first + k] * spline[k][:, None] for k in range(4))
        return np.asarray(down, np.float32)

    def depth(
        self,
        radius: float,
        lobes: float,
        rough: float,
        x: float = 0.0,
        y: float = 0.0,
    ) -> Field:
        """Return the depth of each pixel in a rounded shape centred on x and y.

        It is 1 at the centre, 0 on the border and negative outside.
        """
        dx, dy = self._stretched(self.x - x, self.y - y)
        angle = np.arctan2(dy, dx)
        border = np.full_like(angle, radius)
        for order in (2, 3, 4, 5):
            # Higher orders swing less: the border of a lesion has few fine teeth.
            swing = radius * lobes * self.between(0.4, 1) / order
            phase = self.angle()
            border += swing * np.cos(order * angle + phase)
        coarse = self.noise(9)
        fine = self.noise(26)
        rim = rough * (coarse + 0.5 * fine)
        distance = np.hypot(dx, dy)
        depth = 1 - distance / border
        return np.asarray(depth + rim, np.float32)

    def _stretched(self, dx: Field, dy: Field) -> tuple[Coordinates, Coordinates]:
        """Return coordinates in which a circle is an ellipse in a random direction."""
        turn = self.between(0, math.pi)
        # The root keeps the area: one axis grows by the factor by which the other shrinks.
        stretch = math.sqrt(self.between(1, 1.35))
        cosine = math.cos(turn)
        sine = math.sin(turn)
        along = cosine * dx + sine * dy
        across = cosine * dy - sine * dx
        return along / stretch, across * stretch

    def stain(self, mask: Field, colour: Colour) -> None:
        """Let a pigment absorb light, so that what lies below shows through."""
        for channel, value in enumerate(colour):
            self.rgb[channel] = stained(self.rgb[channel], mask, 1 - value)

    def paint(self, mask: Field, colour: Colour) -> None:
        """Cover what lies below."""
        for channel, value in enumerate(colour):
            self.rgb[channel] = painted(self.rgb[channel], mask, value)

    def network(self, meshes: float, warp: float, width: float = 1.0) -> Field:
        """Return a honeycomb of lines, up to 1 on a line, with about `meshes` holes a side."""
        turn = self.between(0, math.pi)
        bent_x = self.x + warp * self._warping()
        bent_y = self.y + warp * self._warping()
        waves = np.zeros_like(bent_x)
        # Three plane waves at 60 degrees add up to a honeycomb.
        for angle in turn + np.arange(3) * math.pi / 3:
            across = math.cos(angle) * bent_x
            across = across + math.sin(angle) * bent_y
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
        canvas = self._canvas()
        fill_polygons(canvas, self._on_canvas(polygons))
        return self._mask(canvas, blur)

    def strokes(
        self,
        paths: Iterable[Path2D],
        width: float,
        blur: float = 0.002,
        taper: float = 1.0,
    ) -> Field:
        """Return the mask of lines that narrow from `width` to `taper` times `width`."""
        canvas = self._canvas()
        width_px = self._canvas_px_a_unit * width
        for path in self._on_canvas(paths):
            draw_line(canvas, path, width_px, taper)
        return self._mask(canvas, blur)

    @property
    def _canvas_px_a_unit(self) -> float:
        return self.size_px * _SUPERSAMPLING / 2

    def _canvas(self) -> Image.Image:
        """Return an empty canvas, larger than the drawing so that its borders get smooth."""
        side = self.size_px * _SUPERSAMPLING
        return Image.new("L", (side, side))

    def _on_canvas(self, paths: Iterable[Path2D]) -> Iterator[Path2D]:
        """Yield paths in pixels of a canvas."""
        for path in paths:
            yield (path + 1) * self._canvas_px_a_unit

    def _mask(self, canvas: Image.Image, blur: float) -> Field:
        """Return a canvas at the size of the drawing, blurred, 0 to 1."""
        shapes = canvas.reduce(_SUPERSAMPLING)
        return soft_mask(shapes, blur * self.size_px / 2)

    def blob(self, x: float, y: float, radius: float, wobble: float = 0.15) -> Path2D:
        """Return a roundish polygon around x and y."""
        angle = np.linspace(0, 2 * math.pi, 28, endpoint=False)
        reach = np.full_like(angle, radius)
        for order in (2, 3, 5):
            swing = self.between(-wobble, wobble)
            phase = self.angle()
            reach += radius * swing * np.cos(order * angle + phase)
        return polar(x, y, angle, reach)

    def blobs(
        self,
        places: Places,
        low: float,
        high: float,
        wobble: float = 0.15,
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
        # A point too near to another one is lost, so six times as many are drawn. Their number is
        # fixed, so that the later draws do not depend on how many were lost.
        draws = self.rng.uniform(0, 1, (6 * count, 2))
        for turn, draw in draws:
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
        self,
        x: float,
        y: float,
        heading: float,
        length: float,
        bend: float,
        steps: int = 14,
    ) -> Path2D:
        """Return a curved line from a point. It turns at most `bend` radians from step to step."""
        bends = self.rng.uniform(-bend, bend, steps)
        turns = heading + np.cumsum(bends)
        directions = polar(0, 0, turns, 1)
        moves = directions * (length / steps)
        start = [[x, y]]
        return np.cumsum(np.vstack([start, moves]), axis=0)

    def photograph(self) -> Pixels:
        """Add the camera's fall-off and grain and return (S, S, 3) uint8, read-only."""
        distance = np.hypot(self.x, self.y)
        fall_off = 1 - 0.16 * step(0.55, 1.5, distance)
        # The only noise of a pixel's size: a grain does not grow with the image.
        grain = self.rng.uniform(-0.016, 0.016, self.rgb.shape[1:])
        light = self.rgb * fall_off
        light += grain.astype(np.float32)
        levels = np.rint(np.clip(light, 0, 1) * 255)
        channels = levels.astype(np.uint8)
        pixels = np.ascontiguousarray(channels.transpose(1, 2, 0))
        pixels.setflags(write=False)
        return pixels


def _spline_weights(t: Field) -> Coordinates:
    """Return the weights, (4, n), of four knots of a cubic B-spline, `t` after the second."""
    square = t**2
    cube = t**3
    first = (1 - t) ** 3
    second = 3 * cube - 6 * square + 4
    third = -3 * cube + 3 * square + 3 * t + 1
    return np.stack([first, second, third, cube]) / 6


def _is_apart(x: float, y: float, points: Places, gap: float) -> bool:
    """Return whether a point is at least `gap` from each of the points."""
    least = gap**2
    for other_x, other_y in points:
        dx = x - other_x
        dy = y - other_y
        if dx**2 + dy**2 < least:
            return False
    return True
