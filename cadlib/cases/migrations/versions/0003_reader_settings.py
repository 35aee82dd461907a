"""Adds the settings of readers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "reader_settings",
        sa.Column("reader_id", sa.String(length=200), nullable=False),
        sa.Column("entry", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("blind_first", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reader_id"],
            ["readers.id"],
            name="fk_reader_settings_reader_id_readers",
        ),
        sa.PrimaryKeyConstraint("reader_id", "entry", name="pk_reader_settings"),
    )
