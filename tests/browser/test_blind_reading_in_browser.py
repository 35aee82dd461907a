"""A reader who reads blind sees no result before the own reading, on any page."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from cadlib.cases import queries
from cadlib.cases.store import CaseStore
from cadlib.images.synthetic import demo_lesions
from tests.browser.conftest import settle
from tests.browser.test_accessibility_in_browser import violations
from tests.browser.test_cases_in_browser import choose, name_patient, row, store_case

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
RESULT = "Refer: malignant probability"


def test_a_result_is_hidden_until_the_reader_has_read(
    cold_server: str, tmp_path: Path, page: Page
) -> None:
    page.goto(f"{cold_server}/work_list")
    page.get_by_text("Blind first").click()
    settle(page)
    page.get_by_role("link", name="Diagnose").click()
    page.get_by_role("button", name="Try a synthetic lesion").click()
    page.get_by_text("Blind first is on").wait_for()
    settle(page)
    assert RESULT not in page.inner_text("body")
    assert violations(page) == []
    # No other page shows it either.
    page.get_by_role("link", name="Saliency").click()
    page.get_by_text("Hidden until you have recorded your reading").wait_for()
    settle(page)
    assert page.locator(".viewer").count() == 0
    page.get_by_role("link", name="Diagnose").click()
    page.get_by_text("Blind first is on").wait_for()
    settle(page)

    button = page.get_by_role("button", name="Record my reading and show the result")
    expect(button).to_be_disabled()
    name_patient(page, "P-0001")
    choose(page, "Your diagnosis", "Nevus")
    choose(page, "Management", "monitor")
    settle(page)
    button.click()
    page.get_by_role("heading", name=RESULT).wait_for()
    page.get_by_text("Stored: patient P-0001").wait_for()
    settle(page)
    # Both readings are stored, the first without the result.
    page.get_by_text("Add a reading").click()
    choose(page, "Your diagnosis", "Melanoma")
    choose(page, "Management", "biopsy")
    page.get_by_text("The result changed my diagnosis").click()
    page.get_by_role("button", name="Save reading").click()
    page.get_by_text("state: biopsy requested").wait_for()
    settle(page)
    address = f"sqlite:///{tmp_path / 'cases.sqlite'}"
    with (
        CaseStore.open(address, str(tmp_path / "case images")) as store,
        store.read() as connection,
    ):
        patient = queries.patient_by_pseudonym(connection, "P-0001")
        [lesion] = queries.lesions(connection, patient.id)
        [image] = queries.images(connection, lesion.id)
        before, after = queries.readings(connection, image.id)
    assert (before.details.stage, before.details.diagnosis, before.assessment_id) == (
        "before",
        "NV",
        None,
    )
    assert (after.details.stage, after.details.response) == ("after", "changes")
    assert after.assessment_id

    page.get_by_role("link", name="Work list").click()
    expect(row(page, "P-0001")).to_contain_text("Melanoma")


def test_the_work_list_hides_what_was_not_read(
    cold_server: str, tmp_path: Path, page: Page
) -> None:
    page.goto(cold_server)
    page.get_by_role("button", name="Try a synthetic lesion").click()
    store_case(page, "seen")
    page.get_by_role("link", name="Work list").click()
    expect(row(page, "seen")).to_contain_text("Melanoma")
    file = tmp_path / "P-0001.png"
    file.write_bytes(demo_lesions()[0].png())
    page.locator("input[type=file]").set_input_files(file)
    expect(row(page, "P-0001")).to_contain_text("Melanoma")
    settle(page)
    page.get_by_text("Blind first").click()
    expect(row(page, "P-0001")).to_contain_text("hidden until you have read it")
    expect(row(page, "P-0001")).not_to_contain_text("Melanoma")
    # The order would tell the result too.
    expect(page.get_by_role("combobox", name="Sort by")).to_have_value("Waiting time")
    # This result was on the page of the reader, who could not read it blind any more.
    expect(row(page, "seen")).to_contain_text("Melanoma")
