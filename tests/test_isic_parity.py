"""Our figures are those of the ISIC Challenge's own scorer, read from the files that `evaluate` writes."""

import csv

import numpy as np
import pandas as pd
import pytest

from cadlib.evaluation import build_metrics, predictions_table
from cadlib.taxonomy import CODES, UNKNOWN


@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_balanced_accuracy_and_areas_are_those_of_the_official_scorer(tmp_path, monkeypatch):
    # its last release was written for pandas 2, which had DataFrame.map under another name
    monkeypatch.setattr(pd.DataFrame, "applymap", pd.DataFrame.map, raising=False)
    from isic_challenge_scoring import load_csv, metrics

    rng = np.random.default_rng(5)
    labels = np.concatenate([np.arange(8), rng.choice(8, 492, p=[0.18, 0.5, 0.13, 0.04, 0.1, 0.01, 0.01, 0.03])])
    probabilities = rng.dirichlet(np.full(8, 0.5), 500) + 0.3 * np.eye(8)[labels]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    images = pd.Series([f"ISIC_{number:07}" for number in range(500)])
    unknown = pd.array([None] * 500, dtype="str")
    table = pd.DataFrame({"image": images, "diagnosis": pd.array([CODES[i] for i in labels], dtype="str")}).assign(
        age_approx=pd.array([None] * 500, dtype="Float64"),
        **dict.fromkeys(("archive", "sex", "anatom_site_general", "lesion_id", "lesion_group"), unknown),
        width_px=450,
        height_px=450,
    )
    ours = build_metrics(table, probabilities)

    predictions_table(images, probabilities).to_csv(tmp_path / "predictions.csv", index=False)
    with (tmp_path / "truth.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", *CODES, UNKNOWN])
        rows.writerows([image, *np.eye(9)[label]] for image, label in zip(images, labels, strict=True))
    with (tmp_path / "truth.csv").open() as truth_file, (tmp_path / "predictions.csv").open() as predictions_file:
        truth, weights = load_csv.parse_truth_csv(truth_file)
        predictions = load_csv.parse_csv(predictions_file, truth.columns)
    load_csv.validate_rows(truth, predictions)
    counted = weights["score_weight"]
    assert ours["balanced_accuracy"] == pytest.approx(metrics.balanced_multiclass_accuracy(truth, predictions, counted))
    for code in CODES:  # not UNK, of which no image is: there the scorer's curves break off
        given = truth[code], predictions[code], counted
        assert ours["auc"][code] == pytest.approx(metrics.auc(*given))
        assert ours["average_precision"][code] == pytest.approx(metrics.average_precision(*given))
