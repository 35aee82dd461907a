"""Drawn lesions: pictures that look like dermoscopy without being anybody's skin.

They are decoration and test fixture, not medical evidence. Each class gets its textbook hallmark (a
nevus its reticular network, a vascular lesion its lacunae) so that a page without a data set has
something to show and a test has something to read; nothing about a real lesion follows from them, and
no model may be trained or judged on them. Their names always begin with "synthetic".

A picture follows from (code, seed, size) alone, the same bits on every run. All shapes live in unit
coordinates, x and y from -1 to 1, so a lesion keeps its form at any size; only the camera's grain is
drawn per pixel.
"""

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from cadlib import taxonomy

Field = NDArray[np.float32]
"""One value per pixel, (S, S); a mask lies in 0 to 1."""
Colour = tuple[float, float, float]
"""Red, green, blue, 0 to 1, sRGB."""
Path2D = NDArray[np.float64]
"""The corners of a line or polygon, (n, 2), in unit coordinates."""

DEMO_SIDE_PX: Final = 450
_SUPERSAMPLING: Final = 2
_DEMO: Final = (
    ("MEL", 3), ("NV", 0), ("BCC", 5), ("AK", 4), ("BKL", 2), ("DF", 5), ("VASC", 0), ("SCC", 3),
    ("MEL", 1), ("NV", 4),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class SyntheticLesion:
    """A drawn lesion; `pixels` is (S, S, 3) uint8 RGB, read-only."""

    name: str
    code: str
    pixels: NDArray[np.uint8]

    def png(self) -> bytes:
        """Return the picture as a PNG file, which keeps every pixel as it is."""
        return _encode(self.pixels, "PNG")


def render_lesion(code: str, seed: int, size_px: int = 450) -> NDArray[np.uint8]:
    """Draw one lesion of an ISIC 2019 class, (size_px, size_px, 3) uint8 RGB, read-only.

    Raises ValueError for an unknown code, a negative seed or a side under 16 px.
    """
    class_index = taxonomy.CODES.index(taxonomy.diagnosis(code).code)
    if seed < 0:
        raise ValueError(f"Expected `seed` to be 0 or more but got {seed}.")
    if size_px < 16:
        raise ValueError(f"Expected `size_px` to be at least 16 but got {size_px}.")
    drawing = _Drawing(np.random.default_rng([class_index, seed]), size_px)
    _draw_skin(drawing, _SKIN[code])
    _HALLMARK[code](drawing)
    _draw_what_lies_on_top(drawing)
    return drawing.photograph()


@cache
def demo_lesions() -> tuple[SyntheticLesion, ...]:
    """Return what the pages offer when no data set is at hand: every class at least once, DEMO_SIDE_PX a side."""
    seen: dict[str, int] = {}
    lesions = []
    for code, seed in _DEMO:
        seen[code] = seen.get(code, 0) + 1
        lesions.append(SyntheticLesion(f"synthetic_{code}_{seen[code]}", code, render_lesion(code, seed, DEMO_SIDE_PX)))
    return tuple(lesions)


def is_demo(pixels: NDArray[np.uint8]) -> bool:
    """Tell whether (H, W, 3) uint8 RGB pixels are one of the demo lesions, whatever its file is called."""
    # A picture of another size is not drawn for: that takes a third of a second.
    return pixels.shape == (DEMO_SIDE_PX, DEMO_SIDE_PX, 3) and any(
        np.array_equal(pixels, lesion.pixels) for lesion in demo_lesions()
    )


def write_dataset(folder: Path, per_class: int = 3, seed: int = 0, size_px: int = 224) -> Path:
    """Write a small folder in the layout of the ISIC 2019 training set and return it.

    The first two images of a class are one lesion seen twice, the second a quarter turned; the others are
    lesions of their own, the last one without a lesion_id, and some ages, sexes and sites are missing, as in
    the official table. The images carry numbers that ISIC never gave out, from ISIC_9000000 on.
    """
    images = folder / "ISIC_2019_Training_Input"
    images.mkdir(parents=True, exist_ok=True)
    labels: list[Sequence[str]] = [("image", *taxonomy.CODES, taxonomy.UNKNOWN)]
    patients: list[Sequence[str]] = [("image", "age_approx", "anatom_site_general", "lesion_id", "sex")]
    for index in range(per_class * len(taxonomy.CODES)):
        code, view = taxonomy.CODES[index // per_class], index % per_class
        image = f"ISIC_{9_000_000 + index}"
        second_view = view == 1
        pixels = render_lesion(code, 1000 * seed + view - second_view, size_px)
        (images / f"{image}.jpg").write_bytes(_encode(np.rot90(pixels) if second_view else pixels, "JPEG"))
        labels.append((image, *("1.0" if c == code else "0.0" for c in taxonomy.CODES), "0.0"))
        patients.append((image, *_metadata_row(index - second_view, per_class)))
    _write_csv(folder / "ISIC_2019_Training_GroundTruth.csv", labels)
    _write_csv(folder / "ISIC_2019_Training_Metadata.csv", patients)
    return folder


def _metadata_row(lesion: int, per_class: int) -> tuple[str, str, str, str]:
    """Return age, site, lesion_id and sex of the lesion whose first image has this index."""
    class_index, view = divmod(lesion, per_class)
    sites = ("anterior torso", "lower extremity", "head/neck", "upper extremity", "posterior torso", "")
    archive = ("HAM_", "BCN_", "MSK4_")[(class_index + view) % 3]
    nameless = 2 <= view == per_class - 1
    return (
        "" if lesion % 11 == 10 else str(25 + 5 * (lesion % 12)),
        sites[lesion % len(sites)],
        "" if nameless else f"{archive}{9_000_000 + lesion}",
        ("female", "male", "male", "female", "")[lesion % 5],
    )


def _write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _encode(pixels: NDArray[np.uint8], image_format: str) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": 92} if image_format == "JPEG" else {"compress_level": 6}
    Image.fromarray(pixels).save(buffer, image_format, **options)
    return buffer.getvalue()


def _step(low: float, high: float, values: Field) -> Field:
    """Return 0 below `low`, 1 above `high` and a smooth rise between; `low` may be the larger one."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


class _Drawing:
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
        spline = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
        # Four sums along each side instead of a matrix product: BLAS rounds differently from machine to machine.
        across = sum(knots[:, first + k] * spline[k] for k in range(4))
        return np.asarray(sum(across[first + k] * spline[k][:, None] for k in range(4)), dtype=np.float32)

    def depth(self, radius: float, lobes: float, rough: float, x: float = 0.0, y: float = 0.0) -> Field:
        """Return how deep a point lies in a rounded shape: 1 at its centre, 0 on its border, then below."""
        dx, dy = self.x - x, self.y - y
        turn, stretch = self.between(0, math.pi), math.sqrt(self.between(1, 1.35))
        along = math.cos(turn) * dx + math.sin(turn) * dy
        across = math.cos(turn) * dy - math.sin(turn) * dx
        dx, dy = along / stretch, across * stretch
        angle = np.arctan2(dy, dx)
        border = np.full_like(angle, radius)
        for order in (2, 3, 4, 5):
            swing, phase = radius * lobes * self.between(0.4, 1) / order, self.between(0, 2 * math.pi)
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
        lines = _step(1.7 * width - 1.3, -1.3, waves + 0.6 * self.noise(24))
        return lines * (0.72 + 0.28 * self.noise(9))

    def shapes(self, polygons: Iterable[Path2D], blur: float = 0.004) -> Field:
        """Return the mask of filled polygons with soft borders."""
        canvas, scale = self._canvas()
        pen = ImageDraw.Draw(canvas)
        for polygon in polygons:
            pen.polygon(_corners(polygon, scale), fill=255)
        return self._mask(canvas, blur)

    def strokes(self, paths: Iterable[Path2D], width: float, blur: float = 0.002, taper: float = 1.0) -> Field:
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
        soft = canvas.reduce(_SUPERSAMPLING).filter(ImageFilter.GaussianBlur(blur * self.size_px / 2))
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
            if len(points) < count and all((x - a) ** 2 + (y - b) ** 2 >= gap**2 for a, b in points):
                points.append((x, y))
        return points

    def wander(self, x: float, y: float, heading: float, length: float, bend: float, steps: int = 14) -> Path2D:
        """Return a curved line from a point, `bend` radians of turning at most from step to step."""
        turns = heading + np.cumsum(self.rng.uniform(-bend, bend, steps))
        moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * (length / steps)
        return np.cumsum(np.vstack([[[x, y]], moves]), axis=0)

    def photograph(self) -> NDArray[np.uint8]:
        """Add the camera's fall-off and grain and return (S, S, 3) uint8, read-only."""
        fall_off = 1 - 0.16 * _step(0.55, 1.5, np.hypot(self.x, self.y))
        grain = self.rng.uniform(-0.016, 0.016, self.rgb.shape[1:]).astype(np.float32)
        light = np.clip(self.rgb * fall_off + grain, 0, 1)
        pixels = np.ascontiguousarray(np.rint(light * 255).astype(np.uint8).transpose(1, 2, 0))
        pixels.setflags(write=False)
        return pixels


def _corners(path: Path2D, scale: float) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (path + 1) * scale]


def _draw_skin(d: _Drawing, colour: Colour) -> None:
    tone, light = d.between(-0.035, 0.035), d.between(-0.05, 0.04)
    d.paint(np.ones_like(d.x), (colour[0] + light, colour[1] + light + tone, colour[2] + light - tone))
    shade = d.between(-0.03, 0.03) * d.x + 0.02 * d.noise(3) + 0.012 * d.noise(60)
    furrows = _step(0.35, 0.0, np.abs(d.noise(16))) * _step(-0.2, 0.9, d.noise(12))
    d.rgb += shade - 0.022 * furrows
    d.stain(0.5 * _step(-0.1, 1.1, d.noise(5) + 0.4 * d.noise(18)), (0.97, 0.86, 0.86))


def _draw_what_lies_on_top(d: _Drawing) -> None:
    """Add hairs on one picture in three, a ruler on one in five, gel bubbles on one in four."""
    hairs, ruler, bubbles = d.rng.uniform(0, 1, 3)
    heading = d.between(0, math.pi)
    if hairs < 0.34:
        ends = d.scatter(9, 1.1)
        for width, some in ((0.011, ends[:5]), (0.006, ends[5:])):
            paths = [d.wander(x, y, heading + d.between(-0.5, 0.5), d.between(0.5, 1.5), 0.12) for x, y in some]
            d.stain(0.75 * d.strokes(paths, width, 0.004, 0.4), (0.2, 0.15, 0.12))
    if ruler < 0.2:
        ticks = [
            np.array([[t, 0.98], [t, 0.98 - (0.1 if k % 5 == 0 else 0.06)]])
            for k, t in enumerate(np.linspace(-0.8, 0.8, 33))
        ]
        d.stain(0.75 * d.strokes(ticks, 0.008), (0.2, 0.2, 0.24))
    if bubbles < 0.25:
        places = d.scatter(3, 0.95, 0.5)
        rims = [np.vstack([c, c[:1]]) for c in (d.blob(x, y, d.between(0.02, 0.05), 0.02) for x, y in places)]
        d.paint(0.55 * d.strokes(rims, 0.01), (1.0, 0.98, 0.98))


def _draw_nevus(d: _Drawing) -> None:
    """Draw it regular and one brown, with a reticular network that thins out at the border."""
    depth = d.depth(d.between(0.4, 0.64), 0.1, 0.06, d.between(-0.15, 0.15), d.between(-0.15, 0.15))
    inside = _step(-0.1, 0.35, depth)
    mottle = 0.16 * d.noise(7) + 0.1 * d.noise(18)
    d.stain(0.85 * inside, (0.84, 0.66, 0.52))
    d.stain(0.85 * _step(0.0, 0.95, depth + mottle), (0.62, 0.47, 0.4))
    d.stain(
        0.62 * _step(-0.16, 0.3, depth) * d.network(d.between(21, 26), 0.06, 1.2),
        (0.52, 0.38, 0.3),
    )
    dots = d.shapes([d.blob(x, y, d.between(0.007, 0.016)) for x, y in d.scatter(12, 0.3)], 0.008)
    d.stain(0.5 * dots * inside, (0.4, 0.28, 0.22))


def _draw_melanoma(d: _Drawing) -> None:
    """Draw it asymmetric, many-coloured, irregularly bordered, with streaks, dots and a blue-white veil."""
    x, y, side = d.between(-0.15, 0.15), d.between(-0.15, 0.15), d.between(0, 2 * math.pi)
    depth = d.depth(d.between(0.5, 0.66), 0.42, 0.14, x, y)
    inside = _step(-0.05, 0.14, depth)
    lean = math.cos(side) * (d.x - x) + math.sin(side) * (d.y - y)
    zones = d.noise(4) + 0.4 * d.noise(13) + 0.2 * d.noise(34)
    d.stain(0.4 * _step(-0.45, 0.1, depth), (0.95, 0.72, 0.7))
    d.stain(inside, (0.72, 0.53, 0.42))
    d.stain(0.5 * inside * d.network(d.between(19, 24), 0.09, 1.3), (0.5, 0.37, 0.32))
    d.stain(
        0.6 * inside * _step(-0.3, 0.9, d.noise(6) + 0.6 * d.noise(20)),
        (0.6, 0.45, 0.38),
    )
    d.stain(0.8 * inside * _step(0.2, 0.8, -zones - lean), (0.88, 0.58, 0.54))
    dark = inside * _step(-0.2, 0.7, zones + 1.1 * lean)
    d.stain(0.95 * dark, (0.3, 0.23, 0.22))
    streaks = [
        d.wander(x + 0.4 * np.cos(a), y + 0.4 * np.sin(a), a, d.between(0.12, 0.24), 0.15)
        for a in side + d.rng.uniform(-1.1, 1.1, 26)
    ]
    d.stain(0.75 * d.strokes(streaks, 0.034, 0.016, 0.2), (0.36, 0.26, 0.23))
    dots = d.shapes([d.blob(x + a, y + b, d.between(0.008, 0.028)) for a, b in d.scatter(30, 0.52)], 0.008)
    d.stain(0.75 * dots * _step(-0.14, 0.05, depth), (0.26, 0.19, 0.18))
    veil = d.depth(0.3, 0.4, 0.3, x + 0.16 * math.cos(side + 0.9), y + 0.16 * math.sin(side + 0.9))
    d.paint(0.62 * inside * _step(-0.1, 0.8, veil), (0.46, 0.5, 0.6))
    d.paint(0.35 * inside * _step(0.4, 1.1, veil + 0.3 * d.noise(20)), (0.76, 0.78, 0.84))
    _draw_glints(d, inside, 6)


def _draw_basal_cell_carcinoma(d: _Drawing) -> None:
    """Draw it pink and shiny, with blue-grey ovoid nests, vessels that branch like a tree."""
    depth = d.depth(d.between(0.48, 0.68), 0.22, 0.1, d.between(-0.1, 0.1), d.between(-0.1, 0.1))
    inside = _step(-0.12, 0.3, depth)
    d.stain(0.8 * inside, (0.97, 0.77, 0.77))
    d.paint(
        0.5 * inside * _step(0.1, 0.9, d.noise(6) + 0.3 * d.noise(22)),
        (0.96, 0.86, 0.85),
    )
    nests = [d.blob(x, y, d.between(0.04, 0.12), 0.24) for x, y in d.scatter(7, 0.44, 0.2)]
    specks = [d.blob(x, y, d.between(0.008, 0.02)) for x, y in d.scatter(26, 0.48)]
    patchy = 0.62 + 0.2 * d.noise(16)
    d.paint(patchy * d.shapes(nests, 0.03), (0.4, 0.4, 0.48))
    d.paint(0.55 * d.shapes(specks, 0.008), (0.38, 0.36, 0.42))
    for side in (d.between(0, 2 * math.pi), d.between(0, 2 * math.pi)):
        trunk = d.wander(0.6 * np.cos(side), 0.6 * np.sin(side), side + math.pi + d.between(-0.5, 0.5), 0.9, 0.3)
        branches = _branch(d, [trunk], 0.34)
        twigs = _branch(d, branches, 0.16)
        for width, vessels in ((0.022, [trunk]), (0.013, branches), (0.007, twigs)):
            d.stain(0.62 * d.strokes(vessels, width, 0.006, 0.45), (0.82, 0.36, 0.38))
    _draw_glints(d, inside, 14)


def _branch(d: _Drawing, vessels: Sequence[Path2D], length: float) -> list[Path2D]:
    """Return three smaller vessels from each one given."""
    grown = []
    for vessel in vessels:
        for at in (4, 7, 10):
            dx, dy = vessel[at + 1] - vessel[at]
            turn = d.between(0.5, 1.1) * (1 if d.between(-1, 1) > 0 else -1)
            heading = math.atan2(dy, dx) + turn
            grown.append(d.wander(float(vessel[at, 0]), float(vessel[at, 1]), heading, length, 0.3))
    return grown


def _draw_actinic_keratosis(d: _Drawing) -> None:
    """Draw a red pseudo-network round pale follicle openings, with a little scale ("strawberry")."""
    depth = d.depth(d.between(0.58, 0.78), 0.2, 0.14, d.between(-0.1, 0.1), d.between(-0.1, 0.1))
    inside = _step(-0.25, 0.5, depth)
    d.stain(0.8 * inside * (0.85 + 0.15 * d.noise(8)), (0.97, 0.74, 0.7))
    d.stain(0.45 * inside * d.network(12, 0.12, 1.2), (0.92, 0.6, 0.57))
    places = d.scatter(60, 0.75, 0.1)
    halos = d.shapes([d.blob(x, y, d.between(0.02, 0.044), 0.25) for x, y in places], 0.018)
    plugs = d.shapes([d.blob(x, y, d.between(0.008, 0.016), 0.25) for x, y in places], 0.008)
    d.paint(0.6 * inside * halos, (0.95, 0.86, 0.8))
    d.paint(0.5 * inside * plugs, (0.82, 0.66, 0.5))
    scale = inside * _step(0.5, 1.3, d.noise(8) + 0.5 * d.noise(30) + 0.4 * d.noise(70))
    d.paint(0.75 * scale, (0.97, 0.93, 0.88))
    d.stain(0.45 * inside * _step(0.2, 1.0, d.noise(6)), (0.86, 0.68, 0.52))
    _draw_glints(d, inside, 10)


def _draw_benign_keratosis(d: _Drawing) -> None:
    """Draw it sharply bordered, waxy brown, with fissures, milia-like cysts and comedo-like openings."""
    depth = d.depth(d.between(0.46, 0.64), 0.2, 0.06, d.between(-0.12, 0.12), d.between(-0.12, 0.12))
    inside = _step(-0.014, 0.04, depth)
    d.stain(inside, (0.8, 0.66, 0.5))
    d.stain(
        0.7 * inside * _step(-0.6, 0.9, d.noise(7) + 0.5 * d.noise(24)),
        (0.7, 0.55, 0.46),
    )
    ridges = _step(0.25, 0.0, np.abs(d.noise(11) + 0.3 * d.noise(34)))
    d.stain(0.4 * inside * ridges, (0.56, 0.43, 0.36))
    d.stain(0.4 * inside * _step(0.22, 0.02, depth), (0.68, 0.53, 0.43))
    d.paint(0.22 * inside * _step(0.2, 1.2, d.noise(30) + d.noise(60)), (0.86, 0.74, 0.6))
    cysts = d.shapes([d.blob(x, y, d.between(0.01, 0.032)) for x, y in d.scatter(18, 0.46, 0.1)], 0.016)
    d.paint(0.85 * inside * cysts, (0.97, 0.91, 0.8))
    openings = d.shapes([d.blob(x, y, d.between(0.014, 0.034), 0.26) for x, y in d.scatter(10, 0.45, 0.15)], 0.01)
    d.stain(0.8 * inside * openings, (0.36, 0.25, 0.18))


def _draw_dermatofibroma(d: _Drawing) -> None:
    """Draw a white scar-like patch in the centre, a delicate network round it that fades into the skin."""
    depth = d.depth(d.between(0.46, 0.66), 0.14, 0.06, d.between(-0.12, 0.12), d.between(-0.12, 0.12))
    inside = _step(-0.25, 0.5, depth)
    d.stain(0.85 * inside * (0.85 + 0.15 * d.noise(9)), (0.88, 0.66, 0.55))
    d.stain(0.5 * inside * d.network(d.between(22, 27), 0.07), (0.6, 0.44, 0.36))
    patch = _step(0.35, 0.95, depth + 0.16 * d.noise(8) + 0.06 * d.noise(26))
    d.paint(0.8 * patch, (0.94, 0.83, 0.8))
    d.paint(
        0.5 * patch * _step(0.35, 0.0, np.abs(d.noise(13) + 0.3 * d.noise(30))),
        (1, 0.96, 0.95),
    )
    d.stain(0.45 * patch * _step(0.2, 1.0, d.noise(13)), (0.98, 0.78, 0.77))


def _draw_vascular_lesion(d: _Drawing) -> None:
    """Draw red-purple lacunae, sharply set off, with whitish septa between them."""
    x, y = d.between(-0.12, 0.12), d.between(-0.12, 0.12)
    depth = d.depth(d.between(0.42, 0.58), 0.16, 0.05, x, y)
    inside = _step(-0.03, 0.08, depth)
    d.stain(0.5 * _step(-0.4, 0.1, depth), (0.96, 0.7, 0.72))
    d.paint(0.88 * inside, (0.7, 0.36, 0.44))
    places = [(x + a, y + b) for a, b in d.scatter(34, 0.54, 0.12)]
    bright = d.shapes([d.blob(a, b, d.between(0.05, 0.1), 0.2) for a, b in places], 0.022)
    core = d.shapes([d.blob(a, b, d.between(0.035, 0.075), 0.2) for a, b in places], 0.036)
    dark = d.shapes([d.blob(a, b, d.between(0.07, 0.12), 0.22) for a, b in places[::5]], 0.03)
    within = _step(0.0, 0.12, depth)
    d.paint(0.85 * within * bright, (0.62, 0.12, 0.22))
    d.paint(0.7 * within * core, (0.48, 0.05, 0.16))
    d.paint(0.82 * within * dark, (0.25, 0.09, 0.19))
    haze = _step(0.0, 1.2, d.noise(5) + 0.4 * d.noise(16))
    d.paint(0.36 * inside * haze, (0.82, 0.74, 0.82))
    _draw_glints(d, inside, 14)


def _draw_squamous_cell_carcinoma(d: _Drawing) -> None:
    """Draw a whitish-yellow mass of keratin with blood spots, coiled vessels in the pink round it."""
    x, y = d.between(-0.12, 0.12), d.between(-0.12, 0.12)
    depth = d.depth(d.between(0.56, 0.74), 0.22, 0.12, x, y)
    inside = _step(-0.2, 0.4, depth)
    d.stain(0.85 * inside * (0.88 + 0.12 * d.noise(8)), (0.96, 0.71, 0.7))
    d.paint(0.35 * inside * _step(0.1, 1.0, d.noise(9)), (0.95, 0.85, 0.83))
    coils = [_coil(x + a, y + b, d.between(0.014, 0.034), d.between(0, 6)) for a, b in d.scatter(44, 0.6, 0.09)]
    d.stain(0.7 * inside * d.strokes(coils, 0.01, 0.006), (0.82, 0.36, 0.37))
    mass = d.depth(d.between(0.28, 0.4), 0.32, 0.18, x + d.between(-0.08, 0.08), y + d.between(-0.08, 0.08))
    keratin = _step(-0.06, 0.24, mass)
    d.paint(0.9 * keratin, (0.91, 0.82, 0.7))
    crust = keratin * _step(-0.2, 1.2, d.noise(9) + 0.6 * d.noise(30) + 0.5 * d.noise(64))
    d.paint(0.85 * crust, (0.99, 0.97, 0.92))
    d.stain(
        0.65 * keratin * _step(0.1, 1.2, d.noise(8) + 0.5 * d.noise(28)),
        (0.84, 0.64, 0.44),
    )
    spots = d.shapes([d.blob(x + a, y + b, d.between(0.01, 0.036), 0.35) for a, b in d.scatter(8, 0.26, 0.1)], 0.012)
    d.stain(0.75 * keratin * spots, (0.5, 0.2, 0.17))
    _draw_glints(d, inside, 12)


def _coil(x: float, y: float, radius: float, phase: float) -> Path2D:
    turns = np.linspace(0, 1, 26)
    angle = phase + 2 * math.pi * 1.9 * turns
    reach = radius * (0.35 + 0.65 * turns)
    return np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)


def _draw_glints(d: _Drawing, mask: Field, count: int) -> None:
    """Add short white reflections of the lamp."""
    starts = d.scatter(count, 0.55)
    paths = [d.wander(x, y, d.between(0, math.pi), d.between(0.02, 0.06), 0.2, 4) for x, y in starts]
    d.paint(0.75 * mask * d.strokes(paths, 0.01, 0.004), (1.0, 0.99, 0.98))


_SKIN: Final[dict[str, Colour]] = {
    "MEL": (0.87, 0.72, 0.67), "NV": (0.88, 0.71, 0.68), "BCC": (0.89, 0.73, 0.7), "AK": (0.88, 0.69, 0.64),
    "BKL": (0.86, 0.73, 0.66), "DF": (0.88, 0.71, 0.66), "VASC": (0.88, 0.75, 0.72), "SCC": (0.88, 0.7, 0.67),
}  # fmt: skip
_HALLMARK: Final[dict[str, Callable[[_Drawing], None]]] = {
    "MEL": _draw_melanoma,
    "NV": _draw_nevus,
    "BCC": _draw_basal_cell_carcinoma,
    "AK": _draw_actinic_keratosis,
    "BKL": _draw_benign_keratosis,
    "DF": _draw_dermatofibroma,
    "VASC": _draw_vascular_lesion,
    "SCC": _draw_squamous_cell_carcinoma,
}
