"""Writes example cases into a store."""

from dataclasses import dataclass
from datetime import date

from cadlib.assessment import Assessment
from cadlib.cases.records import (
    Lesion,
    LesionDetails,
    OutcomeDetails,
    Patient,
    PatientDetails,
    ReadingDetails,
    StoredAssessment,
    StoredImage,
    Visit,
    VisitDetails,
)
from cadlib.cases.store import CaseStore
from cadlib.images import LesionImage
from cadlib.model.model import Model

DAY = date(2026, 11, 30)
FIRST_READING = ReadingDetails("before", "NV", "monitor", 3)
OVERRIDE = ReadingDetails(
    stage="after",
    diagnosis="MEL",
    management="biopsy",
    confidence=4,
    response="overrides",
    reason="Growth since the last visit.",
)
HISTOLOGY = OutcomeDetails(True, "histology", "MEL", DAY)


@dataclass(frozen=True)
class Case:
    """A patient with one lesion, one visit and one image."""

    patient: Patient
    lesion: Lesion
    visit: Visit
    image: StoredImage


def add_case(
    store: CaseStore,
    pseudonym: str,
    image: LesionImage,
    actor: str = "local",
) -> Case:
    """Add a patient with one image, in one transaction."""
    file = store.store_file(image)
    with store.write(actor) as cases:
        patient = cases.add_patient(PatientDetails(pseudonym, "female", 1970))
        lesion = cases.add_lesion(patient, LesionDetails("L1", "posterior torso"))
        visit = cases.add_visit(patient, VisitDetails(DAY))
        stored = cases.add_image(lesion, visit, file)
    return Case(patient, lesion, visit, stored)


def add_readings(
    store: CaseStore,
    case: Case,
    assessment: Assessment,
    model: Model,
) -> StoredAssessment:
    """Add an assessment, a reading before and after it, and the outcome of a case."""
    with store.write() as cases:
        stored = cases.add_assessment(case.image, assessment, model.record)
        cases.add_reading(case.image, FIRST_READING)
        cases.add_reading(case.image, OVERRIDE, stored)
        cases.add_outcome(case.lesion, HISTOLOGY)
        cases.set_state(case.image, "histology known")
    return stored
