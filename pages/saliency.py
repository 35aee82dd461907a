"""Shows saliency maps of diagnoses and methods side by side."""

import streamlit as st

from cadlib import ui
from cadlib.metrics.operating_point import two_digits
from cadlib.saliency.trust import ABOUT_RANDOM_MAPS
from cadlib.taxonomy import CODES

ABOUT_MAPS = (
    "Each method has its own unit: compare colours down a column, between diagnoses, not across "
    "methods. A faint map is weak evidence. The frame marks the square that the network saw. "
    "Faithfulness: how much more the result changes when highlighted regions are hidden than when "
    "the rest is hidden. Stability: how similar the map of the rotated and mirrored image is, "
    "for RISE the map from other random masks."
)


def draw_empty(cases: list[ui.Case]) -> None:
    """Draw what to do while there is no image."""
    st.markdown("#### No image yet\n\nAdd one on the Diagnose page, or try a synthetic lesion.")
    with st.container(horizontal=True):
        st.page_link(
            "pages/diagnose.py",
            label="Go to Diagnose",
            icon=":material/arrow_back:",
        )
        synthetic = st.button(
            "Try a synthetic lesion",
            key="synthetic",
            icon=":material/draw:",
        )
        if synthetic:
            lesion = ui.next_synthetic(cases)
            ui.take([lesion])


def choose_case(readable: list[ui.Case], case: ui.Case) -> str:
    """Draw the box for the image; return the key of the selected case."""
    names = {}
    for readable_case in readable:
        risk = two_digits(readable_case.risk)
        name = f"{readable_case.name}, malignant probability {risk}"
        names[readable_case.key] = name
    keys = list(names)
    return st.selectbox(
        "Image",
        keys,
        keys.index(case.key),
        format_func=names.get,
        key="picture",
    )


def choose_codes(case: ui.Case) -> list[str]:
    """Draw the box for the diagnoses; return the selected codes, the most probable first."""
    ranked = [code for code, _ in case.assessment.prediction.ranking()]
    chosen = st.multiselect(
        "Diagnoses",
        CODES,
        # More are a choice away: each map takes a moment to compute.
        ranked[:3],
        format_func=ui.named,
        key=f"codes-{case.key[:8]}",
    )
    return [code for code in ranked if code in chosen]


record = ui.page("Saliency")
if not record:
    st.stop()

ui.about_the_loss()
cases = ui.cases(record)
readable = [case for case in cases if case.assessment]
if not readable:
    draw_empty(cases)
    st.stop()

case = ui.chosen_case(readable)
with st.container(horizontal=True, vertical_alignment="bottom"):
    chosen_key = choose_case(readable, case)
    hidden = ui.is_hidden(case.key)
    # The diagnoses are listed by their probability.
    codes = [] if hidden else choose_codes(case)
if chosen_key != case.key:
    ui.choose(chosen_key)
    st.rerun()
if hidden:
    st.info(ui.HIDDEN, icon=":material/visibility_off:")
    st.stop()
if ui.withheld(case.assessment, case.name):
    st.stop()
if not codes:
    st.info("Select at least one diagnosis.")
    st.stop()

enlarged = st.container(width=880)
st.caption(f"{ABOUT_MAPS} {ABOUT_RANDOM_MAPS}")
ui.MapGrid(case.assessment, case.name, codes).draw(enlarged)
