import json
from types import SimpleNamespace

import numpy as np
import pytest

from cadlib.engine import Seen
from cadlib.errors import ModelInvalid
from cadlib.golden import drift
from cadlib.model import Model
from cadlib.record import GOLDEN_FILE, find_model


def test_the_shipped_model_reproduces_its_golden_figures(model):
    assert drift(model, find_model("isic2019")) == ()


def test_a_figure_that_drifted_is_named_with_how_far(model, model_folder):
    path = model_folder / GOLDEN_FILE
    golden = json.loads(path.read_text())
    name = next(iter(golden["probabilities"]))
    golden["probabilities"][name]["MEL"] += 0.01
    path.write_text(json.dumps(golden))
    (found,) = drift(model, model_folder)
    assert (found.lesion, found.code) == (name, "MEL")
    assert found.distance == pytest.approx(0.01, abs=1e-3)
    assert str(found).startswith(f"{name} MEL: ")


def test_an_answer_that_is_no_number_is_a_drift(model_folder):
    broken = Model.load(model_folder)

    def nothing(inputs):
        return Seen(*(np.full((len(inputs), *rest), np.nan, np.float32) for rest in ((8,), (4,), (8, 2, 2))))

    broken.engine = SimpleNamespace(run=nothing)
    assert drift(broken, model_folder)


def test_swapped_labels_are_noticed(model_folder):
    path = model_folder / GOLDEN_FILE
    golden = json.loads(path.read_text())
    for figures in golden["probabilities"].values():
        figures["MEL"], figures["NV"] = figures["NV"], figures["MEL"]
    path.write_text(json.dumps(golden))
    assert drift(Model.load(model_folder), model_folder)


def test_golden_figures_of_other_lesions_are_refused(model, model_folder):
    (model_folder / GOLDEN_FILE).write_text(json.dumps({"tolerance": 1e-3, "probabilities": {}}))
    with pytest.raises(ModelInvalid, match="synthetic"):
        drift(model, model_folder)
