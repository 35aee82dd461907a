"""A data set without a usable label ends every command that needs one with 1 and the reason."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cadlib.__main__ import main
from cadlib.data.dataset import open_dataset
from cadlib.data.label_check import check_labelled
from cadlib.data.predictions_csv import join_predictions, predictions_table, read_predictions
from cadlib.data.splits import read_split
from cadlib.data.subsets import Subset, read_subset, save_subset, subsets_dir
from cadlib.errors import DatasetInvalid
from cadlib.evaluation.evaluate import subgroups
from cadlib.images.patient import COARSE_SITES, NO_FACTS, SITES, PatientFacts, design_of
from cadlib.label_review.verdicts import (
    Finding,
    read_verdicts,
    said_now,
    save_verdict,
    verdicts_dir,
)
from cadlib.taxonomy import CODES
from tests.tiny_training import TINY, flags

pytestmark = pytest.mark.usefixtures("few_draws")

DECOMPOSED = unicodedata.normalize("NFD", "Müller")
COMPOSED = unicodedata.normalize("NFC", DECOMPOSED)


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grain = np.random.default_rng(len(str(path))).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(grain).save(path)


@pytest.fixture
def numbered(drawn_dataset) -> Path:
    """Return the drawn lesions with the number of a class in place of a diagnosis."""
    folder = Path(drawn_dataset.table["path"][0]).parents[1]
    next(folder.glob("*GroundTruth.csv")).unlink()
    rows = [f"{image},{number % 8}" for number, image in enumerate(drawn_dataset.table["image"])]
    (folder / "labels.csv").write_text("\n".join(["image,label", *rows]))
    return folder


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "--output", "{out}"],
        ["evaluate", "--split", "validation", "--output", "{out}"],
        ["report", "--output", "{out}/report.html"],
        ["robustness", "--output", "{out}"],
        ["saliency", "--output", "{out}"],
        ["calibrate"],
        ["index"],
        ["audit"],
        ["suspects", "--output", "{out}/suspects.csv"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_command_ends_with_1_and_names_the_labels_it_cannot_use(
    command, numbered, drawn_model_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    name, *flags = [word.format(out=tmp_path / "out") for word in command]
    where = ["--model", str(drawn_model_folder), "--data", str(numbered)]
    assert main([name, *where, *flags]) == 1
    message = capsys.readouterr().err
    assert "Expected images with one of the diagnoses MEL, NV" in message
    assert "diagnoses that are none of the eight in labels.csv: ISIC_9000000 '0'" in message


@pytest.mark.parametrize(
    "command", [["train", "--name", "x"], ["across"]], ids=lambda command: command[0]
)
def test_training_ends_with_1_and_names_the_labels_it_cannot_use(
    command, numbered, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    where = {"data": numbered, "run_dir": tmp_path / "run"}
    assert main([*command, *flags({**where, **TINY})]) == 1
    printed = capsys.readouterr()
    assert "Expected labelled images" in printed.err
    assert "diagnoses that are none of the eight in labels.csv" in printed.out + printed.err


def test_evaluate_measures_lower_case_codes_with_suffixes(
    numbered, drawn_dataset, tmp_path, capsys
):
    header = ",".join(["Image_Name", *(f"dx_{code.lower()}" for code in CODES)])
    rows = []
    for image, code in zip(
        drawn_dataset.table["image"], drawn_dataset.table["diagnosis"], strict=True
    ):
        rows.append(
            ",".join([f"{image}.JPG", *(str(code == column_code) for column_code in CODES)])
        )
    truth = tmp_path / "truth.tab"
    truth.write_bytes("\r\n".join([header, *rows]).replace(",", "\t").encode("utf-16"))
    images = str(Path(drawn_dataset.table["path"][0]).parent)
    line = ["evaluate", "--model", "isic2019", "--images", images, "--ground-truth", str(truth)]
    assert main([*line, "--output", str(tmp_path / "out")]) == 0
    assert f"{len(drawn_dataset.table)} images with a label" in capsys.readouterr().out


def test_evaluate_of_predictions_needs_a_label(tmp_path, capsys):
    path = tmp_path / "predictions.csv"
    predictions_table(pd.Series(["a", "b"]), np.full((2, 8), 1 / 8)).to_csv(path, index=False)
    truth = tmp_path / "truth.csv"
    truth.write_text(f"image,{','.join(CODES)},UNK\na,0,0,0,0,0,0,0,0,1\nb,0,0,0,0,0,0,0,0,1\n")
    line = ["evaluate", "--predictions", str(path), "--ground-truth", str(truth)]
    assert main([*line, "--output", str(tmp_path / "out")]) == 1
    assert "none of its 2 images has a label" in capsys.readouterr().err


def test_benign_or_malignant_is_a_label_where_that_is_enough(drawn_dataset):
    table = drawn_dataset.table.assign(diagnosis=pd.NA)
    table["malignant"] = pd.array([True, *[pd.NA] * (len(table) - 1)], dtype="boolean")
    dataset = replace(drawn_dataset, table=table)
    check_labelled(dataset, malignant_alone=True)
    with pytest.raises(DatasetInvalid, match="none of its 32 images has one"):
        check_labelled(dataset)


def test_a_data_set_with_a_label_passes(drawn_dataset):
    check_labelled(drawn_dataset)
    with pytest.raises(DatasetInvalid, match="none of its 0 images"):
        check_labelled(type(drawn_dataset)("none", drawn_dataset.table[:0], drawn_dataset.report))


# Composed and decomposed ids


def test_a_file_name_of_macos_and_a_composed_cell_are_one_image(tmp_path):
    draw(tmp_path / f"{DECOMPOSED}.JPG")
    (tmp_path / "labels.csv").write_text(f"image,dx\n{COMPOSED}.jpg,mel\n", encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert dataset.table["image"].tolist() == [COMPOSED]
    assert dataset.table["diagnosis"].tolist() == ["MEL"]
    assert dataset.report.mismatches == ()


def test_a_path_in_two_forms_is_one_image(tmp_path):
    for below in (f"{DECOMPOSED}/a", f"{DECOMPOSED}/bc"):
        draw(tmp_path / below / f"{DECOMPOSED}.png")
    name = f"{COMPOSED}/bc/{COMPOSED}"
    (tmp_path / "labels.csv").write_text(f"path,dx\n{name}.png,mel\n", encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert dataset.table["image"].tolist() == [name]


def test_a_subset_names_images_in_either_form(drawn_dataset):
    save_subset(Subset("one", "drawn", (COMPOSED,), "by hand"))
    path = subsets_dir() / "one.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(unicodedata.normalize("NFD", text), encoding="utf-8")
    table = drawn_dataset.table.assign(image=[COMPOSED, *drawn_dataset.table["image"][1:]])
    dataset = type(drawn_dataset)("drawn", table, drawn_dataset.report)
    assert read_subset("one").of(dataset).table["image"].tolist() == [COMPOSED]
    assert read_subset("one").sha256 == Subset("one", "drawn", (DECOMPOSED,), "").sha256


def test_a_subset_written_by_hand_may_name_files(drawn_dataset):
    first, second = drawn_dataset.table["image"][:2]
    subset = Subset(
        "two", "drawn", (f"{first}.JPG", f"images/{second}.jpg", "other.jpg"), "by hand"
    )
    part = subset.of(drawn_dataset)
    assert part.table["image"].tolist() == [first, second]
    assert part.report.mismatches[-1].examples == ("other",)


def test_a_verdict_is_found_in_either_form():
    finding = Finding("unreadable files", COMPOSED)
    save_verdict("drawn", finding, said_now("fetch again"))
    path = verdicts_dir() / "drawn.csv"
    path.write_text(
        unicodedata.normalize("NFD", path.read_text(encoding="utf-8")), encoding="utf-8"
    )
    assert set(read_verdicts("drawn")) == {finding}


def test_a_split_names_images_in_either_form(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text(f"image,lesion_group,split\n{DECOMPOSED},1,train\n", encoding="utf-8")
    assert read_split(path)["image"].tolist() == [COMPOSED]


def test_predictions_and_labels_meet_in_either_form_and_case(tmp_path):
    path = tmp_path / "predictions.csv"
    truth = tmp_path / "truth.csv"
    header = ";".join(["Image", *map(str.lower, CODES)])
    cells = ";".join([f"{DECOMPOSED}.jpg", "0,9", *["0,0142857"] * 6, "0,0142858"])
    path.write_text(f"{header}\n{cells}\n", encoding="utf-8")
    truth.write_text(f"image,dx\n{COMPOSED},mel\n", encoding="utf-8")
    dataset, shares = join_predictions(path, truth)
    assert dataset.table["diagnosis"].tolist() == ["MEL"]
    assert shares[0, 0] == 0.9


def test_two_columns_of_one_code_are_no_predictions(tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(f"image,{','.join(CODES)},AKIEC\na,1,0,0,0,0,0,0,0,0\n")
    with pytest.raises(DatasetInvalid, match="one column for each of AK"):
        read_predictions(path)


# A coarser site


@pytest.mark.parametrize("site", COARSE_SITES)
def test_a_coarse_site_is_no_evidence(site):
    facts = PatientFacts(site=site)
    assert facts.known
    assert not facts.usable
    assert np.array_equal(facts.design(), NO_FACTS.design())
    assert set(COARSE_SITES[site]) <= set(SITES)


def test_a_coarse_site_leaves_a_prediction_as_it_was(taught_folder):
    from cadlib.model.model import Model

    model = Model.load(taught_folder)
    image = Image.fromarray(np.full((64, 64, 3), 128, np.uint8))
    alone = model.predict(image)
    torso = model.predict(image, PatientFacts(site="torso"))
    assert torso.facts is None
    assert np.array_equal(torso.probabilities, alone.probabilities)
    assert model.predict(image, PatientFacts(sex="male", site="torso")).facts is not None


def test_a_coarse_site_is_a_subgroup_and_no_row_of_evidence(drawn_dataset):
    table = drawn_dataset.table.assign(sex=pd.NA, age_approx=np.nan, anatom_site_general="torso")
    inside = dict(subgroups(table))["site torso"]
    assert inside.all()
    assert not design_of(table).any()


def test_predict_reports_an_unused_coarse_site(taught_folder, numbered, capsys):
    picture = str(next((numbered / "ISIC_2019_Training_Input").iterdir()))
    assert main(["predict", "--model", str(taught_folder), "--site", "torso", picture]) == 0
    assert "The site torso is not used: the model knows anterior torso" in capsys.readouterr().err
