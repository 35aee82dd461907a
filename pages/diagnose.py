"""Drop pictures: the decision first, then the ranked diagnoses and the evidence for each."""

from pathlib import Path

import streamlit as st

from cadlib import figures, ui
from cadlib.decision import two_digits
from cadlib.saliency import METHODS
from cadlib.taxonomy import diagnosis

EMPTY = """
#### Drop one or several dermoscopic pictures above

JPEG, PNG, TIFF, BMP or WebP. You get a ranked diagnosis, the malignant probability against the model's referral
threshold, and the place in the picture that speaks for each diagnosis. Nothing is stored: the pictures are gone
when this tab is closed.
"""
SAVE = ":material/download:"


def tile(case: ui.Case, chosen: bool) -> None:
    """Draw one file of the strip: its picture, or why there is none, and the button that chooses it."""
    key, label = case.key[:8], "not read"
    with st.container(width=128, gap="xsmall", key=f"tile-{key}"):
        if case.assessment:
            st.image(ui.square(case.assessment.image), width=128, alt=case.name)
            top, _ = case.assessment.prediction.ranking()[0]
            label = f"{two_digits(case.risk)} {ui.sign(top) if chosen else ui.mark(top)} {top}"
            label = label if case.assessment.quality.readable else "not readable"
        else:
            with st.container(height=128, border=True, gap=None):
                st.caption(ui.plain(case.reason))
        kind = "primary" if chosen else "secondary"
        st.button(label, f"choose-{key}", ui.plain(case.name), ui.choose, (case,), type=kind, width="stretch")


@st.fragment
def evidence(case: ui.Case) -> None:
    """Draw the picture beside the overlay of a chosen diagnosis."""
    image, ranking = case.assessment.image, case.assessment.prediction.ranking()
    key = case.key[:8]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        code = st.selectbox("Evidence for", [code for code, _ in ranking], format_func=ui.named, key=f"code-{key}")
        method = st.selectbox("Method", METHODS, format_func=lambda m: m.name, key="method")
        opacity = st.slider("Opacity", 0.0, 1.0, ui.OPACITY, 0.05, key="opacity")
    heat = ui.heatmap(case.assessment, code, method)
    ui.side_by_side(image, heat, case.name, opacity)
    name = f"{Path(case.name).stem}_{code}_{method.key}.png"
    png = ui.overlay_png(image, heat, opacity)
    st.download_button("Overlay", png, name, "image/png", "download-overlay", icon=SAVE, on_click="ignore")


def result(case: ui.Case) -> None:
    """Draw the assessment of one picture, the decision first."""
    found = case.assessment
    decision, image = found.decision, found.image
    sign = ui.mark("MEL") if decision.action == "refer" else ui.mark("NV")
    st.subheader(f"{sign} {decision.sentence}", anchor=False)
    top = found.prediction.ranking()[:3]
    ranked = " · ".join(f"{ui.mark(code)} {diagnosis(code).name} {two_digits(share)}" for code, share in top)
    doubts = " ".join(f":gray-badge[:material/warning: {one.name}]" for one in found.quality.flagged)
    st.markdown(f"{ranked} {doubts}")
    grid = st.grid(2, min_column_width=420, gap="medium")
    with grid.cell():
        evidence(case)
    with grid.cell():
        ui.chart(figures.confidence_chart(found.prediction.probabilities, found.likely or ()), key="confidence")
        if found.likely is not None:
            st.caption(ui.about_the_set(found.likely, record.conformal.coverage))
        st.caption(ui.about_the_threshold(decision.operating_point))
        st.caption(ui.about_the_turns(ui.stability(found), decision.operating_point.threshold))
        ui.quality(found.quality)
        facts = (case.name, "{} × {} px".format(*image.file_px), image.format, *image.notes)
        st.caption(" · ".join(map(ui.plain, facts)))


record = ui.page("Diagnose")
if not record:
    st.stop()

cases = ui.cases(record)
with st.container(horizontal=True, vertical_alignment="bottom", key="upload"):
    label = "Dermoscopic pictures: drop, choose, or paste with Ctrl+V"
    given = list(st.file_uploader(label, accept_multiple_files=True, key=ui.upload_key()))
    synthetic = st.button("Try a synthetic lesion", key="synthetic", icon=":material/draw:")
    camera = st.popover("Camera", icon=":material/photo_camera:", on_change="rerun", key="camera")
    if camera.open and (shot := camera.camera_input("Take a picture", key=f"camera-{ui.upload_key()}")):
        given.append(shot)
ui.accept_paste()
files = [(file.name, file.getvalue()) for file in given]
if synthetic:
    files.append(ui.next_synthetic(cases))
if files:
    ui.take(files)

case = ui.chosen_case(cases)
if case is None:
    st.markdown(EMPTY)
    ui.model()  # loaded while the reader looks for a picture
    st.stop()
if len(cases) > 1:
    unread = sum(one.assessment is None for one in cases)
    st.caption(f"{len(cases)} files, the highest malignant probability first" + f" · {unread} not read" * bool(unread))
    with st.container(horizontal=True, wrap=False, gap="small", key="strip"):
        for one in cases:
            tile(one, chosen=one is case)
if not case.assessment:
    st.error(f"{ui.plain(case.name)}: {ui.plain(case.reason)}", icon=":material/broken_image:")
elif not ui.withheld(case.assessment, case.name):
    result(case)
with st.container(horizontal=True, key="downloads"):
    table, tree = ui.cases_csv(cases), ui.cases_json(cases)
    st.download_button("CSV", table, "cadlib.csv", "text/csv", "download-csv", icon=SAVE, on_click="ignore")
    st.download_button("JSON", tree, "cadlib.json", "application/json", "download-json", icon=SAVE, on_click="ignore")
    st.button("Remove this picture", "remove", on_click=ui.remove, args=(case,), icon=":material/close:")
    st.button("Remove all", "clear", on_click=ui.remove, args=tuple(cases), icon=":material/delete:")
