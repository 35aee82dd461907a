"""Draws the choice whether a case is stored, and stores it.

Nothing is stored until the reader says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import streamlit as st

from cadlib.assessment import Assessment
from cadlib.errors import CadError
from cadlib.images.patient import COARSE_SITES, SEXES, SITES
from cadlib.ui.case_store import (
    case_store,
    reader,
    remember_stored,
    stored_image,
    today,
)
from cadlib.ui.image_views import photograph
from cadlib.ui.models import model
from cadlib.ui.readings import draw_first_reading_fields, readings
from cadlib.ui.session import Case
from cadlib.ui.text import plain

if TYPE_CHECKING:
    from cadlib.cases.records import Lesion, Patient, StoredImage, Visit
    from cadlib.cases.store import CaseStore
    from cadlib.cases.writing import CaseWriter

HIDDEN_HERE = (
    "Blind first is on: the result is shown once you have recorded your reading. The case is "
    "stored with it. Switch the setting off on the Work list page."
)
NOT_STORED = "Not stored: this image is gone when you remove it or close this tab."
PSEUDONYM_HELP = (
    "A code that means nothing outside your clinic, such as P-0001. Do not enter a name or a date "
    "of birth."
)
FIRST_LABEL = "L1"


@dataclass(frozen=True)
class _Entered:
    """What the reader entered about a case."""

    pseudonym: str
    sex: str | None
    birth_year: int | None
    label: str
    site: str | None
    day: date


def storing(case: Case) -> None:
    """Draw what is stored of the case on the page, or what stores it."""
    if case.assessment is None:
        return
    if stored_image(case.key):
        readings(case)
        return
    form = st.expander(
        "Store case",
        icon=":material/save:",
        on_change="rerun",
        key=f"store-{case.view_key}",
    )
    st.caption(NOT_STORED)
    # The store is opened once a reader wants to store something.
    if form.open:
        with form:
            _draw_form(case, case.assessment)


def first_reading(case: Case) -> None:
    """Draw an image without its result, and what records the reader's first reading."""
    if case.assessment is None:
        return
    store = case_store()
    if store is None:
        return
    left, right = st.columns(2)
    with left:
        st.image(photograph(case.assessment.image), width="stretch", alt=case.name)
    with right:
        st.info(HIDDEN_HERE, icon=":material/visibility_off:")
        try:
            _draw_first_reading(store, case, case.assessment)
        except CadError as error:
            st.error(plain(str(error)))


def _draw_first_reading(store: "CaseStore", case: Case, assessment: Assessment) -> None:
    from cadlib.cases import queries  # noqa: PLC0415

    image_id = stored_image(case.key)
    entered = None
    if image_id is None:
        entered = _draw_fields(store, case)
    details = draw_first_reading_fields(case.view_key)
    is_complete = details is not None and (image_id or entered)
    pressed = st.button(
        "Record my reading and show the result",
        key="first-reading",
        type="primary",
        disabled=not is_complete,
    )
    if not pressed or details is None:
        return
    # A reading needs a stored image.
    if entered:
        image_id = _store(store, assessment, entered).id
        remember_stored(case.key, image_id)
    with store.write(reader()) as cases:
        image = queries.image(cases.connection, str(image_id))
        cases.add_reading(image, details)
    st.rerun()


def _draw_form(case: Case, assessment: Assessment) -> None:
    """Draw the fields of a new stored case, and the button."""
    store = case_store()
    if store is None:
        return
    try:
        entered = _draw_fields(store, case)
        pressed = st.button("Store", key="store-now", type="primary", disabled=entered is None)
        if pressed and entered:
            image = _store(store, assessment, entered)
            remember_stored(case.key, image.id)
            st.rerun()
    except CadError as error:
        st.error(plain(str(error)))


def _draw_fields(store: "CaseStore", case: Case) -> _Entered | None:
    """Draw the fields; return what they have, None until the required ones are filled."""
    from cadlib.cases import queries  # noqa: PLC0415

    _draw_other_places(store, case)
    with store.read() as connection:
        patients = {patient.details.pseudonym: patient for patient in queries.patients(connection)}
    pseudonym = st.selectbox(
        "Patient pseudonym",
        list(patients),
        None,
        key=f"pseudonym-{case.view_key}",
        placeholder="Select, or enter a new one",
        accept_new_options=True,
        help=PSEUDONYM_HELP,
    )
    patient = patients.get(pseudonym or "")
    sex = None
    birth_year = None
    # What is known of a stored patient is not asked again.
    if pseudonym and not patient:
        sex, birth_year = _draw_new_patient(f"{case.view_key}-{pseudonym}")
    label, site = _draw_lesion(_lesions_of(store, patient), f"{case.view_key}-{pseudonym}")
    last_day = today()
    day = st.date_input("Visit", last_day, max_value=last_day, key=f"day-{case.view_key}")
    if not pseudonym or not label or not isinstance(day, date):
        return None
    return _Entered(
        pseudonym=pseudonym.strip(),
        sex=sex,
        birth_year=birth_year,
        label=label.strip(),
        site=site,
        day=day,
    )


def _draw_other_places(store: "CaseStore", case: Case) -> None:
    """Say where the image of a case is stored already, so that it is not stored twice unawares."""
    from cadlib.cases import queries  # noqa: PLC0415

    # Only a case with an image can be stored.
    assert case.assessment is not None
    with store.read() as connection:
        places = queries.places_of_source(connection, case.assessment.image.sha256)
    for pseudonym, label in places:
        st.warning(
            f"This image is stored already: patient {plain(pseudonym)}, lesion {plain(label)}."
        )


def _draw_new_patient(key: str) -> tuple[str | None, int | None]:
    """Draw the fields of a new patient; return sex and year of birth.

    `key` differs between patients, so that nothing stays from another one.
    """
    sex = st.selectbox("Sex", SEXES, None, key=f"sex-{key}", placeholder="not set")
    # A date of birth would identify the patient.
    year = st.number_input(
        "Year of birth",
        1900,
        None,
        None,
        key=f"year-{key}",
        placeholder="not set",
    )
    return sex, int(year) if year else None


def _lesions_of(store: "CaseStore", patient: "Patient | None") -> "Sequence[Lesion]":
    """Return the lesions of a patient; a new patient has none."""
    from cadlib.cases import queries  # noqa: PLC0415

    if patient is None:
        return ()
    with store.read() as connection:
        return queries.lesions(connection, patient.id)


def _draw_lesion(lesions: "Sequence[Lesion]", key: str) -> tuple[str | None, str | None]:
    """Draw the fields of the lesion; return its label, and the site of a new one.

    `key` differs between patients.
    """
    labels = [lesion.details.label for lesion in lesions]
    label = st.selectbox(
        "Lesion",
        labels or [FIRST_LABEL],
        0,
        key=f"lesion-{key}",
        accept_new_options=True,
        help="A label among the lesions of this patient. Select one, or enter a new one.",
    )
    # The site of a stored lesion is known.
    if label in labels:
        return label, None
    sites = (*SITES, *COARSE_SITES)
    site = st.selectbox(
        "Anatomical site",
        sites,
        None,
        # A site belongs to the lesion of that label.
        key=f"site-{key}-{label}",
        placeholder="not set",
    )
    return label, site


def _store(store: "CaseStore", assessment: Assessment, entered: _Entered) -> "StoredImage":
    """Store the image and its assessment, in one transaction."""
    file = store.store_file(assessment.image)
    with store.write(reader()) as cases:
        patient = _patient(cases, entered)
        lesion = _lesion(cases, patient, entered)
        visit = _visit(cases, patient, entered.day)
        image = cases.add_image(lesion, visit, file)
        cases.add_assessment(image, assessment, model().record)
    return image


def _patient(cases: "CaseWriter", entered: _Entered) -> "Patient":
    """Return the patient with this pseudonym; add a new one.

    Raise CaseRejected for a former pseudonym of a patient: the reader decides who is meant.
    """
    from cadlib.cases import queries  # noqa: PLC0415
    from cadlib.cases.records import PatientDetails  # noqa: PLC0415

    patient = queries.patient_by_pseudonym(cases.connection, entered.pseudonym)
    if patient and patient.details.pseudonym == entered.pseudonym:
        return patient
    return cases.add_patient(PatientDetails(entered.pseudonym, entered.sex, entered.birth_year))


def _lesion(cases: "CaseWriter", patient: "Patient", entered: _Entered) -> "Lesion":
    """Return the patient's lesion with this label; add a new one."""
    from cadlib.cases import queries  # noqa: PLC0415
    from cadlib.cases.records import LesionDetails  # noqa: PLC0415

    for lesion in queries.lesions(cases.connection, patient.id):
        if lesion.details.label == entered.label:
            return lesion
    return cases.add_lesion(patient, LesionDetails(entered.label, entered.site))


def _visit(cases: "CaseWriter", patient: "Patient", day: date) -> "Visit":
    """Return the patient's visit on a day; add a new one."""
    from cadlib.cases import queries  # noqa: PLC0415
    from cadlib.cases.records import VisitDetails  # noqa: PLC0415

    for visit in queries.visits(cases.connection, patient.id):
        if visit.details.day == day:
            return visit
    return cases.add_visit(patient, VisitDetails(day))
