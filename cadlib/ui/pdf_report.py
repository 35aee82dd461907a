"""Draws what downloads the PDF report of the case on the page."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.errors import CadError
from cadlib.saliency.heatmap import METHODS, RISE, Heatmap, Method
from cadlib.ui.blind import is_hidden
from cadlib.ui.case_store import case_store, reader, stored_image
from cadlib.ui.clinic import prevalence
from cadlib.ui.image_views import heatmap, rise_is_ready
from cadlib.ui.models import default_method, model
from cadlib.ui.session import Case
from cadlib.ui.text import plain
from cadlib.ui.trust import trust

if TYPE_CHECKING:
    from cadlib.cases.records import CaseFile
    from cadlib.cases.store import CaseStore
    from cadlib.report.pdf import Paper, ReportedPatient, ReportedReading

PAPERS: "tuple[Paper, ...]" = ("A4", "Letter")


def pdf_report(case: Case) -> None:
    """Draw the choice of paper, and the button that downloads the report."""
    if case.assessment is None or is_hidden(case.key):
        return
    form = st.popover(
        "PDF report",
        icon=":material/picture_as_pdf:",
        on_change="rerun",
        key=f"pdf-{case.view_key}",
    )
    # The parts of the report are computed once it is wanted.
    if not form.open:
        return
    with form:
        try:
            _draw_form(case, case.assessment)
        except CadError as error:
            st.error(plain(str(error)))


def _draw_form(case: Case, assessment: Assessment) -> None:
    paper = st.radio("Paper", PAPERS, horizontal=True, key="pdf-paper")
    stored = _stored(case)
    if stored is None:
        st.caption("Not stored: the report names no patient and no reader.")
    st.download_button(
        "Download PDF",
        _maker(assessment, paper, stored),
        f"{PurePath(case.name).stem or 'report'}.pdf",
        "application/pdf",
        "download-pdf",
        icon=":material/download:",
        on_click="ignore",
    )


def _stored(case: Case) -> "tuple[CaseStore, CaseFile] | None":
    """Return the store and what it has of a case; None for a case that is not stored."""
    image_id = stored_image(case.key)
    if image_id is None:
        return None
    store = case_store()
    if store is None:
        return None
    from cadlib.cases import queries  # noqa: PLC0415

    with store.read() as connection:
        return store, queries.case_file(connection, image_id)


def _maker(
    assessment: Assessment,
    paper: "Paper",
    stored: "tuple[CaseStore, CaseFile] | None",
) -> Callable[[], bytes]:
    """Return a function that makes the report. It is called only if the reader downloads it.

    It has all that a session knows, because it runs outside the session.
    """
    # Like the page, the report explains the most probable diagnosis.
    top, _ = assessment.prediction.ranking()[0]
    method = _method(assessment)
    heat: Heatmap = heatmap(assessment, top, method)
    checked = trust(assessment, top, method)
    record = model().record
    share = prevalence()
    actor = reader()

    def make() -> bytes:
        from cadlib.report.pdf import assessment_pdf  # noqa: PLC0415

        patient = None
        reading = None
        if stored:
            store, case_file = stored
            patient = _patient(case_file)
            reading = _reading(case_file, actor)
            # An export leaves the store's protection.
            with store.write(actor) as cases:
                cases.log("export PDF", "images", case_file.image.id)
        return assessment_pdf(
            assessment,
            record,
            created=datetime.now(UTC),
            heatmap=heat,
            trust=checked,
            patient=patient,
            reading=reading,
            prevalence=share,
            paper=paper,
        )

    return make


def _method(assessment: Assessment) -> Method:
    """Return the method of the map: the usual one, or a fast one if that is not computed yet."""
    usual = default_method()
    if usual == RISE and not rise_is_ready(assessment):
        return METHODS[0]
    return usual


def _patient(stored: "CaseFile") -> "ReportedPatient":
    from cadlib.report.pdf import ReportedPatient  # noqa: PLC0415

    return ReportedPatient(
        pseudonym=stored.patient.details.pseudonym,
        lesion=stored.lesion.details.label,
        site=stored.lesion.details.site,
        visit=stored.visit.details.day,
    )


def _reading(stored: "CaseFile", reader_id: str) -> "ReportedReading | None":
    """Return the reader's latest reading; None if there is none."""
    from cadlib.report.pdf import ReportedReading  # noqa: PLC0415

    own = [reading for reading in stored.readings if reading.reader_id == reader_id]
    if not own:
        return None
    details = own[-1].details
    return ReportedReading(
        reader=reader_id,
        diagnosis=details.diagnosis,
        management=details.management,
        confidence=details.confidence,
        stage=details.stage,
        response=details.response,
        reason=details.reason,
    )
