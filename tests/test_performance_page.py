"""The Performance page on images of a data set: evaluated behind it, kept, and opened from its metrics."""

import shutil
import time
from html import escape
from pathlib import Path

import pandas as pd
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


def open_part(data, split="all", subset=None) -> AppTest:
    """Open the page and choose a part of the data set: a split, a subset, or both."""
    page = opened()
    folder = Path(data.table["path"].iloc[0]).parents[1]
    page.selectbox(key="measured-images").set_value(str(folder)).run()
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


def predictions_of(data, name="isic2019"):
    """Return the predictions.csv of an evaluation, the eight probabilities by image."""
    folder = evaluation_folder(record.read_record(record.find_model(name)), data)
    return read_predictions(folder / PREDICTIONS_FILE)


@pytest.mark.timeout(300)
def test_evaluates_in_the_background_and_cells_open_their_images(data_at_hand):
    page = open_part(data_at_hand)
    assert not page.metric
    page = waited(page)
    assert not page.exception
    assert page.metric[0].label == "Balanced accuracy"
    assert "96 labelled images" in words(page)
    check_cells(page, data_at_hand)
    # A second session reuses the results.
    second_page = open_part(data_at_hand)
    assert second_page.metric
    assert not [button for button in second_page.button if button.key.startswith("evaluate")]


def check_cells(page, data) -> None:
    """Check that each cell of the confusion matrix opens its images, the most probable first."""
    probabilities = predictions_of(data)
    truth = data.table.set_index("image")["diagnosis"]
    predicted = probabilities.idxmax(axis=1)
    cells = {(truth[image], predicted[image]) for image in probabilities.index[:40]}
    for true_code, predicted_code in cells:
        page.selectbox(key="cell-truth").set_value(true_code).run()
        page.selectbox(key="cell-predicted").set_value(predicted_code).run()
        inside = probabilities[(truth == true_code) & (predicted == predicted_code)]
        assert mounted(page, "tiles", "cell")[0]["about"].startswith(f"{len(inside)} images: ")
        first = inside[predicted_code].sort_values(ascending=False).index[:12]
        assert [tile["image"] for tile in tiles(page, "cell")] == list(first)


@pytest.mark.timeout(300)
def test_a_subset_is_evaluated_and_the_slider_updates_all_tables(data_at_hand):
    images = tuple(data_at_hand.table["image"][::2])
    save_subset(Subset("half split", "drawn", images, "every other"))
    page = waited(open_part(data_at_hand, subset="half split"))
    assert "“half split”" in words(page)
    assert "48 labelled images" in words(page)
    slider = next(slider for slider in page.select_slider if slider.key.startswith("threshold"))
    before = page.table[0].value
    page = slider.set_value(len(slider.options) - 1).run()
    after = page.table[0].value
    assert not page.exception
    assert (before.iloc[:2, 1] != after.iloc[:2, 1]).any()
    page.number_input(key="judged-prevalence").set_value(1.0).run()
    assert "at 1.0 % malignant lesions" in page.table[0].value.iloc[2, 2]
    assert len(page.get("plotly_chart")) >= 6


@pytest.fixture
def split_at_hand(drawn_model_folder, drawn_dataset, tmp_path, monkeypatch):
    """Return a data set that the page finds, with the model that was trained on a part of it."""
    monkeypatch.setenv("CADLIB_DATA", str(tmp_path / "split"))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "models").mkdir()
    drawn_model_folder.rename(tmp_path / "models" / "isic2019")
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    return drawn_dataset


@pytest.mark.timeout(300)
def test_a_split_and_a_subset_are_combined_and_described(split_at_hand):
    drawn_dataset = split_at_hand
    images = drawn_dataset.table["image"].tolist()
    half = Subset("half", "drawn", (*images[:16],), "the first four diagnoses")
    save_subset(half)
    page = waited(open_part(drawn_dataset, "test", "half"))
    assert "on the subset “half” within the test split of drawn, 4 labelled images" in words(page)
    assert "These images were not used for training" in words(page)
    folder = record.find_model("isic2019")
    both = Part("test", half).of(folder, record.read_record(folder), drawn_dataset)
    assert predictions_of(both).index.tolist() == images[3:16:4]
    page = waited(open_part(drawn_dataset, "train", "half"))
    warning = (
        ":orange[**The model was trained on these images, so these results are too optimistic.**]"
    )
    assert warning in words(page)


def test_a_split_and_a_subset_without_a_common_image_are_refused(split_at_hand):
    images = split_at_hand.table["image"].tolist()
    save_subset(Subset("trained on", "drawn", (*images[::4],), "the first of each diagnosis"))
    page = open_part(split_at_hand, "test", "trained on")
    assert "choose another split or another subset" in page.error[0].value
    assert not page.metric


@pytest.mark.timeout(300)
def test_a_failed_evaluation_shows_the_reason_and_a_retry(data_at_hand, monkeypatch):
    def fail(*_):
        raise OSError("no room on the disk")

    monkeypatch.setattr("cadlib.evaluation.cached.make_evaluation", fail)
    page = waited(open_part(data_at_hand))
    assert "no room on the disk" in page.error[0].value.replace("\\", "")
    assert page.button(key="evaluate-isic2019")


def correct_predictions(data, name) -> pd.Series:
    """Return by image whether the top diagnosis of a model is the true one."""
    truth = data.table.set_index("image")["diagnosis"]
    return predictions_of(data, name).idxmax(axis=1) == truth


def check_discordant_counts(tests: pd.DataFrame, data) -> None:
    """Check how many images only one of the two models predicts correctly."""
    correct = correct_predictions(data, "isic2019")
    twin_correct = correct_predictions(data, "twin")
    assert tests["Only isic2019 correct"].iloc[0] == str((correct & ~twin_correct).sum())
    assert tests["Only twin correct"].iloc[0] == str((twin_correct & ~correct).sum())


def check_cells_in_report(report, tables) -> None:
    """Check that a report has every cell of these tables but their first columns."""
    for table in tables:
        for cell in table.to_numpy()[:, 1:].ravel():
            assert f"<td>{escape(cell)}</td>" in report


@pytest.fixture
def twin_models(tmp_path, monkeypatch) -> None:
    """Let the page find the model, and one with another bias and the same weights."""
    models = tmp_path / "models"
    for name in ("isic2019", "twin"):
        shutil.copytree(record.find_model("isic2019"), models / name)
    change_record(models / "twin", {"name": "twin", "bias": [8.0, *[0.0] * (len(CODES) - 1)]})
    monkeypatch.setenv("CADLIB_MODELS", str(models))


@pytest.fixture
def reports(monkeypatch) -> list:
    """Return a list that gets the function that renders a report, at each run of a page."""
    rendered = []

    def note_report(_label, render, *_, **__):
        rendered.append(render)

    monkeypatch.setattr("streamlit.download_button", note_report)
    return rendered


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("twin_models")
def test_two_models_are_compared_on_the_same_images(data_at_hand, reports):
    page = waited(open_part(data_at_hand))
    assert "Comparison with" not in reports[-1]()
    page.selectbox(key="other-model").set_value("twin").run()
    page = waited(page, "twin")
    assert not page.exception
    tables = [table.value for table in page.table]
    tests = next(table for table in tables if "McNemar's test" in table)
    check_discordant_counts(tests, data_at_hand)
    page.run()
    report = reports[-1]()
    assert "Comparison with twin" in report
    check_cells_in_report(report, [tests, *(table for table in tables if "Better" in table)])
    note = "twin: No image ID matches the images used for training, calibration or thresholds."
    assert note in words(page).replace("\\", "")
    assert note in report


def test_without_a_data_set_the_page_shows_the_models_own_metrics(monkeypatch):
    monkeypatch.delenv("CADLIB_DATA", raising=False)
    page = opened()
    assert not page.exception
    assert page.selectbox(key="measured-images").options == ["Model's own results"]
    assert "To view images, select a data set above" in words(page)
    assert "Results on unseen archives" in words(page)
    slider = next(slider for slider in page.select_slider if slider.key.startswith("threshold"))
    assert slider.value is not None
    assert "0.939" in page.table[0].value.iloc[0, 1]
