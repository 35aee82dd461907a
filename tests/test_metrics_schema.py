"""Reads metrics.json, and refuses a damaged or an older file with a message."""

import copy
import json

import pytest

from cadlib.errors import ModelInvalid
from cadlib.model import metrics_file
from cadlib.model.record import METRICS_FILE, find_model

PATH = find_model("isic2019") / METRICS_FILE


@pytest.fixture(scope="module")
def shipped() -> dict:
    """Return the shipped metrics.json as JSON; a test that changes it makes a copy."""
    return json.loads(PATH.read_bytes())


def parsed(content: object) -> metrics_file.Metrics:
    return metrics_file.parse_metrics(json.dumps(content).encode(), PATH, "isic2019")


def changed(content: dict, place: str, value: object) -> dict:
    """Return a copy with another value at a place such as "roc.malignant.tpr"; ... deletes it."""
    copied = copy.deepcopy(content)
    *parents, key = place.split(".")
    part = copied
    for parent in parents:
        part = part[int(parent) if isinstance(part, list) else parent]
    if value is ...:
        del part[key]
    else:
        part[key] = value
    return copied


def test_the_shipped_file_is_read_and_written_without_a_change(shipped):
    text = metrics_file.metrics_json(parsed(shipped))
    assert json.loads(text) == shipped


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ("intervals", "$.intervals"),
        ("data.split", "$.data.split"),
        ("subgroups.short side ≥ 150 px.brier", "brier"),
        ("robustness.flips.rate", "$.robustness.flips.rate"),
        ("validation.model", "$.validation.model"),
        ("operating_points.0.threshold", "$.operating_points[0].threshold"),
    ],
)
def test_names_a_missing_field_and_the_command(shipped, place, named):
    with pytest.raises(ModelInvalid, match="is missing") as caught:
        parsed(changed(shipped, place, ...))
    assert named in str(caught.value)
    assert "python -m cadlib evaluate --model isic2019" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("n", "3623", '`$.n` in .* to be a whole number, but found "3623"'),
        ("n_lesions", 1.5, "`$.n_lesions` in .* to be a whole number, but found 1.5"),
        ("rejected", [], "`$.rejected` in .* to be an object, but found"),
        ("robustness.mean", 3, "`$.robustness.mean` in .* to be an object, but found 3"),
    ],
)
def test_names_a_value_of_another_type(shipped, place, value, expected):
    with pytest.raises(ModelInvalid, match=expected.replace("$", r"\$")):
        parsed(changed(shipped, place, value))


@pytest.mark.parametrize("place", ["balanced_acuracy", "model.sha256", "saliency.seed"])
def test_refuses_an_unknown_field(shipped, place):
    with pytest.raises(ModelInvalid, match="Expected no key") as caught:
        parsed(changed(shipped, place, 0.5))
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("accuracy", 1.01),
        ("malignant_auc", -0.1),
        ("auc.MEL", 90.5),
        ("validation.prediction_sets.empty", 2),
        ("novelty_proof.corners", 14),
        ("intervals.accuracy", [0.5, 1.5]),
    ],
)
def test_refuses_a_share_outside_0_to_1(shipped, place, value):
    with pytest.raises(ModelInvalid, match="to be a number [<>]= "):
        parsed(changed(shipped, place, value))


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("n_by_class", {"MEL": 3}, "n_by_class` in .* to be of the 8 or 7 classes"),
        ("auc", {"MEL": 0.9}, "auc` in .* to be of MEL, NV, .*, with an interval for each"),
        ("confusion_matrix", [[1, 2], [3, 4]], "confusion_matrix` in .* to be 8 rows of 8 counts"),
        ("roc.malignant.tpr", [0.0, 1.0], "tpr` in .* to be a list of 200 values"),
        ("roc", {"MEL": None}, "roc` in .* to be of MEL, NV, .* and malignant"),
    ],
)
def test_refuses_sections_that_do_not_belong_together(shipped, place, value, expected):
    with pytest.raises(ModelInvalid, match=expected):
        parsed(changed(shipped, place, value))


def test_reads_a_file_that_an_earlier_version_wrote_without_later_metrics(shipped):
    older = changed(shipped, "malignant_average_precision", ...)
    older = changed(older, "intervals.malignant_average_precision", ...)
    older = changed(older, "roc.malignant.tpr_interval", ...)
    metrics = parsed(older)
    assert json.loads(metrics_file.metrics_json(metrics)) == older
