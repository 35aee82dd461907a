import numpy as np
import pytest
from sklearn.metrics import log_loss

from cadlib.model.calibration import (
    NO_BIAS,
    BiasTrial,
    Temperature,
    conformal_quantiles,
    fit,
    fit_temperature,
    fit_with_bias,
    probabilities,
    try_bias,
)

LEAN = np.array([0.8, -0.6, 0.1, -0.9, 0.4, -0.2, 0.9, -0.5])


@pytest.fixture
def sample():
    """Logits whose softmax is the truth, and labels drawn from it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 8))
    shares = probabilities(logits, 1.0, NO_BIAS)
    labels = np.array([rng.choice(8, p=row) for row in shares])
    return logits, labels


def test_probabilities_sum_to_one_even_for_huge_logits():
    rows = probabilities(np.array([[1e4] + [0.0] * 7, [-1e4] * 8]), 1.0, NO_BIAS)
    assert np.allclose(rows.sum(axis=1), 1)
    assert np.isfinite(rows).all()


def test_the_fitted_temperature_equals_the_overconfidence(sample):
    logits, labels = sample
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.03)


def test_no_other_temperature_has_a_lower_log_loss(sample):
    logits, labels = sample
    best = fit_temperature(logits * 3, labels)

    def loss(temperature):
        return log_loss(labels, probabilities(logits * 3, temperature, NO_BIAS), labels=range(8))

    assert loss(best) < min(loss(best * 1.1), loss(best / 1.1))


def test_refuses_logits_without_labels():
    with pytest.raises(ValueError, match="as many logits as labels"):
        fit_temperature(np.zeros((3, 8)), np.zeros(2, int))


def test_prediction_sets_have_the_stated_coverage_of_each_class(sample):
    logits, labels = sample
    shares = probabilities(logits, 1.0, NO_BIAS)
    fitted = slice(0, 10_000)
    held_out = slice(10_000, None)
    quantiles = conformal_quantiles(shares[fitted], labels[fitted], 0.9)
    inside = 1 - shares[held_out] <= quantiles
    for index in range(8):
        rows = labels[held_out] == index
        assert inside[rows, index].mean() == pytest.approx(0.9, abs=0.03)


def test_a_class_with_too_few_images_excludes_nothing():
    shares = np.full((5, 8), 1 / 8)
    assert conformal_quantiles(shares, np.zeros(5, int), 0.9).tolist() == [1.0] * 8


def test_temperature_and_bias_are_recovered_together(sample):
    logits, labels = sample
    temperature, bias = fit_with_bias(3 * (logits - LEAN), labels)
    assert temperature == pytest.approx(3, rel=0.03)
    assert bias == pytest.approx(LEAN, abs=0.1)


def test_the_bias_of_a_rare_class_stays_bounded(sample):
    logits, labels = sample
    is_other = labels != 5
    _, bias = fit_with_bias(logits[is_other][:50], labels[is_other][:50])
    assert -3 < bias[5] < 0


def test_a_bias_that_improves_probabilities_and_diagnoses_is_kept(sample):
    logits, labels = sample
    leaning = (logits - 3 * LEAN)[:2000]
    lesions = np.arange(2000) // 2
    assert try_bias(leaning, labels[:2000], lesions).pays
    alone, bias = fit_with_bias(leaning, labels[:2000])
    assert fit(leaning, labels[:2000], lesions, np.full(2000, 300)) == (
        Temperature(alone, alone),
        bias,
    )


def test_a_bias_without_an_improvement_is_not_kept(sample):
    logits, labels = sample
    trial = try_bias(logits[:2000], labels[:2000], np.arange(2000))
    assert trial.gain < trial.gain_se
    alone = fit_temperature(logits[:2000], labels[:2000])
    sides = np.where(np.arange(2000) % 2, 84, 300)
    assert fit(logits[:2000], labels[:2000], np.arange(2000), sides) == (
        Temperature(alone, alone),
        NO_BIAS,
    )


def test_a_bias_that_only_undoes_the_correction_for_rare_classes_does_not_pay():
    """Frequent and rare classes overlap: the likelihood favours the frequent class, balanced accuracy does not."""
    rng = np.random.default_rng(3)
    labels = rng.choice(8, 3000, p=[0.5, *[0.5 / 7] * 7])
    logits = (
        rng.normal(0, 1, (3000, 8)) + 1.5 * np.eye(8)[labels]
    )  # as if all were equally frequent
    trial = try_bias(logits, labels, np.arange(3000))
    assert trial.gain > 3 * trial.gain_se
    assert trial.balanced_accuracy < trial.balanced_accuracy_without
    assert not trial.pays


@pytest.mark.parametrize(
    ("trial", "pays"),
    [
        (BiasTrial(0.02, 0.01, 0.7, 0.7), True),
        (BiasTrial(0.01, 0.01, 0.7, 0.6), False),
        (BiasTrial(0.02, 0.01, 0.6, 0.7), False),
        (BiasTrial(-0.02, 0.01, 0.7, 0.6), False),
    ],
)
def test_a_bias_pays_when_the_likelihood_gains_beyond_chance_and_balance_loses_nothing(trial, pays):
    assert trial.pays is pays


def test_copies_of_the_images_do_not_narrow_the_interval_of_a_gain(sample):
    logits, labels = sample
    single = try_bias(logits[:500], labels[:500], np.arange(500))
    repeated = try_bias(
        np.repeat(logits[:500], 4, axis=0), np.repeat(labels[:500], 4), np.repeat(np.arange(500), 4)
    )
    assert repeated.gain_se == pytest.approx(single.gain_se, rel=0.35)


def test_a_bias_is_not_tried_on_a_handful_of_lesions(sample):
    logits, labels = sample
    with pytest.raises(ValueError, match="at least 5 lesions .* but got 4"):
        try_bias(logits[:8], labels[:8], np.arange(8) // 2)
    assert fit(logits[:8], labels[:8], np.arange(8) // 2, np.full(8, 300))[1] == NO_BIAS


def test_overconfident_thumbnails_get_their_own_temperature(sample):
    logits = sample[0][:4000]
    labels = sample[1][:4000]
    sides = np.where(np.arange(4000) % 2, 84, 300)
    unequal = logits * np.where(sides < 150, 3, 1)[:, None]
    temperature, bias = fit(unequal, labels, np.arange(4000), sides)
    assert (temperature.small, temperature.large) == pytest.approx((3, 1), rel=0.1)
    assert bias == NO_BIAS
    mended = probabilities(unequal, temperature.of(sides), NO_BIAS)
    assert np.abs(mended - probabilities(logits, 1.0, NO_BIAS)).max() < 0.1


def test_a_few_thumbnails_get_no_temperature_of_their_own(sample):
    logits = sample[0][:2000]
    labels = sample[1][:2000]
    sides = np.where(np.arange(2000) < 99, 84, 300)
    temperature, _ = fit(
        logits * np.where(sides < 150, 3, 1)[:, None], labels, np.arange(2000), sides
    )
    assert temperature.small == temperature.large


def test_the_temperature_is_that_of_the_size():
    temperature = Temperature(2.0, 0.5)
    assert temperature.of([149, 150, np.nan]).tolist() == [[2.0], [0.5], [0.5]]
    assert temperature.of(84).tolist() == [2.0]


@pytest.mark.parametrize("bad", [0, -1, 100, float("nan")])
def test_refuses_an_invalid_temperature(bad):
    with pytest.raises(ValueError, match="temperature"):
        Temperature(1.0, bad)
