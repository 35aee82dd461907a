import os
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from msgspec import structs

from cadlib.data.predictions_csv import PREDICTIONS_FILE, read_unknown
from cadlib.data.subsets import Subset
from cadlib.errors import DatasetInvalid
from cadlib.evaluation import cached as module
from cadlib.evaluation.cached import (
    COSTS,
    Evaluated,
    evaluation_folder,
    make_evaluation,
    read_evaluation,
)
from cadlib.evaluation.evaluate import evaluate
from cadlib.evaluation.image_selection import Part
from cadlib.evaluation.model_outputs import model_outputs
from cadlib.metrics.balanced_rule import BalancedRule, Frequencies
from cadlib.metrics.classification import malignant_probability, malignant_truth
from cadlib.metrics.summary_schema import DataFacts
from cadlib.taxonomy import CODES, UNKNOWN
from tests.model_folders import with_member

pytestmark = pytest.mark.usefixtures("empty_cache", "few_draws")


def ignore(_step, _done, _total):
    pass


@pytest.fixture(scope="module")
def evaluated():
    """Return the evaluation of a guessing model on 200 images."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"image": [f"I{n:03}" for n in range(200)], "diagnosis": rng.choice(CODES, 200)}
    )
    table = table.assign(lesion_id=None, lesion_group=None)
    return Evaluated(table, rng.dirichlet(np.ones(8), 200), {}, 0.4)


def test_the_cached_evaluation_equals_a_new_one(model, drawn_dataset):
    folder = evaluation_folder(model.record, drawn_dataset)
    assert read_evaluation(folder, model.record, drawn_dataset) is None
    steps = []
    make_evaluation(folder, model, drawn_dataset, lambda *step: steps.append(step))
    cached_evaluation = read_evaluation(folder, model.record, drawn_dataset)
    expected = evaluate(model, drawn_dataset)
    assert cached_evaluation.metrics.gaps == ()
    assert structs.replace(cached_evaluation.metrics, gaps=None) == expected.metrics
    expected_probabilities = expected.predictions[list(CODES)].to_numpy()
    assert cached_evaluation.probabilities == pytest.approx(expected_probabilities, abs=1e-6)
    assert cached_evaluation.table["image"].tolist() == expected.predictions["image"].tolist()
    unknown = read_unknown(folder / PREDICTIONS_FILE).to_numpy()
    assert unknown == pytest.approx(expected.predictions[UNKNOWN].to_numpy(), abs=1e-6)
    # A model without a novelty detector writes 0.
    assert (unknown > 0).all()
    check_progress_steps(steps)
    assert cached_evaluation.threshold == model.record.operating_point("balanced").threshold


def check_progress_steps(steps):
    """Check the progress that `make_evaluation` reported for 32 images."""
    assert ("images", 32, 32) in steps
    step_names = [name for name, _ in groupby(step[0] for step in steps)]
    assert step_names == ["images", "subgroups measured", "subgroups compared"]
    _, done, total = steps[-1]
    assert done == total


def test_the_cached_evaluation_is_named_after_the_request(model, drawn_dataset):
    folder = evaluation_folder(model.record, drawn_dataset)
    make_evaluation(folder, model, drawn_dataset, ignore)
    subset = Subset("these", "drawn", tuple(drawn_dataset.table["image"]), "all")
    for part in (Part("test", subset), Part("test"), Part(subset=subset)):
        data = read_evaluation(folder, model.record, drawn_dataset, part).metrics.data
        assert data == DataFacts(
            name="drawn", split=part.split, subset=part.subset_facts, images=32
        )


def test_the_folder_depends_on_images_labels_weights_thresholds_and_rule(
    model, drawn_dataset, monkeypatch
):
    record = model.record
    table = drawn_dataset.table
    first = evaluation_folder(record, drawn_dataset)
    assert evaluation_folder(record, drawn_dataset) == first
    fewer = replace(drawn_dataset, table=table.iloc[1:])
    other_label = replace(drawn_dataset, table=table.assign(diagnosis="NV"))
    rule = BalancedRule(0.5, Frequencies(**dict.fromkeys(CODES, 0.125)))
    other_folders = {
        evaluation_folder(structs.replace(record, balanced_rule=rule), drawn_dataset),
        evaluation_folder(record, fewer),
        evaluation_folder(record, other_label),
        evaluation_folder(with_member(record, weights_sha256="0" * 64), drawn_dataset),
        evaluation_folder(
            structs.replace(record, operating_points=record.operating_points[:1]), drawn_dataset
        ),
    }
    assert len(other_folders - {first}) == 5
    assert (
        evaluation_folder(structs.replace(record, version="9.9.9", audit=None), drawn_dataset)
        == first
    )
    monkeypatch.setattr(module, "METRICS_VERSION", module.METRICS_VERSION + 1)
    assert evaluation_folder(record, drawn_dataset) != first
    monkeypatch.undo()
    os.utime(table["path"].iloc[0], (1, 1))
    assert evaluation_folder(record, drawn_dataset) != first


def test_names_a_missing_image(model, drawn_dataset):
    moved = replace(drawn_dataset, table=drawn_dataset.table.assign(path="nowhere.jpg"))
    with pytest.raises(DatasetInvalid, match=r"nowhere\.jpg"):
        evaluation_folder(model.record, moved)


def test_skips_images_without_a_label(model, drawn_dataset):
    table = drawn_dataset.table.copy()
    table.loc[:2, "diagnosis"] = [UNKNOWN, None, None]
    table.loc[:2, "malignant"] = pd.NA
    part = replace(drawn_dataset, table=table)
    steps = []
    folder = evaluation_folder(model.record, part)
    make_evaluation(folder, model, part, lambda *step: steps.append(step))
    assert ("images", 29, 29) in steps
    assert len(read_evaluation(folder, model.record, part).table) == 29


def test_caches_nothing_without_a_labelled_image(model, drawn_dataset):
    none = replace(drawn_dataset, table=drawn_dataset.table.assign(diagnosis=None, malignant=pd.NA))
    folder = evaluation_folder(model.record, none)
    with pytest.raises(DatasetInvalid, match="none of its 32 images has one"):
        make_evaluation(folder, model, none, ignore)
    assert not folder.exists()


def test_probabilities_equal_those_of_single_images(model, drawn_dataset):
    folder = evaluation_folder(model.record, drawn_dataset)
    make_evaluation(folder, model, drawn_dataset, ignore)
    evaluation = read_evaluation(folder, model.record, drawn_dataset)
    paths = evaluation.table["path"][::4]
    for path, probabilities in zip(paths, evaluation.probabilities[::4], strict=True):
        np.testing.assert_allclose(
            probabilities, model.predict(path).probabilities, rtol=0, atol=1e-6
        )


def test_probabilities_of_real_images_equal_those_of_single_images(model, isic2019_dataset):
    dataset = isic2019_dataset
    part = replace(dataset, table=dataset.table.iloc[::600].reset_index(drop=True))
    assert part.table["width_px"].nunique() > 3
    place = evaluation_folder(model.record, part)
    make_evaluation(place, model, part, ignore)
    evaluation = read_evaluation(place, model.record, part)
    for path, probabilities in zip(part.table["path"], evaluation.probabilities, strict=True):
        np.testing.assert_allclose(
            probabilities, model.predict(path).probabilities, rtol=0, atol=1e-6
        )


def test_lists_unreadable_images_and_evaluates_the_rest(model, drawn_dataset):
    for row in (3, 30):
        Path(drawn_dataset.table["path"][row]).write_bytes(b"%PDF-1.7")
    folder = evaluation_folder(model.record, drawn_dataset)
    make_evaluation(folder, model, drawn_dataset, ignore)
    cached_evaluation = read_evaluation(folder, model.record, drawn_dataset)
    expected = evaluate(model, drawn_dataset)
    assert [*cached_evaluation.metrics.rejected] == drawn_dataset.table["image"][[3, 30]].tolist()
    assert cached_evaluation.metrics.rejected == expected.rejected
    assert len(cached_evaluation.table) == cached_evaluation.metrics.n == 30
    assert cached_evaluation.probabilities == pytest.approx(
        expected.predictions[list(CODES)].to_numpy(), abs=1e-6
    )


def test_reuses_the_results_of_the_map_or_of_a_larger_set(model, drawn_dataset, monkeypatch):
    model_outputs(model, drawn_dataset.table, ignore)
    monkeypatch.setattr("cadlib.model.model.Model.see", None)  # A call fails.
    for table in (drawn_dataset.table, drawn_dataset.table.iloc[::3].reset_index(drop=True)):
        part = replace(drawn_dataset, table=table)
        folder = evaluation_folder(model.record, part)
        make_evaluation(folder, model, part, ignore)
        assert read_evaluation(folder, model.record, part).metrics.n == len(table)


def test_a_stopped_evaluation_leaves_no_metrics(model, drawn_dataset):
    def stop(_step, _done, _total):
        raise InterruptedError

    folder = evaluation_folder(model.record, drawn_dataset)
    with pytest.raises(InterruptedError):
        make_evaluation(folder, model, drawn_dataset, stop)
    assert read_evaluation(folder, model.record, drawn_dataset) is None


def test_the_cells_hold_every_image_once_by_falling_probability(evaluated):
    cells = {(truth, code): evaluated.cell(truth, code) for truth in CODES for code in CODES}
    images = [image for cell in cells.values() for image in cell["image"]]
    assert sorted(images) == evaluated.table["image"].tolist()
    for (truth, code), cell in cells.items():
        assert set(cell["diagnosis"]) <= {truth}
        assert cell["probability"].is_monotonic_decreasing
        rows = evaluated.probabilities[cell.index]
        assert (rows.argmax(axis=1) == CODES.index(code)).all()
        assert cell["probability"].tolist() == rows[:, CODES.index(code)].tolist()


def test_errors_are_sorted_by_cost_and_probability(evaluated):
    errors = evaluated.errors(0.4)
    scores = malignant_probability(evaluated.probabilities)
    truth = malignant_truth(evaluated.labels)
    assert set(errors.index) == set(np.flatnonzero(truth != (scores >= 0.4)))
    assert list(dict.fromkeys(errors["cost"])) == list(COSTS)
    melanomas, other_malignant, needless = [errors[errors["cost"] == cost] for cost in COSTS]
    assert set(melanomas["diagnosis"]) == {"MEL"}
    assert set(other_malignant["diagnosis"]) <= {"BCC", "AK", "SCC"}
    assert not set(needless["diagnosis"]) & {"MEL", "BCC", "AK", "SCC"}
    assert melanomas["probability"].is_monotonic_increasing
    assert needless["probability"].is_monotonic_decreasing
    assert (melanomas["probability"] < 0.4).all()
    assert (needless["probability"] >= 0.4).all()


def test_a_higher_threshold_misses_at_least_as_many(evaluated):
    low = (evaluated.errors(0.2)["cost"] != COSTS[2]).sum()
    high = (evaluated.errors(0.6)["cost"] != COSTS[2]).sum()
    assert low < high
