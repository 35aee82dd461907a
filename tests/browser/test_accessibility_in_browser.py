"""No page has a serious or critical violation of accessibility rules, in the light and the dark theme.

axe-core (Deque) checks contrast, names, roles and the order of headings.
"""

from typing import Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH  # type: ignore[import-untyped]
from playwright.sync_api import Page

from tests.browser.conftest import settle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

AXE = AXE_FILE_PATH.read_text(encoding="utf-8")
GRAVE = ("serious", "critical")


@pytest.fixture(params=["light", "dark"])
def themed(page: Page, request: pytest.FixtureRequest) -> Page:
    """Return a page of a browser whose user prefers one of the themes."""
    page.emulate_media(color_scheme=request.param)
    return page


def violations(page: Page) -> list[str]:
    """Return each serious or critical violation, with the elements that have it."""
    page.evaluate(AXE)
    result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    lines = []
    for violation in result["violations"]:
        if violation["impact"] in GRAVE:
            nodes = violation["nodes"]
            lines += [f"{violation['id']}: {node['html'][:160]}" for node in nodes]
    return lines


def test_the_result_of_an_image_is_accessible(server: str, themed: Page) -> None:
    themed.goto(server)
    themed.get_by_role("button", name="Try a synthetic lesion").click()
    themed.get_by_role("heading", name="Refer").wait_for()
    settle(themed)
    assert violations(themed) == []


def test_the_saliency_maps_of_an_image_are_accessible(server: str, themed: Page) -> None:
    themed.goto(f"{server}/saliency")
    themed.get_by_role("button", name="Try a synthetic lesion").click()
    themed.get_by_text("EigenCAM").first.wait_for()
    settle(themed)
    assert violations(themed) == []


@pytest.mark.parametrize(
    "path", ["", "work_list", "saliency", "dataset", "performance", "training"]
)
def test_a_page_is_accessible(server: str, themed: Page, path: str) -> None:
    themed.goto(f"{server}/{path}")
    themed.get_by_role("heading").first.wait_for()
    settle(themed)
    assert violations(themed) == []
