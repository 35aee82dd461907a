from dataclasses import replace

import pytest

from cadlib.errors import ModelInvalid
from cadlib.metrics.image_counts import Counts
from cadlib.model import metrics_file
from cadlib.model.record import read_record


def test_new_figures_of_the_same_weights_keep_what_damage_costs(model_folder, across_damage):
    record = read_record(model_folder)
    figures = metrics_file.measured(model_folder, record)
    figures.pop("robustness", None)
    metrics_file.write_into(model_folder, record, {**figures, "robustness": across_damage(record)})
    metrics_file.write_into(model_folder, record, figures)
    assert metrics_file.measured(model_folder, record)["robustness"] == across_damage(record)
    assert "## Robustness to image degradation" in (model_folder / "README.md").read_text(
        encoding="utf-8"
    )


def test_new_figures_of_other_weights_drop_what_damage_cost(model_folder, across_damage):
    record = read_record(model_folder)
    figures = metrics_file.measured(model_folder, record)
    figures.pop("robustness", None)
    metrics_file.write_into(model_folder, record, {**figures, "robustness": across_damage(record)})
    other = replace(record, weights_sha256="cd" * 32)
    anew = {**figures, "model": metrics_file.model_facts(other)}
    metrics_file.write_into(model_folder, other, anew)
    assert "robustness" not in metrics_file.measured(model_folder, other)
    assert "on degraded images was not measured" in (model_folder / "README.md").read_text(
        encoding="utf-8"
    )


def test_figures_of_other_weights_are_not_those_of_the_model(model_folder):
    other = replace(read_record(model_folder), weights_sha256="cd" * 32)
    with pytest.raises(ModelInvalid, match="to be of the model's weights, cdcdcdcdcdcdcdcd"):
        metrics_file.measured(model_folder, other)


def test_figures_without_the_newest_keys_keep_their_place_beside_new_ones(model_folder):
    """The shipped metrics.json has no calibration of the malignant probability; a new validation has."""
    record = read_record(model_folder)
    former = metrics_file.measured(model_folder, record)
    validation = former["validation"]
    added = {"n_malignant": 7, "malignant_ece": 0.1, "malignant_reliability": []}
    anew = {**validation, **added, "model": former["model"]}
    joined = metrics_file.join_splits(anew, former)
    assert joined["data"]["split"] == "test"
    assert joined["balanced_accuracy"] == former["balanced_accuracy"]
    assert joined["validation"]["malignant_ece"] == 0.1


def test_the_shipped_figures_have_counts_of_both_kinds(model_folder):
    figures = metrics_file.measured(model_folder, read_record(model_folder))
    images = Counts.of(figures)
    point = figures["operating_points"][0]
    assert (images.malignant, images.benign) == (point["n_malignant"], point["n_benign"])
    assert images.n == images.diagnosed == figures["n"]
    assert not images.partial
