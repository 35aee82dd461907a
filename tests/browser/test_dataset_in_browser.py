"""The Dataset page with the real images, in a real browser, held against the CSV files that it reads."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from cadlib.__main__ import main
from cadlib.data.subsets import read_subset
from tests.browser.conftest import settle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def dataset_folder(data_dir) -> Path:
    """Return the folder of the real images that the page opens first."""
    return data_dir / "isic2019"


@pytest.fixture
def csv_rows(dataset_folder) -> pd.DataFrame:
    """Return the rows of ISIC's ground truth and metadata of every image in the folder."""
    truth = pd.read_csv(dataset_folder / "ISIC_2019_Training_GroundTruth.csv")
    facts = pd.read_csv(dataset_folder / "ISIC_2019_Training_Metadata.csv")
    here = [path.stem for path in (dataset_folder / "ISIC_2019_Training_Input").iterdir()]
    return truth[truth["image"].isin(here)].merge(facts, on="image")


TILES = "[...document.querySelectorAll('.tiles-tile')].map((tile) => tile.dataset.image).join()"
ALL_LOADED = "[...document.querySelectorAll('.tiles-picture')].every((one) => one.naturalWidth)"


def wait_for_tiles(page, images: list[str], number: int) -> None:
    """Wait until the gallery shows a page, of 24 images each."""
    expected = images[24 * (number - 1) : 24 * number]
    page.wait_for_function(f"expected => {TILES} === expected", arg=",".join(expected))
    page.wait_for_function(ALL_LOADED)


def open_last_page(page, images: list[str]) -> int:
    """Ask for a page beyond the last; return the number of the last, which is shown."""
    last = -(-len(images) // 24)
    page.locator(".tiles-page").fill(str(last + 7))
    page.locator(".tiles-page").press("Enter")
    wait_for_tiles(page, images, last)
    return last


def test_pages_are_turned_by_click_and_by_number(server, page, csv_rows):
    images = sorted(csv_rows["image"])
    page.goto(f"{server}/dataset")
    wait_for_tiles(page, images, 1)
    # The clicks come faster than the server sends the pages.
    for number in (2, 3, 4, 5):
        page.get_by_role("button", name="Next page").click()
        assert page.locator(".tiles-page").input_value() == str(number)
    wait_for_tiles(page, images, 5)
    page.get_by_role("button", name="Previous page").click()
    wait_for_tiles(page, images, 4)
    last = open_last_page(page, images)
    assert page.locator(".tiles-page").input_value() == str(last)
    assert page.get_by_role("button", name="Next page").is_disabled()


def test_a_tile_opens_its_image_and_the_page_stays(server, page, csv_rows):
    images = sorted(csv_rows["image"])
    tiles = page.locator(".tiles-tile")
    page.goto(f"{server}/dataset")
    wait_for_tiles(page, images, 1)
    last = open_last_page(page, images)
    tiles.last.press("Enter")
    page.get_by_role("dialog").get_by_alt_text(f"Image {images[-1]}").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    settle(page)
    wait_for_tiles(page, images, last)
    assert tiles.last.evaluate("tile => tile === document.activeElement")
    page.get_by_text("Class counts", exact=True).click()
    page.locator(".st-key-counts .js-plotly-plot").wait_for()
    page.get_by_role("radio", name="Images", exact=True).click()
    wait_for_tiles(page, images, last)


def select_facets(page, rows: pd.DataFrame) -> pd.DataFrame:
    """Select a value of three facets, check each count; return the rows that are left."""
    for facet, value in (
        ("diagnosis", "DF"),
        ("sex", "female"),
        ("anatom_site_general", "upper extremity"),
    ):
        page.get_by_text(f"{len(rows):,} images", exact=True).wait_for()
        page.locator(".tiles-picture").nth(23).wait_for()
        settle(page)
        has_value = rows[value] == 1 if facet == "diagnosis" else rows[facet] == value
        rows = rows[has_value]
        pills = page.locator(f".st-key-facet-{facet}")
        pills.get_by_role("button", name=f"{value} {len(rows):,}").click()
    page.get_by_text(f"{len(rows):,} images", exact=True).wait_for()
    settle(page)
    return rows


def save_selection(page, n_images: int, name: str) -> None:
    """Save the selected images as a subset."""
    page.get_by_role("button", name=f"Save selection ({n_images:,})").click()
    page.get_by_label("Subset name").fill(name)
    page.get_by_label("Subset name").press("Enter")
    page.locator(".st-key-save-subset button:enabled").click()
    page.get_by_text(f"--subset '{name}'").wait_for()


@pytest.fixture
def saved_subsets(server_folder, monkeypatch) -> Iterator[None]:
    """Read subsets where the shared app saves them, and remove them after the test."""
    folder = server_folder / "subsets"
    monkeypatch.setenv("CADLIB_SUBSETS", str(folder))
    yield
    shutil.rmtree(folder)


@pytest.mark.usefixtures("saved_subsets", "real_sizes")
def test_facets_agree_with_the_csv_files_and_a_subset_is_evaluated(
    server, page, csv_rows, dataset_folder, tmp_path
):
    page.goto(f"{server}/dataset")
    selected = select_facets(page, csv_rows)
    tiles = page.locator(".tiles-tile").evaluate_all(
        "tiles => tiles.map(tile => tile.dataset.image)"
    )
    assert tiles == sorted(selected["image"])[:24]
    save_selection(page, len(selected), "arms of women")
    subset = read_subset("arms of women")
    assert subset.chosen == "Diagnosis DF; Anatomical site upper extremity; Sex female"
    assert set(subset.images) == set(selected["image"])
    results = tmp_path / "results"
    command = ["evaluate", "--model", "isic2019", "--data", str(dataset_folder)]
    command += ["--subset", subset.name, "--output", str(results)]
    assert main(command) == 0
    measured = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    assert measured["n"] == measured["n_by_class"]["DF"] == len(selected)
    assert set(pd.read_csv(results / "predictions.csv")["image"]) == set(selected["image"])
