import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from cadlib.errors import FactsRejected, ImageRejected, ModelInvalid
from cadlib.images import preprocess, read_image
from cadlib.images.synthetic import demo_lesions
from cadlib.model.calibration import NO_BIAS, probabilities
from cadlib.model.metadata import PatientFacts
from cadlib.model.model import Model, Prediction
from cadlib.model.record import METRICS_FILE, ONNX_FILE, WEIGHTS_FILE, find_model, read_json
from cadlib.network.backbones import network_of
from cadlib.taxonomy import CODES
from tests.model_folders import change_record, edit_record, reseal


def prediction_of(shares):
    return Prediction(
        probabilities=shares,
        member_probabilities=shares[None],
        view_probabilities=shares[None],
        logits=np.log(shares),
        model_id="",
        image_sha256="",
        features=np.zeros(4, np.float32),
        evidence=np.zeros((8, 2, 2), np.float32),
        fingerprint=np.zeros(32, np.uint8),
    )


def test_loads_and_predicts_in_two_lines_in_a_fresh_interpreter(tmp_path):
    picture = tmp_path / "lesion.png"
    picture.write_bytes(demo_lesions()[0].png())
    code = (
        "from cadlib import Model\n"
        "model = Model.load('isic2019')\n"
        f"print(model.predict({str(picture)!r}).ranking()[0][0])"
    )
    root = Path(__file__).parent.parent
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() in CODES
    assert not process.stderr


def test_path_bytes_pil_and_lesion_image_give_the_same_answer(model, tmp_path):
    lesion = demo_lesions()[0]
    path = tmp_path / "lesion.png"
    path.write_bytes(lesion.png())
    sources = [path, str(path), lesion.png(), Image.fromarray(lesion.pixels), read_image(path)]
    results = [model.predict(source).probabilities for source in sources]
    for result in results[1:]:
        assert np.array_equal(result, results[0])


def test_a_prediction_is_calibrated_probabilities_in_taxonomy_order(model):
    prediction = model.predict(demo_lesions()[0].png())
    assert prediction.probabilities.shape == (8,)
    assert prediction.probabilities.dtype == np.float64
    assert prediction.probabilities.sum() == pytest.approx(1)
    assert prediction.model_id == model.record.model_id
    with pytest.raises(ValueError, match="read-only"):
        prediction.probabilities[0] = 1


def test_a_prediction_carries_the_logits_behind_its_probabilities(model):
    prediction = model.predict(demo_lesions()[0].png())
    lesion = read_image(demo_lesions()[0].png())
    assert prediction.logits.shape == (8,)
    assert prediction.logits.dtype == np.float32
    recomputed = model.calibrated(prediction.logits[None], [min(lesion.file_px)])
    assert np.array_equal(recomputed[0], prediction.probabilities)
    with pytest.raises(ValueError, match="read-only"):
        prediction.logits[0] = 1


def test_logits_of_real_images_are_those_of_their_calibrated_probabilities(model, data_dir):
    paths = sorted((data_dir / "uploads").glob("*.jpg"))
    for path, prediction in zip(paths, model.predict_batch(paths), strict=True):
        temperature = model.record.temperature.of(min(read_image(path).file_px))
        scaled = np.log(prediction.probabilities) - np.array(model.record.bias)
        inverted = np.exp(scaled * temperature)
        inverted /= inverted.sum()
        [uncalibrated] = probabilities(prediction.logits[None], 1.0, NO_BIAS)
        np.testing.assert_allclose(uncalibrated, inverted, rtol=0, atol=1e-6)


def test_the_ranking_starts_with_the_most_probable():
    shares = np.array([0.1, 0.4, 0.05, 0.05, 0.2, 0.05, 0.05, 0.1])
    ranking = prediction_of(shares).ranking()
    assert ranking[:2] == [("NV", 0.4), ("BKL", 0.2)]
    assert sorted(code for code, _ in ranking) == sorted(CODES)


def test_the_malignant_probability_is_the_sum_over_malignant_diagnoses():
    shares = np.array([0.1, 0.4, 0.05, 0.03, 0.2, 0.05, 0.05, 0.12])
    assert prediction_of(shares).malignant_probability == pytest.approx(0.1 + 0.05 + 0.03 + 0.12)


def test_a_batch_gives_the_results_of_single_images_in_order(model):
    pictures = [lesion.png() for lesion in demo_lesions()[:5]]
    batch = model.predict_batch(iter(pictures), batch_size=2)
    for picture, prediction in zip(pictures, batch, strict=True):
        alone = model.predict(picture)
        assert prediction.image_sha256 == alone.image_sha256
        assert np.allclose(prediction.probabilities, alone.probabilities, atol=1e-5)


def test_features_are_the_input_of_the_linear_head(model):
    import torch

    spec = model.record.input
    pictures = np.stack(
        [preprocess.to_pixels(read_image(lesion.png()), spec) for lesion in demo_lesions()[:3]]
    )
    outputs = model.see(pictures)
    assert outputs.features.dtype == np.float32
    head = network_of(model).get_classifier()
    logits = head(torch.from_numpy(outputs.features)).detach().numpy()
    assert np.allclose(logits, outputs.logits, atol=1e-4)


def test_the_graph_gives_the_logits_of_the_network(model):
    spec = model.record.input
    head = network_of(model).get_classifier()
    pictures = np.stack(
        [preprocess.to_pixels(read_image(lesion.png()), spec) for lesion in demo_lesions()]
    )
    import torch

    outputs = model.see(pictures)
    with torch.inference_mode():
        logits = network_of(model)(torch.from_numpy(preprocess.to_array(pictures, spec))).numpy()
    assert np.allclose(outputs.logits, logits, atol=1e-4)
    assert np.allclose(outputs.evidence.sum(axis=(2, 3)) + head.bias.numpy(), logits, atol=1e-4)


def test_an_empty_batch_gives_nothing(model):
    assert model.predict_batch([]) == []


def test_a_bad_image_in_a_batch_is_rejected(model):
    with pytest.raises(ImageRejected):
        model.predict_batch([demo_lesions()[0].png(), b"no picture"])


def test_knows_real_melanoma_from_real_nevus_more_often_than_not(model, data_dir):
    shares = {
        name: model.predict(data_dir / "uploads" / f"{name}.jpg").malignant_probability
        for name in ("ISIC_0024310", "ISIC_0024315", "ISIC_0024311", "ISIC_0024314")
    }
    melanomas = shares["ISIC_0024310"] + shares["ISIC_0024315"]
    assert melanomas > shares["ISIC_0024311"] + shares["ISIC_0024314"]


@pytest.mark.parametrize("name", [ONNX_FILE, WEIGHTS_FILE])
def test_altered_weights_are_refused(model_folder, name):
    path = model_folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelInvalid, match=rf"{name} changed: its SHA-256"):
        Model.load(model_folder)


@pytest.mark.parametrize("name", [ONNX_FILE, WEIGHTS_FILE])
def test_missing_weights_are_refused(model_folder, name):
    (model_folder / name).unlink()
    with pytest.raises(ModelInvalid, match=f"{name} is missing"):
        Model.load(model_folder)


def test_a_network_that_timm_does_not_have_is_refused(model_folder):
    change_record(model_folder, lambda raw: raw["members"][0].update(backbone="nonesuch_net"))
    with pytest.raises(ModelInvalid, match="nonesuch_net"):
        _ = network_of(Model.load(model_folder))


def test_weights_of_another_network_are_refused(model_folder):
    path = model_folder / WEIGHTS_FILE
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path)
    reseal(model_folder, golden=False)
    with pytest.raises(ModelInvalid, match="not those of"):
        Model.load(model_folder)


def test_the_shipped_model_is_small_and_has_no_pickle(model):
    from cadlib.model.record import find_model

    files = list(find_model("isic2019").iterdir())
    assert sum(os.stat(file).st_size for file in files) <= 25 * 2**20
    assert {file.suffix for file in files} <= {".safetensors", ".onnx", ".json", ".md", ".csv"}


LARGE = "short side ≥ 150 px"
BARS = (  # part of the split, metric, its key, the least or most it may be
    (LARGE, "n_classes", None, ">=", 8),
    (LARGE, "balanced_accuracy", None, ">=", 0.65),
    (LARGE, "malignant_auc", None, ">=", 0.91),
    (LARGE, "auc", "MEL", ">=", 0.89),
    ("archive BCN20000", "balanced_accuracy", None, ">=", 0.49),
    ("all", "malignant_specificity_at_sensitivity", "0.95", ">=", 0.56),
    ("all", "ece", None, "<=", 0.03),
    ("archive BCN20000", "ece", None, "<=", 0.06),
    ("archive HAM10000", "ece", None, "<=", 0.06),
    ("archive MSK", "ece", None, "<=", 0.06),
)
"""Least metrics of the shipped model on the first split of its metrics.json, which was not used for training."""


@pytest.mark.parametrize(("part", "metric", "key", "sense", "bar"), BARS)
def test_the_shipped_model_reaches_its_bars(part, metric, key, sense, bar):
    metrics = read_json(find_model("isic2019") / METRICS_FILE)
    measured = (metrics if part == "all" else metrics["subgroups"][part])[metric]
    value = measured if key is None else measured[key]
    assert value >= bar if sense == ">=" else value <= bar


@pytest.mark.parametrize("facts", [None, PatientFacts()])
def test_without_facts_a_prediction_is_bit_identical(taught_folder, model, facts):
    picture = demo_lesions()[0].png()
    prediction = Model.load(taught_folder).predict(picture, facts)
    assert np.array_equal(prediction.probabilities, model.predict(picture).probabilities)
    assert not prediction.moved.any()
    assert prediction.facts is None


def test_facts_move_a_prediction_by_the_evidence_of_the_model(taught_folder):
    model = Model.load(taught_folder)
    picture = demo_lesions()[0].png()
    alone = model.predict(picture)
    male = model.predict(picture, PatientFacts(sex="male"))
    odds = (
        p.probabilities[CODES.index("MEL")] / p.probabilities[CODES.index("NV")]
        for p in (alone, male)
    )
    before, after = odds
    assert after / before == pytest.approx(np.exp(2))
    assert male.probabilities.sum() == pytest.approx(1)
    assert np.array_equal(male.moved, male.probabilities - alone.probabilities)
    assert np.array_equal(male.image_probabilities, alone.probabilities)
    with pytest.raises(ValueError, match="read-only"):
        male.probabilities[0] = 1


def test_facts_are_not_added_twice(taught_folder):
    model = Model.load(taught_folder)
    prediction = model.predict(demo_lesions()[0].png(), PatientFacts(sex="male"))
    with pytest.raises(ValueError, match="added once"):
        model.with_facts(prediction, PatientFacts(90))


def test_a_model_without_metadata_refuses_facts(untaught_folder):
    with pytest.raises(FactsRejected, match="takes none"):
        Model.load(untaught_folder).predict(demo_lesions()[0].png(), PatientFacts(sex="male"))


def test_a_graph_of_another_size_is_refused_at_load_in_one_line(model_folder):
    edit_record(model_folder, lambda raw: raw["input"].update(size_px=64))
    reseal(model_folder, golden=False)
    with pytest.raises(ModelInvalid, match="to answer, but it fails") as refused:
        Model.load(model_folder)
    assert "\n" not in str(refused.value)


def test_the_torch_network_has_the_weights_that_were_loaded_whatever_is_on_disk_now(
    model_folder, model
):
    import torch

    loaded = Model.load(model_folder)
    (model_folder / WEIGHTS_FILE).write_bytes(b"changed later")
    for name, tensor in network_of(model).state_dict().items():
        assert torch.equal(network_of(loaded).state_dict()[name], tensor)
