import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec import structs

from cadlib.__main__ import main
from cadlib.errors import TrainingFailed
from cadlib.images.preprocess import to_array
from cadlib.images.turns import TURNS, turned
from cadlib.model import card
from cadlib.model.model import Model
from cadlib.model.record import read_record
from cadlib.model.verification import verify
from cadlib.training import packing
from cadlib.training.config import TrainConfig
from cadlib.training.loop import train
from cadlib.training.packing import check_name, pack
from tests.model_folders import change_record
from tests.tiny_training import TINY

pytestmark = pytest.mark.usefixtures("few_draws", "same_graphs")


@pytest.fixture(scope="module")
def trained(synthetic_dataset, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CADLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = TrainConfig(**{**TINY, "last_px": 32, "epochs": 1})
        return train(synthetic_dataset, tmp_path_factory.mktemp("run"), config)


@pytest.fixture(scope="module")
def packed(trained, tmp_path_factory, same_graphs):
    """Return the model folder of the run, written once.

    With all draws: whether age, sex and site help is decided by the intervals.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CADLIB_MODELS", str(tmp_path_factory.mktemp("packed")))
        return pack(trained, "tiny", "0.1.0")


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def tiny_folder(packed, models):
    """Return a copy of the model folder of the run, to be changed."""
    return Path(shutil.copytree(packed, models / "tiny"))


def test_the_folder_has_all_files_of_a_model(tiny_folder):
    assert {path.name for path in tiny_folder.iterdir()} == {
        "weights.safetensors",
        "model.onnx",
        "model.json",
        "metrics.json",
        "golden.json",
        "README.md",
        "split.csv",
        "manifest.json",
    }


def test_the_loaded_model_reproduces_the_validation_results(trained, tiny_folder):
    model = Model.load("tiny")
    rows = trained.data.rows("validation")
    sides = trained.data.table.iloc[rows][["width_px", "height_px"]].min(axis=1)
    pixels = trained.data.pixels[rows]
    view_logits = []
    for turn in TURNS:
        inputs = to_array(turned(pixels, turn), trained.spec)
        with torch.inference_mode():
            logits = trained.network(torch.from_numpy(np.ascontiguousarray(inputs)))
        view_logits.append(logits.numpy())
    expected = model.calibrated(np.mean(view_logits, axis=0), sides)
    predictions = model.predict_batch(trained.data.table["path"].iloc[rows])
    assert np.allclose([p.probabilities for p in predictions], expected, atol=1e-5)


def test_the_record_states_where_the_weights_come_from(trained, tiny_folder):
    record = read_record(tiny_folder)
    assert record.members[0].run.config["backbone"] == "test_efficientnet"
    assert record.training.images == {
        part: len(trained.data.rows(part)) for part in ("train", "validation", "test")
    }
    assert record.training.split_sha256 == trained.data.split_sha256
    assert record.audit is None
    assert {point.name for point in record.operating_points} == {"rule-out", "balanced", "rule-in"}


def test_metrics_are_those_of_the_validation_split(trained, tiny_folder):
    metrics = json.loads((tiny_folder / "metrics.json").read_text())
    assert metrics["data"]["split"] == "validation"
    assert metrics["n"] == len(trained.data.rows("validation"))
    assert sum(map(sum, metrics["confusion_matrix"])) == metrics["n"]


def test_the_record_has_the_effect_of_age_sex_and_site(tiny_folder):
    trial = read_record(tiny_folder).metadata
    assert trial.evidence is None  # drawn patients get their facts at random
    assert set(trial.differences) >= {"all", "short side < 150 px"}
    assert trial.differences["all"]["nll"].before is not None


@pytest.fixture
def evaluated(trained, synthetic_dataset, tmp_path):
    """Evaluate a part of the split of the packed model by command line."""

    def run(part, *more):
        model = ["--model", "tiny", "--data", str(synthetic_dataset), "--split", part]
        return main(["evaluate", *model, "--output", str(tmp_path / "out"), *more])

    return run


def test_evaluate_measures_the_model_on_its_own_split_as_training_did(
    tiny_folder, evaluated, tmp_path
):
    assert evaluated("validation") == 0
    packed = json.loads((tiny_folder / "metrics.json").read_text())
    evaluated_metrics = json.loads(((tmp_path / "out") / "metrics.json").read_text())
    assert evaluated_metrics["n_lesions"] == packed["n_lesions"]
    assert evaluated_metrics["confusion_matrix"] == packed["confusion_matrix"]
    assert evaluated_metrics["data"] == {
        **packed["data"],
        "name": evaluated_metrics["data"]["name"],
    }
    for name in ("malignant_auc", "ece", "ece_uncalibrated", "brier_uncalibrated"):
        assert evaluated_metrics[name] == pytest.approx(packed[name], abs=1e-4)


def test_evaluate_writes_test_metrics_into_the_model(trained, tiny_folder, evaluated):
    assert "The test split was not used." in (tiny_folder / "README.md").read_text()
    assert "measured on these same images (validation)" in (tiny_folder / "README.md").read_text()
    assert evaluated("test", "--into-model") == 0
    metrics = json.loads((tiny_folder / "metrics.json").read_text())
    assert metrics["data"]["split"] == "test"
    assert metrics["n"] == len(trained.data.rows("test"))
    card = (tiny_folder / "README.md").read_text()
    assert "The test split was used only for the results below." in card
    assert "fitted on other images, the validation split" in card
    assert "measured on the test split, which was not used to choose them" in card
    assert "| validation | " in card


def test_operating_points_keep_their_thresholds_and_take_the_metrics_of_the_test_split(
    tiny_folder, evaluated
):
    before = read_record(tiny_folder)
    assert {point.split for point in before.operating_points} == {"validation"}
    assert evaluated("test", "--into-model") == 0
    after = read_record(tiny_folder)
    metrics = json.loads((tiny_folder / "metrics.json").read_text())
    for old, new, measured in zip(
        before.operating_points, after.operating_points, metrics["operating_points"], strict=True
    ):
        assert (new.name, new.threshold, new.split) == (old.name, old.threshold, "test")
        assert (new.sensitivity, new.specificity) == (
            measured["sensitivity"],
            measured["specificity"],
        )
        assert (new.n_malignant, new.n_benign) == (measured["n_malignant"], measured["n_benign"])
    assert structs.replace(after, operating_points=before.operating_points) == before


def test_test_metrics_come_first_in_either_order_of_evaluation(tiny_folder, evaluated):
    packed = json.loads((tiny_folder / "metrics.json").read_text())
    assert evaluated("test", "--into-model") == 0
    after_test = json.loads((tiny_folder / "metrics.json").read_text())
    assert after_test["validation"] == packed
    assert evaluated("validation", "--into-model") == 0
    after_validation = json.loads((tiny_folder / "metrics.json").read_text())
    assert {**after_validation, "validation": None} == {**after_test, "validation": None}
    assert after_validation["validation"]["confusion_matrix"] == packed["confusion_matrix"]
    assert read_record(tiny_folder).operating_points[0].split == "test"


def test_a_write_that_fails_leaves_record_metrics_and_card_as_they_were(
    tiny_folder, evaluated, monkeypatch
):
    before = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(card, "render", full_disk)
    assert evaluated("test", "--into-model") == 1
    assert {path.name: path.read_bytes() for path in tiny_folder.iterdir()} == before


def check_same_fit(refitted, fitted):
    """Check that a second calibration gave the temperature, sets and thresholds of the first."""
    assert refitted.temperature.large == pytest.approx(fitted.temperature.large, rel=1e-3)
    quantiles = structs.asdict(fitted.conformal.quantiles)
    assert structs.asdict(refitted.conformal.quantiles) == pytest.approx(quantiles, abs=1e-4)
    thresholds = [point.threshold for point in refitted.operating_points]
    expected = [point.threshold for point in fitted.operating_points]
    assert thresholds == pytest.approx(expected, abs=1e-4)
    assert {point.split for point in refitted.operating_points} == {"validation"}


def test_calibrate_restores_the_fit_and_drops_results_of_another_fit(
    tiny_folder, evaluated, synthetic_dataset
):
    assert evaluated("test", "--into-model") == 0
    fitted = read_record(tiny_folder)
    metrics = json.loads((tiny_folder / "metrics.json").read_text())
    assert metrics["data"]["split"] == "test"
    former_answers = json.loads((tiny_folder / "golden.json").read_text())["answers"]
    change_record(tiny_folder, {"temperature": {"small": 7.0, "large": 7.0}})
    assert main(["calibrate", "--model", "tiny", "--data", str(synthetic_dataset)]) == 0
    check_same_fit(read_record(tiny_folder), fitted)
    new_metrics = json.loads((tiny_folder / "metrics.json").read_text())
    assert new_metrics["data"]["split"] == "validation"
    assert "validation" not in new_metrics
    assert new_metrics["ece"] == pytest.approx(metrics["validation"]["ece"], abs=1e-4)
    answers = json.loads((tiny_folder / "golden.json").read_text())["answers"]
    for former, new_answer in zip(former_answers, answers, strict=True):
        assert new_answer["probabilities"] == pytest.approx(former["probabilities"], abs=1e-4)
    assert verify(tiny_folder).unchanged


def test_evaluate_refuses_an_incomplete_split_for_the_model(
    trained, tiny_folder, synthetic_dataset, tmp_path, capsys
):
    before = (tiny_folder / "metrics.json").read_bytes()
    part = shutil.copytree(synthetic_dataset, tmp_path / "part")
    rows = trained.data.table.iloc[trained.data.rows("test")]
    (part / "ISIC_2019_Training_Input" / Path(rows["path"].iloc[0]).name).unlink()
    line = [
        "evaluate",
        "--model",
        "tiny",
        "--data",
        str(part),
        "--split",
        "test",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main([*line, "--into-model"]) == 1
    n_split = len(rows)
    message = f"Expected all {n_split:,} images of the split for the model's own results "
    assert f"{message}but found {n_split - 1:,}." in capsys.readouterr().err
    assert (tiny_folder / "metrics.json").read_bytes() == before
    assert main(line) == 0


@pytest.mark.parametrize("change", ["swap", "remove"])
def test_evaluate_refuses_a_changed_or_missing_split(tiny_folder, evaluated, capsys, change):
    path = tiny_folder / "split.csv"
    text = path.read_text().replace("test", "validation", 1)
    path.unlink()
    if change == "swap":
        path.write_text(text)
    assert evaluated("test") == 1
    assert f"split.csv {'changed' if change == 'swap' else 'is missing'}" in capsys.readouterr().err


def test_refuses_a_taken_name_without_overwrite(trained, tiny_folder, models):
    with pytest.raises(TrainingFailed, match="--overwrite"):
        pack(trained, "tiny", "0.2.0")
    assert read_record(models / "tiny").version == "0.1.0"
    pack(trained, "tiny", "0.2.0", overwrite=True)
    assert read_record(models / "tiny").version == "0.2.0"
    assert [path.name for path in models.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "name with space"])
def test_refuses_a_name_that_is_no_folder_name(name):
    with pytest.raises(TrainingFailed, match="letters, digits"):
        check_name(name, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_no_half_written_model(trained, packed, models, monkeypatch, overwrite):
    if overwrite:
        shutil.copytree(packed, models / "tiny")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing, "write_folder", full)
    with pytest.raises(TrainingFailed, match="No space left"):
        pack(trained, "tiny", "0.2.0", overwrite=overwrite)
    assert [path.name for path in models.iterdir()] == (["tiny"] if overwrite else [])
    if overwrite:
        assert read_record(models / "tiny").version == "0.1.0"
