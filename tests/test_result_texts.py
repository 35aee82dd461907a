"""Sentences that a reader could misunderstand state their measurement, with the numbers of its source."""

import csv
import io
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from cadlib import ui
from cadlib.__main__ import main
from cadlib.assessment import CSV_COLUMNS, assess_batch
from cadlib.images import read_image
from cadlib.images.quality import LIMITS, PROBLEMS, QualityCheck, inspect
from cadlib.images.synthetic import demo_lesions
from cadlib.metrics.operating_point import (
    TARGET_SENSITIVITY,
    OperatingPoint,
    PointIntervals,
    about_the_points,
    decide,
)
from cadlib.metrics.predictive_values import INTERVAL_NOTE, PredictiveValues, at_prevalence
from cadlib.model import card, metrics_file
from cadlib.model.novelty import Novelty, scores_of
from cadlib.model.record import find_model, read_record
from cadlib.saliency.trust import ABOUT_RANDOM_MAPS, LEAST_FAITHFUL, LEAST_STABLE
from cadlib.taxonomy import ACTINIC_KERATOSIS_NOTE, DIAGNOSES, MALIGNANT_NOTE, diagnosis
from cadlib.ui.quality import limit_text, value_text
from cadlib.ui.text import about_the_prevalence, patients_intervals
from tests.csv_rows import row_of


@pytest.fixture(scope="module")
def shipped():
    folder = find_model("isic2019")
    return read_record(folder), metrics_file.read(folder)


@pytest.fixture(scope="module")
def clear():
    return read_image(demo_lesions()[0].png())


# prediction sets: fitted on images, measured on images


def test_a_prediction_set_is_described_by_images():
    assert ui.about_the_set(("MEL", "NV"), 0.9) == (
        "90 % prediction set (◆): ▲ MEL, ● NV. It was built to contain the true diagnosis for 90 % "
        "of the images of each diagnosis."
    )


def test_the_card_describes_prediction_sets_by_images(shipped):
    text = card.render(*shipped)
    assert "contain the true diagnosis for 90 % of the images of each diagnosis" in text
    assert "% of the lesions of each diagnosis" not in text


# the share of malignant images, and the decision that stays


def test_the_share_of_malignant_images_is_that_of_the_images_that_were_measured(shipped):
    record, metrics = shipped
    point = record.operating_point("balanced")
    malignant = sum(metrics.n_by_class[d.code] for d in DIAGNOSES if d.malignant)
    assert point.prevalence == malignant / metrics.n
    here = at_prevalence(0.53, point.prevalence, 0.04)
    assert about_the_prevalence(0.53, here, point.prevalence, 0.04) == (
        f"The malignant probability 0.53 assumes that {100 * malignant / metrics.n:.0f} % of the images are "
        f"malignant, as in the data set. At 4.0 % it is {here:.2f}, if lesions look the same there and here. "
        "The referral decision does not change."
    )


@given(
    some.floats(0.001, 0.999),
    some.floats(0.001, 0.999),
    some.floats(0.01, 0.99),
    some.floats(0.01, 0.99),
)
def test_the_decision_is_the_same_at_every_share_of_malignant_lesions(
    probability, threshold, measured, here
):
    """Probability and threshold move together, so that a referral stays one."""
    moved = at_prevalence(probability, measured, here), at_prevalence(threshold, measured, here)
    if abs(probability - threshold) > 1e-6:
        assert (moved[0] >= moved[1]) is (probability >= threshold)


# predictive values


def point_of(name: str = "balanced", intervals: PointIntervals | None = None) -> OperatingPoint:
    ends = intervals or PointIntervals((0.9, 0.97), (0.5, 0.6))
    return OperatingPoint(name, 0.3, 0.94, 0.55, 100, 200, "test", ends)


def test_the_intervals_of_predictive_values_have_a_note():
    text = patients_intervals(PredictiveValues(point_of(), 0.04))
    assert INTERVAL_NOTE in text
    assert "at least 95 % intervals, and the share of malignant lesions is taken as exact" in text


def test_no_note_without_an_interval():
    values = PredictiveValues(point_of(intervals=PointIntervals(None, None)), 0.04)
    assert INTERVAL_NOTE not in patients_intervals(values)
    assert "too few lesions" in patients_intervals(values)


# the point that is stored as rule-in


def test_rule_in_is_shown_as_fewer_referrals_and_stored_as_before():
    point = point_of("rule-in")
    assert point.name == "rule-in"
    assert point.shown_name == "fewer referrals"
    assert decide(0.5, point).sentence == (
        "Refer: malignant probability 0.50 (referral threshold 0.30, fewer referrals)"
    )


def test_the_help_names_every_target_and_that_a_referral_confirms_nothing():
    text = about_the_points()
    assert "rule-out 0.98, balanced 0.95, fewer referrals 0.90" in text
    assert all(f"{target:.2f}" in text for target in TARGET_SENSITIVITY.values())
    assert "does not confirm malignancy" in text


def test_rule_in_refers_the_fewest_lesions_and_many_benign_ones(shipped):
    points = {point.name: point for point in shipped[0].operating_points}
    assert max(points, key=lambda name: points[name].specificity) == "rule-in"
    assert points["rule-in"].specificity < 0.9  # no test that confirms a disease


def test_predict_takes_and_stores_the_name_rule_in(tmp_path, capsys):
    path = tmp_path / "lesion.png"
    path.write_bytes(demo_lesions()[0].png())
    assert main(["predict", str(path), "--operating-point", "rule-in", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["decision"]["operating_point"] == "rule-in"
    assert main(["predict", str(path), "--operating-point", "rule-in"]) == 0
    printed = capsys.readouterr().out
    assert "fewer referrals)" in printed
    assert "rule-in" not in printed


# actinic keratosis


def test_card_and_legend_state_that_actinic_keratosis_counts_as_malignant(shipped):
    assert diagnosis("AK").malignant
    limits = card.render(*shipped).split("## Limits")[1].split("##")[0]
    assert f"- {ACTINIC_KERATOSIS_NOTE}" in limits
    assert MALIGNANT_NOTE.endswith(ACTINIC_KERATOSIS_NOTE)


# flip rates: of views and of images


def test_the_card_gives_flip_rates_of_views_and_of_images(shipped):
    record, metrics = shipped
    rate = metrics.robustness.flips.rate
    assert rate["any"] > 1.5 * rate["mean"]
    text = card.render(record, metrics)
    sentence = text.split("The top diagnosis changes in ")[1].split("\n")[0]
    views, images = sentence.split(" of the views, and in at least one view for ")
    assert views.startswith(f"{rate['mean']:.2f} (95 % CI ")
    assert images.startswith(f"{rate['any']:.2f} (95 % CI ")
    assert images.endswith(" of the images.")


# random maps


def test_the_limits_of_random_maps_are_those_that_were_measured(shipped):
    limits = shipped[1].saliency.limits
    assert round(limits.faithfulness, 2) == LEAST_FAITHFUL
    assert round(limits.stability, 2) == LEAST_STABLE
    assert (
        f"below {limits.faithfulness:.2f} (faithfulness) and {limits.stability:.2f} (stability)"
        in (ABOUT_RANDOM_MAPS)
    )
    random_maps = shipped[1].saliency.faithfulness["random"]
    assert abs(random_maps) < 0.05  # about 0 on average, though single maps reach the limit


# image quality


def test_hair_is_a_share_of_the_image():
    hair = next(limit for limit in LIMITS if limit.name == "hair")
    assert hair.sentence == "Hair or other dark lines cover part of the image."


def test_a_badge_names_the_problem_and_a_file_keeps_the_name_of_the_check(clear):
    blurred = replace(clear, pixels=np.full_like(clear.pixels, 128))
    report = inspect(blurred)
    problems = [check.problem for check in report.flagged]
    assert "blurred" in problems
    assert "sharpness" not in problems
    assert report.to_json()["wrong"]["sharpness"] == "unreadable"


def test_every_check_has_the_name_of_its_problem():
    assert PROBLEMS == {
        "size": "too small", "sharpness": "blurred", "compression": "compressed", "contrast": "low contrast",
        "lesion": "no clear lesion", "whole lesion": "lesion cut off",
    }  # fmt: skip
    assert set(PROBLEMS) <= {limit.name for limit in LIMITS}


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_a_limit_has_its_direction_and_is_the_same_for_every_result(limit):
    results = [
        QualityCheck(limit.name, measurement, limit.poor, severity, "")
        for measurement, severity in ((0.0, "good"), (1.0, "poor"), (2.0, "unreadable"))
    ]
    [text] = {limit_text(check) for check in results}
    assert text.startswith(f"{'at least' if limit.below else 'at most'} {limit.poor:.4g}")
    assert ("✕" in text) is (limit.unreadable is not None)


@pytest.mark.parametrize(
    ("measurement", "text"), [(0.03399, "0.03399"), (0.034, "0.034"), (0.00005728, "0.0001")]
)
def test_a_value_that_fails_does_not_look_like_its_limit(measurement, text):
    assert value_text(QualityCheck("sharpness", measurement, 0.034, "poor", "")) == text


# novelty: one scale


@given(some.floats(0.02, 30))
def test_the_novelty_score_is_restored_from_the_stored_share(score):
    share = float(repr(Novelty(score).unknown_share))
    assert scores_of(np.array([share]))[0] == pytest.approx(score, rel=1e-2)
    assert bool(scores_of(np.array([share]))[0] > 1) is (share > 0.5)


def test_a_share_of_0_is_no_score_and_a_share_of_1_is_a_high_one():
    scores = scores_of(np.array([0.0, 1.0]))
    assert np.isnan(scores[0])
    assert 90 < scores[1] < np.inf


# results that the pages hide


def test_csv_and_json_mark_a_result_that_is_not_to_be_used(model, clear):
    noise = np.random.default_rng(0).integers(0, 256, (450, 450, 3), np.uint8)
    images = [clear, replace(clear, pixels=clear.pixels // 8), replace(clear, pixels=noise)]
    good, dark, not_skin = assess_batch(model, images)
    for assessment, interpretable in ((good, True), (dark, False), (not_skin, False)):
        assert row_of(assessment)["interpretable"] == ("yes" if interpretable else "no")
        assert assessment.to_json()["interpretable"] == interpretable
    assert (row_of(good)["warning"], good.to_json()["warning"]) == ("", None)
    assert row_of(dark)["warning"] == dark.to_json()["warning"]
    assert dark.quality.sentence in row_of(dark)["warning"]
    assert not_skin.novelty.sentence in row_of(not_skin)["warning"]
    # The decision is there. The columns before it say that it is not to be used.
    assert row_of(dark)["decision"]
    assert CSV_COLUMNS.index("interpretable") < CSV_COLUMNS.index("diagnosis")


def test_predict_writes_the_warning_into_its_csv(tmp_path, clear, capsys):
    from PIL import Image

    path = tmp_path / "dark.png"
    Image.fromarray(clear.pixels // 8).save(path)
    assert main(["predict", str(path), "--format", "csv"]) == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["interpretable"] == "no"
    assert row["warning"].startswith("No reliable result is possible for this image.")


# rotated views are predicted without patient data


def test_rotated_views_are_noted_to_ignore_patient_data():
    views = SimpleNamespace(
        malignant_range=(0.1, 0.5), same=6, probabilities=np.zeros((8, 8)), averaged=False
    )
    assert ui.about_the_turns(views, 0.2).startswith("Rotated and mirrored: ")
    assert ui.about_the_turns(views, 0.2, with_facts=True).startswith(
        "Rotated and mirrored, without patient data: "
    )
