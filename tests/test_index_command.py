import json
from pathlib import Path

import numpy as np
import pytest

from cadlib.__main__ import main
from cadlib.model import card, metrics_file
from cadlib.model.manifest import MANIFEST_FILE
from cadlib.model.model import Model
from cadlib.model.record import (
    CARD_FILE,
    GOLDEN_FILE,
    METRICS_FILE,
    NEIGHBOURS_FILE,
    RECORD_FILE,
    read_json,
    read_record,
)
from tests.model_folders import change_file, change_record

pytestmark = pytest.mark.usefixtures("empty_cache")

WRITTEN_FILES = (CARD_FILE, GOLDEN_FILE, MANIFEST_FILE, METRICS_FILE, NEIGHBOURS_FILE, RECORD_FILE)


@pytest.fixture
def data(drawn_dataset) -> Path:
    return Path(drawn_dataset.table["path"].iloc[0]).parents[1]


def indexed(folder: Path, data: Path) -> int:
    return main(["index", "--model", str(folder), "--data", str(data)])


def test_the_command_adds_similar_cases_and_prints_their_quality(drawn_model_folder, data, capsys):
    assert indexed(drawn_model_folder, data) == 0
    printed = capsys.readouterr().out
    assert "similar cases with the true diagnosis, of 5" in printed
    model = Model.load(drawn_model_folder)
    assert len(model.neighbours) == model.record.neighbours.images == 16
    similar_cases = read_json(drawn_model_folder / METRICS_FILE)["neighbours"]
    assert (similar_cases["n"], similar_cases["n_lesions"], similar_cases["data"]["split"]) == (
        8,
        8,
        "test",
    )
    assert f"{similar_cases['precision']:.3f}" in printed
    text = (drawn_model_folder / CARD_FILE).read_text(encoding="utf-8")
    assert text == card.render(model.record, metrics_file.read(drawn_model_folder))
    assert f"{similar_cases['precision']:.3f}" in text.partition("## Similar cases")[2]


def test_a_second_run_writes_the_same_bytes(drawn_model_folder, data):
    indexed(drawn_model_folder, data)
    before = {name: (drawn_model_folder / name).read_bytes() for name in WRITTEN_FILES}
    indexed(drawn_model_folder, data)
    assert {name: (drawn_model_folder / name).read_bytes() for name in WRITTEN_FILES} == before


def test_a_model_whose_test_split_is_unread_is_measured_on_validation(drawn_model_folder, data):
    metrics = read_json(drawn_model_folder / METRICS_FILE)
    change_file(drawn_model_folder, METRICS_FILE, json.dumps(metrics | metrics["validation"]))
    assert indexed(drawn_model_folder, data) == 0
    similar_cases = read_json(drawn_model_folder / METRICS_FILE)["neighbours"]
    assert similar_cases["data"]["split"] == "validation"


def test_a_full_disk_leaves_the_model_as_it_was(drawn_model_folder, data, monkeypatch, capsys):
    before = {path.name: path.read_bytes() for path in drawn_model_folder.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert indexed(drawn_model_folder, data) == 1
    assert "No space left" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in drawn_model_folder.iterdir()} == before


def test_missing_images_are_counted_in_the_card(drawn_model_folder, data):
    min((data / "ISIC_2019_Training_Input").iterdir()).unlink()
    assert indexed(drawn_model_folder, data) == 0
    of = read_record(drawn_model_folder).training.images["train"]
    assert f"15 of {of:,} training images" in (drawn_model_folder / CARD_FILE).read_text(
        encoding="utf-8"
    )


def test_metrics_of_other_weights_are_refused_before_any_work(drawn_model_folder, data, capsys):
    metrics = read_json(drawn_model_folder / METRICS_FILE)
    metrics["model"]["weights_sha256"] = "0" * 64
    change_file(drawn_model_folder, METRICS_FILE, json.dumps(metrics))
    assert indexed(drawn_model_folder, data) == 1
    assert "of the model's weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["--model", "nonesuch", "--data", "."], ["--model", "isic2019", "--data", "nowhere"]],
)
def test_bad_usage_ends_with_2(arguments, capsys):
    assert main(["index", *arguments]) == 2
    assert capsys.readouterr().err


def test_the_card_of_a_model_without_an_index_names_the_command(drawn_model_folder):
    change_record(drawn_model_folder, {"neighbours": None})
    text = card.render(read_record(drawn_model_folder), metrics_file.read(drawn_model_folder))
    assert "python -m cadlib index --model isic2019 --data DIR" in text


def test_the_shipped_metrics_name_the_test_split():
    from cadlib.model.record import find_model

    similar_cases = read_json(find_model("isic2019") / METRICS_FILE)["neighbours"]
    assert similar_cases["data"]["split"] == "test"
    assert similar_cases["by_chance"] < similar_cases["precision"] < 1
    assert np.isclose(
        similar_cases["model_accuracy"],
        read_json(find_model("isic2019") / METRICS_FILE)["accuracy"],
        atol=0.002,
    )
