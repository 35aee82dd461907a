"""Adds and corrects what a case has, in one transaction.

Each row is written together with its entry in the audit log.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Table, insert, select

from cadlib.assessment import Assessment
from cadlib.cases import audit_log, queries, schema
from cadlib.cases.audit_log import digest
from cadlib.cases.image_store import ImageStore
from cadlib.cases.records import (
    STATES,
    Lesion,
    LesionDetails,
    Outcome,
    OutcomeDetails,
    OverlayReview,
    OverlayReviewDetails,
    Patient,
    PatientDetails,
    Reading,
    ReadingDetails,
    StoredAssessment,
    StoredImage,
    Visit,
    VisitDetails,
)
from cadlib.cases.schema import NAME
from cadlib.cases.stored_file import StoredFile
from cadlib.errors import CaseChanged, CaseRejected
from cadlib.model.record import ModelRecord

Values = Mapping[str, Any]


class CaseWriter:
    """Writes to the store in the transaction of `CaseStore.write`, in the name of `actor`."""

    def __init__(self, connection: Connection, images: ImageStore, actor: str) -> None:
        self.connection = connection
        self._images = images
        self.actor = actor

    def add_reader(self) -> None:
        """Add the actor as a reader. `CaseStore.write` does it when they write first."""
        self._insert(schema.readers, "add reader", {"id": self.actor, "name": self.actor})

    def set_blind_first(self, blind_first: bool) -> None:
        """Set whether the actor records a reading before the result of an image is shown."""
        values = {"reader_id": self.actor, "blind_first": blind_first}
        self._insert(schema.reader_settings, "set blind first", values)

    def add_patient(self, details: PatientDetails) -> Patient:
        """Add a patient; raise CaseRejected if the pseudonym is that of another one."""
        # The row of the patient never changes, so that others can name it.
        patient_id = _new_id()
        self._insert(schema.patients, "add patient", {"id": patient_id})
        return self._add_patient_version(patient_id, "add patient details", details)

    def correct_patient(self, patient: Patient, details: PatientDetails) -> Patient:
        """Replace the details of a patient; raise CaseChanged if somebody else did meanwhile."""
        current = queries.patient(self.connection, patient.id)
        _check_unchanged("patient", patient.entry, current.entry)
        return self._add_patient_version(patient.id, "correct patient", details)

    def _add_patient_version(
        self,
        patient_id: str,
        action: str,
        details: PatientDetails,
    ) -> Patient:
        self._claim_pseudonym(patient_id, details.pseudonym)
        row = self._insert(
            schema.patient_versions,
            action,
            {
                "patient_id": patient_id,
                "pseudonym": details.pseudonym,
                "sex": details.sex,
                "birth_year": details.birth_year,
                "note": details.note,
            },
        )
        return Patient(patient_id, row["entry"], row["recorded_at"], details)

    def _claim_pseudonym(self, patient_id: str, pseudonym: str) -> None:
        """Record that a pseudonym is that of a patient; raise CaseRejected if it is another's."""
        table = schema.pseudonyms
        query = select(table.c.patient_id).where(table.c.pseudonym == pseudonym)
        # Former names count too: an old letter with one must lead to one patient.
        owner = self.connection.execute(query).scalar_one_or_none()
        if owner is None:
            values = {"pseudonym": pseudonym, "patient_id": patient_id}
            self._insert(table, "use pseudonym", values, subject=patient_id)
        elif owner != patient_id:
            raise CaseRejected(
                f"Expected a pseudonym that no other patient has had, but {pseudonym!r} is taken. "
                "Open that patient, or enter another pseudonym."
            )

    def add_lesion(self, patient: Patient, details: LesionDetails) -> Lesion:
        """Add a lesion to a patient."""
        lesion_id = _new_id()
        values = {"id": lesion_id, "patient_id": patient.id}
        self._insert(schema.lesions, "add lesion", values)
        return self._add_lesion_version(lesion_id, patient.id, "add lesion details", details)

    def correct_lesion(self, lesion: Lesion, details: LesionDetails) -> Lesion:
        """Replace the details of a lesion; raise CaseChanged if somebody else did meanwhile."""
        current = queries.lesion(self.connection, lesion.id)
        _check_unchanged("lesion", lesion.entry, current.entry)
        return self._add_lesion_version(lesion.id, lesion.patient_id, "correct lesion", details)

    def _add_lesion_version(
        self,
        lesion_id: str,
        patient_id: str,
        action: str,
        details: LesionDetails,
    ) -> Lesion:
        place = details.place
        row = self._insert(
            schema.lesion_versions,
            action,
            {
                "lesion_id": lesion_id,
                "label": details.label,
                "site": details.site,
                "body_view": place and place.view,
                "body_x": place and float(place.x),
                "body_y": place and float(place.y),
                "note": details.note,
            },
        )
        return Lesion(lesion_id, patient_id, row["entry"], row["recorded_at"], details)

    def add_visit(self, patient: Patient, details: VisitDetails) -> Visit:
        """Add a visit of a patient."""
        visit_id = _new_id()
        values = {"id": visit_id, "patient_id": patient.id}
        self._insert(schema.visits, "add visit", values)
        return self._add_visit_version(visit_id, patient.id, "add visit details", details)

    def correct_visit(self, visit: Visit, details: VisitDetails) -> Visit:
        """Replace the details of a visit; raise CaseChanged if somebody else did meanwhile."""
        current = queries.visit(self.connection, visit.id)
        _check_unchanged("visit", visit.entry, current.entry)
        return self._add_visit_version(visit.id, visit.patient_id, "correct visit", details)

    def _add_visit_version(
        self,
        visit_id: str,
        patient_id: str,
        action: str,
        details: VisitDetails,
    ) -> Visit:
        row = self._insert(
            schema.visit_versions,
            action,
            {"visit_id": visit_id, "day": details.day, "note": details.note},
        )
        return Visit(visit_id, patient_id, row["entry"], row["recorded_at"], details)

    def add_image(self, lesion: Lesion, visit: Visit, file: StoredFile) -> StoredImage:
        """Add an image of a lesion at a visit; `CaseStore.store_file` wrote its file.

        Its state in the work list is "new". Raise CaseRejected for a visit of another patient.
        """
        self._keep_file(file)
        image_id = _new_id()
        source = file.source
        file_width_px, file_height_px = source.file_px
        row = self._insert(
            schema.images,
            "add image",
            {
                "id": image_id,
                "sha256": file.sha256,
                "source_sha256": source.sha256,
                "source_format": source.format,
                "width_px": source.width_px,
                "height_px": source.height_px,
                "file_width_px": file_width_px,
                "file_height_px": file_height_px,
                "red_blue_swapped": source.red_blue_swapped,
                "notes": json.dumps(source.notes, ensure_ascii=False),
            },
            # The input reference that the log of an AI system needs.
            facts={"image_sha256": file.sha256, "source_sha256": source.sha256},
        )
        place = self._place_image(image_id, "place image", lesion, visit)
        self._insert(schema.states, "set state", {"image_id": image_id, "state": STATES[0]})
        return queries.image_of_row(place | row | {"entry": place["entry"]})

    def _keep_file(self, file: StoredFile) -> None:
        """Write the file of an image again if another patient's erasure has removed it."""
        table = schema.files_to_remove
        # An erasure removes the file of a row in this table once no image needs it.
        self.connection.execute(table.delete().where(table.c.sha256 == file.sha256))
        self._images.write(file.data)

    def move_image(self, image: StoredImage, lesion: Lesion, visit: Visit) -> StoredImage:
        """Correct the lesion and the visit of an image.

        Raise CaseChanged if somebody else did meanwhile, and CaseRejected for a visit of another
        patient.
        """
        current = queries.image(self.connection, image.id)
        _check_unchanged("image", image.entry, current.entry)
        place = self._place_image(image.id, "move image", lesion, visit)
        return replace(
            image,
            lesion_id=lesion.id,
            visit_id=visit.id,
            entry=place["entry"],
        )

    def _place_image(
        self,
        image_id: str,
        action: str,
        lesion: Lesion,
        visit: Visit,
    ) -> dict[str, Any]:
        if lesion.patient_id != visit.patient_id:
            raise CaseRejected(
                "Expected a lesion and a visit of one patient, but they are of two. "
                "Select a visit of the lesion's patient."
            )
        return self._insert(
            schema.image_places,
            action,
            {"image_id": image_id, "lesion_id": lesion.id, "visit_id": visit.id},
        )

    def add_assessment(
        self,
        image: StoredImage,
        assessment: Assessment,
        model: ModelRecord,
    ) -> StoredAssessment:
        """Add the assessment of an image.

        Raise CaseRejected for an assessment of another image or by another model.
        """
        _check_assessment(image, assessment, model)
        row = self._insert(
            schema.assessments,
            "assess image",
            {"id": _new_id(), "image_id": image.id, **_assessment_values(assessment, model)},
            facts={
                "image": image.id,
                "image_sha256": image.sha256,
                "model_id": model.model_id,
                "action": assessment.decision.action,
                "malignant_probability": assessment.prediction.malignant_probability,
            },
        )
        return queries.assessment_of_row(row)

    def add_reading(
        self,
        image: StoredImage,
        details: ReadingDetails,
        assessment: StoredAssessment | None = None,
    ) -> Reading:
        """Add the actor's reading of an image, and of the result that the actor saw.

        Raise CaseRejected for a reading after the result without one, and for a reading as if
        before it by a reader who has seen it.
        """
        # A first reading by somebody who knows the result would flatter the reader.
        self._check_stage(image, details, assessment)
        row = self._insert(
            schema.readings,
            "read image",
            {
                "id": _new_id(),
                "image_id": image.id,
                "assessment_id": assessment and assessment.id,
                "reader_id": self.actor,
                "stage": details.stage,
                "diagnosis": details.diagnosis,
                "management": details.management,
                # The slider of a page gives a number of numpy's.
                "confidence": int(details.confidence),
                "response": details.response,
                "reason": details.reason,
            },
            # Whether a person followed the system or decided against it.
            facts={
                "image": image.id,
                "assessment": assessment and assessment.id,
                "stage": details.stage,
                "response": details.response,
            },
        )
        return queries.reading_of_row(row)

    def _check_stage(
        self,
        image: StoredImage,
        details: ReadingDetails,
        assessment: StoredAssessment | None,
    ) -> None:
        if (details.stage == "after") != (assessment is not None):
            raise CaseRejected(
                "Expected the result that was seen for a reading after it, and none for a reading "
                "before it. Record the reading again."
            )
        if assessment is not None and assessment.image_id != image.id:
            raise CaseRejected(
                "Expected the result of this image, but it is that of another. "
                "Open the image again."
            )
        if details.stage == "after":
            return
        readings = queries.readings(self.connection, image.id)
        stages = {reading.details.stage for reading in readings if reading.reader_id == self.actor}
        if "after" in stages or queries.result_was_shown(self.connection, self.actor, image.id):
            raise CaseRejected(
                "Expected a reading before the result, but this reader has seen it. "
                "Record a reading after the result."
            )

    def add_overlay_review(
        self,
        assessment: StoredAssessment,
        details: OverlayReviewDetails,
    ) -> OverlayReview:
        """Add the actor's verdict on a saliency map of an assessment."""
        # JSON, because its number of corners varies.
        region = None
        if details.region is not None:
            region = json.dumps(details.region)
        row = self._insert(
            schema.overlay_reviews,
            "review overlay",
            {
                "id": _new_id(),
                "assessment_id": assessment.id,
                "reader_id": self.actor,
                "method": details.method,
                "diagnosis": details.diagnosis,
                "verdict": details.verdict,
                "reason": details.reason,
                "region": region,
                "peak_in_region": details.peak_in_region,
                "iou": details.iou,
                "is_random": details.is_random,
                "repeats_id": details.repeats_id,
            },
            facts={"assessment": assessment.id, "verdict": details.verdict},
        )
        return queries.overlay_review_of_row(row)

    def add_outcome(self, lesion: Lesion, details: OutcomeDetails) -> Outcome:
        """Add what a lesion turned out to be. The latest outcome of a lesion counts."""
        row = self._insert(
            schema.outcomes,
            "add outcome",
            {
                "id": _new_id(),
                "lesion_id": lesion.id,
                "diagnosis": details.diagnosis,
                "malignant": details.malignant,
                "source": details.source,
                "day": details.day,
                "note": details.note,
            },
        )
        return queries.outcome_of_row(row)

    def set_state(self, image: StoredImage, state: str) -> None:
        """Set the state of an image in the work list; raise CaseRejected for an unknown one."""
        if state not in STATES:
            expected = ", ".join(STATES)
            raise CaseRejected(
                f"Expected a state of {expected}, but got {state!r}. Select one of them."
            )
        values = {"image_id": image.id, "state": state}
        self._insert(schema.states, "set state", values)

    def add_failed_file(self, file_name: str, reason: str) -> None:
        """Record that a file could not be read, and why."""
        values = {"id": _new_id(), "file_name": file_name[:NAME], "reason": reason}
        self._insert(schema.failed_files, "reject file", values)

    def add_failed_assessment(self, image: StoredImage, model_id: str, reason: str) -> None:
        """Record that a model could not assess an image, and why."""
        values = {"image_id": image.id, "model_id": model_id, "reason": reason}
        self._insert(schema.failed_assessments, "fail to assess", values)

    def log_result_shown(self, image: StoredImage) -> None:
        """Record that the actor sees the result of an image."""
        self.log(queries.RESULT_SHOWN, schema.images.name, image.id)

    def log(self, action: str, kind: str, subject: str | None, **facts: Any) -> None:
        """Record what changes no row, such as a view of a case or an export."""
        audit_log.append(self.connection, self.actor, action, kind, subject, facts)

    def _insert(
        self,
        table: Table,
        action: str,
        values: Values,
        *,
        subject: str | None = None,
        facts: Values | None = None,
    ) -> dict[str, Any]:
        """Write a row with its entry in the audit log, and return the row.

        `subject` is what the entry is about: the row, or the thing whose version it is.
        """
        # The first column is the id.
        about = subject or str(next(iter(values.values())))
        number = audit_log.head(self.connection).number + 1
        # All columns, as a query returns them: the hash is of these.
        row: dict[str, Any] = dict.fromkeys(table.columns.keys())
        row |= values
        row |= {"entry": number, "recorded_at": audit_log.now()}
        # A row that is changed later no longer has this hash.
        details = {**(facts or {}), "row_sha256": digest(row)}
        audit_log.append(self.connection, self.actor, action, table.name, about, details)
        self.connection.execute(insert(table).values(row))
        return row


def _check_assessment(image: StoredImage, assessment: Assessment, model: ModelRecord) -> None:
    """Raise CaseRejected for an assessment of another image or by another model."""
    assessed = (assessment.image.sha256, assessment.image.red_blue_swapped)
    if assessed != (image.source_sha256, image.red_blue_swapped):
        raise CaseRejected(
            "Expected the assessment of this image, but it is that of another. "
            "Assess this image again."
        )
    by = assessment.prediction.model_id
    if by != model.model_id:
        raise CaseRejected(
            f"Expected an assessment by {model.model_id}, but it is by {by}. "
            "Assess the image again."
        )


def _assessment_values(assessment: Assessment, model: ModelRecord) -> dict[str, Any]:
    """Return the columns of an assessment."""
    prediction = assessment.prediction
    spread = prediction.member_range
    low, high = spread or (None, None)
    point = assessment.decision.operating_point
    top, _ = prediction.ranking()[0]
    return {
        "model_name": model.name,
        "model_version": model.version,
        "model_id": model.model_id,
        "operating_point": point.name,
        "threshold": point.threshold,
        "action": assessment.decision.action,
        "diagnosis": top,
        "malignant_probability": prediction.malignant_probability,
        "malignant_low": low,
        "malignant_high": high,
        "borderline": assessment.borderline,
        "interpretable": assessment.answerable,
        # The columns above are for lists; an audit reads the whole assessment.
        "content": audit_log.canonical(assessment.to_json()),
    }


def _new_id() -> str:
    return str(uuid4())


def _check_unchanged(what: str, before: int, current: int) -> None:
    """Raise CaseChanged if there is a later version than the one that was shown."""
    if before != current:
        raise CaseChanged(
            f"Expected the {what} as it was shown, but somebody changed it meanwhile. "
            "Open it again and repeat the change."
        )
