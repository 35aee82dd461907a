"""Draws the eight diagnoses: skin, textbook hallmark, objects on top.

Every random number comes from one generator, so the order of the draws decides the pixels. Golden
answers of models depend on them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from cadlib import taxonomy
from cadlib.images.brushes import Colour, Field, Path2D, Pixels, Places, polar
from cadlib.images.synthetic.drawing import Drawing, step


def render_lesion(code: str, seed: int, size_px: int = 450) -> Pixels:
    """Draw one lesion of an ISIC 2019 class, (size_px, size_px, 3) uint8 RGB, read-only.

    Raises ValueError for an unknown code, a negative seed or a side under 16 px.
    """
    diagnosis = taxonomy.diagnosis(code)
    class_index = taxonomy.CODES.index(diagnosis.code)
    if seed < 0:
        raise ValueError(f"Expected `seed` to be 0 or more but got {seed}.")
    if size_px < 16:
        raise ValueError(f"Expected `size_px` to be at least 16 but got {size_px}.")
    rng = np.random.default_rng([class_index, seed])
    drawing = Drawing(rng, size_px)
    draw_skin(drawing, _SKIN[code])
    _HALLMARK[code](drawing)
    _draw_objects_on_top(drawing)
    return drawing.photograph()


def draw_skin(d: Drawing, colour: Colour) -> None:
    """Cover a drawing with skin of about this colour, with its shades, furrows and flushes."""
    tone = d.between(-0.035, 0.035)
    light = d.between(-0.05, 0.04)
    red, green, blue = colour
    skin = (red + light, green + light + tone, blue + light - tone)
    everywhere = np.ones_like(d.x)
    d.paint(everywhere, skin)
    # No lamp lights both sides of an image equally.
    slope = d.between(-0.03, 0.03) * d.x
    shade = slope + 0.02 * d.noise(3) + 0.012 * d.noise(60)
    # Furrows run where noise is near 0, and are missing in places.
    distance = np.abs(d.noise(16))
    lines = step(0.35, 0.0, distance)
    patches = step(-0.2, 0.9, d.noise(12))
    furrows = lines * patches
    d.rgb += shade - 0.022 * furrows
    mottle = _mottle(d, 5, 0.4, 18)
    flush = step(-0.1, 1.1, mottle)
    d.stain(0.5 * flush, (0.97, 0.86, 0.86))


def _mottle(d: Drawing, coarse: int, weight: float, fine: int) -> Field:
    """Return the sum of coarse noise and weighted fine noise, as bumps along a side."""
    large = d.noise(coarse)
    small = d.noise(fine)
    return large + weight * small


def _draw_objects_on_top(d: Drawing) -> None:
    """Add hairs on one image in three, a ruler on one in five, gel bubbles on one in four."""
    hairs, ruler, bubbles = d.rng.uniform(0, 1, 3)
    # Drawn even where no hair follows: the later draws depend on it.
    heading = d.between(0, math.pi)
    if hairs < 0.34:
        _draw_hairs(d, heading)
    if ruler < 0.2:
        _draw_ruler(d)
    if bubbles < 0.25:
        _draw_bubbles(d)


def _draw_hairs(d: Drawing, heading: float) -> None:
    ends = d.scatter(9, 1.1)
    brown = (0.2, 0.15, 0.12)
    for width, starts in ((0.011, ends[:5]), (0.006, ends[5:])):
        paths = []
        for x, y in starts:
            direction = heading + d.between(-0.5, 0.5)
            length = d.between(0.5, 1.5)
            hair = d.wander(x, y, direction, length, 0.12)
            paths.append(hair)
        hairs = d.strokes(paths, width, 0.004, 0.4)
        d.stain(0.75 * hairs, brown)


def _draw_ruler(d: Drawing) -> None:
    ticks = []
    for index, x in enumerate(np.linspace(-0.8, 0.8, 33)):
        # Every fifth tick is longer.
        length = 0.1 if index % 5 == 0 else 0.06
        bottom = [x, 0.98]
        top = [x, 0.98 - length]
        ticks.append(np.array([bottom, top]))
    printed = d.strokes(ticks, 0.008)
    print_colour = (0.2, 0.2, 0.24)
    d.stain(0.75 * printed, print_colour)


def _draw_bubbles(d: Drawing) -> None:
    places = d.scatter(3, 0.95, 0.5)
    rims = []
    for corners in d.blobs(places, 0.02, 0.05, 0.02):
        # A stroke does not close by itself.
        first = corners[:1]
        rims.append(np.vstack([corners, first]))
    bubbles = d.strokes(rims, 0.01)
    white = (1.0, 0.98, 0.98)
    d.paint(0.55 * bubbles, white)


def _depth_near_centre(
    d: Drawing,
    smallest: float,
    largest: float,
    lobes: float,
    rough: float,
    shift: float,
) -> Field:
    """Return the depth in a lesion of random radius, at most `shift` from the centre each way."""
    radius = d.between(smallest, largest)
    x = d.between(-shift, shift)
    y = d.between(-shift, shift)
    return d.depth(radius, lobes, rough, x, y)


def _moved(points: Places, x: float, y: float) -> list[tuple[float, float]]:
    return [(x + dx, y + dy) for dx, dy in points]


def _draw_nevus(d: Drawing) -> None:
    """Draw a regular brown lesion with a reticular network that thins out at the border."""
    depth = _depth_near_centre(d, 0.4, 0.64, 0.1, 0.06, 0.15)
    inside = step(-0.1, 0.35, depth)
    mottle = 0.16 * d.noise(7) + 0.1 * d.noise(18)
    d.stain(0.85 * inside, (0.84, 0.66, 0.52))
    middle = step(0.0, 0.95, depth + mottle)
    d.stain(0.85 * middle, (0.62, 0.47, 0.4))
    _draw_nevus_network(d, depth)
    places = d.scatter(12, 0.3)
    dots = d.shapes(d.blobs(places, 0.007, 0.016), 0.008)
    d.stain(0.5 * dots * inside, (0.4, 0.28, 0.22))


def _draw_nevus_network(d: Drawing, depth: Field) -> None:
    within = step(-0.16, 0.3, depth)
    meshes = d.between(21, 26)
    network = d.network(meshes, 0.06, 1.2)
    d.stain(0.62 * within * network, (0.52, 0.38, 0.3))


def _draw_melanoma(d: Drawing) -> None:
    """Draw an asymmetric lesion of many colours with an irregular border.

    It has streaks, dots and a blue-white veil.
    """
    x = d.between(-0.15, 0.15)
    y = d.between(-0.15, 0.15)
    side = d.angle()
    radius = d.between(0.5, 0.66)
    depth = d.depth(radius, 0.42, 0.14, x, y)
    inside = step(-0.05, 0.14, depth)
    _draw_melanoma_colours(d, x, y, side, depth, inside)
    _draw_streaks(d, x, y, side)
    places = _moved(d.scatter(30, 0.52), x, y)
    blobs = d.blobs(places, 0.008, 0.028)
    dots = d.shapes(blobs, 0.008)
    within = step(-0.14, 0.05, depth)
    d.stain(0.75 * dots * within, (0.26, 0.19, 0.18))
    _draw_veil(d, x, y, side, inside)
    _draw_glints(d, inside, 6)


def _draw_melanoma_colours(
    d: Drawing,
    x: float,
    y: float,
    side: float,
    depth: Field,
    inside: Field,
) -> None:
    """Draw the pigment of a melanoma, darkest towards the angle `side`."""
    lean_x = math.cos(side) * (d.x - x)
    lean_y = math.sin(side) * (d.y - y)
    lean = lean_x + lean_y
    zones = d.noise(4) + 0.4 * d.noise(13) + 0.2 * d.noise(34)
    flush = step(-0.45, 0.1, depth)
    d.stain(0.4 * flush, (0.95, 0.72, 0.7))
    d.stain(inside, (0.72, 0.53, 0.42))
    meshes = d.between(19, 24)
    network = d.network(meshes, 0.09, 1.3)
    d.stain(0.5 * inside * network, (0.5, 0.37, 0.32))
    mottle = _mottle(d, 6, 0.6, 20)
    patches = step(-0.3, 0.9, mottle)
    d.stain(0.6 * inside * patches, (0.6, 0.45, 0.38))
    _draw_melanoma_zones(d, zones, lean, inside)


def _draw_melanoma_zones(d: Drawing, zones: Field, lean: Field, inside: Field) -> None:
    """Draw the pale and the dark zones of a melanoma, dark where `lean` is positive."""
    regression = step(0.2, 0.8, -zones - lean)
    d.stain(0.8 * inside * regression, (0.88, 0.58, 0.54))
    dark = inside * step(-0.2, 0.7, zones + 1.1 * lean)
    d.stain(0.95 * dark, (0.3, 0.23, 0.22))


def _draw_streaks(d: Drawing, x: float, y: float, side: float) -> None:
    """Draw radial streaks around x and y, about towards the angle `side`."""
    streaks = []
    for angle in side + d.rng.uniform(-1.1, 1.1, 26):
        start_x = x + 0.4 * np.cos(angle)
        start_y = y + 0.4 * np.sin(angle)
        length = d.between(0.12, 0.24)
        streak = d.wander(start_x, start_y, angle, length, 0.15)
        streaks.append(streak)
    strokes = d.strokes(streaks, 0.034, 0.016, 0.2)
    dark_brown = (0.36, 0.26, 0.23)
    d.stain(0.75 * strokes, dark_brown)


def _draw_veil(d: Drawing, x: float, y: float, side: float, inside: Field) -> None:
    """Draw the blue-white veil of a melanoma."""
    # Beside the darkest zone, not in it.
    veil_side = side + 0.9
    veil_x = x + 0.16 * math.cos(veil_side)
    veil_y = y + 0.16 * math.sin(veil_side)
    veil = d.depth(0.3, 0.4, 0.3, veil_x, veil_y)
    blue = step(-0.1, 0.8, veil)
    d.paint(0.62 * inside * blue, (0.46, 0.5, 0.6))
    uneven_veil = veil + 0.3 * d.noise(20)
    white = step(0.4, 1.1, uneven_veil)
    d.paint(0.35 * inside * white, (0.76, 0.78, 0.84))


def _draw_basal_cell_carcinoma(d: Drawing) -> None:
    """Draw a pink, shiny lesion with blue-grey ovoid nests and arborising vessels."""
    depth = _depth_near_centre(d, 0.48, 0.68, 0.22, 0.1, 0.1)
    inside = step(-0.12, 0.3, depth)
    d.stain(0.8 * inside, (0.97, 0.77, 0.77))
    shine = step(0.1, 0.9, _mottle(d, 6, 0.3, 22))
    d.paint(0.5 * inside * shine, (0.96, 0.86, 0.85))
    _draw_nests(d)
    first_side = d.angle()
    second_side = d.angle()
    _draw_vessel_tree(d, first_side)
    _draw_vessel_tree(d, second_side)
    _draw_glints(d, inside, 14)


def _draw_nests(d: Drawing) -> None:
    """Draw blue-grey ovoid nests and specks."""
    nests = d.blobs(d.scatter(7, 0.44, 0.2), 0.04, 0.12, 0.24)
    specks = d.blobs(d.scatter(26, 0.48), 0.008, 0.02)
    patchy = 0.62 + 0.2 * d.noise(16)
    d.paint(patchy * d.shapes(nests, 0.03), (0.4, 0.4, 0.48))
    d.paint(0.55 * d.shapes(specks, 0.008), (0.38, 0.36, 0.42))


def _draw_vessel_tree(d: Drawing, side: float) -> None:
    """Draw a vessel that enters at the angle `side` and branches twice."""
    x = 0.6 * np.cos(side)
    y = 0.6 * np.sin(side)
    heading = side + math.pi + d.between(-0.5, 0.5)
    trunk = [d.wander(x, y, heading, 0.9, 0.3)]
    branches = _branch(d, trunk, 0.34)
    twigs = _branch(d, branches, 0.16)
    red = (0.82, 0.36, 0.38)
    for width, vessels in ((0.022, trunk), (0.013, branches), (0.007, twigs)):
        strokes = d.strokes(vessels, width, 0.006, 0.45)
        d.stain(0.62 * strokes, red)


def _branch(
    d: Drawing,
    vessels: Sequence[Path2D],
    length: float,
) -> list[Path2D]:
    """Return three smaller vessels for each vessel."""
    branches = []
    for vessel in vessels:
        for fork in (4, 7, 10):
            dx, dy = vessel[fork + 1] - vessel[fork]
            turn = d.between(0.5, 1.1)
            # To either side with the same chance.
            if d.between(-1, 1) <= 0:
                turn = -turn
            heading = math.atan2(dy, dx) + turn
            x, y = vessel[fork]
            branch = d.wander(float(x), float(y), heading, length, 0.3)
            branches.append(branch)
    return branches


def _draw_actinic_keratosis(d: Drawing) -> None:
    """Draw a red pseudo-network around pale follicle openings, with a little scale.

    The pattern is known as "strawberry".
    """
    depth = _depth_near_centre(d, 0.58, 0.78, 0.2, 0.14, 0.1)
    inside = step(-0.25, 0.5, depth)
    mottle = 0.85 + 0.15 * d.noise(8)
    d.stain(0.8 * inside * mottle, (0.97, 0.74, 0.7))
    pseudo_network = d.network(12, 0.12, 1.2)
    d.stain(0.45 * inside * pseudo_network, (0.92, 0.6, 0.57))
    _draw_follicles(d, inside)
    _draw_scale(d, inside)
    pigment = step(0.2, 1.0, d.noise(6))
    d.stain(0.45 * inside * pigment, (0.86, 0.68, 0.52))
    _draw_glints(d, inside, 10)


def _draw_follicles(d: Drawing, inside: Field) -> None:
    """Draw follicle openings: a pale halo around a yellowish plug."""
    places = d.scatter(60, 0.75, 0.1)
    halo_blobs = d.blobs(places, 0.02, 0.044, 0.25)
    plug_blobs = d.blobs(places, 0.008, 0.016, 0.25)
    halos = d.shapes(halo_blobs, 0.018)
    plugs = d.shapes(plug_blobs, 0.008)
    d.paint(0.6 * inside * halos, (0.95, 0.86, 0.8))
    d.paint(0.5 * inside * plugs, (0.82, 0.66, 0.5))


def _draw_scale(d: Drawing, inside: Field) -> None:
    flakes = d.noise(8) + 0.5 * d.noise(30) + 0.4 * d.noise(70)
    scale = inside * step(0.5, 1.3, flakes)
    d.paint(0.75 * scale, (0.97, 0.93, 0.88))


def _draw_benign_keratosis(d: Drawing) -> None:
    """Draw a sharply bordered, waxy brown lesion.

    It has fissures, milia-like cysts and comedo-like openings.
    """
    depth = _depth_near_centre(d, 0.46, 0.64, 0.2, 0.06, 0.12)
    inside = step(-0.014, 0.04, depth)
    d.stain(inside, (0.8, 0.66, 0.5))
    mottle = _mottle(d, 7, 0.5, 24)
    patches = step(-0.6, 0.9, mottle)
    d.stain(0.7 * inside * patches, (0.7, 0.55, 0.46))
    distance = np.abs(_mottle(d, 11, 0.3, 34))
    ridges = step(0.25, 0.0, distance)
    d.stain(0.4 * inside * ridges, (0.56, 0.43, 0.36))
    rim = step(0.22, 0.02, depth)
    d.stain(0.4 * inside * rim, (0.68, 0.53, 0.43))
    wax = step(0.2, 1.2, d.noise(30) + d.noise(60))
    d.paint(0.22 * inside * wax, (0.86, 0.74, 0.6))
    _draw_cysts_and_openings(d, inside)


def _draw_cysts_and_openings(d: Drawing, inside: Field) -> None:
    """Draw white milia-like cysts and dark comedo-like openings."""
    cyst_places = d.scatter(18, 0.46, 0.1)
    cyst_blobs = d.blobs(cyst_places, 0.01, 0.032)
    cysts = d.shapes(cyst_blobs, 0.016)
    d.paint(0.85 * inside * cysts, (0.97, 0.91, 0.8))
    opening_places = d.scatter(10, 0.45, 0.15)
    opening_blobs = d.blobs(opening_places, 0.014, 0.034, 0.26)
    openings = d.shapes(opening_blobs, 0.01)
    d.stain(0.8 * inside * openings, (0.36, 0.25, 0.18))


def _draw_dermatofibroma(d: Drawing) -> None:
    """Draw a white scar-like patch in the centre of a delicate network that fades outwards."""
    depth = _depth_near_centre(d, 0.46, 0.66, 0.14, 0.06, 0.12)
    inside = step(-0.25, 0.5, depth)
    mottle = 0.85 + 0.15 * d.noise(9)
    d.stain(0.85 * inside * mottle, (0.88, 0.66, 0.55))
    network = d.network(d.between(22, 27), 0.07)
    d.stain(0.5 * inside * network, (0.6, 0.44, 0.36))
    _draw_scar(d, depth)


def _draw_scar(d: Drawing, depth: Field) -> None:
    """Draw a white patch with whiter strands and a pink flush."""
    uneven_depth = depth + 0.16 * d.noise(8) + 0.06 * d.noise(26)
    patch = step(0.35, 0.95, uneven_depth)
    d.paint(0.8 * patch, (0.94, 0.83, 0.8))
    distance = np.abs(_mottle(d, 13, 0.3, 30))
    strands = step(0.35, 0.0, distance)
    d.paint(0.5 * patch * strands, (1, 0.96, 0.95))
    flush = step(0.2, 1.0, d.noise(13))
    d.stain(0.45 * patch * flush, (0.98, 0.78, 0.77))


def _draw_vascular_lesion(d: Drawing) -> None:
    """Draw sharply bordered red-purple lacunae with whitish septa between them."""
    x = d.between(-0.12, 0.12)
    y = d.between(-0.12, 0.12)
    radius = d.between(0.42, 0.58)
    depth = d.depth(radius, 0.16, 0.05, x, y)
    inside = step(-0.03, 0.08, depth)
    flush = step(-0.4, 0.1, depth)
    d.stain(0.5 * flush, (0.96, 0.7, 0.72))
    d.paint(0.88 * inside, (0.7, 0.36, 0.44))
    places = _moved(d.scatter(34, 0.54, 0.12), x, y)
    _draw_lacunae(d, places, step(0.0, 0.12, depth))
    haze = step(0.0, 1.2, _mottle(d, 5, 0.4, 16))
    d.paint(0.36 * inside * haze, (0.82, 0.74, 0.82))
    _draw_glints(d, inside, 14)


def _draw_lacunae(d: Drawing, places: Sequence[tuple[float, float]], within: Field) -> None:
    """Draw a lacuna with a darker core at each place. Every fifth one is nearly black."""
    bright_blobs = d.blobs(places, 0.05, 0.1, 0.2)
    core_blobs = d.blobs(places, 0.035, 0.075, 0.2)
    dark_blobs = d.blobs(places[::5], 0.07, 0.12, 0.22)
    bright = d.shapes(bright_blobs, 0.022)
    core = d.shapes(core_blobs, 0.036)
    dark = d.shapes(dark_blobs, 0.03)
    d.paint(0.85 * within * bright, (0.62, 0.12, 0.22))
    d.paint(0.7 * within * core, (0.48, 0.05, 0.16))
    d.paint(0.82 * within * dark, (0.25, 0.09, 0.19))


def _draw_squamous_cell_carcinoma(d: Drawing) -> None:
    """Draw a whitish-yellow mass of keratin with blood spots, and coiled vessels around it."""
    x = d.between(-0.12, 0.12)
    y = d.between(-0.12, 0.12)
    radius = d.between(0.56, 0.74)
    depth = d.depth(radius, 0.22, 0.12, x, y)
    inside = step(-0.2, 0.4, depth)
    mottle = 0.88 + 0.12 * d.noise(8)
    d.stain(0.85 * inside * mottle, (0.96, 0.71, 0.7))
    pale = step(0.1, 1.0, d.noise(9))
    d.paint(0.35 * inside * pale, (0.95, 0.85, 0.83))
    _draw_coiled_vessels(d, x, y, inside)
    keratin = _draw_keratin(d, x, y)
    places = _moved(d.scatter(8, 0.26, 0.1), x, y)
    blobs = d.blobs(places, 0.01, 0.036, 0.35)
    spots = d.shapes(blobs, 0.012)
    d.stain(0.75 * keratin * spots, (0.5, 0.2, 0.17))
    _draw_glints(d, inside, 12)


def _draw_coiled_vessels(
    d: Drawing,
    x: float,
    y: float,
    inside: Field,
) -> None:
    coils = []
    for coil_x, coil_y in _moved(d.scatter(44, 0.6, 0.09), x, y):
        radius = d.between(0.014, 0.034)
        phase = d.between(0, 6)
        coil = _coil(coil_x, coil_y, radius, phase)
        coils.append(coil)
    strokes = d.strokes(coils, 0.01, 0.006)
    red = (0.82, 0.36, 0.37)
    d.stain(0.7 * inside * strokes, red)


def _draw_keratin(d: Drawing, x: float, y: float) -> Field:
    """Draw the mass of keratin near x and y, with its crust, and return its mask."""
    radius = d.between(0.28, 0.4)
    mass_x = x + d.between(-0.08, 0.08)
    mass_y = y + d.between(-0.08, 0.08)
    mass = d.depth(radius, 0.32, 0.18, mass_x, mass_y)
    keratin = step(-0.06, 0.24, mass)
    d.paint(0.9 * keratin, (0.91, 0.82, 0.7))
    flakes = d.noise(9) + 0.6 * d.noise(30) + 0.5 * d.noise(64)
    crust = keratin * step(-0.2, 1.2, flakes)
    d.paint(0.85 * crust, (0.99, 0.97, 0.92))
    yellow = step(0.1, 1.2, _mottle(d, 8, 0.5, 28))
    d.stain(0.65 * keratin * yellow, (0.84, 0.64, 0.44))
    return keratin


def _coil(x: float, y: float, radius: float, phase: float) -> Path2D:
    """Return a spiral of almost two turns around x and y."""
    turns = np.linspace(0, 1, 26)
    angle = phase + 2 * math.pi * 1.9 * turns
    reach = radius * (0.35 + 0.65 * turns)
    return polar(x, y, angle, reach)


def _draw_glints(d: Drawing, mask: Field, count: int) -> None:
    """Add short white reflections of the lamp."""
    paths = []
    for x, y in d.scatter(count, 0.55):
        heading = d.between(0, math.pi)
        length = d.between(0.02, 0.06)
        glint = d.wander(x, y, heading, length, 0.2, 4)
        paths.append(glint)
    strokes = d.strokes(paths, 0.01, 0.004)
    white = (1.0, 0.99, 0.98)
    d.paint(0.75 * mask * strokes, white)


_SKIN: Final[dict[str, Colour]] = {
    "MEL": (0.87, 0.72, 0.67),
    "NV": (0.88, 0.71, 0.68),
    "BCC": (0.89, 0.73, 0.7),
    "AK": (0.88, 0.69, 0.64),
    "BKL": (0.86, 0.73, 0.66),
    "DF": (0.88, 0.71, 0.66),
    "VASC": (0.88, 0.75, 0.72),
    "SCC": (0.88, 0.7, 0.67),
}
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
