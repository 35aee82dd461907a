"""Draws the saliency map of a diagnosis."""

from pathlib import Path

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.saliency.heatmap import METHODS, RISE, Heatmap, Method
from cadlib.ui.image_views import heatmap, overlay_png, rise_is_ready
from cadlib.ui.models import default_method
from cadlib.ui.text import named
from cadlib.ui.trust import NARROW_HEIGHT_PX, trust, trust_line
from cadlib.ui.viewer import viewer

_METHOD = "method"
_IS_PAGE_WAITING = "page-waits-for-map"
"""Key of whether the rest of the page is still to be drawn."""


def evidence(assessment: Assessment, name: str, key: str) -> None:
    """Draw the image of that name with the saliency map of a selected diagnosis over it.

    `key` identifies the image among others. A map by RISE takes seconds, so the page first gets
    that of the method that comes with each prediction: call `complete_evidence` at its end.
    """
    st.session_state[_IS_PAGE_WAITING] = True
    try:
        _evidence(assessment, name, key)
    finally:
        # A selection draws the fragment alone, and waits for its map.
        st.session_state[_IS_PAGE_WAITING] = False


def complete_evidence(assessment: Assessment) -> None:
    """Compute the selected map if it was left out, and draw the page again with it."""
    if st.session_state.get(_METHOD) != RISE or rise_is_ready(assessment):
        return
    top, _ = assessment.prediction.ranking()[0]
    heatmap(assessment, top, RISE)
    # There may be no room to hold it; then the page keeps the map that it has.
    if rise_is_ready(assessment):
        st.rerun()


@st.fragment
def _evidence(assessment: Assessment, name: str, key: str) -> None:
    codes = [code for code, _ in assessment.prediction.ranking()]
    # The viewer stands above the boxes, but needs what they select.
    above = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        code = st.selectbox("Saliency map for", codes, format_func=named, key=f"code-{key}")
        selected = st.selectbox(
            "Method",
            METHODS,
            METHODS.index(default_method()),
            format_func=lambda method: method.name,
            key=_METHOD,
        )
        method = _method_for_now(assessment, selected)
        heat = heatmap(assessment, code, method)
        with above:
            opacity = viewer(assessment, heat, name, f"viewer-{key}")
        _download_button(assessment, heat, opacity, f"{Path(name).stem}_{code}")
    line = st.empty()
    if method != selected:
        # This map is about to be replaced, so it is not checked.
        waiting = f"Computing the map by {selected.name} …"
        trust_line(line, heat, None, NARROW_HEIGHT_PX, waiting)
        return
    # The checks take longer than the map, so the map is on the page before them.
    trust_line(line, heat, None, NARROW_HEIGHT_PX)
    measured = trust(assessment, code, method)
    trust_line(line, heat, measured, NARROW_HEIGHT_PX)


def _download_button(assessment: Assessment, heat: Heatmap, opacity: float, stem: str) -> None:
    """Draw the button that downloads the overlay; `stem` begins the name of its file."""
    st.download_button(
        "Download overlay",
        overlay_png(assessment.image, heat, opacity),
        f"{stem}_{heat.method}.png",
        "image/png",
        "download-overlay",
        icon=":material/download:",
        on_click="ignore",
    )


def _method_for_now(assessment: Assessment, selected: Method) -> Method:
    """Return the selected method, or a fast one while the rest of the page waits."""
    is_page_waiting = st.session_state.get(_IS_PAGE_WAITING, False)
    if selected == RISE and is_page_waiting and not rise_is_ready(assessment):
        return METHODS[0]
    return selected
