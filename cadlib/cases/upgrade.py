"""Upgrades the tables of a case store."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from cadlib.cases import database
from cadlib.errors import CaseStoreFailed

NEWEST = "0003"
"""The version of the schema in `schema.py`: the last file of `migrations/versions`."""
_MIGRATIONS = Path(__file__).with_name("migrations")
_VERSION_TABLE = "alembic_version"


def upgrade(engine: Engine) -> None:
    """Create the tables of a new store, or change those of an older one.

    Raise CaseStoreFailed for the store of a newer version of cadlib, and where the database fails;
    the store is then as before.
    """
    with database.reading(engine) as connection:
        version = schema_version(connection)
    if version == NEWEST:
        return
    with database.writing(engine) as connection:
        # Another process may have done it while this one waited for the lock.
        version = schema_version(connection)
        if version != NEWEST:
            _check_known(version)
            run_migrations(connection, NEWEST)


def schema_version(connection: Connection) -> str | None:
    """Return the version of the schema of a database; None for one without a store."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    query = text(f"SELECT version_num FROM {_VERSION_TABLE}")
    version: str | None = connection.execute(query).scalar_one_or_none()
    return version


def run_migrations(connection: Connection, version: str) -> None:
    """Run all migrations up to a version, in the transaction of the connection."""
    # Alembic takes a tenth of a second to load, and is needed after an update only.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    # Without it, a space in the path would separate two folders.
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def _check_known(version: str | None) -> None:
    """Raise CaseStoreFailed for a version of the schema that this version of cadlib has not."""
    versions = sorted(path.stem[:4] for path in _MIGRATIONS.glob("versions/[0-9]*.py"))
    if version is not None and version not in versions:
        raise CaseStoreFailed(
            f"Expected a case store of schema {NEWEST} or older, but it has schema {version} of a "
            "newer version of cadlib. Update cadlib."
        )
