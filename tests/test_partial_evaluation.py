"""Evaluations, reports and commands on data sets that label only malignant or benign."""

import functools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cadlib.__main__ import main
from cadlib.data.dataset import open_dataset
from cadlib.data.predictions_csv import PREDICTIONS_FILE, join_predictions
from cadlib.evaluation.cached import (
    COSTS,
    MISSED_WITHOUT_DIAGNOSIS,
    Evaluated,
    cached_evaluation,
    compared,
    make_evaluation,
)
from cadlib.evaluation.threshold_curves import decision, precision_recall, roc_curves
from cadlib.metrics.classification import malignant_probability
from cadlib.metrics.comparison_table import Compared
from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE
from cadlib.metrics.subgroup_table import subgroup_rows
from cadlib.metrics.tables import metric_text
from cadlib.metrics.thresholds import trade_offs
from cadlib.model import metrics_file
from cadlib.model.record import CARD_FILE, METRICS_FILE, read_json, read_record
from cadlib.model.split import part_in_training
from cadlib.report import Subject, render
from cadlib.taxonomy import CODES, MALIGNANT
from tests import partial_labels
from tests.conftest import draw_few
from tests.model_folders import change_record
from tests.test_report import Reader

pytestmark = pytest.mark.usefixtures("empty_cache", "few_draws")

NOT_DEFINED_SECTIONS = ("By diagnosis", "Confusion matrix", "Prediction sets")


def ignore(*_):
    pass


def guessed(change) -> Evaluated:
    """Return the evaluation of a guessing model on 200 images, with labels changed by `change`."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"image": [f"I{n:03}" for n in range(200)], "diagnosis": rng.choice(CODES, 200)}
    )
    malignant = table["diagnosis"].map(dict(zip(CODES, MALIGNANT, strict=True))).astype("boolean")
    table = table.assign(malignant=malignant, lesion_id=None, lesion_group=None)
    return Evaluated(change(table), rng.dirichlet(np.ones(8), 200), {}, 0.4)


def test_errors_without_a_diagnosis_have_a_kind_of_their_own():
    evaluation = guessed(partial_labels.only_groups)
    wrong = evaluation.errors(0.4)
    assert evaluation.costs == (MISSED_WITHOUT_DIAGNOSIS, "needless referral")
    truth = evaluation.labels.malignant
    referred = malignant_probability(evaluation.probabilities) >= 0.4
    counts = wrong["cost"].value_counts()
    assert counts[MISSED_WITHOUT_DIAGNOSIS] == (truth & ~referred).sum() > 0
    assert counts["needless referral"] == (~truth & referred).sum() > 0
    assert len(wrong) == counts.sum()


def test_errors_of_mixed_labels_keep_the_known_melanomas_first():
    evaluation = guessed(partial_labels.every_other_group)
    wrong = evaluation.errors(0.4)
    assert evaluation.costs == (COSTS[0], MISSED_WITHOUT_DIAGNOSIS, *COSTS[1:])
    assert wrong["cost"].notna().all()
    assert wrong["cost"].cat.codes.is_monotonic_increasing
    assert set(wrong[wrong["cost"] == COSTS[0]]["diagnosis"]) == {"MEL"}
    assert wrong[wrong["cost"] == MISSED_WITHOUT_DIAGNOSIS]["diagnosis"].isna().all()
    assert len(wrong) == len(guessed(lambda table: table).errors(0.4))


def test_errors_of_images_with_a_diagnosis_are_as_before():
    assert guessed(lambda table: table).costs == COSTS


def no_nan(read: Reader) -> bool:
    """Return whether no text and no table of a report shows a missing value as nan, NA or None."""
    cells = {cell for row in read.rows for cell in row}
    return not re.search(r"\b(nan|NaN)\b|<NA>", read.text) and not {"nan", "None"} & cells


@pytest.fixture(scope="module")
def subject_of(drawn_model, drawn_images, tmp_path_factory):
    """Return a function from a change of labels to the subject of a report on the 32 drawn lesions."""
    record = read_record(drawn_model)
    own = metrics_file.read(drawn_model)
    card = (drawn_model / CARD_FILE).read_text()
    complete = open_dataset(drawn_images, verify=False)

    @functools.cache
    def subject(change) -> Subject:
        dataset = replace(complete, table=change(complete.table))
        with pytest.MonkeyPatch.context() as patch:
            draw_few(patch)
            patch.setenv("CADLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
            evaluation = cached_evaluation(drawn_model, record, dataset, ignore)
        role = part_in_training(drawn_model, record, dataset)
        return Subject(record, evaluation.metrics, "all images", *role, evaluation, own, card)

    return subject


def test_a_report_without_a_diagnosis_has_the_metrics_of_malignancy(subject_of):
    read = Reader(render(subject_of(partial_labels.only_groups), "a test"))
    assert no_nan(read)
    assert read.text.count(NO_DIAGNOSIS_NOTE) == len(NOT_DEFINED_SECTIONS)
    assert re.search(r"32 labelled images of \d+ lesions, 0 of them with a diagnosis", read.text)
    assert read.row("AUC, malignant or benign", 2)[1] == "16 malignant, 16 benign"
    assert float(read.row("AUC, malignant or benign", 2)[0][:5]) > 0
    assert all(
        cell[0] in "01" for cell in read.row("balanced", 5)
    )  # sensitivity, specificity, PPV and NPV
    for chart in (
        "ROC curve",
        "Precision–recall curve",
        "Decision curve",
        "Reliability of the malignant probability",
    ):
        assert chart in read.words
    assert f"{MISSED_WITHOUT_DIAGNOSIS.capitalize()}: " in read.text


def test_a_report_on_mixed_labels_states_n_of_both_kinds(subject_of):
    read = Reader(render(subject_of(partial_labels.every_other_group), "a test"))
    assert no_nan(read)
    assert NO_DIAGNOSIS_NOTE not in read.text
    assert re.search(r"32 labelled images of \d+ lesions, 16 of them with a diagnosis", read.text)
    assert read.text.count("n = 16 images with a diagnosis, of 32.") == 2
    assert read.row("Balanced accuracy", 2)[1] == "16 of 8 diagnoses"
    assert read.row("AUC, malignant or benign", 2)[1] == "16 malignant, 16 benign"
    for chart in ("Reliability", "Reliability of the malignant probability"):
        assert chart in read.words


def test_a_report_on_benign_images_marks_undefined_metrics(subject_of):
    read = Reader(render(subject_of(partial_labels.only_benign), "a test"))
    assert no_nan(read)
    assert "All 16 images are benign, none is malignant." in read.text
    assert read.row("AUC, malignant or benign", 2)[0] == "not defined"
    point = read.row("balanced", 5)
    assert point[1:3] == ["not defined", "0"]
    assert (point[3][0], point[4]) == ("0", "16")
    assert "Decision curve" not in read.words
    assert "Reliability of the malignant probability" in read.words


@pytest.mark.parametrize(
    ("change", "n"),
    [
        (partial_labels.only_groups, "32"),
        (partial_labels.every_other_group, "32 (16 with a diagnosis)"),
        (partial_labels.only_benign, "16"),
    ],
)
def test_each_subgroup_states_how_many_images_are_behind_its_metrics(subject_of, change, n):
    rows = subgroup_rows(subject_of(change).metrics, metric_text)
    assert rows[0]["n"] == n
    assert "ECE malignant" in rows[0]


def test_thresholds_of_malignancy_need_no_diagnosis(model, drawn_dataset, drawn_model_folder):
    record = read_record(drawn_model_folder)
    binary_dataset = replace(drawn_dataset, table=partial_labels.only_groups(drawn_dataset.table))
    full = cached_evaluation(drawn_model_folder, record, drawn_dataset, ignore)
    binary = cached_evaluation(drawn_model_folder, record, binary_dataset, ignore)
    assert trade_offs(binary.metrics) == trade_offs(full.metrics)
    full_decision = decision(full.metrics, full, 0.1)
    binary_decision = decision(binary.metrics, binary, 0.1)
    assert binary_decision.model == pytest.approx(full_decision.model)
    assert [*precision_recall(full.metrics, full)] == ["melanoma", "malignant"]
    curves = precision_recall(binary.metrics, binary)
    assert [*roc_curves(binary.metrics)] == [*curves] == ["malignant"]
    curves_without_evaluation = precision_recall(binary.metrics, None)
    assert curves["malignant"].positives == 0.5
    assert curves_without_evaluation["malignant"].positives == 0.5


def test_two_models_are_compared_on_images_that_are_only_malignant_or_benign(
    model, drawn_dataset, drawn_model_folder
):
    dataset = replace(drawn_dataset, table=partial_labels.only_groups(drawn_dataset.table))
    evaluation = cached_evaluation(
        drawn_model_folder, read_record(drawn_model_folder), dataset, ignore
    )
    rolled = replace(evaluation, probabilities=np.roll(evaluation.probabilities, 1, axis=0))
    pair = Compared("one", "other", compared(evaluation, rolled), "Some had.", flattered=False)
    rows = {row["Metric"]: row for row in pair.difference_rows}
    assert rows["Balanced accuracy"]["Better"] == rows["Balanced accuracy"]["one"] == "not defined"
    assert rows["AUC malignant"]["one"] != "not defined"
    tests = {row["McNemar's test"]: row for row in pair.test_rows}
    assert (tests["Top diagnosis correct"]["n"], tests["Top diagnosis correct"]["p (exact)"]) == (
        "0",
        "not defined",
    )
    assert (tests["Malignant, referred"]["n"], tests["Benign, not referred"]["n"]) == ("16", "16")
    assert "are measured on the 0 images with a diagnosis" in pair.note


def test_a_kept_evaluation_of_partial_labels_is_read_back(model, drawn_dataset, tmp_path):
    dataset = replace(drawn_dataset, table=partial_labels.every_other_group(drawn_dataset.table))
    make_evaluation(tmp_path / "kept", model, dataset, ignore)
    metrics = read_json(tmp_path / "kept" / METRICS_FILE)
    assert (metrics["n"], metrics["n_malignant"], sum(metrics["n_by_class"].values())) == (
        32,
        16,
        16,
    )


# Commands


def evaluation(tmp_path) -> int:
    """Evaluate the model on the drawn lesions and return the exit code."""
    data = tmp_path / "split" / "drawn"
    output = tmp_path / "out"
    return main(["evaluate", "--model", "isic2019", "--data", str(data), "--output", str(output)])


def test_evaluate_measures_malignancy_on_images_without_a_diagnosis(
    drawn_dataset, tmp_path, monkeypatch, capsys
):
    partial_labels.change_labels(monkeypatch, partial_labels.only_groups)
    assert evaluation(tmp_path) == 0
    metrics = json.loads((tmp_path / "out" / METRICS_FILE).read_text(), parse_constant=pytest.fail)
    assert (metrics["n"], metrics["n_malignant"], metrics["balanced_accuracy"]) == (32, 16, None)
    assert 0 < metrics["malignant_auc"] < 1
    assert all(0 <= point["specificity"] <= 1 for point in metrics["operating_points"])
    assert set(metrics["prediction_sets"]["coverage"].values()) == {None}
    printed = capsys.readouterr().out
    assert "32 images with a label, 0 of them with a diagnosis" in printed
    assert "n = 16 malignant, 16 benign" in printed
    assert NO_DIAGNOSIS_NOTE in printed


def test_evaluate_on_benign_images_has_a_specificity(drawn_dataset, tmp_path, monkeypatch):
    partial_labels.change_labels(monkeypatch, partial_labels.only_benign)
    assert evaluation(tmp_path) == 0
    metrics = json.loads((tmp_path / "out" / METRICS_FILE).read_text())
    assert (metrics["n"], metrics["unlabelled"], metrics["malignant_auc"]) == (16, 16, None)
    assert {point["sensitivity"] for point in metrics["operating_points"]} == {None}
    assert all(0 <= point["specificity"] <= 1 for point in metrics["operating_points"])


@pytest.mark.parametrize("command", ["evaluate", "report"])
def test_a_command_without_labels_exits_with_the_reason(
    command, drawn_dataset, tmp_path, monkeypatch, capsys
):
    partial_labels.change_labels(monkeypatch, partial_labels.no_labels)
    output = tmp_path / "out"
    code = main(
        [
            command,
            "--model",
            "isic2019",
            "--data",
            str(tmp_path / "split" / "drawn"),
            "--output",
            str(output),
        ]
    )
    assert code == 1
    assert "none of its 32 images has one" in capsys.readouterr().err
    assert not output.is_file()
    assert not (output / METRICS_FILE).exists()


def test_predictions_are_compared_with_labels_of_malignancy(
    tmp_path, monkeypatch, drawn_dataset, capsys
):
    partial_labels.change_labels(monkeypatch, partial_labels.only_groups)
    assert evaluation(tmp_path) == 0
    predictions = tmp_path / "out" / PREDICTIONS_FILE
    truth = tmp_path / "truth.csv"
    labels = pd.read_csv(predictions, usecols=["image"]).assign(target=[1, 0] * 16)
    labels.to_csv(truth, index=False)
    command = ["evaluate", "--predictions", str(predictions), "--ground-truth", str(truth)]
    assert main([*command, "--output", str(tmp_path / "again")]) == 0
    metrics = json.loads((tmp_path / "again" / METRICS_FILE).read_text())
    assert (metrics["n"], metrics["n_malignant"], metrics["accuracy"]) == (32, 16, None)
    assert metrics["malignant_auc"] is not None
    dataset, _ = join_predictions(predictions, truth)
    assert dataset.table["malignant"].dtype == "boolean"


def test_metrics_without_a_diagnosis_do_not_become_the_models_own(
    drawn_model_folder, drawn_dataset, tmp_path, monkeypatch, capsys
):
    partial_labels.change_labels(monkeypatch, partial_labels.only_groups)
    change_record(
        drawn_model_folder, lambda raw: raw["training"]["images"].update(test=8), golden=False
    )
    before = (drawn_model_folder / METRICS_FILE).read_bytes()
    data = str(tmp_path / "split" / "drawn")
    code = main(["evaluate", "--model", str(drawn_model_folder), "--data", data, "--split", "test", "--into-model",
                 "--output", str(tmp_path / "out")])  # fmt: skip
    assert code == 1
    assert "Expected a diagnosis for all 8 images of the split" in capsys.readouterr().err
    assert (drawn_model_folder / METRICS_FILE).read_bytes() == before


def test_a_table_of_isic_2020_is_measured(drawn_dataset, tmp_path):
    """Its columns: most images are benign, and their diagnosis is unknown."""
    folder = tmp_path / "isic2020"
    shutil.copytree(Path(drawn_dataset.table["path"][0]).parent, folder / "train")
    malignant = drawn_dataset.table["malignant"]
    rows = pd.DataFrame(
        {
            "image_name": drawn_dataset.table["image"],
            "patient_id": [f"IP_{number}" for number in range(32)],
            "sex": "male",
            "age_approx": 45.0,
            "anatom_site_general_challenge": "torso",
            "diagnosis": np.where(malignant, "melanoma", "unknown"),
            "benign_malignant": np.where(malignant, "malignant", "benign"),
            "target": malignant.astype(int),
        }
    )
    rows.to_csv(folder / "ISIC_2020_Training_GroundTruth.csv", index=False)
    assert (
        main(
            [
                "evaluate",
                "--model",
                "isic2019",
                "--data",
                str(folder),
                "--output",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    metrics = json.loads((tmp_path / "out" / METRICS_FILE).read_text(), parse_constant=pytest.fail)
    assert (metrics["n"], metrics["n_malignant"], metrics["n_by_class"]["MEL"]) == (32, 16, 16)
    assert 0 < metrics["malignant_auc"] < 1
    assert all(0 < point["specificity"] < 1 for point in metrics["operating_points"])
