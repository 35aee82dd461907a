"""Shows the decision, ranked diagnoses and saliency maps for images."""

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cadlib import ui
from cadlib.assessment import Assessment
from cadlib.metrics.operating_point import two_digits
from cadlib.report import charts
from cadlib.taxonomy import MALIGNANT_NOTE, diagnosis

EMPTY = """
#### Drop one or more dermoscopic images above

JPEG, PNG, TIFF, BMP, WebP or DICOM. The result shows the ranked diagnoses, the malignant
probability with the model's referral threshold, and a saliency map for each diagnosis. Images are
not written to disk unless you store the case. They are removed from memory when you remove them
here, or within a minute after this tab is closed.
"""


def top_diagnoses(assessment: Assessment) -> str:
    """Return the three most probable diagnoses with their probabilities."""
    ranking = assessment.prediction.ranking()
    texts = []
    for code, share in ranking[:3]:
        mark = ui.mark(code)
        name = diagnosis(code).name
        probability = two_digits(share)
        texts.append(f"{mark} {name} {probability}")
    return " · ".join(texts)


def answer(assessment: Assessment) -> None:
    """Draw the decision and the most probable diagnoses, with the doubts about the image."""
    decision = assessment.decision
    refer = decision.action == "refer"
    mark = ui.mark("MEL" if refer else "NV")
    st.subheader(f"{mark} {decision.sentence}", anchor=False)
    ranked = top_diagnoses(assessment)
    borderline = ""
    if assessment.borderline:
        borderline = ":orange-badge[:material/balance: borderline]"
    flagged = assessment.quality.flagged
    badges = [f":gray-badge[:material/warning: {check.problem}]" for check in flagged]
    doubts = " ".join(badges)
    st.markdown(f"{ranked} {borderline} {doubts}")
    if assessment.spread_sentence:
        st.caption(assessment.spread_sentence)


def reasons(case: ui.Case) -> DeltaGenerator:
    """Draw all diagnoses and the doubts; return the place for what is computed later."""
    assessment = case.assessment
    likely = assessment.likely or ()
    bars = charts.confidence_chart(assessment.prediction.probabilities, likely)
    ui.chart(bars, key="confidence")
    st.caption(MALIGNANT_NOTE)
    if assessment.likely is not None:
        st.caption(ui.about_the_set(assessment.likely, record.conformal.coverage))
    point = assessment.decision.operating_point
    st.caption(ui.about_the_threshold(point), help=ui.threshold_intervals(point))
    ui.quality(assessment.quality)
    st.caption(ui.about_the_kind(assessment.novelty))
    turns = st.empty()
    turns.caption("Rotated and mirrored: computing …")
    ui.similar(assessment)
    ui.patient(case, record)
    width_px, height_px = assessment.image.file_px
    facts = [
        case.name,
        f"{width_px} × {height_px} px",
        assessment.image.format,
        *assessment.image.notes,
    ]
    st.caption(" · ".join(map(ui.plain, facts)))
    return turns


def result(case: ui.Case) -> None:
    """Draw the result and the saliency map first, and then what takes longer."""
    assessment = case.assessment
    grid = st.grid(2, min_column_width=350, gap="medium")
    left = grid.cell()
    right = grid.cell()
    with right:
        answer(assessment)
    with left:
        # Before the chart, because a browser needs a second for its first chart.
        ui.evidence(assessment, case.name, case.view_key)
    with right:
        turns = reasons(case)
    with left:
        ui.consequences(assessment, record)
    # The views are predicted without patient data, so they are compared with the threshold for
    # results without patient data.
    alone = record.operating_point(assessment.decision.operating_point.name)
    with_facts = assessment.prediction.facts is not None
    views = ui.stability(assessment)
    turns.caption(ui.about_the_turns(views, alone.threshold, with_facts=with_facts))
    ui.complete_evidence(assessment)


def show(case: ui.Case) -> None:
    """Draw a case, the way to the others, and the downloads."""
    if len(cases) > 1:
        ui.strip(cases, case)
    ui.channel_order(case)
    if not case.assessment:
        st.error(ui.plain(f"{case.name}: {case.reason}"), icon=":material/broken_image:")
    elif ui.is_hidden(case.key):
        ui.first_reading(case)
    elif not ui.withheld(case.assessment, case.name):
        result(case)
        ui.storing(case)
    ui.downloads(cases, case)


record = ui.page("Diagnose")
if not record:
    st.stop()

ui.about_the_loss()
cases = ui.cases(record)
with st.container(horizontal=True, vertical_alignment="bottom", key="upload"):
    label = "Dermoscopic images: drop, browse, or paste (Ctrl+V)"
    uploads = list(st.file_uploader(label, accept_multiple_files=True, key=ui.upload_key()))
    synthetic = st.button("Try a synthetic lesion", key="synthetic", icon=":material/draw:")
    camera = st.popover("Camera", icon=":material/photo_camera:", on_change="rerun", key="camera")
    # The camera input is drawn only in the open popover, because it switches the camera on.
    if camera.open:
        shot = camera.camera_input("Take a dermoscopic image", key=f"camera-{ui.upload_key()}")
        if shot:
            uploads.append(shot)
ui.accept_paste()
files = [(upload.name, upload.getvalue()) for upload in uploads]
if synthetic:
    files.append(ui.next_synthetic(cases))
if files:
    ui.take(files, uploads)

case = ui.chosen_case(cases)
if case is None:
    # No st.stop here: Streamlit would keep the removed image on the page of a stopped run.
    st.markdown(EMPTY)
    # Loaded now, while the reader looks for an image.
    ui.model()
else:
    show(case)
