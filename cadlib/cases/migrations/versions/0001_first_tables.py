"""Creates the first tables of the case store."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create all tables; those that name others come after them."""
    _create_audit_log()
    _create_files_to_remove()
    _create_images()
    _create_patients()
    _create_readers()
    _create_assessments()
    _create_lesions()
    _create_patient_versions()
    _create_pseudonyms()
    _create_states()
    _create_visits()
    _create_image_places()
    _create_lesion_versions()
    _create_outcomes()
    _create_overlay_reviews()
    _create_readings()
    _create_visit_versions()


def _id(name: str, *, required: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.Uuid(), nullable=not required)


def _text(name: str, length: int = 64, *, required: bool = True) -> sa.Column[Any]:
    return sa.Column(name, sa.String(length=length), nullable=not required)


def _recorded() -> tuple[sa.Column[Any], sa.Column[Any]]:
    entry = sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False)
    return entry, sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False)


def _create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        _text("actor", 200),
        _text("action"),
        _text("kind"),
        _text("subject", required=False),
        sa.Column("details", sa.Text(), nullable=False),
        _text("previous_sha256"),
        _text("sha256"),
        sa.PrimaryKeyConstraint("number", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_subject", "audit_log", ["subject"])


def _create_files_to_remove() -> None:
    op.create_table(
        "files_to_remove",
        _text("sha256"),
        sa.PrimaryKeyConstraint("sha256", name="pk_files_to_remove"),
    )


def _create_images() -> None:
    op.create_table(
        "images",
        _id("id"),
        *_recorded(),
        _text("sha256"),
        _text("source_sha256"),
        _text("source_format"),
        sa.Column("width_px", sa.Integer(), nullable=False),
        sa.Column("height_px", sa.Integer(), nullable=False),
        sa.Column("file_width_px", sa.Integer(), nullable=False),
        sa.Column("file_height_px", sa.Integer(), nullable=False),
        sa.Column("red_blue_swapped", sa.Boolean(), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
    )
    op.create_index("ix_images_sha256", "images", ["sha256"])
    op.create_index("ix_images_source_sha256", "images", ["source_sha256"])


def _create_patients() -> None:
    op.create_table(
        "patients", _id("id"), *_recorded(), sa.PrimaryKeyConstraint("id", name="pk_patients")
    )


def _create_readers() -> None:
    op.create_table(
        "readers",
        _text("id", 200),
        *_recorded(),
        _text("name", 200),
        sa.PrimaryKeyConstraint("id", name="pk_readers"),
    )


def _create_assessments() -> None:
    op.create_table(
        "assessments",
        _id("id"),
        _id("image_id"),
        *_recorded(),
        _text("model_name", 200),
        _text("model_version"),
        _text("model_id", 200),
        _text("operating_point"),
        sa.Column("threshold", sa.Double(), nullable=False),
        _text("action"),
        _text("diagnosis"),
        sa.Column("malignant_probability", sa.Double(), nullable=False),
        sa.Column("malignant_low", sa.Double(), nullable=True),
        sa.Column("malignant_high", sa.Double(), nullable=True),
        sa.Column("borderline", sa.Boolean(), nullable=False),
        sa.Column("interpretable", sa.Boolean(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_assessments_image_id_images"),
        sa.PrimaryKeyConstraint("id", name="pk_assessments"),
    )
    op.create_index("ix_assessments_image_id_entry", "assessments", ["image_id", "entry"])


def _create_lesions() -> None:
    op.create_table(
        "lesions",
        _id("id"),
        _id("patient_id"),
        *_recorded(),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patients.id"], name="fk_lesions_patient_id_patients"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_lesions"),
    )
    op.create_index("ix_lesions_patient_id", "lesions", ["patient_id"])


def _create_patient_versions() -> None:
    op.create_table(
        "patient_versions",
        _id("patient_id"),
        *_recorded(),
        _text("pseudonym"),
        _text("sex", required=False),
        sa.Column("birth_year", sa.Integer(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patients.id"], name="fk_patient_versions_patient_id_patients"
        ),
        sa.PrimaryKeyConstraint("patient_id", "entry", name="pk_patient_versions"),
    )


def _create_pseudonyms() -> None:
    op.create_table(
        "pseudonyms",
        _text("pseudonym"),
        _id("patient_id"),
        *_recorded(),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patients.id"], name="fk_pseudonyms_patient_id_patients"
        ),
        sa.PrimaryKeyConstraint("pseudonym", name="pk_pseudonyms"),
    )
    op.create_index("ix_pseudonyms_patient_id", "pseudonyms", ["patient_id"])


def _create_states() -> None:
    op.create_table(
        "states",
        _id("image_id"),
        *_recorded(),
        _text("state"),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_states_image_id_images"),
        sa.PrimaryKeyConstraint("image_id", "entry", name="pk_states"),
    )


def _create_visits() -> None:
    op.create_table(
        "visits",
        _id("id"),
        _id("patient_id"),
        *_recorded(),
        sa.ForeignKeyConstraint(
            ["patient_id"], ["patients.id"], name="fk_visits_patient_id_patients"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_visits"),
    )
    op.create_index("ix_visits_patient_id", "visits", ["patient_id"])


def _create_image_places() -> None:
    op.create_table(
        "image_places",
        _id("image_id"),
        *_recorded(),
        _id("lesion_id"),
        _id("visit_id"),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_image_places_image_id_images"
        ),
        sa.ForeignKeyConstraint(
            ["lesion_id"], ["lesions.id"], name="fk_image_places_lesion_id_lesions"
        ),
        sa.ForeignKeyConstraint(
            ["visit_id"], ["visits.id"], name="fk_image_places_visit_id_visits"
        ),
        sa.PrimaryKeyConstraint("image_id", "entry", name="pk_image_places"),
    )
    op.create_index("ix_image_places_lesion_id", "image_places", ["lesion_id"])
    op.create_index("ix_image_places_visit_id", "image_places", ["visit_id"])


def _create_lesion_versions() -> None:
    op.create_table(
        "lesion_versions",
        _id("lesion_id"),
        *_recorded(),
        _text("label"),
        _text("site", required=False),
        _text("body_view", required=False),
        sa.Column("body_x", sa.Double(), nullable=True),
        sa.Column("body_y", sa.Double(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["lesion_id"], ["lesions.id"], name="fk_lesion_versions_lesion_id_lesions"
        ),
        sa.PrimaryKeyConstraint("lesion_id", "entry", name="pk_lesion_versions"),
    )


def _create_outcomes() -> None:
    op.create_table(
        "outcomes",
        _id("id"),
        _id("lesion_id"),
        *_recorded(),
        _text("diagnosis", required=False),
        sa.Column("malignant", sa.Boolean(), nullable=False),
        _text("source"),
        sa.Column("day", sa.Date(), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["lesion_id"], ["lesions.id"], name="fk_outcomes_lesion_id_lesions"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outcomes"),
    )
    op.create_index("ix_outcomes_lesion_id_entry", "outcomes", ["lesion_id", "entry"])


def _create_overlay_reviews() -> None:
    op.create_table(
        "overlay_reviews",
        _id("id"),
        _id("assessment_id"),
        _text("reader_id", 200),
        *_recorded(),
        _text("method"),
        _text("diagnosis"),
        _text("verdict"),
        _text("reason", required=False),
        sa.Column("region", sa.Text(), nullable=True),
        sa.Column("peak_in_region", sa.Boolean(), nullable=True),
        sa.Column("iou", sa.Double(), nullable=True),
        sa.Column("is_random", sa.Boolean(), nullable=False),
        _id("repeats_id", required=False),
        sa.ForeignKeyConstraint(
            ["assessment_id"],
            ["assessments.id"],
            name="fk_overlay_reviews_assessment_id_assessments",
        ),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["readers.id"], name="fk_overlay_reviews_reader_id_readers"
        ),
        sa.ForeignKeyConstraint(
            ["repeats_id"],
            ["overlay_reviews.id"],
            name="fk_overlay_reviews_repeats_id_overlay_reviews",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_overlay_reviews"),
    )
    op.create_index("ix_overlay_reviews_assessment_id", "overlay_reviews", ["assessment_id"])


def _create_readings() -> None:
    op.create_table(
        "readings",
        _id("id"),
        _id("image_id"),
        _id("assessment_id", required=False),
        _text("reader_id", 200),
        *_recorded(),
        _text("stage"),
        _text("diagnosis"),
        _text("management"),
        sa.Column("confidence", sa.Integer(), nullable=False),
        _text("response", required=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["assessment_id"], ["assessments.id"], name="fk_readings_assessment_id_assessments"
        ),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_readings_image_id_images"),
        sa.ForeignKeyConstraint(
            ["reader_id"], ["readers.id"], name="fk_readings_reader_id_readers"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_readings"),
    )
    op.create_index("ix_readings_assessment_id", "readings", ["assessment_id"])
    op.create_index("ix_readings_image_id_entry", "readings", ["image_id", "entry"])


def _create_visit_versions() -> None:
    op.create_table(
        "visit_versions",
        _id("visit_id"),
        *_recorded(),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["visit_id"], ["visits.id"], name="fk_visit_versions_visit_id_visits"
        ),
        sa.PrimaryKeyConstraint("visit_id", "entry", name="pk_visit_versions"),
    )
