"""Assesses stored images that no current assessment has, while readers go on.

What is done is in the store, so an interruption loses one image's work at most, and the next start
goes on with the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, exists, select

from cadlib.assessment import assess
from cadlib.cases import queries, schema
from cadlib.cases.store import CaseStore
from cadlib.errors import CadError, CaseMissing
from cadlib.model.model import Model
from cadlib.progress import Progress, no_progress

ACTOR = "background"
"""Who assesses, in the audit log."""
ASSESSING = "assessing images"
"""What `progress` is called with."""


def waiting(connection: Connection, model_id: str) -> list[str]:
    """Return the ids of images that a model has neither assessed nor failed on, oldest first."""
    table = schema.images
    assessed = _has(schema.assessments, model_id)
    failed = _has(schema.failed_assessments, model_id)
    query = select(table.c.id).where(~assessed, ~failed).order_by(table.c.entry)
    return list(connection.execute(query).scalars())


@dataclass(frozen=True)
class FailedAssessment:
    """An image that a model could not assess: the patient's pseudonym, and the latest reason."""

    image_id: str
    pseudonym: str
    reason: str


def failed(connection: Connection, model_id: str) -> list[FailedAssessment]:
    """Return the images that a model failed on and has not assessed since, oldest first."""
    images = schema.images
    failures = schema.failed_assessments
    assessed = _has(schema.assessments, model_id)
    query = (
        select(failures.c.image_id, failures.c.reason)
        .join(images, images.c.id == failures.c.image_id)
        .where(failures.c.model_id == model_id, ~assessed)
        .order_by(failures.c.entry)
    )
    # The last reason of an image replaces those before it.
    reasons: dict[str, str] = {}
    for row in connection.execute(query):
        reasons[row.image_id] = row.reason
    result = []
    for image_id, reason in reasons.items():
        patient = queries.case_file(connection, image_id).patient
        result.append(FailedAssessment(image_id, patient.details.pseudonym, reason))
    return result


def _has(table: Table, model_id: str) -> ColumnElement[bool]:
    """Return the condition that a table has a row of an image and a model."""
    is_of_image = table.c.image_id == schema.images.c.id
    return exists().where(is_of_image, table.c.model_id == model_id)


def assess_images(
    store: CaseStore,
    model: Model,
    operating_point: str,
    image_ids: Sequence[str],
    progress: Progress = no_progress,
) -> int:
    """Assess stored images and save each result; return how many have one.

    An image that fails is recorded with its reason. Raise CaseStoreFailed where the database fails.
    """
    n_assessed = 0
    for number, image_id in enumerate(image_ids, start=1):
        n_assessed += _assess(store, model, operating_point, image_id)
        progress(ASSESSING, number, len(image_ids))
    return n_assessed


def _assess(store: CaseStore, model: Model, operating_point: str, image_id: str) -> bool:
    """Assess one image; return whether it has a result now."""
    with store.read() as connection:
        try:
            image = queries.image(connection, image_id)
        except CaseMissing:
            # Its patient was erased meanwhile.
            return False
    # Outside any transaction: it takes longer than writers may wait.
    try:
        picture = store.lesion_image(image)
        assessment = assess(model, picture, operating_point, with_heatmap=False)
    except CadError as error:
        with store.write(ACTOR) as cases:
            cases.add_failed_assessment(image, model.record.model_id, str(error))
        return False
    try:
        with store.write(ACTOR) as cases:
            cases.add_assessment(image, assessment, model.record)
    except CaseMissing:
        # Erased while the model ran.
        return False
    return True
