import base64
import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from cadlib.metrics.operating_point import two_digits
from cadlib.taxonomy import diagnosis
from tests.browser.conftest import settle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

INTENDED_USE = "It is not a diagnosis"
TRANSFER = """(files) => {
  const data = new DataTransfer();
  for (const [name, type, content] of files) {
    data.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name, { type }));
  }
  return data;
}"""


def transfer(page, *files):
    """Return the browser's parcel of files given as (name, type, bytes)."""
    return page.evaluate_handle(
        TRANSFER, [[name, kind, base64.b64encode(data).decode()] for name, kind, data in files]
    )


def drop(page, *files):
    """Drop files given as (name, type, bytes) on the uploader in one go, as a hand does."""
    zone = page.locator("[data-testid=stFileUploaderDropzone]")
    zone.wait_for()
    data = transfer(page, *files)
    for event in ("dragenter", "dragover", "drop"):
        zone.dispatch_event(event, {"dataTransfer": data})


def ask_all_the_same(page):
    """Ask for the answer that is withheld on a picture that cannot be read."""
    page.get_by_text("No reliable result is possible for this image").first.wait_for()
    settle(page)
    page.get_by_text("Show the result anyway").click()


@pytest.mark.parametrize("path", ["diagnose", "saliency", "dataset", "performance", "training"])
def test_a_deep_link_to_a_cold_server_shows_the_intended_use_and_the_model(cold_server, page, path):
    page.goto(f"{cold_server}/{path}")
    page.get_by_text(INTENDED_USE).first.wait_for()
    page.get_by_text("Model isic2019").first.wait_for()
    title = {"dataset": "Data set"}.get(path, path.title())
    page.get_by_role("heading", name=title, exact=True).first.wait_for()


def check_chart(page, expected) -> None:
    """Check that the chart has each diagnosis with its probability."""
    chart = page.locator(".st-key-confidence")
    chart.locator(".js-plotly-plot").wait_for()
    text = chart.inner_text()
    for code, probability in expected.ranking():
        assert code in text
        assert two_digits(probability) in text


def explain_instead(page, code) -> None:
    """Select another diagnosis for the saliency map, and wait for the new map."""
    # The slower map replaces the first one.
    heatmap = page.get_by_alt_text("Saliency map, RISE", exact=False)
    heatmap.wait_for()
    before = heatmap.get_attribute("src")
    assert heatmap.evaluate("image => image.naturalWidth") > 100
    settle(page)
    page.get_by_role("combobox", name="Saliency map for").click()
    page.get_by_role("option", name=f"{code} {diagnosis(code).name}", exact=True).click()
    page.wait_for_function(
        "([alt, src]) => document.querySelector(alt).src !== src",
        arg=["img[alt^='Saliency map']", before],
    )
    settle(page)


def check_tables(page, name, expected) -> None:
    """Check the result of one image in the CSV and in the JSON file."""
    table = download_of(page, "Download CSV").path().read_text()
    [row] = csv.DictReader(io.StringIO(table))
    assert row["file"] == name
    probability = float(row["malignant_probability"])
    assert probability == pytest.approx(expected.malignant_probability, abs=1e-4)
    [result] = json.loads(download_of(page, "Download JSON").path().read_text())
    assert result["image_sha256"] == expected.image_sha256
    assert result["diagnosis"] == expected.ranking()[0][0]


def download_of(page, label):
    """Press a button; return the download that it starts."""
    with page.expect_download() as download:
        page.get_by_role("button", name=label).click()
    return download.value


def test_a_real_picture_is_dropped_read_explained_and_downloaded(server, page, model, data_dir):
    path = data_dir / "uploads" / "ISIC_0000521.jpg"
    expected = model.predict(path)
    page.goto(server)
    drop(page, (path.name, "image/jpeg", path.read_bytes()))

    risk = two_digits(expected.malignant_probability)
    page.get_by_text(f"malignant probability {risk}").first.wait_for()
    check_chart(page, expected)
    second = expected.ranking()[1][0]
    explain_instead(page, second)

    overlay = download_of(page, "Download overlay")
    assert overlay.suggested_filename == f"ISIC_0000521_{second}_rise.png"
    with Image.open(overlay.path()) as saved, Image.open(path) as original:
        assert (saved.format, saved.size) == ("PNG", original.size)

    check_tables(page, path.name, expected)


@pytest.fixture
def photograph(server, page, data_dir) -> Path:
    """Return the path of a photograph that the page has read."""
    path = data_dir / "uploads" / "ISIC_0024310.jpg"
    page.goto(server)
    drop(page, (path.name, "image/jpeg", path.read_bytes()))
    page.locator(".viewer-stage").focus()
    settle(page)
    return path


def test_the_image_is_zoomed_moved_and_uncovered_by_keys(page, photograph):
    stage = page.locator(".viewer-stage")
    sheet = page.locator(".viewer-sheet")
    scale = page.locator(".viewer-scale")
    for _ in range(3):
        stage.press("+")
    assert scale.inner_text() == "195 %"
    before = sheet.get_attribute("style")
    stage.press("ArrowRight")
    assert sheet.get_attribute("style") != before
    stage.press("0")
    assert scale.inner_text() == "100 %"
    heat = page.locator(".viewer-heat")
    stage.press("h")
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "0"
    stage.press("h")
    assert heat.evaluate("image => getComputedStyle(image).opacity") == "0.6"


def test_the_overlay_is_saved_with_the_opacity_of_the_viewer(page, photograph):
    scale = page.locator(".viewer-scale")
    page.locator(".viewer-stage").dblclick(position={"x": 40, "y": 40})
    assert scale.inner_text() == "300 %"
    page.locator(".viewer-opacity").press("Home")
    page.locator('.viewer[data-opacity="0"]').wait_for()
    settle(page)
    # The response of the server does not change the zoom.
    assert scale.inner_text() == "300 %"
    overlay = download_of(page, "Download overlay")
    with Image.open(overlay.path()) as saved, Image.open(photograph) as original:
        assert saved.convert("RGB").tobytes() == original.convert("RGB").tobytes()


def test_the_keyboard_reaches_everything_on_the_answer(server, page, data_dir):
    path = data_dir / "uploads" / "ISIC_0024310.jpg"
    page.goto(server)
    drop(page, (path.name, "image/jpeg", path.read_bytes()))
    page.locator(".viewer-stage").wait_for()
    settle(page)
    name_of_focus = """() => { const e = document.activeElement;
        return e.getAttribute("aria-label") || e.innerText || e.getAttribute("placeholder") || e.tagName; }"""
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate(name_of_focus).strip())
    names = "\n".join(reached)
    for name in (
        "Upload",
        "Try a synthetic lesion",
        "Camera",
        "Image: plus and minus zoom",
        "Saliency map",
        "Saliency map opacity",
        "Zoom in",
        "Zoom out",
        "Fit",
        "Saliency map for",
        "Method",
        "Download overlay",
        "balanced",
        "Share of malignant lesions",
        "checks",
        "Download CSV",
        "Download JSON",
        "Remove image",
    ):
        assert name in names, f"{name} is not among {sorted(reached)}"


def test_late_results_do_not_move_the_page(server, page, data_dir):
    path = data_dir / "uploads" / "ISIC_0000521.jpg"
    page.goto(server)
    drop(page, (path.name, "image/jpeg", path.read_bytes()))
    page.get_by_text("Rotated and mirrored").wait_for()
    places = "() => [...document.querySelectorAll('h3, .viewer, .st-key-confidence, [data-testid=stExpander]')]"
    places += ".map((one) => one.getBoundingClientRect().top)"
    page.locator(".st-key-confidence .js-plotly-plot .bars").first.wait_for()
    page.locator(".viewer-picture").wait_for()
    before = page.evaluate(places)
    assert len(before) == 4
    page.get_by_text("same top diagnosis in").wait_for()
    settle(page)
    # What comes below the result, such as "Store case", moves nothing.
    assert page.evaluate(places)[: len(before)] == before


def test_a_picture_is_pasted(server, page, model, data_dir):
    content = (data_dir / "uploads" / "ISIC_0024310.jpg").read_bytes()
    page.goto(server)
    page.locator("[data-testid=stFileUploaderDropzone]").wait_for()
    parcel = transfer(page, ("image.jpg", "image/jpeg", content))
    paste = "(data) => document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true }))"
    page.evaluate(paste, parcel)
    page.get_by_text(
        f"malignant probability {two_digits(model.predict(content).malignant_probability)}"
    ).first.wait_for()


def test_the_camera_takes_a_picture_that_is_read(server, page):
    page.context.grant_permissions(["camera"], origin=server)
    page.goto(server)
    page.get_by_text("Drop one or more").wait_for()
    settle(page)
    page.get_by_role("button", name="Camera").click()
    # the button may be there before the first frame is, and with it a picture to take
    page.wait_for_function("document.querySelector('video')?.readyState >= 2")
    page.get_by_role("button", name="Take Photo").click()
    ask_all_the_same(page)  # Chromium's drawn camera shows no lesion
    page.get_by_text("referral threshold 0.").first.wait_for()
    picture = page.get_by_alt_text("Image camera", exact=False)
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") > 100


def read_photographs(data_dir) -> dict[str, bytes]:
    """Return the photographs of the folder of uploads, by file name."""
    paths = sorted((data_dir / "uploads").glob("*.jpg"))
    return {path.name: path.read_bytes() for path in paths}


def test_twenty_files_at_once_are_read_or_stay_with_their_reason(server, page, model, data_dir):
    photographs = read_photographs(data_dir)
    assert len(photographs) == 16
    damaged = {
        "letter.jpg": b"%PDF-1.4",
        "cut.jpg": photographs["ISIC_0024310.jpg"][:20_000],
        "empty.png": b"",
        "noise.webp": bytes(range(256)),
    }
    page.goto(server)
    files = {**photographs, **damaged}
    drop(page, *((name, "image/*", content) for name, content in files.items()))

    risks = [model.predict(content).malignant_probability for content in photographs.values()]
    risk = two_digits(max(risks))
    page.get_by_text(f"malignant probability {risk}").first.wait_for()
    page.get_by_text(
        "20 files, highest malignant probability first · 4 with a file error"
    ).wait_for()
    strip = page.locator(".st-key-strip")
    assert strip.locator("[class*=st-key-choose-]").count() == 20
    assert strip.get_by_role("button", name="file error").count() == 4
    page.get_by_alt_text("Saliency map, ", exact=False).wait_for()
    settle(page)
    strip.locator("[class*=st-key-tile-]").filter(has_text="PDF").get_by_role("button").click()
    page.get_by_text("letter.jpg: ").wait_for()


def test_a_click_opens_a_synthetic_lesion_with_its_name(server, page):
    page.goto(server)
    page.get_by_role("button", name="Try a synthetic lesion").click()
    page.get_by_text("referral threshold 0.").first.wait_for()
    page.get_by_text("synthetic_MEL_1.png").first.wait_for()


def test_a_synthetic_lesion_reaches_the_saliency_page(server, page):
    page.goto(f"{server}/saliency")
    page.get_by_role("button", name="Try a synthetic lesion").click()
    page.get_by_text("EigenCAM").first.wait_for()
    page.get_by_text("not class-specific").first.wait_for()
    page.get_by_alt_text("RISE for", exact=False).first.wait_for()


def test_the_dataset_page_filters_real_samples_and_opens_one(server, page, data_dir):
    page.goto(f"{server}/dataset")
    page.get_by_text("24,141 images", exact=True).wait_for()
    page.locator(".tiles-picture").nth(23).wait_for()
    settle(page)
    page.get_by_role("button", name="DF 226").click()
    page.get_by_text("226 images", exact=True).wait_for()
    settle(page)
    page.locator(".tiles-tile").filter(has_text="● DF").nth(23).wait_for()
    page.locator(".tiles-tile").first.click()
    page.get_by_role("dialog").get_by_alt_text("Image ISIC_", exact=False).wait_for()
    settle(page)
    page.get_by_text("Show model result").click()
    page.get_by_alt_text("Saliency map, ").wait_for()


def test_the_uploaded_picture_leaves_without_its_metadata(server, page, tmp_path):
    picture = Image.new("RGB", (128, 96), (200, 150, 130))
    exif = picture.getexif()
    exif[0x0110] = "SecretCamera"
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    page.goto(server)
    drop(page, ("plain.jpg", "image/jpeg", buffer.getvalue()))
    ask_all_the_same(page)  # one colour
    page.get_by_text("referral threshold 0.").first.wait_for()
    original = page.get_by_alt_text("Image plain.jpg")
    original.wait_for()
    assert b"SecretCamera" in buffer.getvalue()
    source = original.evaluate("image => image.src")
    assert source.startswith("data:image/jpeg;base64,")
    assert b"SecretCamera" not in base64.b64decode(source.partition(",")[2])
