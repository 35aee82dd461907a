"""Draws the saliency map of a diagnosis."""

from pathlib import Path

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.saliency.heatmap import METHODS
from cadlib.ui.image_views import heatmap, overlay_png
from cadlib.ui.text import named
from cadlib.ui.trust import NARROW_HEIGHT_PX, trust, trust_line
from cadlib.ui.viewer import viewer


@st.fragment
def evidence(assessment: Assessment, name: str, key: str) -> None:
    """Draw the image of that name with the saliency map of a selected diagnosis over it.

    `key` identifies the image among others.
    """
    codes = [code for code, _ in assessment.prediction.ranking()]
    # The viewer stands above the boxes, but needs what they select.
    above = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        code = st.selectbox("Saliency map for", codes, format_func=named, key=f"code-{key}")
        method = st.selectbox(
            "Method", METHODS, format_func=lambda method: method.name, key="method"
        )
        heat = heatmap(assessment, code, method)
        with above:
            opacity = viewer(assessment, heat, name, f"viewer-{key}")
        overlay = overlay_png(assessment.image, heat, opacity)
        stem = Path(name).stem
        st.download_button(
            "Download overlay",
            overlay,
            f"{stem}_{code}_{method.key}.png",
            "image/png",
            "download-overlay",
            icon=":material/download:",
            on_click="ignore",
        )
    # The checks take longer than the map, so the map is on the page before them.
    line = st.empty()
    trust_line(line, heat, None, NARROW_HEIGHT_PX)
    measured = trust(assessment, code, method)
    trust_line(line, heat, measured, NARROW_HEIGHT_PX)
