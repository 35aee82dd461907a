"""Deletes a patient: rows and images, for good.

Only the audit log keeps that it was done, by ids and hashes. Backups are older: their owner has to
delete them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, insert, select, text

from cadlib.cases import audit_log, database, queries, schema
from cadlib.cases.image_store import ImageStore

ERASED = "erase patient"
"""The action in the audit log. Its `entries` are those of the deleted rows."""
_CHUNK = 500
"""Ids in a statement; databases limit their number."""


@dataclass(frozen=True)
class Erased:
    """The number of deleted rows by table, and of images."""

    rows: dict[str, int]
    n_images: int


@dataclass(frozen=True)
class _Ids:
    """The ids in the rows of a patient."""

    patients: list[str]
    lesions: list[str]
    visits: list[str]
    images: list[str]
    assessments: list[str]


_TABLES: tuple[tuple[Table, str, str], ...] = (
    (schema.overlay_reviews, "assessment_id", "assessments"),
    (schema.readings, "image_id", "images"),
    (schema.assessments, "image_id", "images"),
    (schema.states, "image_id", "images"),
    (schema.failed_assessments, "image_id", "images"),
    (schema.image_places, "image_id", "images"),
    # Former places of images that were moved away.
    (schema.image_places, "lesion_id", "lesions"),
    (schema.images, "id", "images"),
    (schema.outcomes, "lesion_id", "lesions"),
    (schema.lesion_versions, "lesion_id", "lesions"),
    (schema.lesions, "id", "lesions"),
    (schema.visit_versions, "visit_id", "visits"),
    (schema.visits, "id", "visits"),
    (schema.patient_versions, "patient_id", "patients"),
    (schema.pseudonyms, "patient_id", "patients"),
    (schema.patients, "id", "patients"),
)
"""Tables with rows of a patient, the column that says whose they are, and its field of _Ids.

Rows that name others are deleted before them.
"""


def erase_patient(connection: Connection, patient_id: str, actor: str) -> Erased:
    """Delete the rows of a patient; `remove_files` then deletes the images.

    Raise CaseMissing if there is no such patient.
    """
    ids = _ids_of_patient(connection, patient_id)
    hashes = _values(connection, schema.images, "sha256", "id", ids.images)
    rows: dict[str, int] = {}
    entries: list[int] = []
    for table, column, field in _TABLES:
        numbers = _delete(connection, table, column, getattr(ids, field))
        # Some tables occur twice.
        rows[table.name] = rows.get(table.name, 0) + len(numbers)
        entries += numbers
    n_images = _mark_files(connection, hashes)
    details = {"rows": rows, "images": n_images, "entries": sorted(entries)}
    audit_log.append(connection, actor, ERASED, schema.patients.name, patient_id, details)
    return Erased(rows, n_images)


def _ids_of_patient(connection: Connection, patient_id: str) -> _Ids:
    """Return the ids in the rows of a patient; raise CaseMissing if there is no such patient."""
    patient = queries.patient(connection, patient_id)
    lesions = _values(connection, schema.lesions, "id", "patient_id", [patient.id])
    visits = _values(connection, schema.visits, "id", "patient_id", [patient.id])
    placed = _values(connection, schema.image_places, "image_id", "lesion_id", lesions)
    # An image that was moved to another patient belongs to that one.
    images = [image for image in placed if _is_in(connection, image, lesions)]
    return _Ids(
        patients=[patient.id],
        lesions=lesions,
        visits=visits,
        images=images,
        assessments=_values(connection, schema.assessments, "id", "image_id", images),
    )


def _is_in(connection: Connection, image_id: str, lesions: Sequence[str]) -> bool:
    """Return whether the current lesion of an image is one of those."""
    return queries.image(connection, image_id).lesion_id in lesions


def _values(
    connection: Connection,
    table: Table,
    wanted: str,
    column: str,
    values: Sequence[str],
) -> list[str]:
    """Return the different values of a column in the rows that have one of `values` in another."""
    result: set[str] = set()
    for some in _chunks(values):
        query = select(table.c[wanted]).where(table.c[column].in_(some))
        result.update(connection.execute(query).scalars())
    return sorted(result)


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for first in range(0, len(values), _CHUNK):
        yield values[first : first + _CHUNK]


def _delete(
    connection: Connection,
    table: Table,
    column: str,
    values: Sequence[str],
) -> list[int]:
    """Delete rows, and return the numbers of the entries that recorded them."""
    entries: list[int] = []
    for some in _chunks(values):
        statement = delete(table).where(table.c[column].in_(some)).returning(table.c.entry)
        entries += connection.execute(statement).scalars()
    return entries


def _mark_files(connection: Connection, hashes: Sequence[str]) -> int:
    """Note which files no image needs any more, and return their number."""
    # Two patients may have the same image: a mistake, or a test of the app.
    still_needed = _values(connection, schema.images, "sha256", "sha256", hashes)
    unneeded = sorted(set(hashes) - set(still_needed))
    table = schema.files_to_remove
    noted = _values(connection, table, "sha256", "sha256", unneeded)
    for sha256 in sorted(set(unneeded) - set(noted)):
        connection.execute(insert(table).values(sha256=sha256))
    return len(unneeded)


def remove_files(engine: Engine, images: ImageStore) -> int:
    """Delete the files that erasures have left, and return their number.

    The files are deleted after the rows were, so that a process that is killed between both leaves
    no row without its file.
    """
    table = schema.files_to_remove
    with database.reading(engine) as connection:
        if connection.execute(select(table.c.sha256).limit(1)).first() is None:
            return 0
    # No image can be added meanwhile.
    with database.writing(engine) as connection:
        hashes = list(connection.execute(select(table.c.sha256)).scalars())
        needed = _values(connection, schema.images, "sha256", "sha256", hashes)
        unneeded = sorted(set(hashes) - set(needed))
        for sha256 in unneeded:
            images.remove(sha256)
        connection.execute(delete(table))
    return len(unneeded)


def compact(engine: Engine) -> None:
    """Overwrite what deleted rows have left in the files of the database."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if engine.dialect.name == "postgresql":
            for table in schema.metadata.sorted_tables:
                connection.execute(text(f"VACUUM {table.name}"))
        else:
            # Deleted rows are zeros already; the log of the last writes may have copies.
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
