import numpy as np
import pytest
from sklearn.metrics import log_loss

from cadlib.calibration import conformal_quantiles, fit_temperature, probabilities


@pytest.fixture
def drawn():
    """Logits whose softmax is the truth, and labels drawn from it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 8))
    shares = probabilities(logits, 1.0)
    labels = np.array([rng.choice(8, p=row) for row in shares])
    return logits, labels


def test_probabilities_sum_to_one_even_for_huge_logits():
    rows = probabilities(np.array([[1e4] + [0.0] * 7, [-1e4] * 8]), 1.0)
    assert np.allclose(rows.sum(axis=1), 1)
    assert np.isfinite(rows).all()


def test_temperature_finds_back_how_overconfident_the_logits_are(drawn):
    logits, labels = drawn
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.03)


def test_no_other_temperature_has_a_lower_log_loss(drawn):
    logits, labels = drawn
    best = fit_temperature(logits * 3, labels)

    def loss(temperature):
        return log_loss(labels, probabilities(logits * 3, temperature), labels=range(8))

    assert loss(best) < min(loss(best * 1.1), loss(best / 1.1))


def test_refuses_logits_without_labels():
    with pytest.raises(ValueError, match="as many logits as labels"):
        fit_temperature(np.zeros((3, 8)), np.zeros(2, int))


def test_conformal_sets_hold_the_truth_of_each_class_as_often_as_promised(drawn):
    logits, labels = drawn
    shares = probabilities(logits, 1.0)
    fitted, held_out = slice(0, 10_000), slice(10_000, None)
    quantiles = conformal_quantiles(shares[fitted], labels[fitted], 0.9)
    inside = 1 - shares[held_out] <= quantiles
    for index in range(8):
        rows = labels[held_out] == index
        assert inside[rows, index].mean() == pytest.approx(0.9, abs=0.03)


def test_a_class_with_too_few_images_excludes_nothing():
    shares = np.full((5, 8), 1 / 8)
    assert conformal_quantiles(shares, np.zeros(5, int), 0.9).tolist() == [1.0] * 8
