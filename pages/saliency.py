"""Diagnoses and methods side by side for the current picture, and one map large beside the original."""

import streamlit as st

from cadlib import ui
from cadlib.metrics.operating_point import two_digits
from cadlib.saliency.heatmap import METHODS
from cadlib.saliency.trust import ABOUT_RANDOM_MAPS
from cadlib.taxonomy import CODES, diagnosis

TILE_SIDE_PX = 360


def pick(code: str, method: str) -> None:
    """Make one map the large one."""
    st.session_state["large"] = (code, method)


record = ui.page("Saliency")
if not record:
    st.stop()

ui.about_the_loss()
cases = ui.cases(record)
readable = [one for one in cases if one.assessment]
if not readable:
    st.markdown("#### No image yet\n\nAdd one on the Diagnose page, or try a synthetic lesion.")
    with st.container(horizontal=True):
        st.page_link("pages/diagnose.py", label="Go to Diagnose", icon=":material/arrow_back:")
        if st.button("Try a synthetic lesion", key="synthetic", icon=":material/draw:"):
            ui.take([ui.next_synthetic(cases)])
    st.stop()

case = ui.chosen_case(readable)
image, ranking = case.assessment.image, dict(case.assessment.prediction.ranking())
methods = {method.key: method for method in METHODS}
with st.container(horizontal=True, vertical_alignment="bottom"):
    names = {
        one.key: f"{one.name}, malignant probability {two_digits(one.risk)}" for one in readable
    }
    key = st.selectbox(
        "Image", names, list(names).index(case.key), format_func=names.get, key="picture"
    )
    chosen = st.multiselect(
        "Diagnoses", CODES, list(ranking)[:3], format_func=ui.named, key=f"codes-{case.key[:8]}"
    )
if key != case.key:
    ui.choose(key)
    st.rerun()
if ui.withheld(case.assessment, case.name):
    st.stop()
codes = [code for code in ranking if code in chosen]
if not codes:
    st.info("Select at least one diagnosis.")
    st.stop()

large = st.session_state.get("large")
if large not in [(code, method) for code in codes for method in methods]:
    large = (codes[0], next(iter(methods)))
top = st.container(width=880)
st.caption(
    "Each method has its own unit: compare colours down a column, between diagnoses, not across methods. "
    "A faint map is weak evidence. The frame marks the square that the network saw. "
    "Faithfulness: how much more the result changes when highlighted regions are hidden than when the rest is "
    "hidden. Stability: how similar the map of the rotated and mirrored image is. "
    + ABOUT_RANDOM_MAPS
)
for column, method in zip(st.columns(len(methods), wrap=False), methods.values(), strict=True):
    column.markdown(
        f"**{method.name}**"
        if method.class_specific
        else f"**{method.name}** :gray[not class-specific]"
    )
grid = st.container()
maps, bar, total = {}, st.empty(), len(codes) * len(methods)
for code in codes:
    for key, method in methods.items():
        bar.progress(len(maps) / total, f"Computing map {len(maps) + 1} of {total}")
        maps[code, key] = ui.heatmap(case.assessment, code, method)
bar.empty()
places = {}
peaks = {key: max(maps[code, key].raw_peak for code in codes) or None for key in methods}
for code in codes:
    grid.markdown(f"{ui.mark(code)} **{code}** {diagnosis(code).name} {two_digits(ranking[code])}")
    for column, key in zip(grid.columns(len(methods), wrap=False), methods, strict=True):
        heat = maps[code, key]
        peak = f"peak {heat.raw_peak:.2g}"
        shown = ui.overlay(image, heat, peak=peaks[key], side_px=TILE_SIDE_PX)
        column.image(shown, width="stretch", output_format="JPEG", alt=f"{ui.said(heat)}, {peak}")
        kind = "primary" if (code, key) == large else "secondary"
        tip = "Show this map enlarged above"
        column.button(
            f"Enlarge ({peak})",
            f"large-{code}-{key}",
            tip,
            pick,
            (code, key),
            type=kind,
            width="stretch",
        )
        places[code, key] = column.empty()
        places[code, key].caption(ui.trust_tile(None))
with top:
    ui.side_by_side(image, maps[large], case.name, peak=peaks[large[1]])
    ui.trust_line(line := st.empty(), maps[large], None)
# all is drawn: now the figures, the large map's first
for code, key in sorted(places, key=lambda place: place != large):
    measured = ui.trust(case.assessment, code, methods[key])
    places[code, key].caption(ui.trust_tile(measured))
    if (code, key) == large:
        ui.trust_line(line, maps[large], measured)
