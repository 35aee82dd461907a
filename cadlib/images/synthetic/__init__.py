"""Drawn lesions: pictures that look like dermoscopy without being anybody's skin.

They are decoration and test fixture, not medical evidence. Each class gets its textbook hallmark (a
nevus its reticular network, a vascular lesion its lacunae) so that a page without a data set has
something to show and a test has something to read; nothing about a real lesion follows from them, and
no model may be trained or judged on them. Their names always begin with "synthetic".

A picture follows from (code, seed, size) alone, the same bits on every run. All shapes live in unit
coordinates, x and y from -1 to 1, so a lesion keeps its form at any size; only the camera's grain is
drawn per pixel.

    drawing    the tools: noise, shapes, lines, paints
    lesions    the eight diagnoses
    samples    the demo lesions, and a small data set in ISIC's layout
"""

from cadlib.images.synthetic.lesions import render_lesion
from cadlib.images.synthetic.samples import (
    DEMO_SIDE_PX,
    SyntheticLesion,
    demo_lesions,
    is_demo,
    write_dataset,
)

__all__ = [
    "DEMO_SIDE_PX",
    "SyntheticLesion",
    "demo_lesions",
    "is_demo",
    "render_lesion",
    "write_dataset",
]
