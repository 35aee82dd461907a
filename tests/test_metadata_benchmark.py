import sys
from pathlib import Path

import numpy as np
import pytest

from cadlib.images.patient import FEATURES
from cadlib.model.metadata import PatientFacts
from cadlib.taxonomy import CODES


@pytest.fixture(scope="module")
def benchmark():
    """Return the module of benchmarks/metadata.py, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(Path(__file__).parents[1] / "benchmarks"), *sys.path])
        import metadata

        return metadata


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    rows = [PatientFacts(float(age)).design() for age in rng.choice([20, 80], 400)]
    design = np.array(rows)
    old = design[:, FEATURES.index("age 75")] > 0
    labels = np.where(
        rng.random(400) < np.where(old, 0.9, 0.1), CODES.index("BCC"), CODES.index("NV")
    )
    return design, np.eye(8)[labels]


def test_joined_images_count_as_often_as_they_came(benchmark, images):
    design, truth = images
    rows, offsets, counts = benchmark.counted(design, np.zeros_like(truth), truth)
    assert len(rows) == len(offsets) == 2
    assert np.array_equal(counts.sum(axis=0), truth.sum(axis=0))


@pytest.mark.parametrize("fit", ["additive", "cautious", "network"])
def test_every_method_learns_the_effect_of_age_and_no_noise(benchmark, images, fit):
    design, truth = images
    evidence = getattr(benchmark, fit)(design, np.zeros_like(truth), truth)
    assert not evidence(np.zeros((1, len(FEATURES)))).any()
    old = evidence(PatientFacts(80).design()[None])[0]
    assert old[CODES.index("BCC")] > old[CODES.index("NV")]


def test_damping_keeps_right_evidence_and_drops_wrong(benchmark, images):
    _, truth = images
    flat = np.full((400, 8), 1 / 8)
    assert benchmark.damping(truth, flat, truth) > 0.99
    assert benchmark.damping(-truth, flat, truth) < 0.01
