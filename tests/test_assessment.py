import io
import json
from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from cadlib.assessment import (
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
from tests.csv_rows import row_of


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
    assert row_of(assessment)["notes"] == SWAPPED_NOTE
    assert assessment.to_json()["notes"] == [SWAPPED_NOTE]


def test_the_prediction_set_follows_the_record_and_is_missing_with_facts(
    model, taught_folder, picture
):
    assessment = assess(model, picture)
    quantiles = structs.asdict(model.record.conformal.quantiles)
    expected = [code for code, p in assessment.prediction.ranking() if 1 - p <= quantiles[code]]
    assert list(assessment.likely) == expected == assessment.to_json()["prediction_set"]
    with_facts = assess(Model.load(taught_folder), picture, facts=PatientFacts(90, "male"))
    assert with_facts.likely is None
    assert with_facts.to_json()["prediction_set"] is None


def test_the_heatmap_of_a_large_photograph_lies_in_the_pixels_of_its_file(model, picture):
    large = Image.open(io.BytesIO(picture)).convert("RGB").resize((6000, 4000))
    large.save(buffer := io.BytesIO(), "JPEG")
    exported = assess(model, buffer.getvalue()).to_json()
    assert (exported["width_px"], exported["height_px"]) == (6000, 4000)
    assert exported["heatmap"]["box"] == [1000, 0, 5000, 4000]


def test_a_row_of_csv_names_the_quality_problem_of_the_image(model, picture):
    clear = read_image(picture)
    dark = replace(clear, pixels=clear.pixels // 8)
    clear_row, dark_row = [row_of(one) for one in assess_batch(model, [clear, dark])]
    assert clear_row["quality"] == "good"
    assert set(clear_row["prediction_set"].split()) <= set(CODES)
    assert dark_row["quality"].startswith("unreadable: underexposure")
    assert row_of("no picture")["error"] == "no picture"


def test_an_image_of_another_kind_is_marked_in_its_row(model, picture):
    lesion_image = read_image(picture)
    noise = np.random.default_rng(0).integers(0, 256, (450, 450, 3), np.uint8)
    lesion, not_skin = assess_batch(model, [lesion_image, replace(lesion_image, pixels=noise)])
    assert lesion.answerable
    assert not not_skin.answerable
    assert (lesion.to_json()["known"], not_skin.to_json()["known"]) == (True, False)
    lesion_row = row_of(lesion)
    other_row = row_of(not_skin)
    assert lesion_row["known"] == "yes"
    assert other_row["known"] == "no"
    assert float(lesion_row["novelty"]) == pytest.approx(lesion.novelty.score, abs=1e-4)
    assert other_row["diagnosis"] in CODES


def test_a_model_without_a_novelty_detector_reports_no_novelty(undetecting_folder, picture):
    assessment = assess(Model.load(undetecting_folder), picture)
    assert assessment.novelty is None
    assert assessment.answerable
    assert (assessment.to_json()["known"], assessment.to_json()["novelty"]) == (None, None)
    row = row_of(assessment)
    assert (row["known"], row["novelty"]) == ("", "")


def test_many_images_are_assessed_without_heatmaps(model, picture):
    images = [read_image(picture)] * 3
    assessments = assess_batch(model, images)
    assert [assessment.heatmap for assessment in assessments] == [None] * 3
    assert assessments[0].to_json()["heatmap"] is None


def test_an_assessment_without_a_heatmap_is_the_same_and_explained_later(model, picture):
    complete = assess(model, picture)
    bare = assess(model, picture, with_heatmap=False)
    assert bare.heatmap is None
    assert csv_row("a.png", bare) == csv_row("a.png", complete)
    later = heatmap_of(model, bare, complete.heatmap.diagnosis)
    np.testing.assert_allclose(later.values, complete.heatmap.values, atol=1e-6)


def test_an_operating_point_the_model_does_not_have_is_refused(model, picture):
    with pytest.raises(ModelInvalid, match="operating point"):
        assess(model, picture, "nonesuch")


def test_rejects_a_file_that_is_not_an_image(model):
    with pytest.raises(ImageRejected):
        assess(model, b"")


def test_with_facts_the_threshold_is_the_one_measured_with_facts(taught_folder, picture):
    model = Model.load(taught_folder)
    [image_only] = assess_batch(model, [read_image(picture)], facts=None)
    [with_facts] = assess_batch(model, [read_image(picture)], facts=PatientFacts(90, "male"))
    assert image_only.decision.operating_point == model.record.operating_point("balanced")
    assert with_facts.decision.operating_point == model.record.operating_point(
        "balanced", with_facts=True
    )
    assert with_facts.decision.operating_point.threshold == 0.123


def test_json_has_the_change_by_patient_facts(taught_folder, picture):
    (assessment,) = assess_batch(
        Model.load(taught_folder), [read_image(picture)], facts=PatientFacts(sex="male")
    )
    facts = json.loads(json.dumps(assessment.to_json()))["facts"]
    assert (facts["age_years"], facts["sex"], facts["site"]) == (None, "male", None)
    assert facts["moved"]["MEL"] > 0 > facts["moved"]["NV"]
    assert sum(facts["moved"].values()) == pytest.approx(0, abs=1e-5)


def test_another_operating_point_looks_for_no_similar_cases_again(model, picture, monkeypatch):
    assessment = assess(model, picture)
    monkeypatch.setattr(model, "neighbours", None)
    reconsidered = reconsider(model, assessment, "rule-out")
    assert reconsidered.decision.operating_point.name == "rule-out"
    assert reconsidered.neighbours == assessment.neighbours
    assert reconsidered.prediction is assessment.prediction


def test_similar_cases_are_compared_with_the_top_diagnosis_with_facts(taught_folder, picture):
    model = Model.load(taught_folder)
    assessment = assess(model, picture)
    reconsidered = reconsider(model, assessment, "balanced", PatientFacts(90, "male"))
    assert reconsidered.neighbours.first == reconsidered.prediction.ranking()[0][0]
    assert reconsidered.neighbours.cases == assessment.neighbours.cases
