"""A reader's work with stored cases: files dropped, a list read by keys, readings, and a restart."""

from pathlib import Path

import pypdfium2
import pytest
from playwright.sync_api import Page, expect

from cadlib.cases.store import CaseStore
from cadlib.cases.verification import verify
from cadlib.images.synthetic import demo_lesions
from tests.browser.conftest import serving, settle
from tests.browser.test_accessibility_in_browser import violations
from tests.free_port import free_port

expect.set_options(timeout=60_000)
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Return five images and a broken file."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number, lesion in enumerate(demo_lesions()[:5], start=1):
        (folder / f"case-{number}.png").write_bytes(lesion.png())
    (folder / "broken.jpg").write_bytes(b"no image")
    return sorted(folder.iterdir())


def choose(page: Page, label: str, option: str) -> None:
    """Choose an option of a list by its text."""
    box = page.get_by_role("combobox", name=label)
    box.click()
    box.fill(option)
    # Not by Enter: the list may not be filtered yet.
    page.get_by_role("option").filter(has_text=option).first.click()


def pdf_text(page: Page) -> str:
    """Download the PDF report of the case on the page, and return its text."""
    page.get_by_role("button", name="PDF report").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download PDF").click()
    with pypdfium2.PdfDocument(download.value.path()) as document:
        return "\n".join(sheet.get_textpage().get_text_range() for sheet in document)


def store_case(page: Page, pseudonym: str) -> None:
    """Store the image on the Diagnose page as that of a new patient."""
    page.get_by_text("Not stored:").wait_for()
    settle(page)
    page.get_by_text("Store case").click()
    name_patient(page, pseudonym)
    page.get_by_role("button", name="Store", exact=True).click()
    page.get_by_text(f"Stored: patient {pseudonym} · lesion L1").wait_for()
    settle(page)


def name_patient(page: Page, pseudonym: str) -> None:
    """Enter the pseudonym of a new patient."""
    box = page.get_by_role("combobox", name="Patient pseudonym")
    box.fill(pseudonym)
    box.press("Enter")
    page.get_by_role("combobox", name="Sex").wait_for()
    settle(page)


def row(page: Page, pseudonym: str):
    return page.locator("tr", has=page.get_by_role("button", name=pseudonym, exact=True))


def drop(page: Page, files: list[Path]) -> None:
    """Drop files into the work list, and wait until all are assessed."""
    page.locator("input[type=file]").set_input_files(files)
    expect(page.locator(".work tbody tr")).to_have_count(5)
    expect(page.get_by_text("waiting for its assessment")).to_have_count(0)
    page.get_by_text("Files that could not be read: 1").click()
    page.get_by_text("broken.jpg").wait_for()
    settle(page)
    assert violations(page) == []


def open_first(page: Page) -> str:
    """Mark the first case of the list as read, and open it, by keys; return its pseudonym."""
    first = page.locator(".work-open").first
    name = first.inner_text()
    first.focus()
    page.keyboard.press("2")
    expect(row(page, name)).to_contain_text("read")
    # The row keeps the focus, so that the next key works.
    page.keyboard.press("Enter")
    page.get_by_text("Stored:").wait_for()
    page.get_by_text(f"patient {name}").wait_for()
    settle(page)
    return name


def override(page: Page) -> None:
    """Decide against the result of the case on the page; the first try has no reason."""
    page.get_by_text("Add a reading").click()
    choose(page, "Your diagnosis", "Melanoma")
    choose(page, "Management", "biopsy")
    page.get_by_text("I decide against the result").click()
    page.get_by_role("button", name="Save reading").click()
    page.get_by_text("Expected a reason for a decision against the result").wait_for()
    settle(page)
    page.get_by_role("textbox", name="Reason").fill("Growth since spring.")
    page.get_by_role("button", name="Save reading").click()
    page.get_by_text("Growth since spring.").first.wait_for()
    page.get_by_text("state: biopsy requested").wait_for()
    settle(page)
    assert violations(page) == []


def test_cases_are_dropped_read_and_found_again(tmp_path: Path, page: Page, files) -> None:
    log = tmp_path / "log.txt"
    port = free_port()
    with serving(log, port=port) as address:
        page.goto(f"{address}/work_list")
        drop(page, files)
        name = open_first(page)
        override(page)
        text = pdf_text(page)
        assert name in text
        assert "Growth since spring." in text
        assert "Preliminary" in text
        # An open page would report that its server is gone.
        page.goto("about:blank")

    # After a restart everything is there.
    with serving(log, port=port) as address:
        page.goto(f"{address}/work_list")
        expect(page.locator(".work tbody tr")).to_have_count(5)
        expect(row(page, name)).to_contain_text("biopsy requested")
        page.get_by_text("biopsy requested (1)").click()
        expect(page.locator(".work tbody tr")).to_have_count(1)
        page.locator(".work-open").first.click()
        page.get_by_text("Growth since spring.").first.wait_for()
        settle(page)
        page.goto("about:blank")
    database = f"sqlite:///{tmp_path / 'cases.sqlite'}"
    images = str(tmp_path / "case images")
    with CaseStore.open(database, images) as store, store.read() as connection:
        assert verify(connection, store.images).unchanged


def test_a_case_is_stored_only_when_the_reader_says_so(
    cold_server: str, tmp_path: Path, page: Page
) -> None:
    page.goto(cold_server)
    page.get_by_role("button", name="Try a synthetic lesion").click()
    page.get_by_text("Not stored:").wait_for()
    settle(page)
    assert not (tmp_path / "cases.sqlite").exists()
    store_case(page, "P-0001")
    expect(page.get_by_text("History of lesion L1")).to_have_count(0)
    page.get_by_role("link", name="Work list").click()
    expect(page.locator(".work tbody tr")).to_have_count(1)
    expect(row(page, "P-0001")).to_contain_text("new")

    # A second image of the lesion gives it a history.
    page.get_by_role("link", name="Diagnose").click()
    page.get_by_text("Stored: patient P-0001").wait_for()
    settle(page)
    page.get_by_role("button", name="Try a synthetic lesion").click()
    page.get_by_text("Not stored:").wait_for()
    settle(page)
    page.get_by_text("Store case").click()
    choose(page, "Patient pseudonym", "P-0001")
    settle(page)
    page.get_by_role("button", name="Store", exact=True).click()
    page.get_by_text("History of lesion L1").wait_for()
    expect(page.get_by_alt_text("Lesion on")).to_have_count(2)
    settle(page)
    assert violations(page) == []
