import json

import pytest
from msgspec import structs

from cadlib.errors import ModelInvalid
from cadlib.metrics.image_counts import Counts
from cadlib.model import metrics_file
from cadlib.model.record import METRICS_FILE, read_record
from tests.model_folders import change_file, with_member


def write_robustness(folder, across_damage):
    """Write robustness results into a model. Return its record and its metrics without them."""
    record = read_record(folder)
    metrics = metrics_file.measured(folder, record)
    measured = structs.replace(metrics, robustness=across_damage(record))
    metrics_file.write_into(folder, record, measured)
    return record, structs.replace(metrics, robustness=None)


def test_new_metrics_of_the_same_weights_keep_the_robustness_results(model_folder, across_damage):
    record, alone = write_robustness(model_folder, across_damage)
    metrics_file.write_into(model_folder, record, alone)
    assert metrics_file.measured(model_folder, record).robustness == across_damage(record)
    assert "## Robustness to image degradation" in (model_folder / "README.md").read_text(
        encoding="utf-8"
    )


def test_new_metrics_of_other_weights_drop_the_robustness_results(model_folder, across_damage):
    record, alone = write_robustness(model_folder, across_damage)
    retrained = with_member(record, weights_sha256="cd" * 32)
    new_metrics = structs.replace(alone, model=metrics_file.model_facts(retrained))
    metrics_file.write_into(model_folder, retrained, new_metrics)
    assert metrics_file.measured(model_folder, retrained).robustness is None
    assert "on degraded images was not measured" in (model_folder / "README.md").read_text(
        encoding="utf-8"
    )


def test_sections_of_validation_stay_at_the_top_when_the_test_split_is_measured(model_folder):
    record = read_record(model_folder)
    shipped = metrics_file.measured(model_folder, record)
    names = metrics_file.SplitMetrics.__struct_fields__
    validation = {name: getattr(shipped.validation, name) for name in names}
    test = {name: getattr(shipped, name) for name in names}
    # As before the test split was read: validation leads, and there are sections.
    former = metrics_file.Metrics(
        **validation, robustness=shipped.robustness, saliency=shipped.saliency
    )
    metrics_file.rewrite(model_folder, record, former)
    metrics_file.write_into(model_folder, record, metrics_file.SplitMetrics(**test))
    metrics = metrics_file.measured(model_folder, record)
    assert metrics.data.split == "test"
    assert metrics.validation == shipped.validation
    assert metrics.robustness == shipped.robustness
    assert metrics.saliency == shipped.saliency


def test_metrics_of_other_weights_are_not_those_of_the_model(model_folder):
    retrained = with_member(read_record(model_folder), weights_sha256="cd" * 32)
    with pytest.raises(ModelInvalid, match="to be of the model's weights, cdcdcdcdcdcdcdcd"):
        metrics_file.measured(model_folder, retrained)


def test_metrics_without_the_newest_keys_keep_their_place_beside_new_ones(model_folder):
    """The shipped metrics.json has no calibration of the malignant probability; a new validation has."""
    record = read_record(model_folder)
    former = metrics_file.measured(model_folder, record)
    new_validation = structs.replace(
        former.validation, n_malignant=7, malignant_ece=0.1, malignant_reliability=()
    )
    joined = metrics_file.join_splits(new_validation, former)
    assert joined.data.split == "test"
    assert joined.balanced_accuracy == former.balanced_accuracy
    assert joined.validation.malignant_ece == 0.1


def test_the_shipped_metrics_have_counts_of_both_kinds(model_folder):
    metrics = metrics_file.measured(model_folder, read_record(model_folder))
    images = Counts.of(metrics)
    point = metrics.operating_points[0]
    assert (images.malignant, images.benign) == (point.n_malignant, point.n_benign)
    assert images.n == images.diagnosed == metrics.n
    assert not images.partial


def test_new_metrics_replace_a_file_that_this_version_cannot_use(model_folder, caplog):
    record = read_record(model_folder)
    metrics = metrics_file.measured(model_folder, record)
    older = json.loads((model_folder / METRICS_FILE).read_bytes())
    del older["intervals"]
    change_file(model_folder, METRICS_FILE, json.dumps(older))
    with pytest.raises(ModelInvalid, match="`\\$.intervals` in .* is missing"):
        metrics_file.measured(model_folder, record)
    metrics_file.write_into(model_folder, record, metrics)
    assert metrics_file.measured(model_folder, record) == metrics
    assert "replaced as a whole" in caplog.text
