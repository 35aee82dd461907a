"""What each of the eight diagnoses looks like when it is drawn: skin, textbook hallmark, what lies on top."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cadlib import taxonomy
from cadlib.images.synthetic.drawing import Colour, Drawing, Field, Path2D, step


def render_lesion(code: str, seed: int, size_px: int = 450) -> NDArray[np.uint8]:
    """Draw one lesion of an ISIC 2019 class, (size_px, size_px, 3) uint8 RGB, read-only.

    Raises ValueError for an unknown code, a negative seed or a side under 16 px.
    """
    class_index = taxonomy.CODES.index(taxonomy.diagnosis(code).code)
    if seed < 0:
        raise ValueError(f"Expected `seed` to be 0 or more but got {seed}.")
    if size_px < 16:
        raise ValueError(f"Expected `size_px` to be at least 16 but got {size_px}.")
    drawing = Drawing(np.random.default_rng([class_index, seed]), size_px)
    draw_skin(drawing, _SKIN[code])
    _HALLMARK[code](drawing)
    _draw_what_lies_on_top(drawing)
    return drawing.photograph()


def draw_skin(d: Drawing, colour: Colour) -> None:
    """Cover a drawing with skin of about this colour, with its shades, furrows and flushes."""
    tone, light = d.between(-0.035, 0.035), d.between(-0.05, 0.04)
    d.paint(
        np.ones_like(d.x), (colour[0] + light, colour[1] + light + tone, colour[2] + light - tone)
    )
    shade = d.between(-0.03, 0.03) * d.x + 0.02 * d.noise(3) + 0.012 * d.noise(60)
    furrows = step(0.35, 0.0, np.abs(d.noise(16))) * step(-0.2, 0.9, d.noise(12))
    d.rgb += shade - 0.022 * furrows
    d.stain(0.5 * step(-0.1, 1.1, d.noise(5) + 0.4 * d.noise(18)), (0.97, 0.86, 0.86))


def _draw_what_lies_on_top(d: Drawing) -> None:
    """Add hairs on one picture in three, a ruler on one in five, gel bubbles on one in four."""
    hairs, ruler, bubbles = d.rng.uniform(0, 1, 3)
    heading = d.between(0, math.pi)
    if hairs < 0.34:
        ends = d.scatter(9, 1.1)
        for width, some in ((0.011, ends[:5]), (0.006, ends[5:])):
            paths = [
                d.wander(x, y, heading + d.between(-0.5, 0.5), d.between(0.5, 1.5), 0.12)
                for x, y in some
            ]
            d.stain(0.75 * d.strokes(paths, width, 0.004, 0.4), (0.2, 0.15, 0.12))
    if ruler < 0.2:
        ticks = [
            np.array([[t, 0.98], [t, 0.98 - (0.1 if k % 5 == 0 else 0.06)]])
            for k, t in enumerate(np.linspace(-0.8, 0.8, 33))
        ]
        d.stain(0.75 * d.strokes(ticks, 0.008), (0.2, 0.2, 0.24))
    if bubbles < 0.25:
        places = d.scatter(3, 0.95, 0.5)
        rims = [
            np.vstack([c, c[:1]])
            for c in (d.blob(x, y, d.between(0.02, 0.05), 0.02) for x, y in places)
        ]
        d.paint(0.55 * d.strokes(rims, 0.01), (1.0, 0.98, 0.98))


def _draw_nevus(d: Drawing) -> None:
    """Draw it regular and one brown, with a reticular network that thins out at the border."""
    depth = d.depth(d.between(0.4, 0.64), 0.1, 0.06, d.between(-0.15, 0.15), d.between(-0.15, 0.15))
    inside = step(-0.1, 0.35, depth)
    mottle = 0.16 * d.noise(7) + 0.1 * d.noise(18)
    d.stain(0.85 * inside, (0.84, 0.66, 0.52))
    d.stain(0.85 * step(0.0, 0.95, depth + mottle), (0.62, 0.47, 0.4))
    d.stain(
        0.62 * step(-0.16, 0.3, depth) * d.network(d.between(21, 26), 0.06, 1.2),
        (0.52, 0.38, 0.3),
    )
    dots = d.shapes([d.blob(x, y, d.between(0.007, 0.016)) for x, y in d.scatter(12, 0.3)], 0.008)
    d.stain(0.5 * dots * inside, (0.4, 0.28, 0.22))


def _draw_melanoma(d: Drawing) -> None:
    """Draw it asymmetric, many-coloured, irregularly bordered, with streaks, dots and a blue-white veil."""
    x, y, side = d.between(-0.15, 0.15), d.between(-0.15, 0.15), d.between(0, 2 * math.pi)
    depth = d.depth(d.between(0.5, 0.66), 0.42, 0.14, x, y)
    inside = step(-0.05, 0.14, depth)
    lean = math.cos(side) * (d.x - x) + math.sin(side) * (d.y - y)
    zones = d.noise(4) + 0.4 * d.noise(13) + 0.2 * d.noise(34)
    d.stain(0.4 * step(-0.45, 0.1, depth), (0.95, 0.72, 0.7))
    d.stain(inside, (0.72, 0.53, 0.42))
    d.stain(0.5 * inside * d.network(d.between(19, 24), 0.09, 1.3), (0.5, 0.37, 0.32))
    d.stain(
        0.6 * inside * step(-0.3, 0.9, d.noise(6) + 0.6 * d.noise(20)),
        (0.6, 0.45, 0.38),
    )
    d.stain(0.8 * inside * step(0.2, 0.8, -zones - lean), (0.88, 0.58, 0.54))
    dark = inside * step(-0.2, 0.7, zones + 1.1 * lean)
    d.stain(0.95 * dark, (0.3, 0.23, 0.22))
    streaks = [
        d.wander(x + 0.4 * np.cos(a), y + 0.4 * np.sin(a), a, d.between(0.12, 0.24), 0.15)
        for a in side + d.rng.uniform(-1.1, 1.1, 26)
    ]
    d.stain(0.75 * d.strokes(streaks, 0.034, 0.016, 0.2), (0.36, 0.26, 0.23))
    dots = d.shapes(
        [d.blob(x + a, y + b, d.between(0.008, 0.028)) for a, b in d.scatter(30, 0.52)], 0.008
    )
    d.stain(0.75 * dots * step(-0.14, 0.05, depth), (0.26, 0.19, 0.18))
    veil = d.depth(0.3, 0.4, 0.3, x + 0.16 * math.cos(side + 0.9), y + 0.16 * math.sin(side + 0.9))
    d.paint(0.62 * inside * step(-0.1, 0.8, veil), (0.46, 0.5, 0.6))
    d.paint(0.35 * inside * step(0.4, 1.1, veil + 0.3 * d.noise(20)), (0.76, 0.78, 0.84))
    _draw_glints(d, inside, 6)


def _draw_basal_cell_carcinoma(d: Drawing) -> None:
    """Draw it pink and shiny, with blue-grey ovoid nests, vessels that branch like a tree."""
    depth = d.depth(d.between(0.48, 0.68), 0.22, 0.1, d.between(-0.1, 0.1), d.between(-0.1, 0.1))
    inside = step(-0.12, 0.3, depth)
    d.stain(0.8 * inside, (0.97, 0.77, 0.77))
    d.paint(
        0.5 * inside * step(0.1, 0.9, d.noise(6) + 0.3 * d.noise(22)),
        (0.96, 0.86, 0.85),
    )
    nests = [d.blob(x, y, d.between(0.04, 0.12), 0.24) for x, y in d.scatter(7, 0.44, 0.2)]
    specks = [d.blob(x, y, d.between(0.008, 0.02)) for x, y in d.scatter(26, 0.48)]
    patchy = 0.62 + 0.2 * d.noise(16)
    d.paint(patchy * d.shapes(nests, 0.03), (0.4, 0.4, 0.48))
    d.paint(0.55 * d.shapes(specks, 0.008), (0.38, 0.36, 0.42))
    for side in (d.between(0, 2 * math.pi), d.between(0, 2 * math.pi)):
        trunk = d.wander(
            0.6 * np.cos(side), 0.6 * np.sin(side), side + math.pi + d.between(-0.5, 0.5), 0.9, 0.3
        )
        branches = _branch(d, [trunk], 0.34)
        twigs = _branch(d, branches, 0.16)
        for width, vessels in ((0.022, [trunk]), (0.013, branches), (0.007, twigs)):
            d.stain(0.62 * d.strokes(vessels, width, 0.006, 0.45), (0.82, 0.36, 0.38))
    _draw_glints(d, inside, 14)


def _branch(d: Drawing, vessels: Sequence[Path2D], length: float) -> list[Path2D]:
    """Return three smaller vessels from each one given."""
    grown = []
    for vessel in vessels:
        for at in (4, 7, 10):
            dx, dy = vessel[at + 1] - vessel[at]
            turn = d.between(0.5, 1.1) * (1 if d.between(-1, 1) > 0 else -1)
            heading = math.atan2(dy, dx) + turn
            grown.append(d.wander(float(vessel[at, 0]), float(vessel[at, 1]), heading, length, 0.3))
    return grown


def _draw_actinic_keratosis(d: Drawing) -> None:
    """Draw a red pseudo-network round pale follicle openings, with a little scale ("strawberry")."""
    depth = d.depth(d.between(0.58, 0.78), 0.2, 0.14, d.between(-0.1, 0.1), d.between(-0.1, 0.1))
    inside = step(-0.25, 0.5, depth)
    d.stain(0.8 * inside * (0.85 + 0.15 * d.noise(8)), (0.97, 0.74, 0.7))
    d.stain(0.45 * inside * d.network(12, 0.12, 1.2), (0.92, 0.6, 0.57))
    places = d.scatter(60, 0.75, 0.1)
    halos = d.shapes([d.blob(x, y, d.between(0.02, 0.044), 0.25) for x, y in places], 0.018)
    plugs = d.shapes([d.blob(x, y, d.between(0.008, 0.016), 0.25) for x, y in places], 0.008)
    d.paint(0.6 * inside * halos, (0.95, 0.86, 0.8))
    d.paint(0.5 * inside * plugs, (0.82, 0.66, 0.5))
    scale = inside * step(0.5, 1.3, d.noise(8) + 0.5 * d.noise(30) + 0.4 * d.noise(70))
    d.paint(0.75 * scale, (0.97, 0.93, 0.88))
    d.stain(0.45 * inside * step(0.2, 1.0, d.noise(6)), (0.86, 0.68, 0.52))
    _draw_glints(d, inside, 10)


def _draw_benign_keratosis(d: Drawing) -> None:
    """Draw it sharply bordered, waxy brown, with fissures, milia-like cysts and comedo-like openings."""
    depth = d.depth(
        d.between(0.46, 0.64), 0.2, 0.06, d.between(-0.12, 0.12), d.between(-0.12, 0.12)
    )
    inside = step(-0.014, 0.04, depth)
    d.stain(inside, (0.8, 0.66, 0.5))
    d.stain(
        0.7 * inside * step(-0.6, 0.9, d.noise(7) + 0.5 * d.noise(24)),
        (0.7, 0.55, 0.46),
    )
    ridges = step(0.25, 0.0, np.abs(d.noise(11) + 0.3 * d.noise(34)))
    d.stain(0.4 * inside * ridges, (0.56, 0.43, 0.36))
    d.stain(0.4 * inside * step(0.22, 0.02, depth), (0.68, 0.53, 0.43))
    d.paint(0.22 * inside * step(0.2, 1.2, d.noise(30) + d.noise(60)), (0.86, 0.74, 0.6))
    cysts = d.shapes(
        [d.blob(x, y, d.between(0.01, 0.032)) for x, y in d.scatter(18, 0.46, 0.1)], 0.016
    )
    d.paint(0.85 * inside * cysts, (0.97, 0.91, 0.8))
    openings = d.shapes(
        [d.blob(x, y, d.between(0.014, 0.034), 0.26) for x, y in d.scatter(10, 0.45, 0.15)], 0.01
    )
    d.stain(0.8 * inside * openings, (0.36, 0.25, 0.18))


def _draw_dermatofibroma(d: Drawing) -> None:
    """Draw a white scar-like patch in the centre, a delicate network round it that fades into the skin."""
    depth = d.depth(
        d.between(0.46, 0.66), 0.14, 0.06, d.between(-0.12, 0.12), d.between(-0.12, 0.12)
    )
    inside = step(-0.25, 0.5, depth)
    d.stain(0.85 * inside * (0.85 + 0.15 * d.noise(9)), (0.88, 0.66, 0.55))
    d.stain(0.5 * inside * d.network(d.between(22, 27), 0.07), (0.6, 0.44, 0.36))
    patch = step(0.35, 0.95, depth + 0.16 * d.noise(8) + 0.06 * d.noise(26))
    d.paint(0.8 * patch, (0.94, 0.83, 0.8))
    d.paint(
        0.5 * patch * step(0.35, 0.0, np.abs(d.noise(13) + 0.3 * d.noise(30))),
        (1, 0.96, 0.95),
    )
    d.stain(0.45 * patch * step(0.2, 1.0, d.noise(13)), (0.98, 0.78, 0.77))


def _draw_vascular_lesion(d: Drawing) -> None:
    """Draw red-purple lacunae, sharply set off, with whitish septa between them."""
    x, y = d.between(-0.12, 0.12), d.between(-0.12, 0.12)
    depth = d.depth(d.between(0.42, 0.58), 0.16, 0.05, x, y)
    inside = step(-0.03, 0.08, depth)
    d.stain(0.5 * step(-0.4, 0.1, depth), (0.96, 0.7, 0.72))
    d.paint(0.88 * inside, (0.7, 0.36, 0.44))
    places = [(x + a, y + b) for a, b in d.scatter(34, 0.54, 0.12)]
    bright = d.shapes([d.blob(a, b, d.between(0.05, 0.1), 0.2) for a, b in places], 0.022)
    core = d.shapes([d.blob(a, b, d.between(0.035, 0.075), 0.2) for a, b in places], 0.036)
    dark = d.shapes([d.blob(a, b, d.between(0.07, 0.12), 0.22) for a, b in places[::5]], 0.03)
    within = step(0.0, 0.12, depth)
    d.paint(0.85 * within * bright, (0.62, 0.12, 0.22))
    d.paint(0.7 * within * core, (0.48, 0.05, 0.16))
    d.paint(0.82 * within * dark, (0.25, 0.09, 0.19))
    haze = step(0.0, 1.2, d.noise(5) + 0.4 * d.noise(16))
    d.paint(0.36 * inside * haze, (0.82, 0.74, 0.82))
    _draw_glints(d, inside, 14)


def _draw_squamous_cell_carcinoma(d: Drawing) -> None:
    """Draw a whitish-yellow mass of keratin with blood spots, coiled vessels in the pink round it."""
    x, y = d.between(-0.12, 0.12), d.between(-0.12, 0.12)
    depth = d.depth(d.between(0.56, 0.74), 0.22, 0.12, x, y)
    inside = step(-0.2, 0.4, depth)
    d.stain(0.85 * inside * (0.88 + 0.12 * d.noise(8)), (0.96, 0.71, 0.7))
    d.paint(0.35 * inside * step(0.1, 1.0, d.noise(9)), (0.95, 0.85, 0.83))
    coils = [
        _coil(x + a, y + b, d.between(0.014, 0.034), d.between(0, 6))
        for a, b in d.scatter(44, 0.6, 0.09)
    ]
    d.stain(0.7 * inside * d.strokes(coils, 0.01, 0.006), (0.82, 0.36, 0.37))
    mass = d.depth(
        d.between(0.28, 0.4), 0.32, 0.18, x + d.between(-0.08, 0.08), y + d.between(-0.08, 0.08)
    )
    keratin = step(-0.06, 0.24, mass)
    d.paint(0.9 * keratin, (0.91, 0.82, 0.7))
    crust = keratin * step(-0.2, 1.2, d.noise(9) + 0.6 * d.noise(30) + 0.5 * d.noise(64))
    d.paint(0.85 * crust, (0.99, 0.97, 0.92))
    d.stain(
        0.65 * keratin * step(0.1, 1.2, d.noise(8) + 0.5 * d.noise(28)),
        (0.84, 0.64, 0.44),
    )
    spots = d.shapes(
        [d.blob(x + a, y + b, d.between(0.01, 0.036), 0.35) for a, b in d.scatter(8, 0.26, 0.1)],
        0.012,
    )
    d.stain(0.75 * keratin * spots, (0.5, 0.2, 0.17))
    _draw_glints(d, inside, 12)


def _coil(x: float, y: float, radius: float, phase: float) -> Path2D:
    turns = np.linspace(0, 1, 26)
    angle = phase + 2 * math.pi * 1.9 * turns
    reach = radius * (0.35 + 0.65 * turns)
    return np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)


def _draw_glints(d: Drawing, mask: Field, count: int) -> None:
    """Add short white reflections of the lamp."""
    starts = d.scatter(count, 0.55)
    paths = [
        d.wander(x, y, d.between(0, math.pi), d.between(0.02, 0.06), 0.2, 4) for x, y in starts
    ]
    d.paint(0.75 * mask * d.strokes(paths, 0.01, 0.004), (1.0, 0.99, 0.98))


_SKIN: Final[dict[str, Colour]] = {
    "MEL": (0.87, 0.72, 0.67), "NV": (0.88, 0.71, 0.68), "BCC": (0.89, 0.73, 0.7), "AK": (0.88, 0.69, 0.64),
    "BKL": (0.86, 0.73, 0.66), "DF": (0.88, 0.71, 0.66), "VASC": (0.88, 0.75, 0.72), "SCC": (0.88, 0.7, 0.67),
}  # fmt: skip
_HALLMARK: Final[dict[str, Callable[[Drawing], None]]] = {
    "MEL": _draw_melanoma,
    "NV": _draw_nevus,
    "BCC": _draw_basal_cell_carcinoma,
    "AK": _draw_actinic_keratosis,
    "BKL": _draw_benign_keratosis,
    "DF": _draw_dermatofibroma,
    "VASC": _draw_vascular_lesion,
    "SCC": _draw_squamous_cell_carcinoma,
}
