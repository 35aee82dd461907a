"""What the pages store of a case."""

from datetime import date
from importlib import import_module
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cadlib.assessment import reconsider
from cadlib.cases import place, queries
from cadlib.cases.records import PatientDetails
from cadlib.errors import CaseRejected
from tests.case_examples import FIRST_READING, add_case, add_readings

PAGES = Path(__file__).parents[2] / "pages"
# The package exports functions of the same names.
readings = import_module("cadlib.ui.readings")
storing = import_module("cadlib.ui.storing")


@pytest.fixture
def stored(store, lesion_images, assessment, model):
    """Return what is stored of a case with an assessment."""
    case = add_case(store, "P-1", lesion_images[0])
    add_readings(store, case, assessment, model)
    with store.read() as connection:
        return queries.case_file(connection, case.image.id)


def test_a_reading_names_the_stored_result_that_the_page_shows(store, stored, assessment):
    with store.write() as cases:
        seen = readings._result_on_page(cases, stored, assessment)
        assert seen == stored.assessments[-1]
        assert len(queries.assessments(cases.connection, stored.image.id)) == 1


def test_a_result_that_differs_from_the_stored_one_is_stored_with_the_reading(
    store, stored, assessment, model
):
    other = reconsider(model, assessment, "rule-out")
    with store.write() as cases:
        seen = readings._result_on_page(cases, stored, other)
        assert seen.operating_point == "rule-out"
        assert queries.assessments(cases.connection, stored.image.id)[-1] == seen


def test_a_reader_who_saw_the_result_cannot_read_as_before_it(store, lesion_images):
    image = add_case(store, "P-1", lesion_images[0]).image
    with store.write("a") as cases:
        cases.log_result_shown(image)
    with pytest.raises(CaseRejected, match="this reader has seen it"), store.write("a") as cases:
        cases.add_reading(image, FIRST_READING)
    with store.read() as connection:
        assert queries.images_known_to(connection, "a", [image.id]) == {image.id}
        assert queries.images_known_to(connection, "b", [image.id]) == set()
    with store.write("b") as cases:
        cases.add_reading(image, FIRST_READING)


def entered(pseudonym: str):
    return storing._Entered(
        pseudonym=pseudonym,
        sex=None,
        birth_year=None,
        label="L1",
        site=None,
        day=date(2026, 11, 30),
    )


def test_a_former_pseudonym_is_not_taken_for_the_patient(store, stored):
    with store.write() as cases:
        cases.correct_patient(stored.patient, PatientDetails("P-2"))
    with store.write() as cases:
        assert storing._patient(cases, entered("P-2")).id == stored.patient.id
    with pytest.raises(CaseRejected, match="'P-1' is taken"), store.write() as cases:
        storing._patient(cases, entered("P-1"))


def test_the_places_of_an_image_that_is_stored_already_are_found(store, stored, lesion_images):
    with store.read() as connection:
        known = queries.places_of_source(connection, lesion_images[0].sha256)
        assert known == [("P-1", "L1")]
        assert queries.places_of_source(connection, lesion_images[1].sha256) == []


def test_a_database_that_is_gone_hides_results_and_says_why(monkeypatch):
    """A page cannot know then whether its reader reads blind."""
    monkeypatch.setenv(place.URL_VARIABLE, "postgresql+psycopg://x@127.0.0.1:1/cases")
    page = AppTest.from_file(str(PAGES / "diagnose.py"), default_timeout=60)
    page.session_state["menu"] = True
    page.run()
    page.button(key="synthetic").click().run()
    assert not page.exception
    assert "to answer" in page.error[0].value
    assert not page.subheader
