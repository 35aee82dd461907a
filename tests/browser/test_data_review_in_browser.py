"""The suspects of a data set are worked through in a real browser: by keys, and kept over a reload."""

import pandas as pd
import pytest

from cadlib.label_review import Suspects, keep
from cadlib.label_review.lists import findings
from cadlib.model.record import find_model, read_record
from tests.browser.conftest import settle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def doubted(data_at_hand) -> list[str]:
    """Return the images with doubted labels in the saved lists, the worst first."""
    images = data_at_hand.table["image"][:4].tolist()
    doubt_of_label = {"kind": "doubted labels", "diagnosis": "NV", "suggested": "BCC", "why": "why"}
    rows = [
        {**doubt_of_label, "image": image, "score": 1 - n / 10} for n, image in enumerate(images)
    ]
    model_id = read_record(find_model("isic2019")).model_id
    suspects = Suspects(data_at_hand.name, model_id, "now", 96, 96, findings(rows))
    keep(suspects, data_at_hand)
    return images


def open_suspects(page, server: str) -> None:
    page.goto(f"{server}/dataset")
    page.locator(".tiles-picture").nth(23).wait_for()
    settle(page)
    page.locator(".st-key-view").get_by_text("Data review").click()
    page.get_by_text("of 4 done").wait_for()
    settle(page)


def pictures(page) -> list[str]:
    """Return the ids of the images on the page."""
    ids: list[str] = page.get_by_alt_text("ISIC").evaluate_all(
        "all => all.map((one) => one.alt.split(',')[0])"
    )
    return ids


def judge_by_keys(page) -> None:
    """Judge the first label wrong, the second right, and undo a verdict on the third."""
    page.get_by_text("0 of 4 done").wait_for()
    for done, key in ((1, "2"), (2, "1"), (3, "3"), (2, "z")):
        page.keyboard.press(key)
        page.get_by_text(f"{done} of 4 done").wait_for()
        settle(page)


def test_a_verdict_by_key_survives_a_reload_and_is_in_the_csv(doubted, cold_server, page, tmp_path):
    open_suspects(page, cold_server)
    judge_by_keys(page)
    # A second session shows the saved verdicts.
    open_suspects(page, cold_server)
    page.get_by_text("2 of 4 done").wait_for()
    assert pictures(page) == doubted[2:]
    page.locator(".st-key-suspects-which").get_by_text("Done").click()
    page.locator("button[kind=primary]", has_text="Label wrong").wait_for()
    settle(page)
    assert pictures(page) == doubted[:2]
    correct_label = page.get_by_role("combobox", name="Correct label")
    assert correct_label.input_value() == "correct label: ▲ BCC Basal cell carcinoma"
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all (CSV)").click()
    table = pd.read_csv(download.value.path()).set_index("image")
    assert table["verdict"].dropna().to_dict() == {
        doubted[0]: "label is wrong",
        doubted[1]: "label is right",
    }
    assert table["should_be"].dropna().to_dict() == {doubted[0]: "BCC"}
    assert (tmp_path / "verdicts" / "drawn.csv").exists()


def test_keys_judge_the_enlarged_image_and_then_the_next(doubted, cold_server, page):
    open_suspects(page, cold_server)
    dialog = page.get_by_role("dialog")
    for _ in range(2):
        page.get_by_role("button", name="Enlarge").nth(2).click()
        dialog.get_by_alt_text(f"Image {doubted[2]}").wait_for()
        settle(page)
        page.keyboard.press("Escape")
        dialog.wait_for(state="detached")
        settle(page)
    page.get_by_role("button", name="Enlarge").nth(2).click()
    dialog.get_by_alt_text(f"Image {doubted[2]}").wait_for()
    settle(page)
    page.keyboard.press("2")
    dialog.get_by_alt_text(f"Image {doubted[3]}").wait_for()
    settle(page)
    page.keyboard.press("1")
    dialog.wait_for(state="detached")  # there is no other
    page.get_by_text("2 of 4 done").wait_for()
    settle(page)
    assert pictures(page) == doubted[:2]
    page.keyboard.press("3")
    page.get_by_text("3 of 4 done").wait_for()
    settle(page)
    assert pictures(page) == doubted[1:2]
