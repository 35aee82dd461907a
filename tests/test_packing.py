import json

import numpy as np
import pytest

from cadlib import packing
from cadlib.calibration import probabilities
from cadlib.errors import TrainingFailed
from cadlib.model import Model
from cadlib.packing import check_name, pack
from cadlib.record import read_record
from cadlib.train_config import TrainConfig
from cadlib.training import train


@pytest.fixture(scope="module")
def trained(synthetic_dataset, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CADLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = TrainConfig(
            backbone="test_efficientnet",
            pretrained=False,
            input_px=64,
            first_px=32,
            last_px=32,
            epochs=1,
            batch_size=16,
            validation=0.2,
            test=0.2,
            workers=0,
            accelerator="cpu",
        )
        return train(synthetic_dataset, tmp_path_factory.mktemp("run"), config)


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_the_folder_holds_all_a_model_needs(trained):
    folder = pack(trained, "tiny", "0.1.0")
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors",
        "model.json",
        "metrics.json",
        "golden.json",
        "README.md",
    }


def test_the_loaded_model_says_of_validation_images_what_training_measured(trained):
    pack(trained, "tiny", "0.1.0")
    model = Model.load("tiny")
    rows = trained.data.rows("validation")
    expected = probabilities(trained.validation_logits, model.record.temperature)
    predictions = model.predict_batch(trained.data.table["path"].iloc[rows])
    assert np.allclose([p.probabilities for p in predictions], expected, atol=1e-5)


def test_the_record_states_where_the_weights_come_from(trained):
    record = read_record(pack(trained, "tiny", "0.1.0"))
    assert record.training.config["backbone"] == "test_efficientnet"
    assert record.training.images == {part: len(trained.data.rows(part)) for part in ("train", "validation", "test")}
    assert record.training.split_sha256 == trained.data.split_sha256
    assert {point.name for point in record.operating_points} == {"rule-out", "balanced", "rule-in"}


def test_metrics_are_those_of_the_validation_split(trained):
    folder = pack(trained, "tiny", "0.1.0")
    figures = json.loads((folder / "metrics.json").read_text())
    assert figures["data"]["split"] == "validation"
    assert figures["n"] == len(trained.data.rows("validation"))
    assert sum(map(sum, figures["confusion_matrix"])) == figures["n"]


def test_a_name_that_is_taken_is_refused_unless_told_to_overwrite(trained, models):
    pack(trained, "tiny", "0.1.0")
    with pytest.raises(TrainingFailed, match="--overwrite"):
        pack(trained, "tiny", "0.2.0")
    assert read_record(models / "tiny").version == "0.1.0"
    pack(trained, "tiny", "0.2.0", overwrite=True)
    assert read_record(models / "tiny").version == "0.2.0"
    assert [path.name for path in models.iterdir()] == ["tiny"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "name with space"])
def test_a_name_that_is_no_folder_name_is_refused(name):
    with pytest.raises(TrainingFailed, match="letters, digits"):
        check_name(name, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_leaves_no_half_written_model(trained, models, monkeypatch, overwrite):
    if overwrite:
        pack(trained, "tiny", "0.1.0")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing, "_write_json", full)
    with pytest.raises(TrainingFailed, match="No space left"):
        pack(trained, "tiny", "0.2.0", overwrite=overwrite)
    assert [path.name for path in models.iterdir()] == (["tiny"] if overwrite else [])
    if overwrite:
        assert read_record(models / "tiny").version == "0.1.0"
