"""Packing the networks of a cross-validation as one model."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace as replace_field
from sklearn.metrics import roc_auc_score

from cadlib.__main__ import main
from cadlib.data.dataset import open_dataset
from cadlib.data.splits import read_split
from cadlib.errors import TrainingFailed
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.images import read_image
from cadlib.images.turns import TURNS, turned
from cadlib.metrics.classification import balanced_accuracy
from cadlib.metrics.network_spread_table import NOT_MEASURED
from cadlib.model import metrics_file, weights
from cadlib.model.audit_result import ROLE_IN_FOLDS, role_of
from cadlib.model.manifest import weights_file
from cadlib.model.model import Model
from cadlib.model.out_of_fold import read_out_of_fold
from cadlib.model.record import CARD_FILE, OUT_OF_FOLD_FILE, SPLIT_FILE, WEIGHTS_FILE
from cadlib.model.split import part_in_training
from cadlib.model.verification import verify
from cadlib.taxonomy import CODES, diagnosis
from cadlib.training.committee_packing import pack_committee
from tests.model_folders import change_record
from tests.tiny_training import TINY, flags

FOLDS = 3
SETTINGS = {**TINY, "epochs": 1, "last_px": 32}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, synthetic_dataset) -> Path:
    """Return a folder of models: a base with a split, a network for each of three folds, all packed."""
    models = tmp_path_factory.mktemp("models")
    runs = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CADLIB_MODELS", str(models))
        patch.setenv("CADLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        base = {"data": synthetic_dataset, "name": "base", "run_dir": runs / "base"}
        assert main(["train", *flags({**base, **SETTINGS})]) == 0
        for fold in range(FOLDS):
            name = f"fold{fold}"
            place = {"data": synthetic_dataset, "name": name, "run_dir": runs / name}
            split = {"split_of": "base", "folds": FOLDS, "fold": fold}
            assert main(["train", *flags({**place, **split, **SETTINGS})]) == 0
        dataset = open_dataset(synthetic_dataset, verify=False)
        # In another order than the folds.
        members = [models / f"fold{fold}" for fold in (2, 0, 1)]
        pack_committee(members, dataset, "three", "2.0.0")
    return models


@pytest.fixture
def models(trained, tmp_path, monkeypatch) -> Path:
    """Return a copy of the models, where commands find them."""
    folder = Path(shutil.copytree(trained, tmp_path / "models"))
    monkeypatch.setenv("CADLIB_MODELS", str(folder))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def members(models) -> list[Path]:
    return [models / f"fold{fold}" for fold in (2, 0, 1)]


@pytest.fixture
def dataset(synthetic_dataset):
    return open_dataset(synthetic_dataset, verify=False)


@pytest.fixture
def committee(models) -> Model:
    return Model.load("three")


def test_the_command_packs_a_model_that_verifies(models, members, synthetic_dataset, capsys):
    names = [folder.name for folder in members]
    options = flags({"data": synthetic_dataset, "name": "again", "model_version": "2.0.0"})
    assert main(["pack", *names, *options]) == 0
    printed = capsys.readouterr().out
    assert "3 × test_efficientnet" in printed
    assert f"Model written to {models / 'again'}" in printed
    assert verify(models / "again").unchanged
    assert main(["pack", *names, *options]) == 2
    assert "stands already" in capsys.readouterr().err


def test_the_members_are_in_the_order_of_the_folds(committee, members):
    record = committee.record
    assert [member.fold for member in record.members] == [0, 1, 2]
    assert record.views == 8
    assert record.input.symmetric
    for member in record.members:
        alone = Model.load(next(path for path in members if path.name == f"fold{member.fold}"))
        [original] = alone.record.members
        assert replace_field(original, weights_sha256=member.weights_sha256) == member


def test_the_networks_are_stored_in_half_their_size(committee, models):
    for fold, member in enumerate(committee.record.members):
        original = (models / f"fold{fold}" / WEIGHTS_FILE).read_bytes()
        stored = (committee.folder / weights_file(fold)).read_bytes()
        assert stored == weights.halve(original)
        assert len(stored) < 0.6 * len(original)
        assert hashlib.sha256(stored).hexdigest() == member.weights_sha256


def test_the_test_images_are_untouched(committee, models):
    base = models / "base" / SPLIT_FILE
    assert (committee.folder / SPLIT_FILE).read_bytes() == base.read_bytes()
    rows = read_split(base)
    test_images = set(rows["image"][rows["split"] == "test"])
    out_of_fold = read_out_of_fold(committee.folder)
    assert not test_images & set(out_of_fold.images)
    assert set(out_of_fold.images) == set(rows["image"]) - test_images


def test_each_image_is_predicted_by_the_network_that_was_not_trained_on_it(
    committee, models, dataset
):
    out_of_fold = read_out_of_fold(committee.folder)
    paths = dataset.table.set_index("image")["path"]
    for fold in range(FOLDS):
        rows = np.flatnonzero(out_of_fold.folds == fold)
        own = read_split(models / f"fold{fold}" / SPLIT_FILE)
        held_out = set(own["image"][own["split"] == "validation"])
        images = [out_of_fold.images[row] for row in rows]
        assert set(images) == held_out
        some = rows[:4]
        predictions = committee.predict_batch(paths[images[:4]])
        # The probabilities of one network are its logits, calibrated as those of the committee.
        expected = np.stack([p.member_probabilities[fold] for p in predictions])
        sides_px = [64] * len(some)
        found = committee.calibrated(out_of_fold.logits[some], sides_px)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_turned_image_has_the_same_answer(committee, dataset):
    image = read_image(dataset.table["path"][0])
    pixels = image.pixels[:61, :]
    upright = committee.predict(replace(image, pixels=np.ascontiguousarray(pixels)))
    for turn in TURNS:
        view = replace(image, pixels=np.ascontiguousarray(turned(pixels, turn)))
        probabilities = committee.predict(view).probabilities
        np.testing.assert_allclose(probabilities, upright.probabilities, atol=1e-5)


def test_a_missing_fold_is_refused(members, dataset):
    with pytest.raises(TrainingFailed, match=r"each of the 3 folds .* got the folds 0, 2"):
        pack_committee(members[:2], dataset, "two", "1.0.0")


def test_the_same_fold_twice_is_refused(members, dataset):
    with pytest.raises(TrainingFailed, match="got the folds 0, 0, 1, 2"):
        pack_committee([*members, members[1]], dataset, "four", "1.0.0")


def test_a_model_that_was_not_cross_validated_is_refused(models, dataset):
    with pytest.raises(TrainingFailed, match="each of the 0 folds"):
        pack_committee([models / "base"], dataset, "one", "1.0.0")


def test_members_of_different_inputs_are_refused(members, dataset):
    change_record(members[1], lambda raw: raw["input"].update(interpolation="bilinear"))
    with pytest.raises(TrainingFailed, match="the same `input`"):
        pack_committee(members, dataset, "other", "1.0.0")


def test_members_from_before_the_symmetric_crop_get_it(members, dataset):
    change_record(members[1], lambda raw: raw["input"].update(symmetric=False))
    folder = pack_committee(members, dataset, "other", "1.0.0")
    assert Model.load(folder).record.input.symmetric


def test_a_member_with_other_test_images_is_refused(members, dataset):
    path = members[0] / SPLIT_FILE
    rows = pd.read_csv(path)
    first_test = rows.index[rows["split"] == "test"][0]
    rows.loc[first_test, "split"] = "train"
    rows.to_csv(path, index=False)
    change_record(members[0], {})
    with pytest.raises(TrainingFailed, match="Expected the test images of fold2"):
        pack_committee(members, dataset, "other", "1.0.0")


def test_members_of_overlapping_folds_are_refused(members, dataset):
    held_out = read_split(members[1] / SPLIT_FILE)
    image = held_out["image"][held_out["split"] == "validation"].iloc[0]
    path = members[0] / SPLIT_FILE
    rows = pd.read_csv(path)
    rows.loc[rows["image"] == image, "split"] = "validation"
    # One image alone in its lesion, or two parts would share a lesion.
    rows.loc[rows["image"] == image, "lesion_group"] = rows["lesion_group"].max() + 1
    rows.to_csv(path, index=False)
    change_record(members[0], {})
    with pytest.raises(TrainingFailed, match=f"one member, but {image} is in those of fold2"):
        pack_committee(members, dataset, "other", "1.0.0")


def test_a_committee_is_no_member(committee, dataset):
    with pytest.raises(TrainingFailed, match="members of one network"):
        pack_committee([committee.folder], dataset, "four", "1.0.0")


def test_the_file_of_out_of_fold_predictions_names_its_columns(committee):
    header = (committee.folder / OUT_OF_FOLD_FILE).read_text().splitlines()[0]
    assert header == "image,fold," + ",".join(CODES)


def test_the_card_compares_the_folds(committee):
    card = (committee.folder / CARD_FILE).read_text(encoding="utf-8")
    measured = metrics_file.measured(committee.folder, committee.record)
    by_fold = measured.cross_validation
    out_of_fold = read_out_of_fold(committee.folder)
    counts = np.bincount(out_of_fold.folds)
    assert [fold.n for fold in by_fold.folds] == counts.tolist()
    assert "## Cross-validation" in card
    assert f"| {FOLDS - 1} | {by_fold.folds[-1].backbone} | {counts[-1]} |" in card


def logits_by_image(model, table) -> dict[str, np.ndarray]:
    outputs = model_outputs(model, table)
    return dict(zip(outputs.readable(table)["image"], outputs.logits, strict=True))


def test_outputs_of_a_table_are_by_the_network_that_was_not_trained_on_the_image(
    committee, dataset
):
    out_of_fold = read_out_of_fold(committee.folder)
    stored = dict(zip(out_of_fold.images, out_of_fold.logits, strict=True))
    measured = logits_by_image(committee, dataset.table)
    for image, logits in measured.items():
        if image in stored:
            np.testing.assert_allclose(logits, stored[image], atol=1e-5)
    paths = dataset.table.set_index("image")["path"]
    test_image = next(image for image in measured if image not in stored)
    together = committee.predict(paths[test_image])
    np.testing.assert_allclose(measured[test_image], together.logits, atol=1e-5)


def test_a_model_holds_out_the_networks_that_know_an_image(committee, dataset):
    paths = dataset.table.set_index("image")["path"]
    for image, fold in list(committee.folds.items())[:5]:
        alone = committee.held_out(image).predict(paths[image])
        together = committee.predict(paths[image])
        expected = together.member_probabilities[fold]
        np.testing.assert_allclose(alone.probabilities, expected, atol=1e-5)
    assert committee.held_out("an image of somebody else") is committee


def test_validation_results_are_those_of_unseen_images(committee, synthetic_dataset, tmp_path):
    place = {"model": "three", "data": synthetic_dataset, "output": tmp_path / "out"}
    assert main(["evaluate", *flags({**place, "split": "validation"})]) == 0
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("image")
    out_of_fold = read_out_of_fold(committee.folder)
    known = [image in predictions.index for image in out_of_fold.images]
    logits = out_of_fold.logits[known]
    expected = committee.calibrated(logits, [64] * len(logits))
    images = np.array(out_of_fold.images)[known]
    measured = predictions.loc[images, list(CODES)]
    np.testing.assert_allclose(measured, expected, atol=1e-4)


@pytest.mark.parametrize("command", ["robustness", "saliency"])
def test_a_sample_is_measured_by_networks_that_do_not_know_it(
    committee, synthetic_dataset, tmp_path, monkeypatch, command
):
    used = []
    held_out = Model.held_out

    def note(model, image):
        used.append(image)
        return held_out(model, image)

    monkeypatch.setattr(Model, "held_out", note)
    place = {"model": "three", "data": synthetic_dataset, "output": tmp_path, "images": 21}
    assert main([command, *flags(place)]) == 0
    assert used
    assert set(used) <= set(committee.folds)


def test_calibrating_again_changes_nothing(committee, synthetic_dataset, capsys):
    packed = metrics_file.measured(committee.folder, committee.record)
    auc_over_folds = packed.cross_validation.mean("malignant_auc")
    assert main(["calibrate", *flags({"model": "three", "data": synthetic_dataset})]) == 0
    again = Model.load("three").record
    assert f"age, sex and site: {again.metadata.result}" in capsys.readouterr().out
    assert again.temperature.small == pytest.approx(committee.record.temperature.small, rel=1e-3)
    assert again.temperature.large == pytest.approx(committee.record.temperature.large, rel=1e-3)
    thresholds = [point.threshold for point in committee.record.operating_points]
    assert [p.threshold for p in again.operating_points] == pytest.approx(thresholds, abs=1e-3)
    by_fold = metrics_file.measured(committee.folder, again).cross_validation
    assert by_fold.mean("malignant_auc") == pytest.approx(auc_over_folds, abs=1e-3)


def test_facts_are_tried_on_the_images_of_all_folds(committee, dataset):
    trial = committee.record.metadata
    table = dataset.table
    in_folds = table["image"].isin(list(committee.folds))
    has_age = table["age_approx"].notna()
    malignant = table["diagnosis"].map(lambda code: diagnosis(code).malignant)
    n_expected = int((in_folds & has_age & malignant).sum())
    assert sum(band.n_malignant for band in trial.age_bands.values()) == n_expected
    out_of_fold = read_out_of_fold(committee.folder)
    rows = table.set_index("image").loc[list(out_of_fold.images)]
    probabilities = committee.calibrated(out_of_fold.logits, [64] * len(rows))
    labels = rows["diagnosis"].map(CODES.index).to_numpy(int)
    expected = balanced_accuracy(labels, probabilities)
    before = trial.differences["all"]["balanced_accuracy"].before
    assert before == pytest.approx(float(expected), abs=1e-3)


def test_the_role_of_images_in_folds_is_stated(committee, dataset):
    record = committee.record
    assert record.cross_validated
    sentence, is_flattered = part_in_training(committee.folder, record, dataset)
    n_images = len(committee.folds)
    assert sentence.startswith(f"{n_images} of these images were used for cross-validation.")
    assert ROLE_IN_FOLDS in sentence
    assert is_flattered
    assert role_of("validation", cross_validated=True) == (ROLE_IN_FOLDS, True)
    _, is_flattered = role_of("test", cross_validated=True)
    assert not is_flattered


def evaluated(model, synthetic_dataset, tmp_path, **options) -> dict:
    """Evaluate a model and return the metrics.json of the output."""
    output = tmp_path / "evaluated"
    place = {"model": model, "data": synthetic_dataset, "output": output}
    assert main(["evaluate", *flags({**place, **options})]) == 0
    return json.loads((output / "metrics.json").read_bytes())


def test_the_spread_is_measured_on_images_that_no_network_was_trained_on(
    committee, dataset, synthetic_dataset, tmp_path, capsys
):
    metrics = evaluated("three", synthetic_dataset, tmp_path)
    spread = metrics["network_spread"]
    assert "spread of the 3 networks" in capsys.readouterr().out
    new = dataset.table[~dataset.table["image"].isin(list(committee.folds))]
    assert spread["networks"] == 3
    assert spread["trained_on"] == len(committee.folds)
    assert spread["unseen"]["n"] == len(new)
    predictions = committee.predict_batch(new["path"])
    threshold = committee.record.operating_point("balanced").threshold
    truth = new["diagnosis"].map(lambda code: diagnosis(code).malignant).to_numpy(bool)
    malignant = np.array([p.malignant_probability for p in predictions])
    wrong = (malignant >= threshold) != truth
    ranges = np.array([high - low for low, high in (p.member_range for p in predictions)])
    assert 0 < wrong.sum() < len(wrong)
    area = spread["unseen"]["decision_auroc"]["spread"]
    assert area == pytest.approx(roc_auc_score(wrong, ranges), abs=0.02)
    assert spread["unseen"]["wrong_decisions"] == wrong.sum()


def test_the_card_shows_the_spread_on_the_test_split(
    committee, models, synthetic_dataset, tmp_path
):
    card = committee.folder / "README.md"
    assert "--split test --into-model" in card.read_text()
    output = tmp_path / "evaluated"
    place = {"model": "three", "data": synthetic_dataset, "output": output, "split": "test"}
    assert main(["evaluate", *flags(place), "--into-model"]) == 0
    text = card.read_text()
    assert "## Agreement of the networks" in text
    assert "| area under the risk-coverage curve (lower is better) |" in text
    Model.load("three")


def test_the_spread_is_not_measured_on_images_of_the_folds(
    committee, synthetic_dataset, tmp_path, capsys
):
    metrics = evaluated("three", synthetic_dataset, tmp_path, split="validation")
    assert metrics["network_spread"]["unseen"] is None
    assert metrics["network_spread"]["trained_on"] == metrics["n"]
    assert NOT_MEASURED in capsys.readouterr().out


def test_one_network_has_no_metrics_of_a_spread(models, synthetic_dataset, tmp_path):
    assert "network_spread" not in evaluated("base", synthetic_dataset, tmp_path, split="test")
    assert "Agreement of the networks" not in (models / "base" / "README.md").read_text()
