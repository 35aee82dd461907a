"""A picture to look into, with the evidence laid over it: zoomed, moved and blended in the browser, without a wait."""

import base64
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from cadlib.assessment import Assessment
from cadlib.images.synthetic import is_demo
from cadlib.saliency import heatmap
from cadlib.saliency.heatmap import Heatmap
from cadlib.ui.pictures import DRAWN, OPACITY, ORIGINAL, encoded, photograph, said

_HERE = Path(__file__).parent
_HTML, _CSS, _JS = (
    (_HERE / f"viewer.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
)
_SIDE_PX = 1600
KEYS = "Image: plus and minus zoom, arrow keys move, 0 fits the image, H shows or hides the saliency map"


def viewer(found: Assessment, heat: Heatmap, name: str, key: str) -> float:
    """Draw the picture of that name with a heatmap over it; return the opacity at which the reader left it.

    The frame is the square that the network saw. In a browser without a mouse: see KEYS.
    """
    image = found.image
    opacity = st.session_state.get(key, {"opacity": OPACITY})["opacity"]
    (left, top, right, bottom), width, height = heat.box, image.width_px, image.height_px
    colours = heatmap.tinted(heat.values, heat.raw_peak) if heat.raw_peak else None
    shows = f"{said(heat)}, peak {heat.raw_peak:.2g}"
    scale = (
        f"scale: transparent 0 to yellow {heat.raw_peak:.2g}"
        if heat.raw_peak
        else "no region supports this diagnosis"
    )
    source = DRAWN if is_demo(image.pixels) else ORIGINAL
    mounted = _mount(
        key=key,
        data={
            "picture": _url(photograph(image, _SIDE_PX), "jpeg"),
            "width": width,
            "height": height,
            "alt": f"Image {name}. {source}",
            "heat": None if colours is None else _png(colours),
            "shows": f"Saliency map, {shows}",
            "box": (left / width, top / height, right / width, bottom / height),
            "colours": _png(heatmap.colour_scale(400, 8)),
            "said": f"{source}. {said(heat)}; {scale}",
            "opacity": opacity,
            "keys": KEYS,
        },
        default={"opacity": OPACITY},
        on_opacity_change=lambda: None,
    )
    return float(mounted.opacity)


def _png(pixels: NDArray[np.uint8]) -> str:
    return _url(encoded(Image.fromarray(pixels), "PNG"), "png")


def _url(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


_mount = st.components.v2.component(
    "cadlib-viewer", html=_HTML, css=_CSS, js=_JS, isolate_styles=False
)
