"""Erasing a patient."""

from pathlib import Path

import pytest
from sqlalchemy import select

from cadlib.cases import audit_log, erasure, queries, schema
from cadlib.cases.store import CaseStore
from cadlib.errors import CaseMissing, CaseStoreFailed
from tests.case_examples import add_case, add_readings


def rows_of_patients(store) -> dict[str, int]:
    kept = {"audit_log", "readers"}
    with store.read() as connection:
        return {
            table.name: len(connection.execute(select(table)).all())
            for table in schema.metadata.sorted_tables
            if table.name not in kept
        }


def test_nothing_of_an_erased_patient_stays(store, lesion_images, assessment, model):
    case = add_case(store, "P-1", lesion_images[0])
    add_readings(store, case, assessment, model)
    erased = store.erase_patient(case.patient.id, "admin")
    assert set(rows_of_patients(store).values()) == {0}
    assert list(store.images.names()) == []
    assert erased.n_images == 1
    assert erased.rows["readings"] == 2


def test_the_log_says_that_it_was_done_and_stays_unbroken(store, lesion_images, assessment, model):
    case = add_case(store, "P-1", lesion_images[0])
    add_readings(store, case, assessment, model)
    store.erase_patient(case.patient.id, "admin")
    with store.read() as connection:
        entries = list(audit_log.entries(connection))
    assert audit_log.first_bad(iter(entries)) is None
    last = entries[-1]
    assert (last.action, last.actor, last.subject) == (erasure.ERASED, "admin", case.patient.id)
    assert last.details["images"] == 1
    recorded = {entry.number for entry in entries if "row_sha256" in entry.details}
    readers = {entry.number for entry in entries if entry.kind == "readers"}
    assert set(last.details["entries"]) == recorded - readers


def test_other_patients_stay(store, lesion_images, assessment, model):
    first = add_case(store, "P-1", lesion_images[0])
    second = add_case(store, "P-2", lesion_images[1])
    store.erase_patient(first.patient.id)
    with store.read() as connection:
        assert queries.patients(connection) == [second.patient]
    assert store.lesion_image(second.image).key == lesion_images[1].key


def test_an_image_that_two_patients_have_stays_for_the_other(store, lesion_images):
    first = add_case(store, "P-1", lesion_images[0])
    second = add_case(store, "P-2", lesion_images[0])
    assert first.image.sha256 == second.image.sha256
    store.erase_patient(first.patient.id)
    assert store.lesion_image(second.image).key == lesion_images[0].key
    store.erase_patient(second.patient.id)
    assert list(store.images.names()) == []


def test_an_image_that_was_moved_to_another_patient_stays(store, lesion_images):
    first = add_case(store, "P-1", lesion_images[0])
    second = add_case(store, "P-2", lesion_images[1])
    with store.write() as cases:
        moved = cases.move_image(first.image, second.lesion, second.visit)
    store.erase_patient(first.patient.id)
    with store.read() as connection:
        assert queries.images(connection, second.lesion.id) == [moved, second.image]
    store.erase_patient(second.patient.id)
    assert set(rows_of_patients(store).values()) == {0}


def test_files_of_an_interrupted_erasure_are_removed_later(store, url, lesion_images, monkeypatch):
    case = add_case(store, "P-1", lesion_images[0])
    with monkeypatch.context() as patch:
        patch.setattr(erasure, "remove_files", lambda *_: 0)
        store.erase_patient(case.patient.id)
    assert list(store.images.names()) == [case.image.sha256]
    CaseStore.open(url, store.images.address).close()
    assert list(store.images.names()) == []


def test_an_image_that_is_added_again_meanwhile_keeps_its_file(store, lesion_images, monkeypatch):
    first = add_case(store, "P-1", lesion_images[0])
    file = store.store_file(lesion_images[0])
    with monkeypatch.context() as patch:
        patch.setattr(erasure, "remove_files", lambda *_: 0)
        store.erase_patient(first.patient.id)
    second = add_case(store, "P-2", lesion_images[1])
    with store.write() as cases:
        again = cases.add_image(second.lesion, second.visit, file)
    assert erasure.remove_files(store.engine, store.images) == 0
    assert store.lesion_image(again).key == lesion_images[0].key


def test_a_file_that_an_erasure_removed_before_the_image_was_added_is_written_again(
    store, lesion_images
):
    first = add_case(store, "P-1", lesion_images[0])
    second = add_case(store, "P-2", lesion_images[1])
    file = store.store_file(lesion_images[0])
    store.erase_patient(first.patient.id)
    with store.write() as cases:
        again = cases.add_image(second.lesion, second.visit, file)
    assert store.lesion_image(again).key == lesion_images[0].key


def test_an_unknown_patient_is_an_error(store):
    with pytest.raises(CaseMissing, match="patient"):
        store.erase_patient("00000000-0000-0000-0000-000000000000")


def test_a_note_is_in_no_file_of_sqlite_afterwards(
    tmp_path: Path, lesion_images, assessment, model
):
    store = CaseStore.open(f"sqlite:///{tmp_path / 'cases.sqlite'}", str(tmp_path / "images"))
    case = add_case(store, "SECRET-NAME", lesion_images[0])
    add_readings(store, case, assessment, model)
    secrets = (b"SECRET-NAME", b"Growth since")
    before = b"".join(path.read_bytes() for path in tmp_path.glob("cases.sqlite*"))
    assert all(secret in before for secret in secrets)
    store.erase_patient(case.patient.id)
    after = b"".join(path.read_bytes() for path in tmp_path.glob("cases.sqlite*"))
    assert not any(secret in after for secret in secrets)
    store.close()


def test_a_changed_file_of_an_image_is_an_error(store, lesion_images):
    case = add_case(store, "P-1", lesion_images[0])
    [path] = Path(store.images.address).glob("??/*.png")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CaseStoreFailed, match="was changed"):
        store.lesion_image(case.image)
    path.unlink()
    with pytest.raises(CaseStoreFailed, match="missing"):
        store.lesion_image(case.image)
