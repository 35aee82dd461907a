"""Defines the tables of the case store.

Nothing is overwritten. A thing that can be corrected has two tables: one with its id, and one with
its versions, of which the latest counts. `entry` is the number of the audit log's entry that
recorded a row, so it is also the order in which rows were written.

Migrations change these tables (`migrations/versions`). A test compares both.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Names of indexes and constraints, so that a migration can name them on every database."""
SHORT = 64
"""Characters of a code, a name of a list or a hash."""
NAME = 200
"""Characters of a name."""


class UtcTime(TypeDecorator[datetime]):
    """A moment with its time zone. SQLite has no time zones, so UTC is stored."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Return the moment in UTC; raise ValueError for one without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"Expected a moment with a time zone, but got {value}.")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        """Return the moment with its time zone."""
        if value is None:
            return None
        moment: datetime = value
        if moment.tzinfo is None:
            return moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC)


metadata = MetaData(naming_convention=NAMING)


def _id(of: str | None = None, *, required: bool = True, **options: Any) -> Column[str]:
    """Return a column with an id; `of` is the table whose row it names."""
    name = f"{of.rstrip('s')}_id" if of else "id"
    keys = [ForeignKey(f"{of}.id")] if of else []
    return Column(
        name,
        Uuid(as_uuid=False),
        *keys,
        nullable=not required,
        **options,
    )


def _recorded(**options: Any) -> tuple[Column[int], Column[datetime]]:
    """Return the columns that say when a row was recorded.

    `entry` is the number in the audit log. The time stands in both, because old entries of the log
    may be removed.
    """
    entry = Column("entry", Integer, nullable=False, autoincrement=False, **options)
    return entry, Column("recorded_at", UtcTime, nullable=False)


def _words(name: str, length: int = SHORT, *, required: bool = True) -> Column[str]:
    """Return a column with a short text."""
    return Column(name, String(length), nullable=not required)


audit_log = Table(
    "audit_log",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", UtcTime, nullable=False),
    _words("actor", NAME),
    _words("action"),
    _words("kind"),
    _words("subject", required=False),
    # Canonical JSON, because the hash is of these characters.
    Column("details", Text, nullable=False),
    _words("previous_sha256"),
    _words("sha256"),
    Index(None, "subject"),
)

readers = Table(
    "readers",
    metadata,
    Column("id", String(NAME), primary_key=True),
    *_recorded(),
    _words("name", NAME),
)

reader_settings = Table(
    # What a reader has chosen. The latest row counts.
    "reader_settings",
    metadata,
    Column("reader_id", String(NAME), ForeignKey("readers.id"), primary_key=True),
    *_recorded(primary_key=True),
    Column("blind_first", Boolean, nullable=False),
)

patients = Table(
    "patients",
    metadata,
    _id(primary_key=True),
    *_recorded(),
)

pseudonyms = Table(
    # All that a patient has ever had, so that no two patients share one.
    "pseudonyms",
    metadata,
    Column("pseudonym", String(SHORT), primary_key=True),
    _id("patients", index=True),
    *_recorded(),
)

patient_versions = Table(
    "patient_versions",
    metadata,
    _id("patients", primary_key=True),
    *_recorded(primary_key=True),
    _words("pseudonym"),
    _words("sex", required=False),
    Column("birth_year", Integer),
    Column("note", Text, nullable=False),
)

lesions = Table(
    "lesions",
    metadata,
    _id(primary_key=True),
    _id("patients", index=True),
    *_recorded(),
)

lesion_versions = Table(
    "lesion_versions",
    metadata,
    _id("lesions", primary_key=True),
    *_recorded(primary_key=True),
    _words("label"),
    _words("site", required=False),
    _words("body_view", required=False),
    Column("body_x", Double),
    Column("body_y", Double),
    Column("note", Text, nullable=False),
)

visits = Table(
    "visits",
    metadata,
    _id(primary_key=True),
    _id("patients", index=True),
    *_recorded(),
)

visit_versions = Table(
    "visit_versions",
    metadata,
    _id("visits", primary_key=True),
    *_recorded(primary_key=True),
    Column("day", Date, nullable=False),
    Column("note", Text, nullable=False),
)

images = Table(
    "images",
    metadata,
    _id(primary_key=True),
    *_recorded(),
    # Of the stored file, under which it is found.
    Column("sha256", String(SHORT), nullable=False, index=True),
    # Of the file that was read.
    Column("source_sha256", String(SHORT), nullable=False, index=True),
    _words("source_format"),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("file_width_px", Integer, nullable=False),
    Column("file_height_px", Integer, nullable=False),
    Column("red_blue_swapped", Boolean, nullable=False),
    # JSON: a list of sentences.
    Column("notes", Text, nullable=False),
)

image_places = Table(
    # The lesion and the visit of an image. A correction moves it.
    "image_places",
    metadata,
    _id("images", primary_key=True),
    *_recorded(primary_key=True),
    _id("lesions", index=True),
    _id("visits", index=True),
)

assessments = Table(
    "assessments",
    metadata,
    _id(primary_key=True),
    _id("images"),
    *_recorded(),
    _words("model_name", NAME),
    _words("model_version"),
    _words("model_id", NAME),
    _words("operating_point"),
    Column("threshold", Double, nullable=False),
    _words("action"),
    _words("diagnosis"),
    Column("malignant_probability", Double, nullable=False),
    Column("malignant_low", Double),
    Column("malignant_high", Double),
    Column("borderline", Boolean, nullable=False),
    Column("interpretable", Boolean, nullable=False),
    # The assessment as JSON, with all probabilities.
    Column("content", Text, nullable=False),
    Index(None, "image_id", "entry"),
)

readings = Table(
    "readings",
    metadata,
    _id(primary_key=True),
    _id("images"),
    _id("assessments", required=False, index=True),
    Column("reader_id", String(NAME), ForeignKey("readers.id"), nullable=False),
    *_recorded(),
    _words("stage"),
    _words("diagnosis"),
    _words("management"),
    Column("confidence", Integer, nullable=False),
    _words("response", required=False),
    Column("reason", Text, nullable=False),
    Index(None, "image_id", "entry"),
)

overlay_reviews = Table(
    "overlay_reviews",
    metadata,
    _id(primary_key=True),
    _id("assessments", index=True),
    Column("reader_id", String(NAME), ForeignKey("readers.id"), nullable=False),
    *_recorded(),
    _words("method"),
    _words("diagnosis"),
    _words("verdict"),
    _words("reason", required=False),
    # JSON: the polygon that the reader marked, in shares of width and height.
    Column("region", Text),
    Column("peak_in_region", Boolean),
    Column("iou", Double),
    Column("is_random", Boolean, nullable=False),
    Column("repeats_id", Uuid(as_uuid=False), ForeignKey("overlay_reviews.id")),
)

outcomes = Table(
    "outcomes",
    metadata,
    _id(primary_key=True),
    _id("lesions"),
    *_recorded(),
    _words("diagnosis", required=False),
    Column("malignant", Boolean, nullable=False),
    _words("source"),
    Column("day", Date),
    Column("note", Text, nullable=False),
    Index(None, "lesion_id", "entry"),
)

states = Table(
    # The state of an image in the work list.
    "states",
    metadata,
    _id("images", primary_key=True),
    *_recorded(primary_key=True),
    _words("state"),
)

failed_files = Table(
    # Files that were dropped and could not be read. They belong to no patient.
    "failed_files",
    metadata,
    _id(primary_key=True),
    *_recorded(),
    _words("file_name", NAME),
    Column("reason", Text, nullable=False),
)

failed_assessments = Table(
    # Images that a model could not assess.
    "failed_assessments",
    metadata,
    _id("images", primary_key=True),
    *_recorded(primary_key=True),
    _words("model_id", NAME),
    Column("reason", Text, nullable=False),
)

files_to_remove = Table(
    # Images whose rows are deleted and whose files are not yet.
    "files_to_remove",
    metadata,
    Column("sha256", String(SHORT), primary_key=True),
)
