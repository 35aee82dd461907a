"""Text from outside is no formula in a CSV file, and comes back from it as it was."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cadlib.assessment import csv_row
from cadlib.data.predictions_csv import (
    PREDICTIONS_FILE,
    predictions_table,
    read_predictions,
    read_unknown,
)
from cadlib.data.splits import read_split, split_csv
from cadlib.data.subsets import Subset, read_subset, save_subset
from cadlib.files.spreadsheets import original_cell, safe_cell, safe_table
from cadlib.label_review.verdicts import (
    Finding,
    read_verdicts,
    said_now,
    save_verdict,
    verdicts_dir,
)

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
FORMULAS = [f"{start}cmd|' /C calc'!A0" for start in STARTS]
PIECES = st.sampled_from([*STARTS, "'", '"', " ", ";", ",", "a", "1", ".jpg"])
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text()


@given(TEXTS)
@example("'=1")
@example("a;=1")
def test_a_cell_comes_back_as_the_text_it_was(text):
    assert original_cell(safe_cell(text)) == text


@given(TEXTS)
def test_only_a_number_begins_as_a_formula_does(text):
    cell = safe_cell(text)
    if cell.startswith(STARTS):
        float(cell)


@given(TEXTS)
def test_no_cell_begins_as_a_formula_where_a_semicolon_or_a_tab_parts_cells(text):
    for separator in ";\t":
        for part in safe_cell(text).split(separator)[1:]:
            assert not part.lstrip(' "').startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("number", ["-1", "+1", "-0.25", "-.5", "-1e-05", "1.5"])
def test_a_number_stays_a_number(number):
    assert safe_cell(number) == number


@pytest.mark.parametrize("text", ["-1+1", "+1;2", "-1_000", "-inf", "-٣"])
def test_text_that_resembles_a_number_stays_text(text):
    assert safe_cell(text).startswith("'")


@pytest.mark.parametrize("name", FORMULAS)
def test_a_file_name_is_no_formula_in_the_csv_of_predict(name):
    assert csv_row(f"{name}.jpg", f"{name} cannot be read.")[0] == f"'{name}.jpg"
    assert csv_row("a.jpg", name)[-1] == f"'{name}"


def test_numbers_of_a_table_are_left_alone():
    table = pd.DataFrame({"image": ["=A1", None, "b"], "loss": [-1.5, float("nan"), 2.0]})
    rows = list(csv.reader(io.StringIO(safe_table(table).to_csv(index=False))))
    assert rows == [["image", "loss"], ["'=A1", "-1.5"], ["", ""], ["b", "2.0"]]


@pytest.mark.parametrize("image", ["=A1", "-ISIC_1", "'=A1", "@a;=b"])
def test_predictions_are_found_again_by_an_id_that_looks_like_a_formula(image, tmp_path):
    table = predictions_table(pd.Series([image, "plain"]), [[0.125] * 8] * 2)
    safe_table(table).to_csv(tmp_path / PREDICTIONS_FILE, index=False)
    assert [*read_predictions(tmp_path / PREDICTIONS_FILE).index] == [image, "plain"]
    assert [*read_unknown(tmp_path / PREDICTIONS_FILE).index] == [image, "plain"]


def test_a_subset_keeps_ids_and_words_that_look_like_formulas(subsets_folder):
    subset = Subset("odd", "=1,=2", ("=A1", "-b", "c"), "@x; -y")
    save_subset(subset)
    assert read_subset("odd") == subset
    for line in (subsets_folder / "odd.csv").read_text().splitlines():
        for cell in line.replace('"', "").replace(";", ",").split(","):
            assert not cell.strip().startswith(("=", "+", "-", "@"))


def test_a_split_keeps_ids_that_look_like_formulas(tmp_path):
    table = pd.DataFrame({"image": ["=A1", "-b", "c"]})
    text = split_csv(table, pd.Series([1, 2, 3]), pd.Series(["train", "validation", "test"]))
    (tmp_path / "split.csv").write_text(text)
    assert "\n=" not in text
    assert {*read_split(tmp_path / "split.csv")["image"]} == {"=A1", "-b", "c"}


def test_a_verdict_is_found_again_by_an_id_that_looks_like_a_formula():
    finding = Finding("near-duplicates", "=A1", "@b")
    verdict = said_now("same picture")
    save_verdict("drawn", finding, verdict)
    assert read_verdicts("drawn") == {finding: verdict}
    assert "near-duplicates,'=A1,'@b" in (verdicts_dir() / "drawn.csv").read_text()
