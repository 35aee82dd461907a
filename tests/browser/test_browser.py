import base64
import csv
import io
import json

import pytest
from PIL import Image

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

INTENDED_USE = "Computer-aided, not a diagnosis"
DROP = """([name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  return data;
}"""


def drop(page, *files):
    """Drop files given as (name, type, bytes) on the uploader, as a hand does."""
    zone = page.locator("[data-testid=stFileUploaderDropzone]")
    zone.wait_for()
    for name, kind, content in files:
        data = page.evaluate_handle(DROP, [name, kind, base64.b64encode(content).decode()])
        for event in ("dragenter", "dragover", "drop"):
            zone.dispatch_event(event, {"dataTransfer": data})


def settled(page):
    """Wait until the page has run to its end."""
    page.wait_for_function(
        "() => document.querySelector('[data-testid=stApp]')?.getAttribute('data-test-script-state') === 'notRunning'"
    )


@pytest.mark.parametrize("path", ["diagnose", "saliency", "dataset", "performance"])
def test_a_deep_link_to_a_cold_server_shows_the_intended_use_and_the_model(server, page, path):
    page.goto(f"{server}/{path}")
    page.get_by_text(INTENDED_USE).first.wait_for()
    page.get_by_text("Model isic2019").first.wait_for()
    assert page.get_by_role("heading", level=1).inner_text().lower() == path


def test_a_real_picture_is_dropped_read_explained_and_downloaded(server, page, model, data_dir):
    path = data_dir / "uploads" / "ISIC_0000521.jpg"
    expected = model.predict(path)
    page.goto(server)
    drop(page, (path.name, "image/jpeg", path.read_bytes()))

    page.get_by_text(f"malignant probability {expected.malignant_probability:.2f}").first.wait_for()
    chart = page.locator(".st-key-confidence")
    chart.locator(".js-plotly-plot").wait_for()
    shown = chart.inner_text()
    for code, probability in expected.ranking():
        assert code in shown
        assert ("<0.01" if probability < 0.005 else f"{probability:.2f}") in shown

    heatmap = page.get_by_alt_text("Heatmap, Grad-CAM", exact=False)
    heatmap.wait_for()
    before = heatmap.get_attribute("src")
    assert heatmap.evaluate("image => image.naturalWidth") > 100

    second = expected.ranking()[1][0]
    page.get_by_role("combobox", name="Evidence for").click()
    page.get_by_role("option", name=second).click()
    page.wait_for_function("([alt, src]) => document.querySelector(alt).src !== src", arg=["img[alt^=Heatmap]", before])

    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    assert [row["file"] for row in rows] == [path.name]
    assert float(rows[0]["malignant_probability"]) == pytest.approx(expected.malignant_probability, abs=1e-4)

    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    (found,) = json.loads(download.value.path().read_text())
    assert found["image_sha256"] == expected.image_sha256
    assert found["diagnosis"] == expected.ranking()[0][0]


def test_broken_files_stay_with_their_reason_and_disturb_nothing(server, page, data_dir):
    whole = (data_dir / "uploads" / "ISIC_0024310.jpg").read_bytes()
    page.goto(server)
    drop(page, ("whole.jpg", "image/jpeg", whole))
    page.get_by_text("malignant probability").first.wait_for()
    drop(page, ("letter.jpg", "image/jpeg", b"%PDF-1.4"))
    page.get_by_text("PDF").first.wait_for()
    drop(page, ("cut.jpg", "image/jpeg", whole[: len(whole) // 2]))
    page.get_by_text("not read").nth(1).wait_for()
    assert page.get_by_text("malignant probability").count() >= 0
    assert page.locator(".st-key-strip").get_by_role("button").count() == 3


def test_a_synthetic_lesion_is_a_click_away_and_says_what_it_is(server, page):
    page.goto(server)
    page.get_by_role("button", name="Try a synthetic lesion").click()
    page.get_by_text("malignant probability").first.wait_for()
    page.get_by_text("synthetic_MEL_1.png").first.wait_for()


def test_a_synthetic_lesion_reaches_the_saliency_page(server, page):
    page.goto(f"{server}/saliency")
    page.get_by_role("button", name="Try a synthetic lesion").click()
    page.get_by_text("EigenCAM").first.wait_for()
    page.get_by_text("not class-specific").first.wait_for()
    page.get_by_alt_text("HiResCAM for", exact=False).first.wait_for()


def test_the_dataset_page_filters_real_samples_and_opens_one(server, page, data_dir):
    page.goto(f"{server}/dataset")
    page.get_by_text("24,141 pictures").wait_for()
    page.get_by_role("button", name="DF 226").click()
    page.get_by_text("226 pictures").wait_for()
    page.get_by_role("button", name="DF", exact=False).nth(2).wait_for()
    page.locator("[class*=st-key-open-ISIC]").first.get_by_role("button").click()
    page.get_by_role("button", name="Ask the model").click()
    page.get_by_alt_text("Heatmap of the top diagnosis").wait_for()


def test_the_uploaded_picture_leaves_without_its_metadata(server, page, tmp_path):
    picture = Image.new("RGB", (128, 96), (200, 150, 130))
    exif = picture.getexif()
    exif[0x0110] = "SecretCamera"
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    page.goto(server)
    drop(page, ("plain.jpg", "image/jpeg", buffer.getvalue()))
    page.get_by_text("malignant probability").first.wait_for()
    original = page.get_by_alt_text("The picture plain.jpg")
    original.wait_for()
    assert b"SecretCamera" in buffer.getvalue()
    assert b"SecretCamera" not in page.request.get(original.evaluate("image => image.src")).body()
