"""Drop pictures: the decision first, then the ranked diagnoses and the evidence for each."""

import streamlit as st

from cadlib import ui
from cadlib.assessment import Assessment
from cadlib.metrics.operating_point import two_digits
from cadlib.report import charts
from cadlib.taxonomy import MALIGNANT_NOTE, diagnosis

EMPTY = """
#### Drop one or more dermoscopic images above

JPEG, PNG, TIFF, BMP, WebP or DICOM. The result shows the ranked diagnoses, the malignant probability with the model's
referral threshold, and a saliency map for each diagnosis. Images are not written to disk. They are
removed from memory when you remove them here, or within a minute after this tab is closed.
"""
SAVE = ":material/download:"


def answer(found: Assessment) -> None:
    """Draw the decision and the first diagnoses."""
    sign = ui.mark("MEL") if found.decision.action == "refer" else ui.mark("NV")
    st.subheader(f"{sign} {found.decision.sentence}", anchor=False)
    top = found.prediction.ranking()[:3]
    ranked = " · ".join(
        f"{ui.mark(code)} {diagnosis(code).name} {two_digits(share)}" for code, share in top
    )
    doubts = " ".join(
        f":gray-badge[:material/warning: {one.problem}]" for one in found.quality.flagged
    )
    st.markdown(f"{ranked} {doubts}")


def reasons(case: ui.Case) -> st.delta_generator.DeltaGenerator:
    """Draw all diagnoses and the doubts; return the place of what comes late."""
    found = case.assessment
    ui.chart(
        charts.confidence_chart(found.prediction.probabilities, found.likely or ()),
        key="confidence",
    )
    st.caption(MALIGNANT_NOTE)
    if found.likely is not None:
        st.caption(ui.about_the_set(found.likely, record.conformal.coverage))
    st.caption(ui.about_the_threshold(found.decision.operating_point))
    ui.quality(found.quality)
    st.caption(ui.about_the_kind(found.novelty))
    turns = st.empty()
    turns.caption("Rotated and mirrored: computing …")
    ui.similar(found)
    ui.patient(case, record)
    facts = (
        case.name,
        "{} × {} px".format(*found.image.file_px),
        found.image.format,
        *found.image.notes,
    )
    st.caption(" · ".join(map(ui.plain, facts)))
    return turns


def result(case: ui.Case) -> None:
    """Draw answer and evidence first, for a browser is a second over its first chart; what takes longer comes last."""
    found, grid = case.assessment, st.grid(2, min_column_width=350, gap="medium")
    left, right = grid.cell(), grid.cell()
    with right:
        answer(found)
    with left:
        ui.evidence(found, case.name, case.view_key)
    with right:
        turns = reasons(case)
    with left:
        ui.consequences(found, record)
    # the views are predicted without patient data: so is the threshold that they are compared with
    alone = record.operating_point(found.decision.operating_point.name)
    with_facts = found.prediction.facts is not None
    turns.caption(ui.about_the_turns(ui.stability(found), alone.threshold, with_facts=with_facts))


def show(case: ui.Case) -> None:
    """Draw a case, the way to the others, and what can be done with them."""
    if len(cases) > 1:
        ui.strip(cases, case)
    ui.channel_order(case)
    if not case.assessment:
        st.error(f"{ui.plain(case.name)}: {ui.plain(case.reason)}", icon=":material/broken_image:")
    elif not ui.withheld(case.assessment, case.name):
        result(case)
    with st.container(horizontal=True, key="downloads"):
        table, tree = ui.cases_csv(cases), ui.cases_json(cases)
        st.download_button(
            "Download CSV",
            table,
            "cadlib.csv",
            "text/csv",
            "download-csv",
            icon=SAVE,
            on_click="ignore",
        )
        st.download_button(
            "Download JSON",
            tree,
            "cadlib.json",
            "application/json",
            "download-json",
            icon=SAVE,
            on_click="ignore",
        )
        st.button(
            "Remove image",
            "remove",
            on_click=ui.remove,
            args=(case.key,),
            icon=":material/close:",
        )
        keys = tuple(one.key for one in cases)
        st.button(
            "Remove all images", "clear", on_click=ui.remove, args=keys, icon=":material/delete:"
        )


record = ui.page("Diagnose")
if not record:
    st.stop()

ui.about_the_loss()
cases = ui.cases(record)
with st.container(horizontal=True, vertical_alignment="bottom", key="upload"):
    label = "Dermoscopic images: drop, browse, or paste (Ctrl+V)"
    given = list(st.file_uploader(label, accept_multiple_files=True, key=ui.upload_key()))
    synthetic = st.button("Try a synthetic lesion", key="synthetic", icon=":material/draw:")
    camera = st.popover("Camera", icon=":material/photo_camera:", on_change="rerun", key="camera")
    if camera.open and (
        shot := camera.camera_input("Take a dermoscopic image", key=f"camera-{ui.upload_key()}")
    ):
        given.append(shot)
ui.accept_paste()
files = [(file.name, file.getvalue()) for file in given]
if synthetic:
    files.append(ui.next_synthetic(cases))
if files:
    ui.take(files, given)

case = ui.chosen_case(cases)
if case is None:  # without st.stop: what a stopped run leaves in place holds the removed picture
    st.markdown(EMPTY)
    ui.model()  # loaded while the reader looks for a picture
else:
    show(case)
