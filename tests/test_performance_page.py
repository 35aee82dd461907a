"""The Performance page on images of a data set: evaluated behind it, kept, and opened from its figures."""

import shutil
import time
from html import escape
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cadlib import jobs
from cadlib.data.predictions_csv import PREDICTIONS_FILE, read_predictions
from cadlib.data.subsets import Subset, save_subset
from cadlib.evaluation.cached import evaluation_folder
from cadlib.evaluation.image_selection import Part
from cadlib.model import record
from cadlib.taxonomy import CODES
from tests.model_folders import change_record
from tests.page_content import mounted, tiles, words

pytestmark = pytest.mark.usefixtures("few_draws")

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 120


def opened() -> AppTest:
    """Open the page as a click in the menu does."""
    app = AppTest.from_file(str(ROOT / "menu.py"), default_timeout=TIMEOUT_S)
    return app.switch_page("pages/performance.py").run()


def shown(data, split="all", subset=None) -> AppTest:
    """Open the page and choose a part of the data set: a split, a subset, or what both share."""
    page = opened()
    page.selectbox(key="measured-images").set_value(
        str(Path(data.table["path"].iloc[0]).parents[1])
    ).run()
    page.selectbox(key="measured-split").set_value(split)
    page.selectbox(key="measured-subset").set_value(subset).run()
    assert not page.exception
    return page


def waited(page: AppTest, model: str = "isic2019") -> AppTest:
    """Ask for the evaluation and wait until it has ended, as a reader does."""
    page.button(key=f"evaluate-{model}").click().run()
    assert not page.exception
    deadline = time.monotonic() + TIMEOUT_S
    while any(not job.ended for job in jobs._jobs.values()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return page.run()


def kept(data, name="isic2019"):
    """Return the predictions.csv of an evaluation, the eight probabilities by image."""
    folder = evaluation_folder(record.read_record(record.find_model(name)), data)
    return read_predictions(folder / PREDICTIONS_FILE)


@pytest.mark.timeout(300)
def test_evaluates_in_the_background_and_cells_open_their_images(data_at_hand):
    page = shown(data_at_hand)
    assert not page.metric
    page = waited(page)
    assert not page.exception
    assert page.metric[0].label == "Balanced accuracy"
    assert "96 labelled images" in words(page)
    said = kept(data_at_hand)
    truth = data_at_hand.table.set_index("image")["diagnosis"]
    tops = said.idxmax(axis=1)
    for true_code, said_code in {(truth[image], tops[image]) for image in said.index[:40]}:
        page.selectbox(key="cell-truth").set_value(true_code).run()
        page.selectbox(key="cell-predicted").set_value(said_code).run()
        inside = said[(truth == true_code) & (tops == said_code)]
        assert mounted(page, "tiles", "cell")[0]["about"].startswith(f"{len(inside)} images: ")
        first = inside[said_code].sort_values(ascending=False).index[:12]
        assert [tile["image"] for tile in tiles(page, "cell")] == list(first)
    again = shown(data_at_hand)  # another session: nothing is asked anew
    assert again.metric
    assert not [button for button in again.button if button.key.startswith("evaluate")]


@pytest.mark.timeout(300)
def test_a_subset_is_evaluated_and_the_slider_updates_all_tables(data_at_hand):
    images = tuple(data_at_hand.table["image"][::2])
    save_subset(Subset("half split", "drawn", images, "every other"))
    page = waited(shown(data_at_hand, subset="half split"))
    assert "“half split”" in words(page)
    assert "48 labelled images" in words(page)
    slider = next(one for one in page.select_slider if one.key.startswith("threshold"))
    before = page.table[0].value
    page = slider.set_value(len(slider.options) - 1).run()
    after = page.table[0].value
    assert not page.exception
    assert (before.iloc[:2, 1] != after.iloc[:2, 1]).any()
    page.number_input(key="judged-prevalence").set_value(1.0).run()
    assert "at 1.0 % malignant lesions" in page.table[0].value.iloc[2, 2]
    assert len(page.get("plotly_chart")) >= 6


@pytest.mark.timeout(300)
def test_a_split_and_a_subset_are_combined_and_described(
    drawn_model_folder, drawn_dataset, tmp_path, monkeypatch
):
    monkeypatch.setenv("CADLIB_DATA", str(tmp_path / "split"))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "models").mkdir()
    drawn_model_folder.rename(tmp_path / "models" / "isic2019")
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    images = drawn_dataset.table["image"].tolist()
    half = Subset("half", "drawn", (*images[:16],), "the first four diagnoses")
    save_subset(half)
    save_subset(Subset("learnt", "drawn", (*images[::4],), "the first of each diagnosis"))
    page = waited(shown(drawn_dataset, "test", "half"))
    assert "on the subset “half” within the test split of drawn, 4 labelled images" in words(page)
    assert "These images were not used for training" in words(page)
    folder = record.find_model("isic2019")
    both = Part("test", half).of(folder, record.read_record(folder), drawn_dataset)
    assert kept(both).index.tolist() == images[3:16:4]
    page = waited(shown(drawn_dataset, "train", "half"))
    assert (
        ":orange[**The model was trained on these images, so these results are too optimistic.**]"
        in words(page)
    )
    page = shown(drawn_dataset, "test", "learnt")
    assert "choose another split or another subset" in page.error[0].value
    assert not page.metric


@pytest.mark.timeout(300)
def test_a_failed_evaluation_shows_the_reason_and_a_retry(data_at_hand, monkeypatch):
    def broken(*_):
        raise OSError("no room on the disk")

    monkeypatch.setattr("cadlib.evaluation.cached.make_evaluation", broken)
    page = waited(shown(data_at_hand))
    assert "no room on the disk" in page.error[0].value.replace("\\", "")
    assert page.button(key="evaluate-isic2019")


@pytest.mark.timeout(300)
def test_two_models_are_compared_on_the_same_images(data_at_hand, tmp_path, monkeypatch):
    models = tmp_path / "models"
    for name in ("isic2019", "twin"):
        shutil.copytree(record.find_model("isic2019"), models / name)
    change_record(models / "twin", {"name": "twin", "bias": [8.0, *[0.0] * (len(CODES) - 1)]})
    monkeypatch.setenv("CADLIB_MODELS", str(models))
    reports = []
    monkeypatch.setattr(
        "streamlit.download_button", lambda _, rendered, *__, **___: reports.append(rendered)
    )
    page = waited(shown(data_at_hand))
    assert "Comparison with" not in reports[-1]()
    page.selectbox(key="other-model").set_value("twin").run()
    page = waited(page, "twin")
    assert not page.exception
    tables = [table.value for table in page.table]
    tests = next(table for table in tables if "McNemar's test" in table)
    truth = data_at_hand.table.set_index("image")["diagnosis"]
    one, two = ((kept(data_at_hand, name).idxmax(axis=1) == truth) for name in ("isic2019", "twin"))
    # another bias is another model, though its weights are the same
    assert [tests["Only isic2019 correct"].iloc[0], tests["Only twin correct"].iloc[0]] == [
        str((one & ~two).sum()),
        str((two & ~one).sum()),
    ]
    report = page.run() and reports[-1]()
    assert "Comparison with twin" in report
    for table in tables:
        if "Better" in table or "McNemar's test" in table:
            assert all(
                f"<td>{escape(cell)}</td>" in report for cell in table.to_numpy()[:, 1:].ravel()
            )
    said = "twin: No image ID matches the images used for training, calibration or thresholds."
    assert said in words(page).replace("\\", "")
    assert said in report


def test_without_a_data_set_the_page_shows_the_models_own_metrics(monkeypatch):
    monkeypatch.delenv("CADLIB_DATA", raising=False)
    page = opened()
    assert not page.exception
    assert page.selectbox(key="measured-images").options == ["Model's own results"]
    assert "To view images, select a data set above" in words(page)
    assert "Results on unseen archives" in words(page)
    slider = next(one for one in page.select_slider if one.key.startswith("threshold"))
    assert slider.value is not None
    assert "0.939" in page.table[0].value.iloc[0, 1]
