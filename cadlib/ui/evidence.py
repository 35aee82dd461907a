"""The evidence for a diagnosis in a picture, to look into: which diagnosis, which method, and whether to believe it."""

from pathlib import Path

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.saliency.heatmap import METHODS
from cadlib.ui.pictures import heatmap, overlay_png
from cadlib.ui.text import named
from cadlib.ui.trust import NARROW_HEIGHT_PX, trust, trust_line
from cadlib.ui.viewer import viewer


@st.fragment
def evidence(found: Assessment, name: str, key: str) -> None:
    """Draw the picture of that name with the heatmap of a chosen diagnosis over it; `key` tells it from others."""
    ranking, shown = found.prediction.ranking(), st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        code = st.selectbox(
            "Saliency map for", [code for code, _ in ranking], format_func=named, key=f"code-{key}"
        )
        method = st.selectbox("Method", METHODS, format_func=lambda m: m.name, key="method")
        heat = heatmap(found, code, method)
        with shown:
            opacity = viewer(found, heat, name, f"viewer-{key}")
        file = f"{Path(name).stem}_{code}_{method.key}.png"
        png = overlay_png(found.image, heat, opacity)
        st.download_button(
            "Download overlay",
            png,
            file,
            "image/png",
            "download-overlay",
            icon=":material/download:",
            on_click="ignore",
        )
    line = st.empty()
    trust_line(line, heat, None, NARROW_HEIGHT_PX)
    trust_line(line, heat, trust(found, code, method), NARROW_HEIGHT_PX)
