"""The tools a lesion is drawn with: a picture in the making, its noise, shapes, lines and paints."""

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
    """Return 0 below `low`, 1 above `high` and a smooth rise between; `low` may be the larger one."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


class Drawing:
    """A picture in the making: the chance, the unit coordinates and the colours so far."""

    def __init__(self, rng: np.random.Generator, size_px: int) -> None:
        self.rng = rng
        self.size_px = size_px
        axis = ((np.arange(size_px, dtype=np.float32) + 0.5) * 2 / size_px - 1).astype(np.float32)
        self.x = np.broadcast_to(axis, (size_px, size_px))
        self.y = np.broadcast_to(axis[:, None], (size_px, size_px))
        self.rgb = np.ones((3, size_px, size_px), dtype=np.float32)

    def between(self, low: float, high: float) -> float:
        """Draw one number from an even distribution."""
        return float(self.rng.uniform(low, high))

    def noise(self, cells: int) -> Field:
        """Return smooth noise about 0, mostly within ±1, with `cells` bumps along a side (cubic B-spline)."""
        knots = self.rng.uniform(-2.2, 2.2, (cells + 3, cells + 3)).astype(np.float32)
        at = (np.arange(self.size_px) + 0.5) * cells / self.size_px
        first = at.astype(np.intp)
        t = (at - first).astype(np.float32)
        spline = (
            np.stack(
                [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
            )
            / 6
        )
        # Four sums along each side instead of a matrix product: BLAS rounds differently from machine to machine.
        across = sum(knots[:, first + k] * spline[k] for k in range(4))
        return np.asarray(
            sum(across[first + k] * spline[k][:, None] for k in range(4)), dtype=np.float32
        )

    def depth(
        self, radius: float, lobes: float, rough: float, x: float = 0.0, y: float = 0.0
    ) -> Field:
        """Return how deep a point lies in a rounded shape: 1 at its centre, 0 on its border, then below."""
        dx, dy = self.x - x, self.y - y
        turn, stretch = self.between(0, math.pi), math.sqrt(self.between(1, 1.35))
        along = math.cos(turn) * dx + math.sin(turn) * dy
        across = math.cos(turn) * dy - math.sin(turn) * dx
        dx, dy = along / stretch, across * stretch
        angle = np.arctan2(dy, dx)
        border = np.full_like(angle, radius)
        for order in (2, 3, 4, 5):
            swing, phase = (
                radius * lobes * self.between(0.4, 1) / order,
                self.between(0, 2 * math.pi),
            )
            border += swing * np.cos(order * angle + phase)
        rim = rough * (self.noise(9) + 0.5 * self.noise(26))
        return np.asarray(1 - np.hypot(dx, dy) / border + rim, dtype=np.float32)

    def stain(self, mask: Field, colour: Colour) -> None:
        """Let a pigment swallow light: what lies under it shows through."""
        for channel, value in enumerate(colour):
            self.rgb[channel] *= 1 - mask * (1 - value)

    def paint(self, mask: Field, colour: Colour) -> None:
        """Cover what is there."""
        for channel, value in enumerate(colour):
            self.rgb[channel] += mask * (value - self.rgb[channel])

    def network(self, meshes: float, warp: float, width: float = 1.0) -> Field:
        """Return a honeycomb of lines, up to 1 on a line, with about `meshes` holes along a side."""
        turn = self.between(0, math.pi)
        bent_x = self.x + warp * (self.noise(5) + 0.5 * self.noise(14))
        bent_y = self.y + warp * (self.noise(5) + 0.5 * self.noise(14))
        waves = np.zeros_like(bent_x)
        for angle in turn + np.arange(3) * math.pi / 3:
            across = math.cos(angle) * bent_x + math.sin(angle) * bent_y
            waves += np.cos(math.pi * meshes * across)
        lines = step(1.7 * width - 1.3, -1.3, waves + 0.6 * self.noise(24))
        return lines * (0.72 + 0.28 * self.noise(9))

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
        """Return the mask of lines that start at `width` and end at `taper` times that."""
        canvas, scale = self._canvas()
        pen = ImageDraw.Draw(canvas)
        for path in paths:
            corners = _corners(path, scale)
            for step, (start, end) in enumerate(pairwise(corners)):
                wide_px = scale * width * (1 + (taper - 1) * step / len(corners))
                pen.line((start, end), fill=255, width=max(1, round(wide_px)))
        return self._mask(canvas, blur)

    def _canvas(self) -> tuple[Image.Image, float]:
        side = self.size_px * _SUPERSAMPLING
        return Image.new("L", (side, side)), side / 2

    def _mask(self, canvas: Image.Image, blur: float) -> Field:
        soft = canvas.reduce(_SUPERSAMPLING).filter(
            ImageFilter.GaussianBlur(blur * self.size_px / 2)
        )
        return np.asarray(soft, dtype=np.float32) / np.float32(255)

    def blob(self, x: float, y: float, radius: float, wobble: float = 0.15) -> Path2D:
        """Return a roundish polygon."""
        angle = np.linspace(0, 2 * math.pi, 28, endpoint=False)
        reach = np.full_like(angle, radius)
        for order in (2, 3, 5):
            swing, phase = self.between(-wobble, wobble), self.between(0, 2 * math.pi)
            reach += radius * swing * np.cos(order * angle + phase)
        return np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)

    def scatter(self, count: int, reach: float, gap: float = 0.0) -> list[tuple[float, float]]:
        """Return up to `count` points in a disc about the centre, no two nearer than `gap`."""
        points: list[tuple[float, float]] = []
        for angle, draw in self.rng.uniform(0, 1, (6 * count, 2)):
            x = float(reach * np.sqrt(draw) * np.cos(2 * math.pi * angle))
            y = float(reach * np.sqrt(draw) * np.sin(2 * math.pi * angle))
            if len(points) < count and all(
                (x - a) ** 2 + (y - b) ** 2 >= gap**2 for a, b in points
            ):
                points.append((x, y))
        return points

    def wander(
        self, x: float, y: float, heading: float, length: float, bend: float, steps: int = 14
    ) -> Path2D:
        """Return a curved line from a point, `bend` radians of turning at most from step to step."""
        turns = heading + np.cumsum(self.rng.uniform(-bend, bend, steps))
        moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / steps)
        return np.cumsum(np.vstack([[[x, y]], moves]), axis=0)

    def photograph(self) -> NDArray[np.uint8]:
        """Add the camera's fall-off and grain and return (S, S, 3) uint8, read-only."""
        fall_off = 1 - 0.16 * step(0.55, 1.5, np.hypot(self.x, self.y))
        grain = self.rng.uniform(-0.016, 0.016, self.rgb.shape[1:]).astype(np.float32)
        light = np.clip(self.rgb * fall_off + grain, 0, 1)
        pixels = np.ascontiguousarray(np.rint(light * 255).astype(np.uint8).transpose(1, 2, 0))
        pixels.setflags(write=False)
        return pixels


def _corners(path: Path2D, scale: float) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (path + 1) * scale]
