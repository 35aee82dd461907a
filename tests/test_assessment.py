import io
import json
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from cadlib.assessment import (
    CSV_COLUMNS,
    assess,
    assess_batch,
    csv_row,
    heatmap_of,
    reconsider,
)
from cadlib.errors import ImageRejected, ModelInvalid
from cadlib.images import read_image
from cadlib.images.quality import LIMITS
from cadlib.images.red_blue_swap import SWAPPED_NOTE, swap_red_and_blue
from cadlib.images.synthetic import demo_lesions
from cadlib.model.metadata import PatientFacts
from cadlib.model.model import Model
from cadlib.taxonomy import CODES


@pytest.fixture
def picture():
    return demo_lesions()[1].png()


def test_predicts_decides_and_explains_the_most_probable_diagnosis(model, picture):
    assessment = assess(model, picture)
    assert assessment.image.sha256 == assessment.prediction.image_sha256
    assert assessment.decision.malignant_probability == assessment.prediction.malignant_probability
    assert assessment.decision.operating_point == model.record.operating_point("balanced")
    assert assessment.heatmap.diagnosis == assessment.prediction.ranking()[0][0]


def test_json_has_every_metric_and_no_pixels(model, picture):
    parsed = json.loads(json.dumps(assess(model, picture).to_json()))
    assert sum(parsed["probabilities"].values()) == pytest.approx(1)
    assert parsed["model"] == model.record.model_id
    assert parsed["decision"]["action"] in ("refer", "below the referral threshold")
    assert parsed["decision"]["measured_on"] in ("validation", "test")
    assert list(parsed["decision"]["intervals"]) == ["sensitivity", "specificity"]
    assert parsed["heatmap"]["method"] == "grad-cam"
    assert list(parsed["quality"]["figures"]) == [limit.name for limit in LIMITS]
    assert parsed["quality"]["severity"] == "good"
    assert len(json.dumps(parsed)) < 2000


def test_notes_on_the_image_are_in_csv_and_json(model, picture):
    assessment = assess(model, swap_red_and_blue(read_image(picture)))
    assert (
        dict(zip(CSV_COLUMNS, csv_row("a.png", assessment), strict=True))["notes"] == SWAPPED_NOTE
    )
    assert assessment.to_json()["notes"] == [SWAPPED_NOTE]


def test_the_prediction_set_follows_the_record_and_is_missing_with_facts(
    model, taught_folder, picture
):
    assessment = assess(model, picture)
    quantiles = structs.asdict(model.record.conformal.quantiles)
    expected = [code for code, p in assessment.prediction.ranking() if 1 - p <= quantiles[code]]
    assert list(assessment.likely) == expected == assessment.to_json()["prediction_set"]
    taught = assess(Model.load(taught_folder), picture, facts=PatientFacts(90, "male"))
    assert taught.likely is None
    assert taught.to_json()["prediction_set"] is None


def test_the_heatmap_of_a_large_photograph_lies_in_the_pixels_of_its_file(model, picture):
    large = Image.open(io.BytesIO(picture)).convert("RGB").resize((6000, 4000))
    large.save(buffer := io.BytesIO(), "JPEG")
    found = assess(model, buffer.getvalue()).to_json()
    assert (found["width_px"], found["height_px"]) == (6000, 4000)
    assert found["heatmap"]["box"] == [1000, 0, 5000, 4000]


def test_a_row_of_csv_names_what_is_wrong_with_the_picture(model, picture):
    clear = read_image(picture)
    dark = replace(clear, pixels=clear.pixels // 8)
    rows = [
        dict(zip(CSV_COLUMNS, csv_row("a.png", one), strict=True))
        for one in assess_batch(model, [clear, dark])
    ]
    assert rows[0]["quality"] == "good"
    assert set(rows[0]["prediction_set"].split()) <= set(CODES)
    assert rows[1]["quality"].startswith("unreadable: underexposure")
    assert (
        dict(zip(CSV_COLUMNS, csv_row("b.png", "no picture"), strict=True))["error"] == "no picture"
    )


def test_an_image_of_another_kind_is_marked_in_its_row(model, picture):
    known, noise = (
        read_image(picture),
        np.random.default_rng(0).integers(0, 256, (450, 450, 3), np.uint8),
    )
    lesion, other = assess_batch(model, [known, replace(known, pixels=noise)])
    assert lesion.answerable
    assert not other.answerable
    assert (lesion.to_json()["known"], other.to_json()["known"]) == (True, False)
    rows = [dict(zip(CSV_COLUMNS, csv_row("a.png", one), strict=True)) for one in (lesion, other)]
    assert [row["known"] for row in rows] == ["yes", "no"]
    assert float(rows[0]["novelty"]) == pytest.approx(lesion.novelty.score, abs=1e-4)
    assert rows[1]["diagnosis"] in CODES


def test_a_model_without_a_novelty_detector_reports_no_novelty(undetecting_folder, picture):
    assessment = assess(Model.load(undetecting_folder), picture)
    assert assessment.novelty is None
    assert assessment.answerable
    assert (assessment.to_json()["known"], assessment.to_json()["novelty"]) == (None, None)
    row = dict(zip(CSV_COLUMNS, csv_row("a.png", assessment), strict=True))
    assert (row["known"], row["novelty"]) == ("", "")


def test_many_images_are_assessed_without_heatmaps(model, picture):
    images = [read_image(picture)] * 3
    found = assess_batch(model, images)
    assert [one.heatmap for one in found] == [None] * 3
    assert found[0].to_json()["heatmap"] is None


def test_an_assessment_without_a_heatmap_is_the_same_and_explained_later(model, picture):
    whole = assess(model, picture)
    bare = assess(model, picture, with_heatmap=False)
    assert bare.heatmap is None
    assert csv_row("a.png", bare) == csv_row("a.png", whole)
    later = heatmap_of(model, bare, whole.heatmap.diagnosis)
    np.testing.assert_allclose(later.values, whole.heatmap.values, atol=1e-6)


def test_an_operating_point_the_model_does_not_have_is_refused(model, picture):
    with pytest.raises(ModelInvalid, match="operating point"):
        assess(model, picture, "nonesuch")


def test_rejects_a_file_that_is_not_an_image(model):
    with pytest.raises(ImageRejected):
        assess(model, b"")


def test_with_facts_the_threshold_is_the_one_measured_with_facts(taught_folder, picture):
    model = Model.load(taught_folder)
    (alone,), (taught,) = (
        assess_batch(model, [read_image(picture)], facts=f)
        for f in (None, PatientFacts(90, "male"))
    )
    assert alone.decision.operating_point == model.record.operating_point("balanced")
    assert taught.decision.operating_point == model.record.operating_point(
        "balanced", with_facts=True
    )
    assert taught.decision.operating_point.threshold == 0.123


def test_json_has_the_change_by_patient_facts(taught_folder, picture):
    (found,) = assess_batch(
        Model.load(taught_folder), [read_image(picture)], facts=PatientFacts(sex="male")
    )
    facts = json.loads(json.dumps(found.to_json()))["facts"]
    assert (facts["age_years"], facts["sex"], facts["site"]) == (None, "male", None)
    assert facts["moved"]["MEL"] > 0 > facts["moved"]["NV"]
    assert sum(facts["moved"].values()) == pytest.approx(0, abs=1e-5)


def test_another_operating_point_looks_for_no_similar_cases_again(model, picture, monkeypatch):
    assessment = assess(model, picture)
    monkeypatch.setattr(model, "neighbours", None)
    again = reconsider(model, assessment, "rule-out")
    assert again.decision.operating_point.name == "rule-out"
    assert again.neighbours == assessment.neighbours
    assert again.prediction is assessment.prediction


def test_similar_cases_are_held_against_the_diagnosis_that_facts_put_first(taught_folder, picture):
    taught = Model.load(taught_folder)
    assessment = assess(taught, picture)
    again = reconsider(taught, assessment, "balanced", PatientFacts(90, "male"))
    assert again.neighbours.first == again.prediction.ranking()[0][0]
    assert again.neighbours.cases == assessment.neighbours.cases
