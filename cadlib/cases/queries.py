"""Reads what the store has, as of now."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, func, select

from cadlib.cases import schema
from cadlib.cases.records import (
    BodyPlace,
    CaseFile,
    FailedFile,
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
from cadlib.errors import CaseMissing

Row = Mapping[str, Any]
RESULT_SHOWN = "show result"
"""The action in the audit log when a reader sees the result of an image."""


def patients(connection: Connection) -> list[Patient]:
    """Return all patients, by pseudonym."""
    query = _latest(schema.patient_versions, "patient_id")
    table = schema.patient_versions
    rows = _rows(connection, query.order_by(table.c.pseudonym))
    return [patient_of_row(row) for row in rows]


def patient(connection: Connection, patient_id: str) -> Patient:
    """Return a patient; raise CaseMissing if there is none with this id."""
    table = schema.patient_versions
    query = _latest(table, "patient_id").where(table.c.patient_id == patient_id)
    return patient_of_row(_one(connection, query, "patient"))


def patient_by_pseudonym(connection: Connection, pseudonym: str) -> Patient | None:
    """Return the patient who has, or had, a pseudonym; None if there is none."""
    table = schema.pseudonyms
    query = select(table.c.patient_id).where(table.c.pseudonym == pseudonym)
    patient_id = connection.execute(query).scalar_one_or_none()
    # A page asks while somebody types, so no such patient is no error.
    if patient_id is None:
        return None
    return patient(connection, patient_id)


def lesions(connection: Connection, patient_id: str) -> list[Lesion]:
    """Return the lesions of a patient, by label."""
    query = _lesions().where(schema.lesions.c.patient_id == patient_id)
    rows = _rows(connection, query.order_by(schema.lesion_versions.c.label))
    return [lesion_of_row(row) for row in rows]


def lesion(connection: Connection, lesion_id: str) -> Lesion:
    """Return a lesion; raise CaseMissing if there is none with this id."""
    query = _lesions().where(schema.lesions.c.id == lesion_id)
    return lesion_of_row(_one(connection, query, "lesion"))


def visits(connection: Connection, patient_id: str) -> list[Visit]:
    """Return the visits of a patient, the earliest first."""
    query = _visits().where(schema.visits.c.patient_id == patient_id)
    rows = _rows(connection, query.order_by(schema.visit_versions.c.day))
    return [visit_of_row(row) for row in rows]


def visit(connection: Connection, visit_id: str) -> Visit:
    """Return a visit; raise CaseMissing if there is none with this id."""
    query = _visits().where(schema.visits.c.id == visit_id)
    return visit_of_row(_one(connection, query, "visit"))


def images(connection: Connection, lesion_id: str) -> list[StoredImage]:
    """Return the images of a lesion, in the order in which they were added."""
    query = _images().where(schema.image_places.c.lesion_id == lesion_id)
    rows = _rows(connection, query.order_by(schema.images.c.entry))
    return [image_of_row(row) for row in rows]


def image(connection: Connection, image_id: str) -> StoredImage:
    """Return an image; raise CaseMissing if there is none with this id."""
    query = _images().where(schema.images.c.id == image_id)
    return image_of_row(_one(connection, query, "image"))


def assessments(connection: Connection, image_id: str) -> list[StoredAssessment]:
    """Return the assessments of an image, the earliest first."""
    rows = _in_order(connection, schema.assessments, "image_id", image_id)
    return [assessment_of_row(row) for row in rows]


def readings(connection: Connection, image_id: str) -> list[Reading]:
    """Return the readings of an image, the earliest first."""
    rows = _in_order(connection, schema.readings, "image_id", image_id)
    return [reading_of_row(row) for row in rows]


def outcomes(connection: Connection, lesion_id: str) -> list[Outcome]:
    """Return the outcomes of a lesion, the earliest first; the last one counts."""
    rows = _in_order(connection, schema.outcomes, "lesion_id", lesion_id)
    return [outcome_of_row(row) for row in rows]


def overlay_reviews(
    connection: Connection,
    reader_id: str | None = None,
) -> list[OverlayReview]:
    """Return the reviews of saliency maps by a reader, or by all, the earliest first."""
    table = schema.overlay_reviews
    query = select(table).order_by(table.c.entry)
    if reader_id is not None:
        query = query.where(table.c.reader_id == reader_id)
    return [overlay_review_of_row(row) for row in _rows(connection, query)]


def case_file(connection: Connection, image_id: str) -> CaseFile:
    """Return everything that is stored about an image; raise CaseMissing if it is not there."""
    of_image = image(connection, image_id)
    of_lesion = lesion(connection, of_image.lesion_id)
    return CaseFile(
        patient=patient(connection, of_lesion.patient_id),
        lesion=of_lesion,
        visit=visit(connection, of_image.visit_id),
        image=of_image,
        state=state(connection, image_id),
        assessments=tuple(assessments(connection, image_id)),
        readings=tuple(readings(connection, image_id)),
        outcomes=tuple(outcomes(connection, of_lesion.id)),
    )


def places_of_source(connection: Connection, source_sha256: str) -> list[tuple[str, str]]:
    """Return pseudonym and label of each lesion that has an image of a file, by its SHA-256."""
    query = _images().where(schema.images.c.source_sha256 == source_sha256)
    places = []
    for row in _rows(connection, query):
        of_lesion = lesion(connection, row["lesion_id"])
        of_patient = patient(connection, of_lesion.patient_id)
        places.append((of_patient.details.pseudonym, of_lesion.details.label))
    return places


def blind_first(connection: Connection, reader_id: str) -> bool:
    """Return whether a reader records a reading before the result of an image is shown."""
    table = schema.reader_settings
    query = _latest(table, "reader_id").where(table.c.reader_id == reader_id)
    rows = _rows(connection, query)
    # Nobody has chosen it at first.
    return bool(rows and rows[0]["blind_first"])


def images_known_to(
    connection: Connection,
    reader_id: str,
    image_ids: Sequence[str],
) -> set[str]:
    """Return those of the images that a reader has read, or whose result the reader has seen."""
    table = schema.readings
    is_read = table.c.reader_id == reader_id, table.c.image_id.in_(image_ids)
    read = connection.execute(select(table.c.image_id).where(*is_read)).scalars()
    return {*read, *_shown_to(connection, reader_id, image_ids)}


def result_was_shown(connection: Connection, reader_id: str, image_id: str) -> bool:
    """Return whether a reader has seen the result of an image."""
    return image_id in _shown_to(connection, reader_id, [image_id])


def _shown_to(connection: Connection, reader_id: str, image_ids: Sequence[str]) -> set[str]:
    log = schema.audit_log
    is_shown = log.c.subject.in_(image_ids), log.c.actor == reader_id, log.c.action == RESULT_SHOWN
    return set(connection.execute(select(log.c.subject).where(*is_shown)).scalars())


def failed_files(connection: Connection) -> list[FailedFile]:
    """Return the files that could not be read, the latest first."""
    table = schema.failed_files
    query = select(table).order_by(table.c.entry.desc())
    return [FailedFile(**row) for row in _rows(connection, query)]


def state(connection: Connection, image_id: str) -> str:
    """Return the state of an image in the work list."""
    table = schema.states
    query = _latest(table, "image_id").where(table.c.image_id == image_id)
    return str(_one(connection, query, "image")["state"])


def _latest(table: Table, key: str) -> Select[Any]:
    """Return a query for the latest version of each thing of a table; `key` is its id."""
    # Entries are numbered in the order of writing, so the highest is the latest.
    newer = table.alias()
    is_of_same = newer.c[key] == table.c[key]
    last = select(func.max(newer.c.entry)).where(is_of_same).scalar_subquery()
    return select(table).where(table.c.entry == last)


def _lesions() -> Select[Any]:
    versions = schema.lesion_versions
    query = _latest(versions, "lesion_id").add_columns(schema.lesions.c.patient_id)
    return query.join(schema.lesions, schema.lesions.c.id == versions.c.lesion_id)


def _visits() -> Select[Any]:
    versions = schema.visit_versions
    query = _latest(versions, "visit_id").add_columns(schema.visits.c.patient_id)
    return query.join(schema.visits, schema.visits.c.id == versions.c.visit_id)


def _images() -> Select[Any]:
    """Return a query for images with their latest places; the time is that of the image."""
    places = schema.image_places
    table = schema.images
    about = [column for column in table.c if column.name not in ("id", "entry")]
    of_place = [column for column in places.c if column.name != "recorded_at"]
    query = _latest(places, "image_id").join(table, table.c.id == places.c.image_id)
    return query.with_only_columns(*of_place, *about)


def _in_order(
    connection: Connection,
    table: Table,
    column: str,
    value: str,
) -> list[dict[str, Any]]:
    """Return the rows of a table that have a value in a column, the earliest first."""
    query = select(table).where(table.c[column] == value).order_by(table.c.entry)
    return _rows(connection, query)


def _rows(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    return [row._asdict() for row in connection.execute(query)]


def _one(connection: Connection, query: Select[Any], what: str) -> Row:
    """Return the only row of a query; raise CaseMissing if it has none."""
    rows = _rows(connection, query)
    if not rows:
        raise CaseMissing(
            f"Expected the {what} to be in the store, but it is not. It may have been erased. "
            "Open the list again."
        )
    [row] = rows
    return row


def patient_of_row(row: Row) -> Patient:
    """Return the patient of a row of `patient_versions`."""
    details = PatientDetails(
        pseudonym=row["pseudonym"],
        sex=row["sex"],
        birth_year=row["birth_year"],
        note=row["note"],
    )
    return Patient(row["patient_id"], row["entry"], row["recorded_at"], details)


def lesion_of_row(row: Row) -> Lesion:
    """Return the lesion of a row of `lesion_versions` with its patient."""
    place = None
    if row["body_view"] is not None:
        place = BodyPlace(row["body_view"], row["body_x"], row["body_y"])
    details = LesionDetails(
        label=row["label"],
        site=row["site"],
        place=place,
        note=row["note"],
    )
    return Lesion(
        id=row["lesion_id"],
        patient_id=row["patient_id"],
        entry=row["entry"],
        recorded_at=row["recorded_at"],
        details=details,
    )


def visit_of_row(row: Row) -> Visit:
    """Return the visit of a row of `visit_versions` with its patient."""
    return Visit(
        id=row["visit_id"],
        patient_id=row["patient_id"],
        entry=row["entry"],
        recorded_at=row["recorded_at"],
        details=VisitDetails(row["day"], row["note"]),
    )


def image_of_row(row: Row) -> StoredImage:
    """Return the image of a row of `images` with its place."""
    return StoredImage(
        id=row["image_id"],
        lesion_id=row["lesion_id"],
        visit_id=row["visit_id"],
        entry=row["entry"],
        recorded_at=row["recorded_at"],
        sha256=row["sha256"],
        source_sha256=row["source_sha256"],
        source_format=row["source_format"],
        width_px=row["width_px"],
        height_px=row["height_px"],
        file_px=(row["file_width_px"], row["file_height_px"]),
        red_blue_swapped=row["red_blue_swapped"],
        notes=tuple(json.loads(row["notes"])),
    )


def assessment_of_row(row: Row) -> StoredAssessment:
    """Return the assessment of a row of `assessments`."""
    values = dict(row)
    values["content"] = json.loads(values["content"])
    return StoredAssessment(**values)


def reading_of_row(row: Row) -> Reading:
    """Return the reading of a row of `readings`."""
    details = ReadingDetails(
        stage=row["stage"],
        diagnosis=row["diagnosis"],
        management=row["management"],
        confidence=row["confidence"],
        response=row["response"],
        reason=row["reason"],
    )
    return Reading(
        id=row["id"],
        image_id=row["image_id"],
        assessment_id=row["assessment_id"],
        reader_id=row["reader_id"],
        entry=row["entry"],
        recorded_at=row["recorded_at"],
        details=details,
    )


def overlay_review_of_row(row: Row) -> OverlayReview:
    """Return the review of a row of `overlay_reviews`."""
    region = None
    if row["region"] is not None:
        corners = json.loads(row["region"])
        region = tuple((x, y) for x, y in corners)
    details = OverlayReviewDetails(
        method=row["method"],
        diagnosis=row["diagnosis"],
        verdict=row["verdict"],
        reason=row["reason"],
        region=region,
        peak_in_region=row["peak_in_region"],
        iou=row["iou"],
        is_random=row["is_random"],
        repeats_id=row["repeats_id"],
    )
    return OverlayReview(
        id=row["id"],
        assessment_id=row["assessment_id"],
        reader_id=row["reader_id"],
        entry=row["entry"],
        recorded_at=row["recorded_at"],
        details=details,
    )


def outcome_of_row(row: Row) -> Outcome:
    """Return the outcome of a row of `outcomes`."""
    details = OutcomeDetails(
        malignant=row["malignant"],
        source=row["source"],
        diagnosis=row["diagnosis"],
        day=row["day"],
        note=row["note"],
    )
    return Outcome(
        id=row["id"],
        lesion_id=row["lesion_id"],
        entry=row["entry"],
        recorded_at=row["recorded_at"],
        details=details,
    )
