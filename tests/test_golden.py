import json
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import structs

from cadlib.assessment import assess
from cadlib.errors import ModelInvalid
from cadlib.model.committee import Committee
from cadlib.model.engine import Seen
from cadlib.model.golden import (
    FACTS,
    all_lesions,
    answers_of,
    check_quick,
    drift,
    quick_lesions,
    read_golden,
)
from cadlib.model.model import Model
from cadlib.model.record import GOLDEN_FILE, find_model, read_record
from cadlib.taxonomy import CODES
from tests.model_folders import change_file


@pytest.fixture
def shipped():
    return json.loads((find_model("isic2019") / GOLDEN_FILE).read_text())


def stored(content) -> bytes:
    return json.dumps(content).encode()


def test_the_shipped_model_reproduces_its_golden_answers(model):
    assert drift(model, find_model("isic2019")) == ()


def test_golden_answers_are_those_of_an_assessment(model, shipped):
    lesion = all_lesions()[0]
    golden_answer = shipped["answers"][0]
    for name, decision in golden_answer["decisions"].items():
        assessment = assess(model, lesion.image, name)
        assert assessment.decision.action == decision["action"]
        assert assessment.decision.operating_point.threshold == decision["threshold"]
    assert sorted(assessment.likely) == sorted(golden_answer["prediction_set"])
    assert assessment.novelty.score == pytest.approx(golden_answer["novelty"], abs=1e-2)
    assert assessment.neighbours.cases[0].similarity == pytest.approx(
        golden_answer["nearest"], abs=1e-2
    )


def test_the_quick_lesions_are_of_both_temperatures(model):
    sides = [lesion.side_px for lesion in quick_lesions()]
    temperatures = model.record.temperature.of(sides).ravel()
    assert temperatures.tolist() == [model.record.temperature.large, model.record.temperature.small]


def test_a_drifted_probability_is_named_with_its_change(model, model_folder, shipped):
    golden_answer = shipped["answers"][-1]
    golden_answer["probabilities"]["NV"] += 0.01
    change_file(model_folder, GOLDEN_FILE, json.dumps(shipped))
    (difference,) = drift(model, model_folder)
    assert (difference.lesion, difference.what) == (golden_answer["lesion"], "NV")
    assert difference.distance == pytest.approx(0.01, abs=1e-3)
    assert str(difference).startswith(f"{golden_answer['lesion']} NV: ")


def threshold_moved(golden_answer):
    golden_answer["decisions"]["balanced"]["threshold"] = 0.99


def decision_turned(golden_answer):
    decision = golden_answer["decisions"]["balanced"]
    decision["action"] = (
        "below the referral threshold" if decision["action"] == "refer" else "refer"
    )


def point_removed(golden_answer):
    del golden_answer["decisions"]["rule-in"]


def set_changed(golden_answer):
    golden_answer["prediction_set"] = ["VASC"]


def novelty_moved(golden_answer):
    golden_answer["novelty"] += 0.5


def novelty_removed(golden_answer):
    golden_answer["novelty"] = None


def nearest_moved(golden_answer):
    golden_answer["nearest"] -= 0.1


def malignancy_moved(golden_answer):
    golden_answer["malignant_probability"] = 0.5


def facts_added(golden_answer):
    golden_answer["with_facts"] = {
        "probabilities": golden_answer["probabilities"],
        "decisions": golden_answer["decisions"],
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (threshold_moved, "balanced threshold: 0.9900 became"),
        (decision_turned, "balanced decision: "),
        (point_removed, "operating point 'rule-in': none became one"),
        (set_changed, "prediction set: VASC became"),
        (novelty_moved, "novelty: "),
        (novelty_removed, "novelty: none became one"),
        (nearest_moved, "similarity of the nearest case: "),
        (malignancy_moved, "malignant probability: 0.5000 became"),
        (facts_added, "answer with patient data: one became none"),
    ],
)
def test_another_answer_is_refused_at_load_and_named(model, shipped, change, named):
    change(shipped["answers"][0])
    folder = find_model("isic2019")
    with pytest.raises(ModelInvalid, match=f"synthetic_MEL_1 at 160 px {named}"):
        check_quick(model, stored(shipped), folder / GOLDEN_FILE)


def test_a_decision_within_rounding_of_the_threshold_may_be_either(model, shipped):
    golden_answer = shipped["answers"][1]
    point = structs.replace(
        model.record.operating_points[1], threshold=golden_answer["malignant_probability"]
    )
    record = structs.replace(model.record, operating_points=(point,))
    for action in ("refer", "below the referral threshold"):
        golden_answer["decisions"] = {"balanced": {"threshold": point.threshold, "action": action}}
        shipped["answers"][0]["decisions"] = {
            "balanced": {"threshold": point.threshold, "action": "refer"}
        }
        check_quick(
            model.with_record(record), stored(shipped), find_model("isic2019") / GOLDEN_FILE
        )


def test_a_model_with_facts_has_golden_answers_with_facts(taught_folder):
    model = Model.load(taught_folder)
    [golden_answer] = answers_of(model, quick_lesions()[:1])
    prediction = model.predict(quick_lesions()[0].image, FACTS)
    assert golden_answer.with_facts.probabilities == pytest.approx(
        dict(zip(CODES, prediction.probabilities.tolist(), strict=True)), abs=1e-6
    )
    assert {decision.threshold for decision in golden_answer.with_facts.decisions.values()} == {
        0.123
    }


def test_an_output_that_is_no_number_is_refused(model_folder):
    faulty = Model.load(model_folder)

    def run_to_nan(inputs):
        n = len(inputs)
        shapes = ((n, 8), (n, 1280), (n, 8, 2, 2))
        return Seen(*(np.full(shape, np.nan, np.float32) for shape in shapes))

    faulty.committee = Committee([SimpleNamespace(run=run_to_nan)])
    with pytest.raises(ModelInvalid, match="it fails"):
        faulty._check_answers((model_folder / GOLDEN_FILE).read_bytes())


def test_swapped_labels_are_noticed_at_load(model, shipped):
    for golden_answer in shipped["answers"]:
        shares = golden_answer["probabilities"]
        melanoma_share = shares["MEL"]
        shares["MEL"] = shares["NV"]
        shares["NV"] = melanoma_share
    with pytest.raises(ModelInvalid, match="MEL"):
        check_quick(model, stored(shipped), find_model("isic2019") / GOLDEN_FILE)


def test_golden_answers_of_other_lesions_are_refused(model, shipped):
    shipped["answers"] = shipped["answers"][2:]
    with pytest.raises(ModelInvalid, match="to have the answer for synthetic_MEL_1 at 160 px"):
        check_quick(model, stored(shipped), find_model("isic2019") / GOLDEN_FILE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tolerance": 0.5}, "`$.tolerance`"),
        ({"tolerance": "0.001"}, "`$.tolerance`"),
        ({"answers": None}, "`$.answers`"),
        ({"format_version": 1}, "`$.format_version`"),
        ({"surprise": 1}, "`$.surprise`"),
    ],
)
def test_a_golden_file_of_another_form_is_refused(shipped, change, named, tmp_path):
    with pytest.raises(ModelInvalid) as refused:
        read_golden(stored({**shipped, **change}), tmp_path / GOLDEN_FILE)
    assert named in str(refused.value)


def test_a_probability_of_an_unknown_code_is_refused(shipped, tmp_path):
    del shipped["answers"][0]["probabilities"]["SCC"]
    with pytest.raises(ModelInvalid, match="a probability for MEL"):
        read_golden(stored(shipped), tmp_path / GOLDEN_FILE)


def test_golden_answers_name_every_operating_point(shipped):
    names = {point.name for point in read_record(find_model("isic2019")).operating_points}
    assert all(set(golden_answer["decisions"]) == names for golden_answer in shipped["answers"])
