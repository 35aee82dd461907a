"""Draws an image with its saliency map in the browser."""

import base64
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from cadlib.assessment import Assessment
from cadlib.images import LesionImage
from cadlib.images.synthetic import is_demo
from cadlib.saliency import heatmap
from cadlib.saliency.heatmap import Heatmap
from cadlib.ui.image_views import (
    DRAWN,
    OPACITY,
    ORIGINAL,
    describe_heatmap,
    encoded,
    photograph,
    scale_words,
)

_HERE = Path(__file__).parent
_SIDE_PX = 1600
KEYS = (
    "Image: plus and minus zoom, arrow keys move, 0 fits the image, "
    "H shows or hides the saliency map"
)


def viewer(assessment: Assessment, heat: Heatmap, name: str, key: str) -> float:
    """Draw the image of that name with a saliency map over it.

    Return the opacity that the reader set, 0 to 1. The frame is the square that the
    network saw. KEYS are for a browser without a mouse.
    """
    image = assessment.image
    opacity = st.session_state.get(key, {"opacity": OPACITY})["opacity"]
    words = describe_heatmap(heat)
    source = DRAWN if is_demo(image.pixels) else ORIGINAL
    mounted = _mount(
        key=key,
        data={
            "picture": _url(photograph(image, _SIDE_PX), "jpeg"),
            "width": image.width_px,
            "height": image.height_px,
            "alt": f"Image {name}. {source}",
            "heat": _colours(heat),
            "shows": f"Saliency map, {words}, peak {heat.raw_peak:.2g}",
            # The browser scales the image, so the box is relative to its size.
            "box": _relative_box(image, heat),
            "colours": _png(heatmap.colour_scale(400, 8)),
            "caption": f"{source}. {words}; {scale_words(heat, heat.raw_peak)}",
            "opacity": opacity,
            "keys": KEYS,
        },
        default={"opacity": OPACITY},
        on_opacity_change=lambda: None,
    )
    return float(mounted.opacity)


def _colours(heat: Heatmap) -> str | None:
    """Return a saliency map in colours as a URL, None for one that is 0 everywhere."""
    if not heat.raw_peak:
        return None
    pixels = heatmap.tinted(heat.values, heat.raw_peak)
    return _png(pixels)


def _relative_box(image: LesionImage, heat: Heatmap) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a map as shares of the image's width and height."""
    left, top, right, bottom = heat.box
    width = image.width_px
    height = image.height_px
    return (
        left / width,
        top / height,
        right / width,
        bottom / height,
    )


def _png(pixels: NDArray[np.uint8]) -> str:
    file = encoded(Image.fromarray(pixels), "PNG")
    return _url(file, "png")


def _url(data: bytes, kind: str) -> str:
    text = base64.b64encode(data).decode()
    return f"data:image/{kind};base64,{text}"


_mount = st.components.v2.component(
    "cadlib-viewer",
    html=(_HERE / "viewer.html").read_text(encoding="utf-8"),
    css=(_HERE / "viewer.css").read_text(encoding="utf-8"),
    js=(_HERE / "viewer.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)
