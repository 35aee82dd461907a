"""Opens a clicked cell and the report of the Performance page in a real browser."""

import re
import shutil
from pathlib import Path

import pytest

from cadlib.data.dataset import open_dataset
from cadlib.data.predictions_csv import PREDICTIONS_FILE, read_predictions
from cadlib.evaluation.cached import evaluation_folder
from cadlib.model import record
from cadlib.taxonomy import CODES
from tests.browser.conftest import serving, settle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def pick(page, label, option):
    settle(page)
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


@pytest.fixture
def few_at_hand(drawn_images, tmp_path, monkeypatch):
    """Return 32 drawn lesions where a server that is started now finds them, with an empty cache.

    They have no age, sex and site, because the intervals of subgroups take most of an evaluation.
    """
    folder = Path(shutil.copytree(drawn_images, tmp_path / "data" / "drawn"))
    next(folder.glob("*Metadata.csv")).unlink()
    monkeypatch.setenv("CADLIB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    return open_dataset(folder, verify=False)


def test_a_clicked_cell_opens_the_images_of_its_predictions(few_at_hand, page, tmp_path):
    with serving(tmp_path / "log.txt") as address:
        page.goto(f"{address}/performance")
        page.get_by_role("heading", name="Errors by clinical cost").wait_for()
        pick(page, "Images", "drawn")
        pick(page, "Split", "All images")
        page.get_by_role("button", name=re.compile("Evaluate [0-9,]+ images")).click()
        page.get_by_role("heading", name="Errors by clinical cost").wait_for(timeout=200_000)
        settle(page)

        probabilities = own_predictions(few_at_hand)
        true_code, predicted_code, inside = largest_cell(probabilities, few_at_hand)
        open_cell(page, true_code, predicted_code)
        page.get_by_text(re.compile(rf"^{len(inside)} images: .*{true_code}, predicted")).wait_for()
        surest = probabilities.loc[inside, predicted_code].sort_values(ascending=False).index[:12]
        assert opened_images(page, len(surest)) == set(surest)
        # When the server ends, an open page would report an error in the console.
        page.goto("about:blank")


def opened_images(page, n_images):
    """Return the ids of the images of the opened cell, once there are so many."""
    pictures = page.locator(".st-key-cell .tiles-picture")
    pictures.nth(n_images - 1).wait_for()
    settle(page)
    texts = [pictures.nth(place).get_attribute("alt") for place in range(pictures.count())]
    return {text.split(",")[0] for text in texts}


def own_predictions(data):
    """Return the probabilities of the page's evaluation, by image."""
    folder = evaluation_folder(record.read_record(record.find_model("isic2019")), data)
    return read_predictions(folder / PREDICTIONS_FILE)


def largest_cell(probabilities, data):
    """Return the true code, the predicted code and the images of the largest cell but the first opened."""
    predicted = probabilities.idxmax(axis=1)
    truth = data.table.set_index("image")["diagnosis"]
    images_of = {}
    for image in probabilities.index:
        images_of.setdefault((truth[image], predicted[image]), []).append(image)
    images_of.pop(("MEL", "NV"), None)
    true_code, predicted_code = max(images_of, key=lambda cell: len(images_of[cell]))
    return true_code, predicted_code, images_of[true_code, predicted_code]


def open_cell(page, true_code, predicted_code):
    """Click a cell of the confusion matrix."""
    points = page.locator(".st-key-confusion .scatterlayer .trace").last.locator("path.point")
    place = CODES.index(true_code) * len(CODES) + CODES.index(predicted_code)
    points.nth(place).click(force=True)


def test_the_report_of_the_page_opens_from_the_disk_and_draws_its_charts(server, page, tmp_path):
    page.goto(f"{server}/performance")
    page.get_by_role("heading", name="Errors by clinical cost").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download report", exact=True).click()
    file = tmp_path / "report.html"
    download.value.save_as(file)
    assert download.value.suggested_filename == "isic2019_on_isic2019.html"
    # One context: its process compiles the script in the report once.
    context = page.context.browser.new_context(offline=True)
    light = ink_of_report(context, file, "light", 1440)
    dark = ink_of_report(context, file, "dark", 1440)
    assert ink_of_report(context, file, "light", 800) == light
    assert ink_of_report(context, file, "dark", 800) == dark
    assert light != dark
    context.close()


def ink_of_report(context, file, scheme, width):
    """Open a report without a network, check its charts; return the colour of its texts."""
    report = context.new_page()
    report.emulate_media(color_scheme=scheme)
    report.set_viewport_size({"width": width, "height": 900})
    requests = []
    console = []
    report.on("request", lambda request: requests.append(request.url))
    report.on("console", lambda message: console.append(message.text))
    report.on("pageerror", lambda error: console.append(str(error)))
    report.goto(file.as_uri())
    charts = report.locator("figure")
    assert charts.count() == 8
    for place in range(8):
        charts.nth(place).locator("svg.main-svg").first.wait_for()
        assert charts.nth(place).locator("figcaption").inner_text()
    assert report.evaluate("document.documentElement.scrollWidth") <= width
    title = report.locator("figure text.xtitle").first
    ink = title.evaluate("text => getComputedStyle(text).fill")
    assert ink == report.evaluate("getComputedStyle(document.body).color")
    assert requests == [file.as_uri()]
    assert console == []
    return ink
