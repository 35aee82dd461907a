"""The Performance and Dataset pages on data sets that label only malignant or benign."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from cadlib.data.dataset import open_dataset
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE
from cadlib.model import record
from cadlib.taxonomy import CODES
from cadlib.ui.gallery import tiles_of
from tests import partial_labels
from tests.model_folders import change_record
from tests.page_content import mounted, tiles, words
from tests.test_pages import app, count, opened, tiny_models  # noqa: F401 - fixtures
from tests.test_performance_page import open_part, waited

pytestmark = pytest.mark.usefixtures("few_draws")

UNDEFINED = re.compile(r"\b(nan|NaN)\b|<NA>")


def relabelled(data_at_hand, monkeypatch, change):
    """Return the data set at hand, read with other labels from now on."""
    partial_labels.change_labels(monkeypatch, change)
    return open_dataset(Path(data_at_hand.table["path"].iloc[0]).parents[1], verify=False)


def no_nan(page) -> bool:
    """Return whether no text and no table of the page shows a missing value as nan, NA or None."""
    cells = [str(cell) for table in page.table for cell in table.value.to_numpy().ravel()]
    values = [*cells, *(str(metric.value) for metric in page.metric)]
    return not UNDEFINED.search(words(page)) and not {"nan", "None", "<NA>"} & {*values}


def metric(page, label):
    return next(element.value for element in page.metric if element.label == label)


@pytest.mark.timeout(300)
def test_the_performance_page_measures_malignancy_without_a_diagnosis(data_at_hand, monkeypatch):
    data = relabelled(data_at_hand, monkeypatch, partial_labels.only_groups)
    page = waited(open_part(data))
    assert not page.exception
    assert no_nan(page)
    assert "96 labelled images of 88 lesions, 0 of them with a diagnosis" in words(page)
    assert (
        metric(page, "Balanced accuracy") == metric(page, "AUC, melanoma or other") == "not defined"
    )
    assert 0 < float(metric(page, "AUC, malignant or benign")) < 1
    assert 0 < float(metric(page, "Calibration error, malignant")) < 1
    # The note stands at the confusion matrix and at the metrics by diagnosis.
    assert words(page).count(NO_DIAGNOSIS_NOTE) == 2
    # The table has the sensitivity, the specificity, the PPV and the NPV.
    assert page.table[0].value.iloc[:, 1].str.match(r"[01]\.").all()


@pytest.mark.timeout(300)
def test_missed_malignant_lesions_without_a_diagnosis_are_listed(data_at_hand, monkeypatch):
    data = relabelled(data_at_hand, monkeypatch, partial_labels.only_groups)
    page = waited(open_part(data))
    slider = next(element for element in page.select_slider if element.key.startswith("threshold"))
    assert not slider.set_value(len(slider.options) - 1).run().exception
    errors = page.segmented_control(key="errors-of-2")
    assert errors.options[0].startswith("missed malignant lesion, diagnosis unknown")
    missed = mounted(page, "tiles", "errors")[0]
    assert int(missed["about"].split()[0]) == int(errors.options[0].split()[-1]) > 0
    for tile in tiles(page, "errors"):
        assert tile["label"].startswith("malignant")
        assert tile["sign"] == "▲"


@pytest.mark.timeout(300)
def test_the_performance_page_takes_each_metric_from_the_images_that_have_its_label(
    data_at_hand, monkeypatch
):
    data = relabelled(data_at_hand, monkeypatch, partial_labels.every_other_group)
    page = waited(open_part(data))
    assert not page.exception
    assert no_nan(page)
    assert "96 labelled images of 88 lesions, 48 of them with a diagnosis" in words(page)
    assert NO_DIAGNOSIS_NOTE not in words(page)
    assert "n = 48 images, 8 diagnoses" in words(page)
    assert " melanoma of 48 images" in words(page)
    assert (
        page.segmented_control(key="errors-of-4")
        .options[1]
        .startswith("missed malignant lesion, diagnosis unknown")
    )


@pytest.mark.timeout(300)
def test_the_performance_page_on_benign_images_has_a_specificity(data_at_hand, monkeypatch):
    data = relabelled(data_at_hand, monkeypatch, partial_labels.only_benign)
    page = waited(open_part(data))
    assert not page.exception
    assert no_nan(page)
    assert metric(page, "AUC, malignant or benign") == "not defined"
    assert "All 48 images are benign, none is malignant. Specificity is measured" in words(page)
    points = page.table[0].value
    assert (points["Sensitivity"] == "not defined").all()
    assert points["Specificity"].str.match(r"0\.").all()
    assert (points["Benign images"] == "48").all()


@pytest.mark.timeout(300)
def test_the_performance_page_reports_missing_labels(data_at_hand, monkeypatch):
    data = relabelled(data_at_hand, monkeypatch, partial_labels.no_labels)
    page = waited(open_part(data))
    assert not page.exception
    assert "none of its 96 images has one" in words(page).replace("\\", "")
    assert not page.metric


@pytest.mark.timeout(300)
def test_two_models_are_compared_on_images_without_a_diagnosis(data_at_hand, tmp_path, monkeypatch):
    for name in ("isic2019", "twin"):
        shutil.copytree(record.find_model("isic2019"), tmp_path / "models" / name)
    change_record(
        tmp_path / "models" / "twin", {"name": "twin", "bias": [4.0, *[0.0] * (len(CODES) - 1)]}
    )
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    page = waited(open_part(relabelled(data_at_hand, monkeypatch, partial_labels.only_groups)))
    page.selectbox(key="other-model").set_value("twin").run()
    page = waited(page, "twin")
    assert not page.exception
    assert no_nan(page)
    rows = page.table[2].value.set_index("Metric")
    assert rows.loc["Balanced accuracy", "Better"] == "not defined"
    assert rows.loc["Sensitivity", "isic2019"] != "not defined"
    assert "are measured on the 0 images with a diagnosis" in words(page)


# The Dataset page


@pytest.fixture
def browser(app, data_at_hand, monkeypatch):  # noqa: F811 - the fixture
    """Return a function from a change of labels to the Dataset page on the drawn lesions with these labels."""

    def open_dataset_page(change):
        data = relabelled(data_at_hand, monkeypatch, change)
        page = opened(app, "dataset")
        page.text_input(key="folder").set_value(
            str(Path(data.table["path"].iloc[0]).parents[1])
        ).run()
        assert not page.exception
        return page

    return open_dataset_page


def test_images_are_found_by_malignant_or_benign(browser):
    page = browser(partial_labels.only_groups)
    assert "facet-diagnosis" not in [pills.key for pills in page.pills]
    assert page.pills(key="facet-malignancy").label == "Malignant or benign"
    assert (
        count(page, "facet-malignancy", "benign")
        == count(page, "facet-malignancy", "malignant")
        == 48
    )
    assert {(tile["label"], tile["sign"]) for tile in tiles(page)} <= {
        ("malignant", "▲"),
        ("benign", "●"),
    }
    page.pills(key="facet-malignancy").set_value(["benign"]).run()
    assert {tile["label"] for tile in tiles(page)} == {"benign"}
    assert mounted(page, "tiles")[0]["about"].startswith("48 ")


def test_images_with_a_diagnosis_have_the_facet_too(browser):
    page = browser(lambda labels: labels)
    assert count(page, "facet-malignancy", "benign") == 48
    page.pills(key="facet-malignancy").set_value(["malignant"]).run()
    assert count(page, "facet-diagnosis", "MEL") == 12
    assert count(page, "facet-diagnosis", "NV") == 0


def test_an_image_without_a_diagnosis_opens_large_with_its_group(browser):
    page = browser(partial_labels.only_groups)
    first = tiles(page)[0]
    page.session_state["sample-gallery"] = first["image"]
    page.run()
    assert not page.exception
    assert f"**{first['label']}**" in words(page)
    assert no_nan(page)


@pytest.mark.parametrize(
    ("change", "alt"),
    [
        (
            partial_labels.only_groups,
            "Images by diagnosis, 96 in all: .*malignant, no diagnosis 48, benign, no diagnosis 48",
        ),
        (
            partial_labels.every_other_group,
            "Images by diagnosis, 96 in all: Melanoma 6, .*benign, no diagnosis 24",
        ),
        (partial_labels.only_benign, "Images by diagnosis, 48 in all: .*benign, no diagnosis 48"),
    ],
)
def test_the_counts_show_labels_without_a_diagnosis(browser, change, alt):
    page = browser(change)
    page.segmented_control(key="view").set_value("Class counts").run()
    assert not page.exception
    assert re.search(alt, page.get("plotly_chart")[0].proto.alt)


def test_without_labels_the_counts_name_missing_labels(browser):
    page = browser(partial_labels.no_labels)
    assert {tile["label"] for tile in tiles(page)} == {"no label"}
    page.segmented_control(key="view").set_value("Class counts").run()
    assert not page.exception
    assert "None of these images has a label." in words(page)


def test_a_tile_names_a_diagnosis_of_the_other_group():
    rows = pd.DataFrame(
        {
            "image": ["a", "b", "c", "d"],
            "path": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"],
            "diagnosis": pd.array([None, None, "MEL", None], "str"),
            "malignant": pd.array([False, False, True, None], "boolean"),
            "said": ["MEL", "NV", "BCC", "MEL"],
        }
    )
    labels = [tile.label for tile in tiles_of(rows)]
    assert labels == ["benign · predicted MEL", "benign", "MEL · predicted BCC", "no label"]
