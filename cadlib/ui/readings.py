"""Draws readings and outcomes of a stored case, and adds new ones."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.errors import CadError, CaseMissing
from cadlib.taxonomy import CODES, diagnosis
from cadlib.ui.case_store import case_store, forget_stored, reader, stored_image
from cadlib.ui.lesion_history import lesion_history
from cadlib.ui.models import model
from cadlib.ui.session import Case
from cadlib.ui.text import day_text, moment_text, plain

if TYPE_CHECKING:
    from cadlib.cases.records import CaseFile, ReadingDetails, StoredAssessment
    from cadlib.cases.store import CaseStore
    from cadlib.cases.writing import CaseWriter

RESPONSE_TEXTS = {
    "agrees": "I agree with the result",
    "changes": "The result changed my diagnosis",
    "overrides": "I decide against the result",
}
CONFIDENCE_TEXTS = {1: "guess", 2: "unsure", 3: "fairly sure", 4: "sure", 5: "certain"}
OTHER_TEXT = "another diagnosis"


def readings(case: Case) -> None:
    """Draw what is stored of the case on the page; nothing for a case that is not stored."""
    image_id = stored_image(case.key)
    if image_id is None:
        return
    store = case_store()
    if store is None:
        return
    try:
        _draw(store, image_id, case)
    except CaseMissing as error:
        # Erased meanwhile: it can be stored again.
        forget_stored(case.key)
        st.error(plain(str(error)))
    except CadError as error:
        st.error(plain(str(error)))


def _draw(store: "CaseStore", image_id: str, case: Case) -> None:
    from cadlib.cases import queries  # noqa: PLC0415

    with store.read() as connection:
        stored = queries.case_file(connection, image_id)
        is_first_time = not queries.result_was_shown(connection, reader(), image_id)
    if is_first_time:
        # The result is on the page above: a later reading is not one before it.
        with store.write(reader()) as cases:
            cases.log_result_shown(stored.image)
    st.markdown(_about(stored))
    for line in _history(stored):
        st.caption(line)
    lesion_history(store, stored, case.view_key)
    left, right = st.columns(2)
    with left, st.expander("Add a reading", key=f"reading-{case.view_key}"):
        _draw_reading(store, stored, case)
    with right, st.expander("Add an outcome", key=f"outcome-{case.view_key}"):
        _draw_outcome(store, stored, case)


def _about(stored: "CaseFile") -> str:
    """Return where a case is stored, as Markdown."""
    details = stored.lesion.details
    site = f", {details.site}" if details.site else ""
    parts = [
        f"**Stored:** patient {plain(stored.patient.details.pseudonym)}",
        f"lesion {plain(details.label)}{site}",
        f"visit {day_text(stored.visit.details.day)}",
        f"state: {stored.state}",
    ]
    return " · ".join(parts)


def _history(stored: "CaseFile") -> list[str]:
    """Return a line for each reading and outcome, the earliest first."""
    lines = []
    for reading in stored.readings:
        details = reading.details
        moment = moment_text(reading.recorded_at)
        confidence = CONFIDENCE_TEXTS[details.confidence]
        text = f"{moment} · {reading.reader_id} read: {_name(details.diagnosis)}, "
        text += f"{details.management}, {confidence}"
        if details.response:
            text += f" · {details.response}"
        if details.reason:
            text += f" · {details.reason}"
        lines.append((reading.entry, plain(text)))
    for outcome in stored.outcomes:
        of = outcome.details
        name = _name(of.diagnosis) if of.diagnosis else of.note
        group = "malignant" if of.malignant else "benign"
        moment = moment_text(outcome.recorded_at)
        text = f"{moment} · {of.source}: {name} ({group})"
        lines.append((outcome.entry, plain(text)))
    return [text for _, text in sorted(lines)]


def _name(code: str) -> str:
    """Return the name of a diagnosis, also of one outside the eight."""
    return diagnosis(code).name if code in CODES else OTHER_TEXT


def _draw_reading(store: "CaseStore", stored: "CaseFile", case: Case) -> None:
    """Draw the fields of a reading after the result, and save it."""
    from cadlib.cases.records import REMOVALS  # noqa: PLC0415

    details = _draw_second_reading_fields(case.view_key)
    if details is None or case.assessment is None:
        return
    with store.write(reader()) as cases:
        seen = _result_on_page(cases, stored, case.assessment)
        cases.add_reading(stored.image, details, seen)
        state = "biopsy requested" if details.management in REMOVALS else "read"
        cases.set_state(stored.image, state)
    st.rerun()


def _result_on_page(
    cases: "CaseWriter",
    stored: "CaseFile",
    assessment: Assessment,
) -> "StoredAssessment":
    """Return the stored result that the page shows; store it if the latest one is another.

    The model, the operating point or the patient data may have changed since it was stored, and a
    reading has to name the result that the reader saw.
    """
    shown = assessment.decision.operating_point
    of_page = (
        assessment.prediction.model_id,
        shown.name,
        shown.threshold,
        assessment.prediction.malignant_probability,
    )
    for latest in stored.assessments[-1:]:
        of_store = (
            latest.model_id,
            latest.operating_point,
            latest.threshold,
            latest.malignant_probability,
        )
        if of_store == of_page:
            return latest
    return cases.add_assessment(stored.image, assessment, model().record)


@dataclass(frozen=True)
class _ReadingFields:
    """What the reader entered; None for what is not selected yet."""

    diagnosis: str | None
    management: str | None
    confidence: int


def _draw_reading_fields(key: str) -> _ReadingFields:
    """Draw the fields that a reading has before and after the result."""
    from cadlib.cases.records import MANAGEMENTS, OTHER  # noqa: PLC0415

    code = st.selectbox(
        "Your diagnosis",
        (*CODES, OTHER),
        # No preset: a reading has to be the reader's own.
        None,
        format_func=_plain_option,
        key=f"reading-diagnosis-{key}",
        placeholder="Select one",
    )
    management = st.selectbox(
        "Management",
        MANAGEMENTS,
        None,
        key=f"reading-management-{key}",
        placeholder="Select one",
    )
    confidence = st.select_slider(
        "Confidence",
        list(CONFIDENCE_TEXTS),
        3,
        format_func=CONFIDENCE_TEXTS.__getitem__,
        key=f"reading-confidence-{key}",
    )
    return _ReadingFields(code, management, confidence)


def draw_first_reading_fields(key: str) -> "ReadingDetails | None":
    """Draw the fields of a reading before the result; return it once it is complete."""
    from cadlib.cases.records import ReadingDetails  # noqa: PLC0415

    fields = _draw_reading_fields(f"first-{key}")
    if fields.diagnosis is None or fields.management is None:
        return None
    return ReadingDetails(
        stage="before",
        diagnosis=fields.diagnosis,
        management=fields.management,
        confidence=fields.confidence,
    )


def _draw_second_reading_fields(key: str) -> "ReadingDetails | None":
    """Draw the fields of a reading after the result, with the button; return it when pressed."""
    from cadlib.cases.records import ReadingDetails  # noqa: PLC0415

    # A form, so that the page runs once, not at each field.
    with st.form(f"reading-form-{key}", border=False):
        fields = _draw_reading_fields(key)
        response = st.radio(
            "Compared with the result",
            list(RESPONSE_TEXTS),
            format_func=RESPONSE_TEXTS.__getitem__,
            key=f"reading-response-{key}",
        )
        reason = st.text_input(
            "Reason",
            key=f"reading-reason-{key}",
            help="Required if you decide against the result.",
        )
        pressed = st.form_submit_button("Save reading")
    if not pressed:
        return None
    if fields.diagnosis is None or fields.management is None:
        st.warning("Select a diagnosis and a management first.")
        return None
    return ReadingDetails(
        stage="after",
        diagnosis=fields.diagnosis,
        management=fields.management,
        confidence=fields.confidence,
        response=response,
        reason=reason.strip(),
    )


def _plain_option(code: str) -> str:
    """Return an option of a list, which shows no Markdown."""
    if code not in CODES:
        return OTHER_TEXT
    of = diagnosis(code)
    return f"{of.mark} {of.name}"


def _draw_outcome(store: "CaseStore", stored: "CaseFile", case: Case) -> None:
    """Draw the fields of an outcome, and save it."""
    from cadlib.cases.records import OTHER, OUTCOME_SOURCES, OutcomeDetails  # noqa: PLC0415

    key = case.view_key
    with st.form(f"outcome-form-{key}", border=False):
        source = st.selectbox("Source", OUTCOME_SOURCES, key=f"outcome-source-{key}")
        code = st.selectbox(
            "Diagnosis",
            (*CODES, OTHER),
            None,
            format_func=_plain_option,
            key=f"outcome-diagnosis-{key}",
            placeholder="Select one",
        )
        note = st.text_input("Note", key=f"outcome-note-{key}", help="Name another diagnosis here.")
        malignant = st.checkbox(
            "Another diagnosis is malignant",
            key=f"outcome-malignant-{key}",
            help="Used only for a diagnosis outside the eight.",
        )
        if not st.form_submit_button("Save outcome"):
            return
    if code is None:
        st.warning("Select a diagnosis first.")
        return
    # The group of one of the eight follows from the diagnosis.
    is_known = code in CODES
    details = OutcomeDetails(
        malignant=diagnosis(code).malignant if is_known else malignant,
        source=source,
        diagnosis=code if is_known else None,
        note=note.strip(),
    )
    with store.write(reader()) as cases:
        cases.add_outcome(stored.lesion, details)
        # Follow-up or consensus may still be overruled by histology.
        if source == "histology":
            cases.set_state(stored.image, "histology known")
    st.rerun()
