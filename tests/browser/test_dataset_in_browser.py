"""The Dataset page with the real images, in a real browser, held against the CSV files that it reads."""

import json
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
def known(dataset_folder) -> pd.DataFrame:
    """Return ground truth and metadata of every image that is here, as ISIC's CSV files have them."""
    truth, facts = (
        pd.read_csv(dataset_folder / f"ISIC_2019_Training_{kind}.csv")
        for kind in ("GroundTruth", "Metadata")
    )
    here = [path.stem for path in (dataset_folder / "ISIC_2019_Training_Input").iterdir()]
    return truth[truth["image"].isin(here)].merge(facts, on="image")


def test_pages_are_turned_by_click_and_by_number_and_a_tile_opens_its_image(server, page, known):
    images = sorted(known["image"])
    tiles = page.locator(".tiles-tile")
    here = "[...document.querySelectorAll('.tiles-tile')].map((tile) => tile.dataset.image).join()"

    def shows(number: int) -> None:
        wanted = images[24 * (number - 1) : 24 * number]
        page.wait_for_function(f"wanted => {here} === wanted", arg=",".join(wanted))
        page.wait_for_function(
            "[...document.querySelectorAll('.tiles-picture')].every((one) => one.naturalWidth)"
        )

    page.goto(f"{server}/dataset")
    shows(1)
    for number in (2, 3, 4, 5):  # faster than the server sends them
        page.get_by_role("button", name="Next page").click()
        assert page.locator(".tiles-page").input_value() == str(number)
    shows(5)
    page.get_by_role("button", name="Previous page").click()
    shows(4)
    last = -(-len(images) // 24)
    page.locator(".tiles-page").fill(str(last + 7))
    page.locator(".tiles-page").press("Enter")
    shows(last)
    assert page.locator(".tiles-page").input_value() == str(last)
    assert page.get_by_role("button", name="Next page").is_disabled()
    tiles.last.press("Enter")
    page.get_by_role("dialog").get_by_alt_text(f"Image {images[-1]}").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    settle(page)
    shows(last)
    assert tiles.last.evaluate("tile => tile === document.activeElement")
    page.get_by_text("Class counts", exact=True).click()
    page.locator(".st-key-counts .js-plotly-plot").wait_for()
    page.get_by_role("radio", name="Images", exact=True).click()
    shows(last)


def test_facets_agree_with_the_csv_files_and_a_subset_is_evaluated(
    cold_server, page, known, dataset_folder, tmp_path, monkeypatch
):
    wanted = known
    page.goto(f"{cold_server}/dataset")
    for facet, value, has in (
        ("diagnosis", "DF", known["DF"] == 1),
        ("sex", "female", known["sex"] == "female"),
        (
            "anatom_site_general",
            "upper extremity",
            known["anatom_site_general"] == "upper extremity",
        ),
    ):
        page.get_by_text(f"{len(wanted):,} images", exact=True).wait_for()
        page.locator(".tiles-picture").nth(23).wait_for()
        settle(page)
        wanted = wanted[has[wanted.index]]
        page.locator(f".st-key-facet-{facet}").get_by_role(
            "button", name=f"{value} {len(wanted):,}"
        ).click()
    page.get_by_text(f"{len(wanted):,} images", exact=True).wait_for()
    settle(page)
    tiles = page.locator(".tiles-tile").evaluate_all(
        "tiles => tiles.map(tile => tile.dataset.image)"
    )
    assert tiles == sorted(wanted["image"])[:24]
    page.get_by_role("button", name=f"Save selection ({len(wanted):,})").click()
    page.get_by_label("Subset name").fill("arms of women")
    page.get_by_label("Subset name").press("Enter")
    page.locator(".st-key-save-subset button:enabled").click()
    page.get_by_text("--subset 'arms of women'").wait_for()
    monkeypatch.setenv("CADLIB_SUBSETS", str(tmp_path / "subsets"))
    subset = read_subset("arms of women")
    assert subset.chosen == "Diagnosis DF; Anatomical site upper extremity; Sex female"
    assert set(subset.images) == set(wanted["image"])
    results = tmp_path / "results"
    told = [
        "evaluate",
        "--model",
        "isic2019",
        "--data",
        str(dataset_folder),
        "--subset",
        subset.name,
    ]
    assert main([*told, "--output", str(results)]) == 0
    measured = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    assert measured["n"] == measured["n_by_class"]["DF"] == len(wanted)
    assert set(pd.read_csv(results / "predictions.csv")["image"]) == set(wanted["image"])
