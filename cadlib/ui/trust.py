"""Draws the faithfulness and stability of saliency maps.

They are computed after the page is drawn, once, and only for maps that are shown.
"""

import math

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cadlib.assessment import Assessment
from cadlib.saliency.heatmap import METHODS, Heatmap, Method
from cadlib.saliency.trust import Trust
from cadlib.saliency.trust import trust as trust_of
from cadlib.ui.held import holding
from cadlib.ui.image_views import describe_heatmap, heatmap
from cadlib.ui.models import model

LINE_HEIGHT_PX = 76
"""Height of the text under a map as wide as the page, longest sentence at 800 px included.

It is reserved before the text is complete, so that nothing on the page moves.
"""
NARROW_HEIGHT_PX = 112
"""The same for a map half as wide as the page."""
TRUST_BYTES = 256
"""About the size of two numbers and a sentence in memory."""


def trust(assessment: Assessment, code: str, method: Method = METHODS[0]) -> Trust:
    """Return faithfulness and stability of a method's map for a diagnosis, computed once."""
    image = assessment.image
    model_id = model().record.model_id
    key = ("trust", image.key, model_id, code, method.key)

    def compute() -> Trust:
        heat = heatmap(assessment, code, method)
        loaded = model()
        return trust_of(loaded, image, heat, code)

    return holding().derived(image.sha256, key, compute, lambda _: TRUST_BYTES)


def about_the_map(heat: Heatmap, measured: Trust | None) -> str:
    """Return what a map shows and its checks: "Grad-CAM for Melanoma · peak 0.31 · …"."""
    parts = [
        describe_heatmap(heat),
        f"peak {heat.raw_peak:.2g}",
        *_checks(measured),
    ]
    return " · ".join(parts)


def trust_tile(heat: Heatmap, measured: Trust | None) -> str:
    """Return the lines under a small map, as Markdown: peak, checks, and what they mean."""
    if measured is None:
        verdict = ":gray[checking]"
    elif measured.readable:
        verdict = ":gray[can be interpreted]"
    else:
        verdict = ":material/visibility_off: **do not interpret**"
    # Two spaces before the end of a line are a line break in Markdown.
    lines = [f"peak {heat.raw_peak:.2g}", *_checks(measured), verdict]
    return "  \n".join(lines)


def trust_line(
    place: DeltaGenerator,
    heat: Heatmap,
    measured: Trust | None,
    height_px: int = LINE_HEIGHT_PX,
    waiting: str = "Checking this map …",
) -> None:
    """Fill a place under a large map, an `st.empty()`; its height is the same before the checks.

    `waiting` is what is written before them.
    """
    with place.container(height=height_px, border=False, gap="xxsmall"):
        st.caption(about_the_map(heat, measured))
        if measured is None:
            st.caption(waiting)
        elif measured.readable:
            st.caption(measured.sentence)
        else:
            st.caption(f":material/visibility_off: **{measured.sentence}**")


def _checks(measured: Trust | None) -> tuple[str, str]:
    if measured is None:
        return "faithfulness …", "stability …"
    faithfulness = _signed(measured.faithfulness)
    stability = _signed(measured.stability)
    return f"faithfulness {faithfulness}", f"stability {stability}"


def _signed(value: float) -> str:
    if math.isnan(value):
        return "not defined"
    text = f"{value:.2f}"
    return text.replace("-", "−")
