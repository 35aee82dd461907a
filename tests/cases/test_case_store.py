"""Storing and correcting cases, on SQLite and PostgreSQL."""

import dataclasses
import json
import os
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from cadlib.assessment import assess
from cadlib.cases import database, place, queries, schema
from cadlib.cases.records import (
    BodyPlace,
    LesionDetails,
    OutcomeDetails,
    PatientDetails,
    ReadingDetails,
    VisitDetails,
)
from cadlib.cases.store import CaseStore
from cadlib.cases.upgrade import NEWEST, schema_version
from cadlib.errors import CaseChanged, CaseMissing, CaseRejected, CaseStoreFailed
from tests.case_examples import DAY, FIRST_READING, HISTOLOGY, OVERRIDE, add_case, add_readings


def counted(store, table) -> int:
    with store.read() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table.name}")).scalar_one()


def test_the_migrations_make_the_tables_of_the_schema(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
        assert schema_version(connection) == NEWEST


def test_opening_a_store_again_changes_nothing(store, url, lesion_images):
    case = add_case(store, "P-1", lesion_images[0])
    again = CaseStore.open(url, store.images.address)
    with again.read() as connection:
        assert queries.patients(connection) == [case.patient]
    again.close()


def test_a_store_of_a_newer_version_is_refused(store, url):
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CaseStoreFailed, match="schema 9999 of a newer version"):
        CaseStore.open(url, store.images.address)


def test_a_case_is_read_as_it_was_written(store, lesion_images, assessment, model):
    case = add_case(store, "P-1", lesion_images[0])
    stored = add_readings(store, case, assessment, model)
    with store.read() as connection:
        assert queries.patients(connection) == [case.patient]
        assert queries.patient_by_pseudonym(connection, "P-1") == case.patient
        assert queries.lesions(connection, case.patient.id) == [case.lesion]
        assert queries.visits(connection, case.patient.id) == [case.visit]
        assert queries.images(connection, case.lesion.id) == [case.image]
        assert queries.assessments(connection, case.image.id) == [stored]
        before, after = queries.readings(connection, case.image.id)
        [outcome] = queries.outcomes(connection, case.lesion.id)
        assert queries.state(connection, case.image.id) == "histology known"
    assert (before.details, before.assessment_id) == (FIRST_READING, None)
    assert (after.details, after.assessment_id) == (OVERRIDE, stored.id)
    assert before.reader_id == "local"
    assert outcome.details == HISTOLOGY
    assert datetime.now(UTC) - case.patient.recorded_at < timedelta(minutes=1)


def test_an_assessment_is_stored_with_all_its_values(store, lesion_images, assessment, model):
    case = add_case(store, "P-1", lesion_images[0])
    stored = add_readings(store, case, assessment, model)
    assert stored.content == json.loads(json.dumps(assessment.to_json()))
    assert stored.model_id == model.record.model_id
    assert stored.malignant_probability == assessment.prediction.malignant_probability
    assert stored.threshold == assessment.decision.operating_point.threshold


def test_a_stored_image_gets_the_same_answer(store, lesion_images, assessment, model):
    case = add_case(store, "P-1", lesion_images[0])
    image = store.lesion_image(case.image)
    assert np.array_equal(image.pixels, lesion_images[0].pixels)
    assert image.key == lesion_images[0].key
    again = assess(model, image, with_heatmap=False)
    assert np.array_equal(again.prediction.probabilities, assessment.prediction.probabilities)


def test_a_reduced_image_keeps_the_size_of_its_file(store, lesion_images):
    large = dataclasses.replace(lesion_images[0], reduced=(4000, 3000), notes=("It was reduced.",))
    case = add_case(store, "P-1", large)
    image = store.lesion_image(case.image)
    assert image.file_px == (4000, 3000)
    assert image.notes == large.notes


def test_a_correction_is_a_new_row(store, lesion_images):
    case = add_case(store, "P-1", lesion_images[0])
    place = BodyPlace("back", 0.25, 0.5)
    with store.write() as cases:
        patient = cases.correct_patient(case.patient, PatientDetails("P-2", "male", 1971, "Twin."))
        lesion = cases.correct_lesion(case.lesion, LesionDetails("L2", "head/neck", place))
        visit = cases.correct_visit(case.visit, VisitDetails(date(2026, 10, 1)))
    with store.read() as connection:
        assert queries.patients(connection) == [patient]
        assert queries.lesion(connection, lesion.id) == lesion
        assert queries.visit(connection, visit.id) == visit
        # The former name still leads to the patient.
        assert queries.patient_by_pseudonym(connection, "P-1") == patient
    assert lesion.details.place == place
    assert counted(store, schema.patient_versions) == 2


def test_a_correction_of_an_outdated_version_is_refused(store, lesion_images):
    case = add_case(store, "P-1", lesion_images[0])
    with store.write() as cases:
        cases.correct_patient(case.patient, PatientDetails("P-1", "male"))
    with pytest.raises(CaseChanged, match="somebody changed it meanwhile"), store.write() as cases:
        cases.correct_patient(case.patient, PatientDetails("P-1", "female"))
    assert counted(store, schema.patient_versions) == 2


def test_two_patients_cannot_share_a_pseudonym(store, lesion_images):
    case = add_case(store, "P-1", lesion_images[0])
    with store.write() as cases:
        cases.correct_patient(case.patient, PatientDetails("P-2"))
    for taken in ("P-1", "P-2"):
        with pytest.raises(CaseRejected, match="is taken"), store.write() as cases:
            cases.add_patient(PatientDetails(taken))
    assert counted(store, schema.patients) == 1


def test_an_image_can_be_moved_to_another_patient(store, lesion_images):
    first = add_case(store, "P-1", lesion_images[0])
    second = add_case(store, "P-2", lesion_images[1])
    with store.write() as cases:
        moved = cases.move_image(first.image, second.lesion, second.visit)
    with store.read() as connection:
        assert queries.images(connection, first.lesion.id) == []
        assert queries.images(connection, second.lesion.id) == [moved, second.image]


def test_lesion_and_visit_of_two_patients_are_refused(store, lesion_images):
    first = add_case(store, "P-1", lesion_images[0])
    second = add_case(store, "P-2", lesion_images[1])
    with pytest.raises(CaseRejected, match="of one patient"), store.write() as cases:
        cases.move_image(first.image, first.lesion, second.visit)


def test_an_assessment_of_another_image_is_refused(store, lesion_images, assessment, model):
    case = add_case(store, "P-1", lesion_images[1])
    with pytest.raises(CaseRejected, match="another"), store.write() as cases:
        cases.add_assessment(case.image, assessment, model.record)


def test_a_reader_who_saw_the_result_cannot_read_as_before_it(
    store, lesion_images, assessment, model
):
    case = add_case(store, "P-1", lesion_images[0])
    add_readings(store, case, assessment, model)
    with pytest.raises(CaseRejected, match="this reader has seen it"), store.write() as cases:
        cases.add_reading(case.image, FIRST_READING)
    # Another reader has not.
    with store.write("other") as cases:
        cases.add_reading(case.image, FIRST_READING)


def test_a_reading_after_the_result_needs_the_result(store, lesion_images):
    case = add_case(store, "P-1", lesion_images[0])
    with pytest.raises(CaseRejected, match="the result that was seen"), store.write() as cases:
        cases.add_reading(case.image, OVERRIDE)


def add_two_patients(store, first: str, second: str) -> None:
    with store.write() as cases:
        cases.add_patient(PatientDetails(first))
        cases.add_patient(PatientDetails(second))


def test_a_reader_reads_blind_once_that_is_chosen(store):
    with store.write("a") as cases:
        cases.set_blind_first(True)
    with store.write("b") as cases:
        cases.set_blind_first(True)
        cases.set_blind_first(False)
    with store.read() as connection:
        chosen = {reader: queries.blind_first(connection, reader) for reader in "abc"}
    assert chosen == {"a": True, "b": False, "c": False}


def test_images_are_those_that_a_reader_has_read(store, lesion_images):
    first = add_case(store, "P-1", lesion_images[0]).image
    second = add_case(store, "P-2", lesion_images[1]).image
    with store.write("a") as cases:
        cases.add_reading(first, FIRST_READING)
    both = [first.id, second.id]
    with store.read() as connection:
        assert queries.images_known_to(connection, "a", both) == {first.id}
        assert queries.images_known_to(connection, "b", both) == set()
        assert queries.images_known_to(connection, "a", []) == set()


def test_an_error_in_the_block_saves_nothing(store):
    with pytest.raises(CaseRejected):
        add_two_patients(store, "P-1", "P-1")
    assert counted(store, schema.patients) == 0
    assert counted(store, schema.audit_log) == 0


def test_a_lesion_of_an_erased_patient_is_refused(store, lesion_images):
    case = add_case(store, "P-1", lesion_images[0])
    store.erase_patient(case.patient.id)
    with pytest.raises(CaseMissing, match="erased"), store.write() as cases:
        cases.add_lesion(case.patient, LesionDetails("L2"))
    with pytest.raises(CaseMissing), store.read() as connection:
        queries.patient(connection, case.patient.id)


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: PatientDetails(""), "pseudonym of 1 to 64 characters"),
        (lambda: PatientDetails("P\n1"), "in one line"),
        (lambda: PatientDetails(" P1"), "without spaces"),
        (lambda: PatientDetails("x" * 65), "1 to 64"),
        (lambda: PatientDetails("P", sex="x"), "a sex of female, male"),
        (lambda: PatientDetails("P", birth_year=1899), "from 1900 to"),
        (lambda: PatientDetails("P", note="a\0b"), "control characters"),
        (lambda: PatientDetails("P", note="x" * 4001), "at most 4,000"),
        (lambda: LesionDetails("L", site="elbow"), "a site of anterior torso"),
        (lambda: BodyPlace("side", 0.5, 0.5), "a view of the body of front, back"),
        (lambda: BodyPlace("front", 1.5, 0.5), "from 0 to 1"),
        (lambda: BodyPlace("front", float("nan"), 0.5), "from 0 to 1"),
        (lambda: VisitDetails(date(2999, 1, 1)), "up to today"),
        (lambda: ReadingDetails("before", "XX", "monitor", 3), "a diagnosis of MEL"),
        (lambda: ReadingDetails("before", "NV", "wait", 3), "a management of"),
        (lambda: ReadingDetails("before", "NV", "monitor", 6), "from 1 to 5"),
        (lambda: ReadingDetails("before", "NV", "monitor", 3, "agrees"), "no response before"),
        (lambda: ReadingDetails("after", "NV", "monitor", 3), "a response to the result"),
        (lambda: ReadingDetails("after", "NV", "monitor", 3, "overrides", " "), "a reason"),
        (lambda: OutcomeDetails(False, "histology", "MEL", DAY), "MEL to be malignant"),
        (lambda: OutcomeDetails(False, "histology"), "a note that names it"),
        (lambda: OutcomeDetails(False, "guess", "NV"), "a source of the outcome"),
    ],
)
def test_details_out_of_range_are_refused(create, message):
    with pytest.raises(CaseRejected, match=message):
        create()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:", ""],
)
def test_other_databases_are_refused(url, monkeypatch):
    with pytest.raises(CaseStoreFailed, match=r"Expected CADLIB_DATABASE to be `sqlite:///FILE`"):
        database.connect(url)


def test_a_password_is_in_no_message(monkeypatch):
    url = "postgresql+psycopg://reader:secret@127.0.0.1:1/cases"
    with pytest.raises(CaseStoreFailed) as error:
        CaseStore.open(url, "unused")
    assert "secret" not in str(error.value)
    assert "127.0.0.1" in str(error.value)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_the_folder_of_cases_is_private(tmp_path, monkeypatch, lesion_images):
    monkeypatch.setattr(place, "own_dir", lambda: tmp_path / "data" / "cases")
    for variable in (place.URL_VARIABLE, place.IMAGES_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    store = CaseStore.open()
    add_case(store, "P-1", lesion_images[0])
    folder = tmp_path / "data" / "cases"
    assert (folder / "cases.sqlite").is_file()
    assert folder.stat().st_mode & 0o077 == 0
    store.close()
