"""What a real browser opens from the Performance page: the images of a cell that is clicked, and the report."""

import re

import pytest

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


def test_a_cell_that_is_clicked_opens_the_images_that_the_predictions_put_there(
    data_at_hand, page, tmp_path
):
    with serving(tmp_path / "log.txt") as address:
        page.goto(f"{address}/performance")
        page.get_by_role("heading", name="Errors by clinical cost").wait_for()
        pick(page, "Images", "drawn")
        pick(page, "Split", "All images")
        page.get_by_role("button", name=re.compile("Evaluate [0-9,]+ images")).click()
        page.get_by_role("heading", name="Errors by clinical cost").wait_for(timeout=200_000)
        settle(page)

        folder = evaluation_folder(record.read_record(record.find_model("isic2019")), data_at_hand)
        said = read_predictions(folder / PREDICTIONS_FILE)
        tops, truth = said.idxmax(axis=1), data_at_hand.table.set_index("image")["diagnosis"]
        cells = {(truth[image], tops[image]) for image in said.index} - {("MEL", "NV")}
        true_code, said_code = max(
            cells, key=lambda cell: ((truth == cell[0]) & (tops == cell[1])).sum()
        )

        points = page.locator(".st-key-confusion .scatterlayer .trace").last.locator("path.point")
        points.nth(CODES.index(true_code) * len(CODES) + CODES.index(said_code)).click(force=True)
        inside = said.index[(truth == true_code) & (tops == said_code)]
        page.get_by_text(re.compile(rf"^{len(inside)} images: .*{true_code}, predicted")).wait_for()
        surest = said.loc[inside, said_code].sort_values(ascending=False).index[:12]
        pictures = page.locator(".st-key-cell .tiles-picture")
        pictures.nth(len(surest) - 1).wait_for()
        settle(page)
        opened = {
            pictures.nth(place).get_attribute("alt").split(",")[0]
            for place in range(pictures.count())
        }
        assert opened == set(surest)
        page.goto(
            "about:blank"
        )  # before the server ends, whose silence would be an error in the console


def test_the_report_of_the_page_opens_from_the_disk_and_draws_its_charts(server, page, tmp_path):
    page.goto(f"{server}/performance")
    page.get_by_role("heading", name="Errors by clinical cost").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download report", exact=True).click()
    file = tmp_path / "report.html"
    download.value.save_as(file)
    assert download.value.suggested_filename == "isic2019_on_isic2019.html"
    inks = {}
    for scheme in ("light", "dark"):
        for width in (1440, 800):
            alone = page.context.browser.new_context(
                offline=True, color_scheme=scheme, viewport={"width": width, "height": 900}
            )
            report, asked, said = alone.new_page(), [], []
            report.on("request", lambda request, asked=asked: asked.append(request.url))
            report.on("console", lambda message, said=said: said.append(message.text))
            report.on("pageerror", lambda error, said=said: said.append(str(error)))
            report.goto(file.as_uri())
            charts = report.locator("figure")
            assert charts.count() == 8
            for place in range(8):
                charts.nth(place).locator("svg.main-svg").first.wait_for()
                assert charts.nth(place).locator("figcaption").inner_text()
            assert report.evaluate("document.documentElement.scrollWidth") <= width
            title = report.locator("figure text.xtitle").first
            inks[scheme] = title.evaluate("text => getComputedStyle(text).fill")
            assert inks[scheme] == report.evaluate("getComputedStyle(document.body).color")
            assert asked == [file.as_uri()]
            assert said == []
            alone.close()
    assert inks["light"] != inks["dark"]
