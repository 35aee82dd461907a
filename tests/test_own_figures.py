from dataclasses import replace

import pytest

from cadlib import own_figures
from cadlib.errors import ModelInvalid
from cadlib.record import read_record


def test_new_figures_of_the_same_weights_keep_what_damage_costs(model_folder, across_damage):
    record = read_record(model_folder)
    figures = own_figures.measured(model_folder, record)
    figures.pop("robustness", None)
    own_figures.write_into(model_folder, record, {**figures, "robustness": across_damage(record)})
    own_figures.write_into(model_folder, record, figures)
    assert own_figures.measured(model_folder, record)["robustness"] == across_damage(record)
    assert "## Across damage" in (model_folder / "README.md").read_text(encoding="utf-8")


def test_new_figures_of_other_weights_drop_what_damage_cost(model_folder, across_damage):
    record = read_record(model_folder)
    figures = own_figures.measured(model_folder, record)
    figures.pop("robustness", None)
    own_figures.write_into(model_folder, record, {**figures, "robustness": across_damage(record)})
    other = replace(record, weights_sha256="cd" * 32)
    anew = {**figures, "model": own_figures.model_facts(other)}
    own_figures.write_into(model_folder, other, anew)
    assert "robustness" not in own_figures.measured(model_folder, other)
    assert "has not been measured" in (model_folder / "README.md").read_text(encoding="utf-8")


def test_figures_of_other_weights_are_not_those_of_the_model(model_folder):
    other = replace(read_record(model_folder), weights_sha256="cd" * 32)
    with pytest.raises(ModelInvalid, match="to be of the model's weights, cdcdcdcdcdcdcdcd"):
        own_figures.measured(model_folder, other)
