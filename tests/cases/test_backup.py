"""Backing up and restoring all cases."""

import json
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import select

from cadlib.cases import backup, schema
from cadlib.cases.backup import back_up, restore
from cadlib.cases.store import CaseStore
from cadlib.cases.verification import verify
from cadlib.errors import CaseStoreFailed
from tests.case_examples import add_case, add_readings


@pytest.fixture
def filled(store, lesion_images, assessment, model):
    first = add_case(store, "P-1", lesion_images[0])
    add_readings(store, first, assessment, model)
    add_case(store, "Пациент-2 ü", lesion_images[1], actor="dr.müller@clinic.example")
    third = add_case(store, "P-3", lesion_images[2])
    store.erase_patient(third.patient.id)
    return store


@pytest.fixture
def empty(request, tmp_path, url) -> tuple[str, str]:
    """Return the address of another empty store of the same kind."""
    images = str(tmp_path / "restored images")
    if url.startswith("sqlite"):
        return f"sqlite:///{tmp_path / 'restored.sqlite'}", images
    return request.getfixturevalue("postgresql").new_database(), images


def rows(store) -> dict[str, list]:
    with store.read() as connection:
        return {
            table.name: sorted(connection.execute(select(table)).all(), key=repr)
            for table in schema.metadata.sorted_tables
        }


def test_every_row_and_image_is_restored(filled, empty, tmp_path):
    file = tmp_path / "cases.zip"
    backed_up = back_up(filled, file, "admin")
    before = rows(filled)
    restored = restore(file, *empty, "admin")
    assert restored == backed_up
    assert backed_up.n_images == 2
    store = CaseStore.open(*empty)
    after = rows(store)
    # The log also has that it was restored.
    added = [entry for entry in after["audit_log"] if entry not in before["audit_log"]]
    assert [entry.action for entry in added] == ["restore"]
    after["audit_log"] = [entry for entry in after["audit_log"] if entry not in added]
    assert after == before
    for sha256 in filled.images.names():
        assert store.images.read(sha256) == filled.images.read(sha256)
    with store.read() as connection:
        assert verify(connection, store.images).unchanged
    store.close()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_backup_of_sqlite_is_restored_into_postgresql(filled, tmp_path, postgresql):
    file = tmp_path / "cases.zip"
    back_up(filled, file, "admin")
    address = (postgresql.new_database(), str(tmp_path / "restored images"))
    restore(file, *address, "admin")
    store = CaseStore.open(*address)
    assert rows(store)["assessments"] == rows(filled)["assessments"]
    with store.read() as connection:
        assert verify(connection, store.images).unchanged
    store.close()


def test_a_store_with_cases_is_not_overwritten(filled, url, tmp_path):
    file = tmp_path / "cases.zip"
    back_up(filled, file, "admin")
    before = rows(filled)
    with pytest.raises(CaseStoreFailed, match="an empty store"):
        restore(file, url, filled.images.address, "admin")
    assert rows(filled) == before


def test_a_file_is_not_overwritten(filled, tmp_path):
    file = tmp_path / "cases.zip"
    file.write_text("something else")
    with pytest.raises(CaseStoreFailed, match="a new file"):
        back_up(filled, file, "admin")
    assert file.read_text() == "something else"


def changed_copy(file: Path, name: str, content: bytes | None) -> Path:
    """Return a copy of a backup in which one part is another, or missing."""
    copy = file.with_name("changed.zip")
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(copy, "w") as target:
        for part in source.namelist():
            data = content if part == name else source.read(part)
            if data is not None:
                target.writestr(part, data)
    return copy


@pytest.mark.parametrize("content", [None, b"", b'{"id":"x"}\n'])
@pytest.mark.parametrize("part", ["tables/patients.jsonl", "backup.json", "an image"])
def test_a_damaged_backup_restores_no_case(filled, empty, tmp_path, part, content):
    file = tmp_path / "cases.zip"
    back_up(filled, file, "admin")
    if part == "an image":
        part = next(name for name in zipfile.ZipFile(file).namelist() if name.endswith(".png"))
    copy = changed_copy(file, part, content)
    with pytest.raises(CaseStoreFailed, match="backup"):
        restore(copy, *empty, "admin")
    store = CaseStore.open(*empty)
    assert rows(store)["audit_log"] == []
    # A good backup can still be restored there.
    restore(file, *empty, "admin")
    store.close()


def test_a_file_that_is_no_backup_is_refused(tmp_path):
    file = tmp_path / "cases.zip"
    file.write_bytes(b"no archive")
    with pytest.raises(CaseStoreFailed, match="to be a backup of cases"):
        restore(file, f"sqlite:///{tmp_path / 'x.sqlite'}", str(tmp_path / "x"), "admin")


def test_a_backup_of_a_newer_format_is_refused(filled, empty, tmp_path):
    file = tmp_path / "cases.zip"
    back_up(filled, file, "admin")
    with zipfile.ZipFile(file) as archive:
        contents = json.loads(archive.read(backup.CONTENTS))
    newer = json.dumps(contents | {"format": 2}).encode()
    copy = changed_copy(file, backup.CONTENTS, newer)
    with pytest.raises(CaseStoreFailed, match="has format 2"):
        restore(copy, *empty, "admin")


def test_a_missing_image_leaves_no_backup(filled, tmp_path):
    next(Path(filled.images.address).glob("??/*.png")).unlink()
    with pytest.raises(CaseStoreFailed, match="missing"):
        back_up(filled, tmp_path / "cases.zip", "admin")
    assert list(tmp_path.glob("cases.zip*")) == []
