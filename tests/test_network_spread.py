"""How far the networks of a model agree, on the page, in JSON and in CSV."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from cadlib.assessment import assess
from cadlib.cli.prediction_output import print_table
from cadlib.images import read_image
from cadlib.images.patient import PatientFacts
from cadlib.images.synthetic import demo_lesions
from cadlib.images.turns import TURNS, turned
from cadlib.model.committee import Committee
from cadlib.model.engine import Seen
from cadlib.model.model import Model
from cadlib.taxonomy import CODES
from tests.csv_rows import row_of

PICTURE = demo_lesions()[0].png()


class Shifted:
    """Stands in for an Engine: the outputs of another one, with a shift of the melanoma logit."""

    def __init__(self, engine, shift: float) -> None:
        self._engine = engine
        self._shift = np.float32(shift) * np.eye(8, dtype=np.float32)[CODES.index("MEL")]

    def run(self, inputs: np.ndarray) -> Seen:
        seen = self._engine.run(inputs)
        return Seen(seen.logits + self._shift, seen.features, seen.evidence)


@pytest.fixture
def make_model(model):
    """Return a maker of a model whose networks differ by the shifts of their melanoma logits."""

    def make(*shifts: float, views: int = 1, threshold: float | None = None) -> Model:
        [engine] = model.committee.members
        members = [Shifted(engine, shift) for shift in shifts]
        record = model.record
        if threshold is not None:
            points = [structs.replace(p, threshold=threshold) for p in record.operating_points]
            record = structs.replace(record, operating_points=tuple(points))
        return Model(record, Committee(members, views), model.folder)

    return make


def test_one_network_has_no_spread(make_model):
    assessment = assess(make_model(0.0), PICTURE)
    assert assessment.prediction.member_range is None
    assert assessment.spread_sentence == ""
    assert not assessment.borderline
    assert assessment.to_json()["networks"] is None
    row = row_of(assessment)
    assert (row["malignant_low"], row["malignant_high"], row["borderline"]) == ("", "", "")


def test_the_spread_is_that_of_the_networks_alone(make_model):
    shifts = (-9.0, 0.0, 1.0)
    alone = [assess(make_model(shift), PICTURE).prediction for shift in shifts]
    malignant = [prediction.malignant_probability for prediction in alone]
    assessment = assess(make_model(*shifts), PICTURE)
    expected = (min(malignant), max(malignant))
    assert assessment.prediction.member_range == pytest.approx(expected, abs=1e-6)
    networks = assessment.to_json()["networks"]
    assert networks["count"] == 3
    assert networks["malignant_low"] == pytest.approx(expected[0], abs=1e-6)
    assert networks["malignant_high"] == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize(
    ("threshold", "borderline"), [(0.001, False), (0.5, True), (0.9999, False)]
)
def test_a_decision_on_which_networks_disagree_is_borderline(make_model, threshold, borderline):
    assessment = assess(make_model(-9.0, 0.0, threshold=threshold), PICTURE)
    low, high = assessment.prediction.member_range
    assert 0.001 < low < 0.5 < high < 0.9999
    assert assessment.borderline is borderline
    assert assessment.spread_sentence.startswith("Borderline") is borderline
    assert assessment.to_json()["networks"]["borderline"] is borderline
    assert row_of(assessment)["borderline"] == ("yes" if borderline else "no")


@pytest.mark.parametrize("views", [1, 8])
def test_a_result_states_how_many_views_were_read(make_model, views):
    assert assess(make_model(0.0, views=views), PICTURE).to_json()["views"] == views


def test_the_spread_follows_patient_data(make_model, taught_folder):
    taught = Model.load(taught_folder)
    several = make_model(-9.0, 0.0)
    several = Model(taught.record, several.committee, taught.folder)
    alone = several.predict(PICTURE)
    with_facts = several.predict(PICTURE, PatientFacts(sex="male"))
    assert with_facts.member_range != alone.member_range
    odds = with_facts.member_probabilities / alone.member_probabilities
    shift = odds[:, CODES.index("MEL")] / odds[:, CODES.index("NV")]
    assert shift == pytest.approx(np.exp(2.0))


def test_the_command_prints_the_spread(make_model, capsys):
    assessment = assess(make_model(-9.0, 0.0, threshold=0.5), PICTURE)
    print_table(iter([(Path("a.png"), assessment)]), sys.stdout, None)
    assert assessment.spread_sentence in capsys.readouterr().out


def test_turning_an_image_changes_no_answer_of_eight_views(make_model):
    several = make_model(-1.0, 0.0, 2.0, views=8)
    record = several.record
    spec = structs.replace(record.input, symmetric=True)
    several = Model(structs.replace(record, input=spec), several.committee, several.folder)
    image = read_image(PICTURE)
    # An odd size, so that the square is not in the middle of the pixels.
    pixels = image.pixels[:401, :560]
    expected = several.predict(replace(image, pixels=np.ascontiguousarray(pixels)))
    for turn in TURNS:
        view = replace(image, pixels=np.ascontiguousarray(turned(pixels, turn)))
        prediction = several.predict(view)
        np.testing.assert_allclose(prediction.probabilities, expected.probabilities, atol=1e-5)
        np.testing.assert_allclose(
            prediction.member_probabilities, expected.member_probabilities, atol=1e-5
        )
