"""Training on the soft targets of a committee: the right targets, their loss, and what is refused."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from cadlib.__main__ import main
from cadlib.data.splits import read_split
from cadlib.errors import ModelInvalid, TrainingFailed
from cadlib.model import manifest
from cadlib.model.out_of_fold import OutOfFold
from cadlib.model.record import CARD_FILE, OUT_OF_FOLD_FILE, SPLIT_FILE, read_record
from cadlib.model.verification import verify
from cadlib.taxonomy import CODES
from cadlib.training import loop
from cadlib.training.augment import mix
from cadlib.training.config import TrainConfig
from cadlib.training.data import TrainingData
from cadlib.training.distillation import SoftTargets, Teacher, match_targets
from cadlib.training.loop import train
from cadlib.training.processes import Stopped, StopRequest
from tests.model_folders import change_file, edit_record
from tests.tiny_training import TINY, flags

pytestmark = pytest.mark.usefixtures("same_graphs")
SETTINGS = {**TINY, "epochs": 1, "last_px": 32}
CONFIG = TrainConfig(**SETTINGS, teacher="marked")


def marks(images: list[str]) -> np.ndarray:
    """Return logits that differ between all images, (N, 8)."""
    shape = (len(images), len(CODES))
    numbers = np.arange(np.prod(shape), dtype=np.float32)
    waves = 3 * np.sin(numbers)
    return waves.reshape(shape)


@pytest.fixture(scope="module")
def made(tmp_path_factory, synthetic_dataset, same_graphs) -> Path:
    """Return a folder of models: `base` of one network, and `marked` with a made-up out_of_fold.csv."""
    models = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CADLIB_MODELS", str(models))
        patch.setenv("CADLIB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        base = {"data": synthetic_dataset, "name": "base", "run_dir": models / "runs" / "base"}
        assert main(["train", *flags({**base, **SETTINGS})]) == 0
    folder = Path(shutil.copytree(models / "base", models / "marked"))
    for name_of in (manifest.weights_file, manifest.onnx_file):
        shutil.copy(folder / name_of(0), folder / name_of(1))

    def of_two_folds(raw):
        [member] = raw["members"]
        raw["name"] = "marked"
        raw["members"] = [{**member, "fold": fold} for fold in (0, 1)]

    edit_record(folder, of_two_folds)
    rows = read_split(folder / SPLIT_FILE)
    images = rows["image"][rows["split"] != "test"].tolist()
    folds = np.arange(len(images)) % 2
    # In another order than the split and the data set.
    images.reverse()
    text = OutOfFold(tuple(images), folds, marks(images)).csv()
    change_file(folder, OUT_OF_FOLD_FILE, text)
    return models


@pytest.fixture
def models(made, tmp_path, tmp_path_factory, monkeypatch) -> Path:
    """Return a copy of the models, where commands find them."""
    folder = Path(shutil.copytree(made, tmp_path / "models"))
    monkeypatch.setenv("CADLIB_MODELS", str(folder))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    return folder


def predictions(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / OUT_OF_FOLD_FILE).set_index("image")[list(CODES)]


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits)
    return odds / odds.sum(axis=-1, keepdims=True)


def divergence(expected: np.ndarray, predicted: np.ndarray) -> float:
    """Return the mean Kullback-Leibler divergence of (N, 8) probabilities from those expected."""
    ratios = np.log(expected / predicted)
    of_images = (expected * ratios).sum(axis=1)
    return of_images.mean()


def test_the_loss_is_that_of_both_targets_computed_by_hand():
    rng = np.random.default_rng(0)
    teacher_logits = rng.normal(size=(3, 8)).astype(np.float32)
    logits = rng.normal(size=(3, 8)).astype(np.float32)
    targets = SoftTargets("teacher", "", torch.from_numpy(teacher_logits), 0.7, 2.0)
    shares = targets.shares(torch.tensor([2, 0]))
    expected_shares = softmax(teacher_logits[[2, 0]] / 2)
    np.testing.assert_allclose(shares, expected_shares, atol=1e-6)
    student_logits = logits[[2, 0]]
    soft_loss = 4 * divergence(expected_shares, softmax(student_logits / 2))
    loss = targets.add_loss(torch.tensor(1.5), torch.from_numpy(student_logits), shares)
    assert loss.item() == pytest.approx(0.3 * 1.5 + 0.7 * soft_loss, rel=1e-5)


def test_a_network_that_equals_its_teacher_has_the_loss_on_labels_alone():
    logits = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    targets = SoftTargets("teacher", "", logits, 0.25, 3.0)
    loss = targets.add_loss(torch.tensor(2.0), logits, targets.shares(torch.arange(4)))
    assert loss.item() == pytest.approx(1.5, abs=1e-6)


def test_mixing_blends_both_targets_by_one_share():
    torch.manual_seed(0)
    pixels = torch.stack([torch.full((3, 4, 4), float(value)) for value in range(5)])
    soft_shares = torch.softmax(torch.randn(5, 8), dim=1)
    targets = torch.cat([torch.eye(5), soft_shares], dim=1)
    mixed, mixed_targets = mix(pixels, targets, alpha=0.4)
    shares = mixed_targets[:, :5]
    assert torch.allclose(mixed[:, 0, 0, 0], shares @ torch.arange(5.0))
    assert torch.allclose(mixed_targets[:, 5:], shares @ soft_shares)
    assert ((shares > 0).sum(dim=1) == 2).all()


def drawn_data(parts: list[str]) -> TrainingData:
    images = [f"image{number}" for number in range(len(parts))]
    return TrainingData(
        name="drawn",
        table=pd.DataFrame({"image": images}),
        pixels=np.zeros((len(parts), 1, 1, 3), np.uint8),
        labels=np.zeros(len(parts), np.int64),
        groups=pd.Series(range(len(parts))),
        parts=pd.Series(parts),
        split_csv="",
    )


def test_both_losses_have_their_minimum_at_the_same_logits():
    rng = np.random.default_rng(0)
    probabilities = softmax(rng.normal(size=8))
    frequencies = softmax(rng.normal(size=8))
    log_frequency = torch.from_numpy(np.log(frequencies).astype(np.float32))
    # The teacher's networks were trained with two other weights than the student.
    weights = np.array([0.0, 1.0], np.float32)
    teacher_logits = np.log(probabilities) - weights[:, None] * np.log(frequencies)
    predictions = OutOfFold(
        ("image1", "image0"), np.array([0, 1]), teacher_logits.astype(np.float32)
    )
    config = replace(CONFIG, logit_adjustment=0.5)
    data = drawn_data(["train", "validation"])
    targets = match_targets(Teacher("t", predictions, "", weights), data, log_frequency, config)

    shares = torch.from_numpy(np.tile(probabilities, (2, 1)).astype(np.float32))
    logits = shares.log() - 0.5 * log_frequency
    logits.requires_grad_()
    label_loss = torch.nn.functional.cross_entropy(logits + 0.5 * log_frequency, shares)
    soft_shares = targets.shares(torch.arange(2))
    for loss in (label_loss, targets.add_loss(label_loss.detach(), logits, soft_shares)):
        [gradient] = torch.autograd.grad(loss, logits)
        assert gradient.abs().max() < 1e-6
    # A network of other logits would learn something.
    other = torch.zeros(2, 8, requires_grad=True)
    [gradient] = torch.autograd.grad(
        targets.add_loss(label_loss.detach(), other, soft_shares), other
    )
    assert gradient.abs().max() > 1e-2


def test_each_step_has_the_targets_of_its_own_images(
    synthetic_dataset, models, tmp_path, monkeypatch
):
    batches = []
    targets_of = loop._targets

    def note(setup, labels, rows):
        targets = targets_of(setup, labels, rows)
        batches.append((setup.data, labels, rows, targets))
        return targets

    monkeypatch.setattr(loop, "_targets", note)
    train(synthetic_dataset, tmp_path / "run", CONFIG)
    expected = predictions(models / "marked")
    assert batches
    for data, labels, rows, targets in batches:
        assert set(data.parts.iloc[rows.numpy()]) == {"train"}
        assert np.array_equal(targets[:, :8].argmax(dim=1), data.labels[rows.numpy()])
        assert torch.equal(targets[:, :8].argmax(dim=1), labels)
        images = data.table["image"].iloc[rows.numpy()]
        logits = expected.loc[images].to_numpy()
        np.testing.assert_allclose(targets[:, 8:], softmax(logits / 2), atol=1e-6)


def test_a_model_is_trained_on_soft_targets(synthetic_dataset, models, tmp_path, capsys):
    place = {"data": synthetic_dataset, "name": "small", "run_dir": tmp_path / "run"}
    options = {"teacher": "marked", "teacher_weight": 0.9, "mixup_alpha": 0.4}
    assert main(["train", *flags({**place, **SETTINGS, **options})]) == 0
    teacher_id = read_record(models / "marked").model_id
    record = read_record(models / "small")
    settings = record.members[0].run.config
    assert settings["teacher"] == "marked"
    assert settings["teacher_id"] == teacher_id
    text = (models / "marked" / OUT_OF_FOLD_FILE).read_bytes()
    assert settings["teacher_predictions"] == hashlib.sha256(text).hexdigest()
    assert record.members[0].fold is None
    assert verify(models / "small").unchanged
    card = (models / "small" / CARD_FILE).read_text(encoding="utf-8")
    assert f"Soft targets of `{teacher_id}` were 90 % of the loss, at temperature 2.0" in card
    assert "Soft targets" not in (models / "base" / CARD_FILE).read_text(encoding="utf-8")
    own = read_split(models / "small" / SPLIT_FILE)
    assert own.equals(read_split(models / "marked" / SPLIT_FILE))


def test_soft_targets_change_the_result_and_the_reported_loss(synthetic_dataset, models, tmp_path):
    config = replace(CONFIG, logit_adjustment=0.0)
    distilled = train(synthetic_dataset, tmp_path / "one", config)
    labels_alone = train(synthetic_dataset, tmp_path / "two", replace(config, teacher_weight=0.0))
    assert not np.array_equal(distilled.validation_logits, labels_alone.validation_logits)
    data = distilled.data
    rows = data.rows("validation")
    logits = distilled.validation_logits.astype(float)
    of_truth = softmax(logits)[np.arange(len(rows)), data.labels[rows]]
    label_loss = -np.log(of_truth).mean()
    # The networks of the teacher had an adjustment, of which the student has none.
    counts = np.bincount(data.labels[data.rows("train")], minlength=8)
    moved = 0.5 * np.log(counts / counts.sum())
    images = data.table["image"].iloc[rows]
    teacher_logits = predictions(models / "marked").loc[images].to_numpy() + moved
    soft_loss = 4 * divergence(softmax(teacher_logits / 2), softmax(logits / 2))
    history = pd.read_json(tmp_path / "one" / "history.jsonl", lines=True)
    expected = 0.3 * label_loss + 0.7 * soft_loss
    assert history["validation_loss"].iloc[-1] == pytest.approx(expected, rel=1e-3)


def test_a_run_is_resumed_with_the_same_teacher_only(
    synthetic_dataset, models, tmp_path, monkeypatch
):
    class Pressed(StopRequest):
        @property
        def requested(self):
            return True

        @requested.setter
        def requested(self, value):
            pass

    whole = train(synthetic_dataset, tmp_path / "whole", CONFIG)
    run = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "StopRequest", Pressed)
        with pytest.raises(Stopped, match="after step 1 "):
            train(synthetic_dataset, run, CONFIG)
    shutil.copytree(models / "marked", models / "other")
    with pytest.raises(TrainingFailed, match="teacher 'marked', not 'other'"):
        train(synthetic_dataset, run, replace(CONFIG, teacher="other"), resume=True)
    with pytest.raises(TrainingFailed, match=r"teacher_weight 0\.7, not 0\.5"):
        train(synthetic_dataset, run, replace(CONFIG, teacher_weight=0.5), resume=True)
    resumed = train(synthetic_dataset, run, CONFIG, resume=True)
    assert np.array_equal(resumed.validation_logits, whole.validation_logits)
    change_predictions(models / "marked", lambda table: table.assign(MEL=0.0))
    with pytest.raises(TrainingFailed, match="teacher_predictions '"):
        train(synthetic_dataset, run, CONFIG, resume=True)


def change_predictions(folder, change):
    table = change(pd.read_csv(folder / OUT_OF_FOLD_FILE))
    change_file(folder, OUT_OF_FOLD_FILE, table.to_csv(index=False))


def test_a_teacher_without_out_of_fold_predictions_is_refused(synthetic_dataset, models, tmp_path):
    with pytest.raises(TrainingFailed, match=r"with out_of_fold.csv but base 1\.0\.0 .* has none"):
        train(synthetic_dataset, tmp_path / "run", replace(CONFIG, teacher="base"))


@pytest.mark.parametrize("part", ["train", "validation"])
def test_an_image_without_prediction_is_refused(synthetic_dataset, models, tmp_path, part):
    rows = read_split(models / "marked" / SPLIT_FILE)
    is_in_part = rows["split"] == part
    image = rows["image"][is_in_part].iloc[0]
    change_predictions(models / "marked", lambda table: table[table["image"] != image])
    with pytest.raises(TrainingFailed, match=f"but 1 have none: {image}. Pack the teacher again"):
        train(synthetic_dataset, tmp_path / "run", CONFIG)


def test_a_teacher_of_other_diagnoses_is_refused(synthetic_dataset, models, tmp_path):
    def reverse(table):
        return table[["image", "fold", *reversed(CODES)]]

    change_predictions(models / "marked", reverse)
    with pytest.raises(ModelInvalid, match=f"Expected the columns image, fold, {', '.join(CODES)}"):
        train(synthetic_dataset, tmp_path / "run", CONFIG)
    edit_record(models / "marked", {"codes": list(reversed(CODES))})
    with pytest.raises(ModelInvalid, match=rf"Expected `\$\.codes` in .* to be {', '.join(CODES)}"):
        train(synthetic_dataset, tmp_path / "run", CONFIG)


def test_another_split_than_that_of_the_teacher_is_refused(synthetic_dataset, models, tmp_path):
    with pytest.raises(
        TrainingFailed, match="`split_of` to be the teacher, 'marked', but got 'base'"
    ):
        train(synthetic_dataset, tmp_path / "run", replace(CONFIG, split_of="base"))
