import json

import numpy as np
import pytest
import torch
from msgspec import structs

from cadlib.evaluation.saliency_benchmark import KEYS, centre, compare
from cadlib.images.preprocess import to_array
from cadlib.model import metrics_file
from cadlib.model.metrics_file import metrics_json
from cadlib.model.record import find_model, read_record
from cadlib.network.backbones import network_of, untrained_network
from cadlib.saliency.heatmap import METHODS
from cadlib.saliency.trust import LEAST_FAITHFUL, LEAST_STABLE, Trust
from cadlib.taxonomy import CODES

N_METHODS = len(KEYS)


def random_scores(n=200, gain=0.0, seed=0):
    """Return random metrics of n images, each method's faithfulness 0.5 in the mean and the last's higher by `gain`."""
    rng = np.random.default_rng(seed)
    of_image = rng.normal(0.5, 0.2, (n, 1))
    of_methods = of_image + rng.normal(0, 0.01, (n, N_METHODS))
    of_methods[:, -1] += gain
    return {
        "faithfulness": np.hstack([of_methods, rng.normal(0, 0.2, (n, 2))]),
        "faithfulness_blurred": rng.normal(0.4, 0.2, (n, N_METHODS + 2)),
        "inside_lesion": rng.uniform(0.4, 0.9, (n, N_METHODS + 2)),
        "stability": rng.normal(0.7, 0.2, (n, N_METHODS + 1)),
        "untrained_likeness": rng.normal(0, 0.2, (n, N_METHODS)),
        "untrained_faithfulness": rng.normal(0, 0.2, (n, N_METHODS)),
        "explained": np.eye(8)[np.arange(n) % 2],
    }


def test_metrics_are_means_over_the_images():
    scores = random_scores()
    metrics = compare(scores, np.arange(200), draws=100)
    assert list(metrics.faithfulness.values()) == pytest.approx(scores["faithfulness"].mean(axis=0))
    assert list(metrics.faithfulness) == [*KEYS, "random", "centre"]
    low, high = metrics.intervals.stability["layercam"]
    assert low < metrics.stability["layercam"] < high
    expected = (
        np.quantile(scores["faithfulness"][:, N_METHODS], 0.95),
        np.quantile(scores["stability"][:, N_METHODS], 0.95),
    )
    assert structs.astuple(metrics.limits) == pytest.approx(expected)


def test_the_unreadable_are_those_that_a_page_would_warn_of():
    scores = random_scores()
    pairs = zip(scores["faithfulness"][:, 2], scores["stability"][:, 2], strict=True)
    expected = np.mean([not Trust(*pair).readable for pair in pairs])
    assert 0 < expected < 1
    assert compare(scores, np.arange(200), draws=1).unreadable[KEYS[2]] == pytest.approx(expected)


def test_the_best_method_is_named_and_its_gain_is_paired():
    metrics = compare(random_scores(gain=0.02), np.arange(200), draws=300)
    assert metrics.best == KEYS[-1]
    low, high = metrics.intervals.gain[KEYS[-1]]
    assert 0.015 < low < metrics.gain[KEYS[-1]] < high < 0.025
    assert high - low < 0.3 * np.diff(metrics.intervals.faithfulness[KEYS[-1]])[0]
    assert metrics.gain[KEYS[0]] == 0


def test_among_equal_methods_the_free_one_is_best():
    scores = random_scores()
    higher_by = np.arange(N_METHODS) * 1e-6
    scores["faithfulness"][:, :N_METHODS] = scores["faithfulness"][:, :1] + higher_by
    assert compare(scores, np.arange(200), draws=1).best == METHODS[0].key


def test_the_diagnoses_explained_have_metrics_of_the_best_method():
    scores = random_scores(gain=0.1)
    metrics = compare(scores, np.arange(200), draws=100)
    part = metrics.by_diagnosis
    inside = scores["inside_lesion"][:, N_METHODS - 1]
    assert part.inside_lesion["NV"] == pytest.approx(inside[1::2].mean())
    assert metrics.inside_lesion[KEYS[-1]] == pytest.approx(inside.mean())
    blurred = scores["faithfulness_blurred"].mean(axis=0)
    assert list(metrics.faithfulness_blurred.values()) == pytest.approx(blurred)
    assert part.n == dict.fromkeys(CODES, 0) | {"MEL": 100, "NV": 100}
    assert part.faithfulness["NV"] == pytest.approx(
        scores["faithfulness"][1::2, N_METHODS - 1].mean()
    )
    assert part.faithfulness["DF"] is None
    low, high = part.intervals.faithfulness["NV"]
    assert low < part.faithfulness["NV"] < high


def test_images_of_one_lesion_are_drawn_together():
    scores = {name: np.repeat(values, 4, axis=0) for name, values in random_scores(50).items()}
    alone = compare(scores, np.arange(200), draws=300).intervals.faithfulness["grad-cam"]
    lesions = np.repeat(np.arange(50), 4)
    together = compare(scores, lesions, draws=300).intervals.faithfulness["grad-cam"]
    assert np.ptp(together) > 1.5 * np.ptp(alone)


def test_undefined_values_are_left_out_or_none():
    scores = random_scores()
    scores["untrained_likeness"][:100, 0] = np.nan
    scores["untrained_likeness"][:, 1] = np.nan
    metrics = compare(scores, np.arange(200), draws=5)
    expected = scores["untrained_likeness"][100:, 0].mean()
    assert metrics.untrained_likeness["grad-cam"] == pytest.approx(expected)
    assert metrics.untrained_likeness["grad-cam++"] is None
    json.loads(metrics_json(metrics), parse_constant=pytest.fail)


def test_the_untrained_network_is_the_same_kind_with_other_weights(model):
    untrained = untrained_network(model, 0)
    assert untrained.state_dict().keys() == network_of(model).state_dict().keys()
    pictures = np.random.default_rng(0).integers(0, 255, (2, 176, 176, 3), dtype=np.uint8)
    with torch.no_grad():
        logits = untrained(torch.from_numpy(to_array(pictures, model.record.input)))
    assert not torch.equal(logits[0], logits[1])  # its head is not of zeros
    head = untrained.get_classifier().weight
    untrained_again = untrained_network(model, 0).get_classifier().weight
    trained = network_of(model).get_classifier().weight
    assert torch.equal(head, untrained_again)
    assert not torch.allclose(head, trained)


def test_the_spot_in_the_middle_has_its_peak_there_and_rotates_to_itself():
    values = centre(64)
    assert values[31:33, 31:33].min() == values.max()
    np.testing.assert_allclose(values, np.rot90(values))


def test_the_limits_of_a_readable_map_are_those_that_were_measured():
    folder = find_model("isic2019")
    limits = metrics_file.measured(folder, read_record(folder)).saliency.limits
    assert (round(limits.faithfulness, 2), round(limits.stability, 2)) == (
        LEAST_FAITHFUL,
        LEAST_STABLE,
    )
