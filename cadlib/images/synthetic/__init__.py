"""Draws synthetic lesions that look like dermoscopy but show nobody's skin.

They are decoration and test fixture, not medical evidence. Each class gets its textbook hallmark (a
nevus its reticular network, a vascular lesion its lacunae), so that a page without a data set can
show images and a test can read them. Nothing about a real lesion follows from them, and no model
may be trained or evaluated on them. Their names always begin with "synthetic".

The pixels depend on (code, seed, size) alone and have the same bits on every run. All shapes are in
unit coordinates, x and y from -1 to 1, so a lesion has the same form at any size. Only the camera's
grain is drawn per pixel.

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
