"""Shows saliency maps of diagnoses and methods side by side."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cadlib import ui
from cadlib.metrics.operating_point import two_digits
from cadlib.saliency.heatmap import METHODS, Heatmap
from cadlib.saliency.trust import ABOUT_RANDOM_MAPS
from cadlib.taxonomy import CODES, diagnosis

TILE_SIDE_PX = 360
ABOUT_MAPS = (
    "Each method has its own unit: compare colours down a column, between diagnoses, not across "
    "methods. A faint map is weak evidence. The frame marks the square that the network saw. "
    "Faithfulness: how much more the result changes when highlighted regions are hidden than when "
    "the rest is hidden. Stability: how similar the map of the rotated and mirrored image is."
)
# A diagnosis and the key of a method: the row and the column of a map.
Place = tuple[str, str]


def pick(code: str, method: str) -> None:
    """Make one map the large one."""
    st.session_state["large"] = (code, method)


def draw_empty(cases: list[ui.Case]) -> None:
    """Draw what to do while there is no image."""
    st.markdown("#### No image yet\n\nAdd one on the Diagnose page, or try a synthetic lesion.")
    with st.container(horizontal=True):
        st.page_link("pages/diagnose.py", label="Go to Diagnose", icon=":material/arrow_back:")
        if st.button("Try a synthetic lesion", key="synthetic", icon=":material/draw:"):
            ui.take([ui.next_synthetic(cases)])


def choose_case_and_codes(readable: list[ui.Case], case: ui.Case) -> tuple[str, list[str]]:
    """Draw the boxes for image and diagnoses; return the selected key and the selected codes."""
    names = {}
    for readable_case in readable:
        risk = two_digits(readable_case.risk)
        names[readable_case.key] = f"{readable_case.name}, malignant probability {risk}"
    # The others are a choice away: each map takes a moment to compute.
    most_probable = list(ranking)[:3]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        key = st.selectbox(
            "Image",
            names,
            list(names).index(case.key),
            format_func=names.get,
            key="picture",
        )
        codes = st.multiselect(
            "Diagnoses",
            CODES,
            most_probable,
            format_func=ui.named,
            key=f"codes-{case.key[:8]}",
        )
    return key, codes


def large_place(codes: list[str]) -> Place:
    """Return the map that is large: the one that was enlarged, else the first."""
    large: Place | None = st.session_state.get("large")
    if large is not None:
        code, method = large
        if code in codes and method in methods:
            return large
    return codes[0], next(iter(methods))


def draw_method_names() -> None:
    """Draw the names of the methods above their columns."""
    columns = st.columns(len(methods), wrap=False)
    for column, method in zip(columns, methods.values(), strict=True):
        name = f"**{method.name}**"
        if not method.class_specific:
            name += " :gray[not class-specific]"
        column.markdown(name)


def compute_maps(codes: list[str]) -> dict[Place, Heatmap]:
    """Compute the map of each diagnosis by each method, with a progress bar."""
    maps: dict[Place, Heatmap] = {}
    total = len(codes) * len(methods)
    bar = st.empty()
    for code in codes:
        for key, method in methods.items():
            done = len(maps)
            bar.progress(done / total, f"Computing map {done + 1} of {total}")
            maps[code, key] = ui.heatmap(assessment, code, method)
    bar.empty()
    return maps


def peak_of(key: str, codes: list[str]) -> float | None:
    """Return the highest value of a method's maps, None if all are 0."""
    highest = max(maps[code, key].raw_peak for code in codes)
    return highest or None


def draw_tile(column: DeltaGenerator, place: Place) -> DeltaGenerator:
    """Draw a small map with the button that enlarges it; return the place of its caption."""
    code, key = place
    heat = maps[place]
    peak = f"peak {heat.raw_peak:.2g}"
    blend = ui.overlay(image, heat, peak=peaks[key], side_px=TILE_SIDE_PX)
    column.image(blend, width="stretch", output_format="JPEG", alt=f"{ui.said(heat)}, {peak}")
    column.button(
        f"Enlarge ({peak})",
        f"large-{code}-{key}",
        "Show this map enlarged above",
        pick,
        place,
        type="primary" if place == large else "secondary",
        width="stretch",
    )
    caption = column.empty()
    caption.caption(ui.trust_tile(None))
    return caption


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
assessment = case.assessment
image = assessment.image
ranking = dict(assessment.prediction.ranking())
methods = {method.key: method for method in METHODS}
chosen_key, chosen_codes = choose_case_and_codes(readable, case)
if chosen_key != case.key:
    ui.choose(chosen_key)
    st.rerun()
if ui.withheld(assessment, case.name):
    st.stop()
codes = [code for code in ranking if code in chosen_codes]
if not codes:
    st.info("Select at least one diagnosis.")
    st.stop()

large = large_place(codes)
top = st.container(width=880)
st.caption(f"{ABOUT_MAPS} {ABOUT_RANDOM_MAPS}")
draw_method_names()
grid = st.container()
maps = compute_maps(codes)
peaks = {key: peak_of(key, codes) for key in methods}
captions: dict[Place, DeltaGenerator] = {}
for code in codes:
    share = two_digits(ranking[code])
    grid.markdown(f"{ui.mark(code)} **{code}** {diagnosis(code).name} {share}")
    columns = grid.columns(len(methods), wrap=False)
    for column, key in zip(columns, methods, strict=True):
        captions[code, key] = draw_tile(column, (code, key))
with top:
    ui.side_by_side(image, maps[large], case.name, peak=peaks[large[1]])
    line = st.empty()
    ui.trust_line(line, maps[large], None)
# All maps are drawn. The checks take longer, so they come now, those of the large map first.
for code, key in sorted(captions, key=lambda place: place != large):
    measured = ui.trust(assessment, code, methods[key])
    captions[code, key].caption(ui.trust_tile(measured))
    if (code, key) == large:
        ui.trust_line(line, maps[large], measured)
