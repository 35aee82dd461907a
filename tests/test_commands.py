import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cadlib.__main__ import main
from cadlib.data.subsets import Subset, save_subset
from cadlib.images.synthetic import demo_lesions
from cadlib.model.model import Model
from cadlib.model.record import find_model, read_record
from cadlib.saliency.heatmap import METHODS
from cadlib.taxonomy import CODES
from tests.model_folders import change_file, shrink_network
from tests.tiny_training import TINY, flags

pytestmark = pytest.mark.usefixtures("few_draws", "same_graphs")

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    for lesion in demo_lesions()[:3]:
        (tmp_path / f"{lesion.name}.png").write_bytes(lesion.png())
    return tmp_path


def test_predict_prints_a_ranking_with_the_decision_first(folder, capsys):
    path = folder / "synthetic_NV_1.png"
    assert main(["predict", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(path)
    assert "malignant probability" in lines[1]
    shares = [float(line.split()[-1].strip("<>")) for line in lines[2:10]]
    assert len(shares) == 8
    assert shares == sorted(shares, reverse=True)


def test_predict_names_the_similar_training_images(folder, capsys):
    path = str(folder / "synthetic_NV_1.png")
    assert main(["predict", path, "--format", "json"]) == 0
    neighbours = json.loads(capsys.readouterr().out)[0]["neighbours"]
    assert main(["predict", path]) == 0
    heading, agreement, cases = capsys.readouterr().out.splitlines()[-3:]
    assert heading.startswith("  Similar training images: ")
    assert agreement.startswith(
        f"    When {neighbours['agreeing']} of 5 similar cases had the model's top diagnosis, "
    )
    assert cases.strip() == ", ".join(
        f"{case['image']} {case['diagnosis']}" for case in neighbours["cases"]
    )


@pytest.mark.parametrize("name", ["rule-out", "rule-in"])
def test_predict_uses_the_requested_operating_point(folder, name, capsys):
    assert main(["predict", str(folder), "--format", "json", "--operating-point", name]) == 0
    point = Model.load("isic2019").record.operating_point(name)
    for row in json.loads(capsys.readouterr().out):
        assert row["decision"]["operating_point"] == name
        assert (row["decision"]["action"] == "refer") == (
            row["malignant_probability"] >= point.threshold
        )


def test_an_unknown_operating_point_is_bad_usage(folder, capsys):
    assert main(["predict", str(folder), "--operating-point", "bold"]) == 2
    assert "rule-out, balanced, rule-in" in capsys.readouterr().err


def test_predict_marks_a_picture_that_cannot_be_read(folder, tmp_path, capsys):
    Image.fromarray(np.asarray(Image.open(min(folder.glob("*.png")))) // 8).save(
        tmp_path / "dark.png"
    )
    assert main(["predict", str(tmp_path / "dark.png")]) == 0
    assert (
        "No reliable result is possible for this image: The image is too dark."
        in capsys.readouterr().out.splitlines()[2]
    )


def test_predict_marks_a_picture_of_another_kind(folder, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    assert main(["predict", str(folder / "synthetic_NV_1.png"), str(tmp_path / "noise.png")]) == 0
    lesion, noise = capsys.readouterr().out.split(str(tmp_path / "noise.png"))
    assert "Not a known type of image" in noise
    assert "Not a known type of image" not in lesion


def swap_on_disk(*paths):
    for path in paths:
        Image.fromarray(np.asarray(Image.open(path).convert("RGB"))[..., ::-1]).save(path)


def test_predict_names_swapped_channels_and_warns_of_the_whole_folder(folder, capsys):
    swap_on_disk(*folder.glob("*.png"))
    assert main(["predict", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("Red and blue look swapped.") == 3
    assert "Red and blue look swapped in 3 of 3 images checked." in printed.err


def test_predict_does_not_warn_of_a_folder_with_one_swapped_image(folder, capsys):
    swap_on_disk(min(folder.glob("*.png")))
    assert main(["predict", str(folder), "--format", "csv"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("red and blue swapped") == 1
    assert "images checked" not in printed.err


def test_evaluate_warns_of_a_data_set_with_swapped_channels(folder, tmp_path, capsys):
    images = sorted(folder.glob("*.png"))
    swap_on_disk(*images)
    rows = "".join(f"{path.stem},NV\n" for path in images)
    (folder / "labels.csv").write_text(f"image,diagnosis\n{rows}")
    output = tmp_path / "results"
    assert (
        main(["evaluate", "--model", "isic2019", "--data", str(folder), "--output", str(output)])
        == 0
    )
    assert "3  images with red and blue swapped in a sample of 3" in capsys.readouterr().err
    warning = json.loads((output / "metrics.json").read_text())["data"]["warning"]
    assert warning.startswith("Red and blue look swapped in 3 of 3 images checked.")


def test_predict_reads_a_folder_and_prints_csv(folder, capsys):
    assert main(["predict", str(folder), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 3
    for row in rows:
        assert sum(float(row[code]) for code in CODES) == pytest.approx(1, abs=1e-4)


def test_reports_one_bad_file_and_predicts_the_rest(folder, capsys):
    (folder / "report.jpg").write_bytes(b"%PDF-1.4 not a picture")
    assert main(["predict", str(folder), "--format", "json"]) == 1
    printed = capsys.readouterr()
    parsed = json.loads(printed.out)
    assert [("error" in row) for row in parsed] == [True, False, False, False]
    assert "PDF" in parsed[0]["error"]
    assert "report.jpg" in printed.err


def test_a_missing_file_fails_that_file_only(folder, capsys):
    path = next(folder.glob("*.png"))
    assert main(["predict", str(folder / "missing.png"), str(path)]) == 1
    printed = capsys.readouterr()
    assert "missing.png" in printed.err
    assert str(path) in printed.out


def test_predict_leaves_out_droppings_and_follows_links(folder, tmp_path_factory, capsys):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    lesions = sorted(folder.glob("*.png"))
    lesions[0].rename(elsewhere / lesions[0].name)
    (folder / "linked").symlink_to(elsewhere)
    (folder / "loop").symlink_to(folder)
    for dropping in ("@eaDir", ".Trash", "__MACOSX", ".ipynb_checkpoints", "$RECYCLE.BIN"):
        (folder / dropping).mkdir()
        (folder / dropping / "copy.png").write_bytes(lesions[1].read_bytes())
    assert main(["predict", str(folder), "--format", "json"]) == 0
    files = [row["file"] for row in json.loads(capsys.readouterr().out)]
    assert files == [str(folder / "linked" / lesions[0].name), str(lesions[1]), str(lesions[2])]


def test_predict_reports_a_broken_link_with_exit_code_1_and_goes_on(folder, capsys):
    link = folder / "gone.png"
    link.symlink_to(folder / "nowhere.png")
    assert main(["predict", str(folder), "--format", "json"]) == 1
    printed = capsys.readouterr()
    assert f"cadlib: {link}: gone.png is a link to" in printed.err
    errors = {row["file"]: row.get("error") for row in json.loads(printed.out)}
    assert "which is not there" in errors.pop(str(link))
    assert list(errors.values()) == [None, None, None]


def test_predict_on_a_folder_with_nothing_but_a_broken_link_fails_with_1(tmp_path, capsys):
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert main(["predict", str(tmp_path), "--format", "csv"]) == 1
    printed = capsys.readouterr()
    assert "gone.png" in printed.err
    assert len(printed.out.splitlines()) == 2


def test_predict_writes_the_requested_heatmaps(folder, tmp_path, capsys):
    maps = tmp_path / "maps"
    assert main(["predict", str(folder), "--heatmap", str(maps), "--format", "json"]) == 0
    parsed = json.loads(capsys.readouterr().out)
    map_paths = sorted(maps.glob("*.png"))
    assert len(map_paths) == 3
    for row, path in zip(parsed, map_paths, strict=True):
        assert row["heatmap"]["diagnosis"] == row["diagnosis"]
        with Image.open(path) as picture:
            assert picture.size == (row["width_px"], row["height_px"])


def test_a_heatmap_that_fails_is_of_that_file_only(folder, tmp_path, monkeypatch, capsys):
    from cadlib.saliency import heatmap

    overlay = heatmap.overlay
    first = []

    def fails_once(*arguments):
        if not first:
            first.append(True)
            raise OSError(28, "No space left on device")
        return overlay(*arguments)

    monkeypatch.setattr(heatmap, "overlay", fails_once)
    assert (
        main(["predict", str(folder), "--heatmap", str(tmp_path / "maps"), "--format", "json"]) == 1
    )
    printed = capsys.readouterr()
    assert "No space left" in printed.err
    parsed = json.loads(printed.out)
    assert ["error" in row for row in parsed] == [False, False, False]
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_predict_leaves_hidden_files_and_its_own_heatmaps_in_a_folder_alone(folder, capsys):
    (folder / "._lesion.png").write_bytes(b"what another system leaves behind")
    (folder / "folder.png").mkdir()
    arguments = ["predict", str(folder), "--heatmap", str(folder / "maps"), "--format", "json"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert len(json.loads(capsys.readouterr().out.split("\n]\n")[1] + "]")) == 3


@pytest.mark.parametrize(
    "line",
    [
        "",
        "predict",
        "predict x.jpg --format xml",
        "predict x.jpg --model nonesuch",
        "predict {empty}",
        "evaluate --model isic2019",
        "evaluate --model isic2019 --images nowhere --ground-truth no.csv --output {empty}",
        "evaluate --model isic2019 --images {empty} --output {empty}",
        "evaluate --model isic2019 --data {empty} --images {empty} --output {empty}",
        "evaluate --model isic2019 --data {empty} --into-model --output {empty}",
        "calibrate --model isic2019",
        "calibrate --model nonesuch --data {empty}",
        "calibrate --model isic2019 --data nowhere",
        "robustness --model isic2019",
        "robustness --model nonesuch --data {empty}",
        "robustness --data nowhere",
        "robustness --data {empty} --images 0",
        "robustness --data {empty} --seed -1",
        "robustness --data {empty} --split train",
        "saliency --model isic2019",
        "saliency --model nonesuch --data {empty}",
        "saliency --data nowhere",
        "saliency --data {empty} --images 0",
        "saliency --data {empty} --seed -1",
        "evaluate --predictions {empty} --output {empty}",
        "evaluate --predictions {empty} --model isic2019 --output {empty}",
        "evaluate --predictions {empty} --ground-truth {empty} --data {empty} --output x",
        "evaluate --model isic2019 --data {empty} --classes 9 --output {empty}",
        "evaluate --model isic2019 --data {empty} --subset nonesuch --output {empty}",
        "evaluate --model isic2019 --data {empty} --subset ../up --output {empty}",
        "evaluate --model isic2019 --data {empty} --split train --into-model --output {empty}",
        "evaluate --model isic2019 --data {empty} --split test --into-model --classes 7 --output {empty}",
        "train --data nowhere --name x",
        "train --data {empty} --name x --epochs 0",
        "train --data {empty} --name a/b",
        "train --data {empty} --name x --subset nonesuch",
        "train --data {empty} --name isic2019",
    ],
)
def test_bad_usage_ends_with_2_before_any_work(line, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main([part.format(empty=empty) for part in line.split()]) == 2
    assert capsys.readouterr().err


def test_training_on_an_empty_folder_fails_with_1_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    (tmp_path / "data").mkdir()
    arguments = [
        "train",
        *flags({"data": tmp_path / "data", "name": "x", "run_dir": tmp_path / "run"}),
    ]
    assert main([*arguments, "--no-pretrained", "--backbone", "test_efficientnet"]) == 1
    assert "ISIC_2019_Training_Input" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_run_that_cannot_write_is_refused_in_words(
    synthetic_dataset, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "file").touch()
    where = {"data": synthetic_dataset, "name": "x", "run_dir": tmp_path / "file" / "run"}
    assert main(["train", *flags({**where, **TINY})]) == 2
    assert "Expected a folder that can be written" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def accuracies_of(predictions: pd.DataFrame, truth: Path) -> tuple[float, float]:
    """Return the accuracy and the balanced accuracy of predictions, computed from the CSV files."""
    one_hot = pd.read_csv(truth).set_index("image").loc[predictions["image"], list(CODES)]
    labels = one_hot.to_numpy().argmax(axis=1)
    predicted = predictions[list(CODES)].to_numpy().argmax(axis=1)
    recalls = [np.mean(predicted[labels == index] == index) for index in range(8)]
    return float(np.mean(labels == predicted)), float(np.mean(recalls))


def test_evaluate_compares_with_the_labels_and_writes_both_files(
    synthetic_dataset, tmp_path, capsys
):
    images = synthetic_dataset / "ISIC_2019_Training_Input"
    truth = next(synthetic_dataset.glob("*GroundTruth.csv"))
    output = tmp_path / "out"
    facts = next(synthetic_dataset.glob("*Metadata.csv"))
    arguments = ["--images", str(images), "--ground-truth", str(truth), "--metadata", str(facts)]
    assert main(["evaluate", "--model", "isic2019", *arguments, "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert "balanced accuracy" in printed.out
    assert "usable images" in printed.err
    assert "without metadata" not in printed.err

    predictions = pd.read_csv(output / "predictions.csv")
    assert predictions.columns.tolist() == ["image", *CODES, "UNK"]
    metrics = json.loads((output / "metrics.json").read_text())
    accuracy, balanced_accuracy = accuracies_of(predictions, truth)
    assert metrics["accuracy"] == pytest.approx(accuracy)
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy)
    assert {"malignant_auc", "auc", "confusion_matrix", "ece", "n"} <= metrics.keys()
    assert metrics["model"]["id"] == read_record(find_model("isic2019")).model_id


@pytest.fixture
def split_folder(model_folder, synthetic_dataset):
    """Return a tiny model as if two drawn lesions of each diagnosis were its validation split.

    Its record and metrics are those of the repository's model.
    """
    truth = pd.read_csv(next(synthetic_dataset.glob("*GroundTruth.csv"))).set_index("image")
    images = sorted(
        name
        for _, group in truth.groupby(truth[list(CODES)].idxmax(axis=1))
        for name in group.index[:2]
    )
    rows = pd.DataFrame({"image": images, "lesion_group": range(16), "split": "validation"})
    text = rows.to_csv(index=False, lineterminator="\n")
    (model_folder / "split.csv").write_text(text, encoding="utf-8")
    shrink_network(model_folder)
    return model_folder


def test_robustness_prints_a_table_and_goes_into_the_model(
    synthetic_dataset, split_folder, tmp_path, capsys
):
    where = {"model": split_folder, "data": synthetic_dataset, "output": tmp_path / "out"}
    assert main(["robustness", *flags(where), "--images", "8", "--into-model"]) == 0
    printed = capsys.readouterr()
    assert "gel bubbles" in printed.out
    assert "8 of 16 images of the validation split" in printed.err
    results = json.loads(
        (tmp_path / "out" / "robustness.json").read_text(encoding="utf-8"),
        parse_constant=pytest.fail,
    )
    assert (results["n"], results["n_classes"], results["sample"]["of"]) == (8, 8, 16)
    measured = json.loads((split_folder / "metrics.json").read_text(encoding="utf-8"))
    assert measured["robustness"] == results
    assert measured["n"] == 3623
    assert "## Robustness to image degradation" in (split_folder / "README.md").read_text(
        encoding="utf-8"
    )


def test_saliency_prints_a_table_and_goes_into_the_model(
    synthetic_dataset, split_folder, tmp_path, capsys
):
    where = {"model": split_folder, "data": synthetic_dataset, "output": tmp_path / "out"}
    assert main(["saliency", *flags(where), "--images", "8", "--into-model"]) == 0
    printed = capsys.readouterr()
    assert "8 of 16 images of the validation split" in printed.err
    names = [*(method.key for method in METHODS), "random", "centre"]
    rows = printed.out.splitlines()[3 : 3 + len(names)]
    assert [line.split()[0] for line in rows] == names
    results = json.loads(
        (tmp_path / "out" / "saliency.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
    )
    assert (results["n"], results["sample"]["of"]) == (8, 16)
    assert results["faithfulness"]["hirescam"] == pytest.approx(
        results["faithfulness"]["grad-cam"], abs=0.02
    )
    assert sum(results["by_diagnosis"]["n"].values()) == 8
    measured = json.loads((split_folder / "metrics.json").read_text(encoding="utf-8"))
    assert measured["saliency"] == results
    assert "8 images of 8 lesions" in (split_folder / "README.md").read_text(encoding="utf-8")


def test_robustness_refuses_a_model_whose_metrics_are_of_other_weights(
    synthetic_dataset, split_folder, capsys
):
    path = split_folder / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    change_file(
        split_folder, path.name, json.dumps({**metrics, "model": {"weights_sha256": "ab" * 32}})
    )
    where = ["--model", str(split_folder), "--data", str(synthetic_dataset)]
    assert main(["robustness", *where, "--into-model"]) == 1
    assert "measure the model again" in capsys.readouterr().err


def test_robustness_refuses_a_sample_without_every_diagnosis(
    synthetic_dataset, split_folder, capsys
):
    where = ["--model", str(split_folder), "--data", str(synthetic_dataset)]
    assert main(["robustness", *where, "--images", "7"]) == 1
    assert "at least 8 images" in capsys.readouterr().err


def read_metrics(folder: Path) -> dict:
    """Return the metrics that a command wrote into a folder."""
    metrics: dict = json.loads((folder / "metrics.json").read_text())
    return metrics


def test_evaluate_gives_the_seven_classes_of_2018_from_the_file_that_it_wrote(
    synthetic_dataset, tmp_path, capsys
):
    truth = next(synthetic_dataset.glob("*GroundTruth.csv"))
    metadata = next(synthetic_dataset.glob("*Metadata.csv"))
    images = synthetic_dataset / "ISIC_2019_Training_Input"
    labels = {"ground_truth": truth, "metadata": metadata, "classes": 7}
    from_images = tmp_path / "first"
    from_predictions = tmp_path / "again"
    with_model = flags({"model": "isic2019", "images": images, **labels, "output": from_images})
    assert main(["evaluate", *with_model]) == 0
    predictions = flags(
        {"predictions": from_images / "predictions.csv", **labels, "output": from_predictions}
    )
    assert main(["evaluate", *predictions]) == 0
    assert "AKIEC" in capsys.readouterr().out
    metrics_from_images = read_metrics(from_images)
    metrics_from_predictions = read_metrics(from_predictions)
    assert " ".join(metrics_from_predictions["auc"]) == "MEL NV BCC AKIEC BKL DF VASC"
    for name in ("balanced_accuracy", "auc", "confusion_matrix", "roc"):
        assert metrics_from_predictions[name] == metrics_from_images[name]
    # Without a model no temperature is undone, so that some intervals are missing.
    for name, interval in metrics_from_predictions["intervals"].items():
        assert interval == metrics_from_images["intervals"][name]
    predictions_of_model = (from_images / "predictions.csv").read_bytes()
    assert (from_predictions / "predictions.csv").read_bytes() == predictions_of_model


@pytest.fixture
def subset(synthetic_dataset):
    """Return a saved subset of the drawn lesions: three of each diagnosis, and one image that is not there."""
    images = [f"ISIC_{9_000_000 + number}" for number in range(96) if number % 12 in (0, 2, 5)]
    saved = Subset("every fourth", "drawn", (*images, "ISIC_1"), "by number")
    save_subset(saved)
    return saved


@pytest.fixture
def evaluation_of_subset(synthetic_dataset, subset, tmp_path, capsys) -> Path:
    """Return the results of the model on the subset alone."""
    output = tmp_path / "subset"
    settings = {"model": "isic2019", "data": synthetic_dataset, "classes": 7, "output": output}
    assert main(["evaluate", *flags(settings), "--subset", subset.name]) == 0
    return output


def test_evaluate_measures_a_subset_alone(subset, evaluation_of_subset, capsys):
    assert "1  images of the subset that are not there: ISIC_1\n" in capsys.readouterr().err
    predictions = pd.read_csv(evaluation_of_subset / "predictions.csv")
    assert predictions["image"].tolist() == sorted(set(subset.images) - {"ISIC_1"})
    facts = {"name": subset.name, "sha256": subset.sha256}
    data = read_metrics(evaluation_of_subset)["data"]
    assert data == {"name": "drawn", "subset": facts, "images": 24}


def test_evaluate_measures_a_subset_from_predictions_of_all_images(
    synthetic_dataset, subset, evaluation_of_subset, tmp_path
):
    truth = next(synthetic_dataset.glob("*GroundTruth.csv"))
    all_folder = tmp_path / "all"
    output = tmp_path / "out"
    settings = {"model": "isic2019", "data": synthetic_dataset, "classes": 7, "output": all_folder}
    assert main(["evaluate", *flags(settings)]) == 0
    assert "subset" not in read_metrics(all_folder)["data"]
    earlier = {"predictions": all_folder / "predictions.csv", "ground_truth": truth, "classes": 7}
    command = ["evaluate", *flags(earlier), "--subset", subset.name, "--output", str(output)]
    assert main(command) == 0
    expected = pd.read_csv(evaluation_of_subset / "predictions.csv")
    pd.testing.assert_frame_equal(pd.read_csv(output / "predictions.csv"), expected)
    metrics = read_metrics(output)
    facts = {"name": subset.name, "sha256": subset.sha256}
    assert metrics["data"] == {"name": "predictions.csv", "subset": facts, "images": 24}
    for name in ("n", "balanced_accuracy", "malignant_auc", "confusion_matrix"):
        assert metrics[name] == read_metrics(evaluation_of_subset)[name]


@pytest.fixture
def evaluate_part(drawn_model_folder, drawn_dataset, tmp_path):
    """Return a function that evaluates a part of the drawn lesions, of which a subset is a half."""
    images = drawn_dataset.table["image"].tolist()
    save_subset(Subset("half", "drawn", (*images[:16],), "the first four diagnoses"))
    save_subset(Subset("trained on", "drawn", (*images[::4],), "the first of each diagnosis"))
    data = Path(drawn_dataset.table["path"][0]).parents[1]
    where = {"model": drawn_model_folder, "data": data, "output": tmp_path / "out"}

    def evaluate(*options: str) -> int:
        return main(["evaluate", *flags(where), *options])

    return evaluate


def test_evaluate_measures_the_common_images_of_a_subset_and_a_split(
    evaluate_part, drawn_dataset, tmp_path
):
    assert evaluate_part("--split", "validation", "--subset", "half") == 0
    predictions = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert predictions["image"].tolist() == drawn_dataset.table["image"].tolist()[2:16:4]
    data = read_metrics(tmp_path / "out")["data"]
    assert data["split"] == "validation"
    assert data["subset"]["name"] == "half"


def test_evaluate_warns_of_training_images_in_a_subset(evaluate_part, capsys):
    assert evaluate_part("--subset", "half") == 0
    assert (
        "8 of these images were used for training and 4 for choosing the model, "
        "so these results are too optimistic."
    ) in capsys.readouterr().err


def test_evaluate_refuses_a_subset_without_an_image_of_the_split(evaluate_part, capsys):
    assert evaluate_part("--split", "validation", "--subset", "trained on") == 1
    assert "Expected images of the validation split" in capsys.readouterr().err


def test_the_results_of_a_subset_do_not_go_into_the_model(evaluate_part, capsys):
    assert evaluate_part("--split", "validation", "--subset", "half", "--into-model") == 2
    assert "without --subset" in capsys.readouterr().err


@pytest.fixture
def seven() -> Subset:
    """Return a saved subset of the drawn lesions, seven of each diagnosis."""
    images = [f"ISIC_{9_000_000 + number}" for number in range(96) if number % 12 < 7]
    subset = Subset("seven", "drawn", tuple(images), "by number")
    save_subset(subset)
    return subset


def test_train_uses_only_the_subset_and_records_it(
    synthetic_dataset, seven, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CADLIB_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CADLIB_CACHE", str(tmp_path / "cache"))
    where = {"data": synthetic_dataset, "name": "tiny", "run_dir": tmp_path / "run"}
    settings = {**TINY, "last_px": 32, "epochs": 1, "validation": 0.3, "subset": "seven"}
    command = ["train", *flags({**where, **settings})]
    assert main(command) == 0
    folder = tmp_path / "models" / "tiny"
    record = read_record(folder)
    training = record.training
    assert record.members[0].run.config["subset"] == "seven"
    assert sum(training.images.values()) == 56
    assert training.dataset == f"drawn, subset seven ({seven.sha256[:16]})"
    assert tuple(pd.read_csv(folder / "split.csv")["image"]) == seven.images
    assert f"The images come from the data set `{training.dataset}`" in capsys.readouterr().out

    save_subset(Subset("seven", "drawn", seven.images[1:], "by number, less one"))
    assert main([*command, "--overwrite", "--resume"]) == 1
    assert "split_sha256" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_evaluate_reports_an_unreadable_image_and_goes_on(
    synthetic_dataset, tmp_path, capsys, share
):
    folder = shutil.copytree(synthetic_dataset, tmp_path / "data")
    images = folder / "ISIC_2019_Training_Input"
    victim = min(images.iterdir())
    victim.write_bytes(victim.read_bytes()[: int(share * victim.stat().st_size)])
    truth = next(folder.glob("*GroundTruth.csv"))
    arguments = flags({"images": images, "ground_truth": truth, "output": tmp_path / "out"})
    assert main(["evaluate", "--model", "isic2019", *arguments]) == 1
    assert victim.stem in "".join(capsys.readouterr())
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 95


def test_the_readme_shows_the_output_of_the_command(capsys, monkeypatch):
    root = Path(__file__).parent.parent
    monkeypatch.chdir(root)
    assert main(["predict", "docs/synthetic_lesion.png"]) == 0
    assert f"```text\n{capsys.readouterr().out}```" in (root / "README.md").read_text(
        encoding="utf-8"
    )


def test_predict_prints_the_change_by_age_sex_and_site(taught_folder, folder, capsys):
    path = str(folder / "synthetic_NV_1.png")
    assert (
        main(["predict", path, "--model", str(taught_folder), "--sex", "male", "--age", "40"]) == 0
    )
    lines = capsys.readouterr().out.splitlines()[2:-2]
    assert len(lines) == 8
    assert all(line.endswith(" by age, sex, site") for line in lines)
    assert (
        next(line for line in lines if line.strip().startswith("MEL")).split()[-5].startswith("+")
    )


@pytest.mark.parametrize("facts", [["--age", "130"], ["--sex", "M"], ["--site", "nose"]])
def test_predict_refuses_facts_that_are_none(taught_folder, folder, facts, capsys):
    assert main(["predict", str(folder), "--model", str(taught_folder), *facts]) == 2
    assert "Leave it out when it is not known" in capsys.readouterr().err


def test_predict_refuses_facts_for_a_model_that_takes_none(untaught_folder, folder, capsys):
    assert main(["predict", str(folder), "--model", str(untaught_folder), "--sex", "male"]) == 2
    assert "takes none" in capsys.readouterr().err


def test_the_models_own_metrics_are_of_images_alone(
    taught_folder, synthetic_dataset, tmp_path, capsys
):
    line = [
        "evaluate",
        *flags({"model": taught_folder, "data": synthetic_dataset, "split": "validation"}),
    ]
    assert main([*line, "--with-metadata", "--into-model", "--output", str(tmp_path / "out")]) == 2
    assert "of images alone" in capsys.readouterr().err


def test_evaluate_adds_the_effect_of_metadata(taught_folder, synthetic_dataset, tmp_path, capsys):
    line = ["evaluate", "--model", str(taught_folder), "--data", str(synthetic_dataset)]
    for name, more in (("alone", []), ("facts", ["--with-metadata"])):
        assert main([*line, *more, "--output", str(tmp_path / name)]) == 0
    assert "age, sex and site changed" in capsys.readouterr().out
    alone = json.loads((tmp_path / "alone" / "metrics.json").read_text())
    facts = json.loads((tmp_path / "facts" / "metrics.json").read_text())
    assert "metadata" not in alone
    assert (
        0 < facts["metadata"]["images"] < facts["n"]
    )  # the drawn set leaves some facts out, and some are neutral
    assert facts["metadata"]["mean_change_of_malignant"] > 0
    assert facts["ece_uncalibrated"] == alone["ece_uncalibrated"]
    assert {point["threshold"] for point in facts["operating_points"]} == {0.123}


def test_evaluate_refuses_metadata_for_a_model_that_takes_none(
    untaught_folder, synthetic_dataset, tmp_path, capsys
):
    line = [
        "evaluate",
        *flags({"model": untaught_folder, "data": synthetic_dataset}),
        "--with-metadata",
    ]
    assert main([*line, "--output", str(tmp_path / "out")]) == 2
    assert "takes no age" in capsys.readouterr().err


def test_an_answer_with_its_heatmap_loads_no_torch(folder, tmp_path):
    arguments = ["predict", str(folder), "--heatmap", str(tmp_path / "maps")]
    code = f"import sys; from cadlib.__main__ import main; main({arguments!r}); sys.exit('torch' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False
    )
    assert process.returncode == 0
    assert len(list((tmp_path / "maps").iterdir())) == 3


@pytest.mark.parametrize(("flags", "age_years"), [([], 45), (["--age", "80"], 80)])
def test_predict_takes_the_facts_of_a_dicom_header(
    taught_folder, tmp_path, capsys, flags, age_years
):
    (tmp_path / "IM000001").write_bytes(dicom_lesion(PatientAge="045Y", PatientSex="M"))
    assert (
        main(["predict", str(tmp_path), "--model", str(taught_folder), "--format", "json", *flags])
        == 0
    )
    (row,) = json.loads(capsys.readouterr().out)
    assert row["header_facts"] == {"age_years": 45, "sex": "male", "site": None}
    assert (row["facts"]["age_years"], row["facts"]["sex"]) == (age_years, "male")


def test_predict_shows_the_facts_of_a_header_that_the_model_does_not_take(
    untaught_folder, tmp_path, capsys
):
    (tmp_path / "a.dcm").write_bytes(dicom_lesion(PatientAge="045Y"))
    assert (
        main(
            [
                "predict",
                str(tmp_path / "a.dcm"),
                *flags({"model": untaught_folder, "format": "json"}),
            ]
        )
        == 0
    )
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["header_facts"]["age_years"], row["facts"]) == (45, None)


def dicom_lesion(**elements):
    """Return a drawn lesion as a dermoscopic DICOM file."""
    from pydicom import Dataset, uid
    from pydicom.dataset import FileMetaDataset

    dataset = Dataset()
    buffer = io.BytesIO()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.7"
    dataset.SOPInstanceUID = "1.2.3"
    dataset.set_pixel_data(demo_lesions()[0].pixels, "RGB", 8)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
