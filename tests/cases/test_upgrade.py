"""Upgrading a store from its first schema, with cases in it."""

import pytest
from sqlalchemy import select

from cadlib.cases import audit_log, database, queries, schema, upgrade
from cadlib.cases.audit_log import digest
from cadlib.cases.store import CaseStore
from cadlib.cases.upgrade import NEWEST, run_migrations, schema_version
from cadlib.cases.verification import verify
from cadlib.errors import CaseStoreFailed

AT = audit_log.now()
ROWS = {
    "patients": {"id": "11111111-1111-1111-1111-111111111111"},
    "patient_versions": {
        "patient_id": "11111111-1111-1111-1111-111111111111",
        "pseudonym": "P-1",
        "sex": "female",
        "birth_year": 1970,
        "note": "Older schema.",
    },
}


@pytest.fixture
def first_schema(url):
    """Return an engine of a database with the first schema and a patient."""
    engine = database.connect(url)
    with database.writing(engine) as connection:
        run_migrations(connection, "0001")
        for number, (name, values) in enumerate(ROWS.items(), start=1):
            row = {**values, "entry": number, "recorded_at": AT}
            subject = ROWS["patients"]["id"]
            details = {"row_sha256": digest(row)}
            audit_log.append(connection, "local", "add", name, subject, details)
            connection.execute(schema.metadata.tables[name].insert().values(row))
    yield engine
    engine.dispose()


def test_an_older_store_is_upgraded_with_its_cases(first_schema, url, tmp_path):
    with CaseStore.open(url, str(tmp_path / "images")) as store, store.read() as connection:
        assert schema_version(connection) == NEWEST
        [patient] = queries.patients(connection)
        assert patient.details.note == "Older schema."
        assert queries.failed_files(connection) == []
        assert verify(connection, store.images).unchanged


def test_a_failed_upgrade_leaves_the_store_as_it_was(first_schema, url, tmp_path, monkeypatch):
    def fail(connection, version):
        run_migrations(connection, version)
        raise CaseStoreFailed("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "run_migrations", fail)
        with pytest.raises(CaseStoreFailed):
            CaseStore.open(url, str(tmp_path / "images"))
    with database.reading(first_schema) as connection:
        assert schema_version(connection) == "0001"
        assert len(connection.execute(select(schema.patients)).all()) == 1
    CaseStore.open(url, str(tmp_path / "images")).close()


def test_the_newest_schema_is_that_of_the_last_migration():
    files = upgrade._MIGRATIONS.glob("versions/[0-9]*.py")
    assert max(path.stem[:4] for path in files) == NEWEST
