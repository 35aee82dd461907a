"""Our metrics are those of the ISIC Challenge's own scorer, read from the files that `evaluate` writes."""

import csv

import numpy as np
import pandas as pd
import pytest

from cadlib.data.predictions_csv import join_predictions, predictions_table
from cadlib.evaluation.evaluate import build_metrics, evaluate_predictions
from cadlib.taxonomy import CODES, ISIC_2018, UNKNOWN

pytestmark = pytest.mark.usefixtures("few_draws")


@pytest.fixture
def scorer(monkeypatch):
    """Return the modules of the official scorer that read CSV files and compute the metrics."""
    # its last release was written for pandas 2, which had DataFrame.map under another name
    monkeypatch.setattr(pd.DataFrame, "applymap", pd.DataFrame.map, raising=False)
    from isic_challenge_scoring import load_csv, metrics

    return load_csv, metrics


@pytest.fixture
def sample():
    """Return a dataset's table of 500 images of every class, their labels and probabilities."""
    rng = np.random.default_rng(5)
    labels = np.concatenate(
        [np.arange(8), rng.choice(8, 492, p=[0.18, 0.5, 0.13, 0.04, 0.1, 0.01, 0.01, 0.03])]
    )
    probabilities = rng.dirichlet(np.full(8, 0.5), 500) + 0.3 * np.eye(8)[labels]
    images = pd.Series([f"ISIC_{number:07}" for number in range(500)])
    unknown = pd.array([None] * 500, dtype="str")
    table = pd.DataFrame(
        {"image": images, "diagnosis": pd.array([CODES[i] for i in labels], dtype="str")}
    ).assign(
        age_approx=pd.array([None] * 500, dtype="Float64"),
        **dict.fromkeys(
            ("archive", "sex", "anatom_site_general", "lesion_id", "lesion_group"), unknown
        ),
        width_px=450,
        height_px=450,
    )
    return table, labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def scored(scorer, ours, truth_path, predictions_path, codes):
    """Compare our metrics with those of the scorer for the two files of a challenge."""
    load_csv, metrics = scorer
    with truth_path.open() as truth_file, predictions_path.open() as predictions_file:
        truth, weights = load_csv.parse_truth_csv(truth_file)
        predictions = load_csv.parse_csv(predictions_file, truth.columns)
    load_csv.validate_rows(truth, predictions)
    score_weights = weights["score_weight"]
    assert ours.balanced_accuracy == pytest.approx(
        metrics.balanced_multiclass_accuracy(truth, predictions, score_weights)
    )
    for code in codes:
        inputs = truth[code], predictions[code], score_weights
        assert ours.auc[code] == pytest.approx(metrics.auc(*inputs))
        assert ours.average_precision[code] == pytest.approx(metrics.average_precision(*inputs))


def write_truth(path, images, columns, places):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", *columns])
        rows.writerows(
            [image, *np.eye(len(columns))[place]]
            for image, place in zip(images, places, strict=True)
        )


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_the_seven_classes_of_2018_are_scored_as_the_official_scorer_does(scorer, sample, tmp_path):
    """Its files of ISIC 2018 Task 3 are made here by hand: AKIEC is AK or SCC in the truth, their sum in the answer."""
    table, labels, probabilities = sample
    columns = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
    eight = predictions_table(table["image"], probabilities)
    eight.to_csv(tmp_path / "predictions.csv", index=False)
    seven = eight.assign(AKIEC=eight["AK"] + eight["SCC"])[["image", *columns]]
    seven.to_csv(tmp_path / "seven.csv", index=False)
    write_truth(tmp_path / "truth-2019.csv", table["image"], [*CODES, UNKNOWN], labels)
    places = [
        columns.index({"AK": "AKIEC", "SCC": "AKIEC"}.get(CODES[label], CODES[label]))
        for label in labels
    ]
    write_truth(tmp_path / "truth-2018.csv", table["image"], columns, places)

    dataset, read = join_predictions(tmp_path / "predictions.csv", tmp_path / "truth-2019.csv")
    ours = evaluate_predictions(dataset, read, ISIC_2018).metrics
    assert list(ours.auc) == columns
    scored(scorer, ours, tmp_path / "truth-2018.csv", tmp_path / "seven.csv", columns)


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_balanced_accuracy_and_areas_are_those_of_the_official_scorer(scorer, sample, tmp_path):
    table, labels, probabilities = sample
    predictions_table(table["image"], probabilities).to_csv(
        tmp_path / "predictions.csv", index=False
    )
    write_truth(tmp_path / "truth.csv", table["image"], [*CODES, UNKNOWN], labels)
    # not UNK, of which no image is: there the scorer's curves break off
    scored(
        scorer,
        build_metrics(table, probabilities),
        tmp_path / "truth.csv",
        tmp_path / "predictions.csv",
        CODES,
    )
