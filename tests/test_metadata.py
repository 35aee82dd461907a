from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec import structs
from sklearn.linear_model import LogisticRegression

from cadlib.errors import FactsRejected, ModelInvalid
from cadlib.files.typed_json import convert
from cadlib.images.patient import AGE_KNOTS_YEARS, FEATURES, SEXES, SITES, design_of
from cadlib.metrics.classification import malignant_probability
from cadlib.metrics.operating_point import OperatingPoint, PointIntervals, choose_thresholds, decide
from cadlib.model.metadata import (
    MetadataEvidence,
    MetadataTrial,
    PatientFacts,
    add_evidence,
    run_trial,
)
from cadlib.model.metadata.acceptance import accepted_by_earlier_rule, judge
from cadlib.model.metadata.changes import (
    METRICS,
    Difference,
    SensitivityDifference,
    compare,
    compare_age_bands,
    parts_of,
)
from cadlib.model.metadata.fitting import (
    FOLDS,
    KEPT,
    archive_shifts,
    dropped,
    fit_additive,
    fit_evidence,
    folds,
    loss_and_slope,
    out_of_fold,
)
from cadlib.taxonomy import CODES, MALIGNANT

POINT = OperatingPoint("balanced", 0.4, 0.95, 0.8, 9, 9, "validation", PointIntervals(None, None))
EVIDENCE = MetadataEvidence.from_weights(
    np.random.default_rng(1).normal(0, 1, (len(FEATURES), len(CODES)))
)
FACTS = st.builds(
    PatientFacts,
    st.none() | st.floats(0, 120),
    st.none() | st.sampled_from(SEXES),
    st.none() | st.sampled_from(SITES),
)
PROBABILITIES = arrays(np.float64, 8, elements=st.floats(0.001, 1)).map(lambda row: row / row.sum())


# facts


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"age_years": -1}, "0 to 120 years, but got -1"),
        ({"age_years": 121}, "0 to 120 years, but got 121"),
        ({"age_years": float("nan")}, "got nan"),
        ({"age_years": "40"}, "got '40'"),
        ({"age_years": True}, "got True"),
        ({"sex": "F"}, "female, male, but got 'F'"),
        ({"site": "nose"}, "head/neck.*, but got 'nose'"),
        ({"site": ""}, "but got ''"),
    ],
)
def test_refuses_an_invalid_fact(facts, message):
    with pytest.raises(FactsRejected, match=message):
        PatientFacts(**facts)


@pytest.mark.parametrize("age_years", [0, 120, 55.5])
def test_takes_the_ages_of_a_life(age_years):
    assert PatientFacts(age_years).known


def test_nothing_known_is_a_row_of_zeros():
    assert not PatientFacts().known
    assert not PatientFacts().design().any()


def test_a_known_fact_has_a_weight_of_one_in_all():
    row = PatientFacts(50, "male", "palms/soles").design()
    assert row.sum() == pytest.approx(3)
    assert row[FEATURES.index("male")] == row[FEATURES.index("palms/soles")] == 1
    assert row[FEATURES.index("age 45")] == pytest.approx(2 / 3)
    assert row[FEATURES.index("age 60")] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("age_years", "knot"), [(0, AGE_KNOTS_YEARS[0]), (120, AGE_KNOTS_YEARS[-1])]
)
def test_an_age_beyond_the_knots_counts_for_the_nearest(age_years, knot):
    assert PatientFacts(age_years).design()[FEATURES.index(f"age {knot}")] == 1


def test_a_table_gives_the_same_rows_as_its_facts_one_by_one():
    table = table_of([50.0, None, 20.0], ["male", None, "female"], [None, "head/neck", "elsewhere"])
    rows = [PatientFacts(50, "male"), PatientFacts(site="head/neck"), PatientFacts(20, "female")]
    assert np.array_equal(design_of(table), [facts.design() for facts in rows])


def table_of(ages, sexes, sites, archives=None):
    return pd.DataFrame(
        {
            "age_approx": pd.array(ages, dtype="Float64"),
            "sex": pd.array(sexes, dtype="str"),
            "anatom_site_general": pd.array(sites, dtype="str"),
            "archive": pd.array(archives or [None] * len(ages), dtype="str"),
            "width_px": pd.array([100] * len(ages), dtype="Int64"),
            "height_px": pd.array([200] * len(ages), dtype="Int64"),
        }
    )


# evidence


def test_missing_facts_add_exactly_zero():
    logits = EVIDENCE.logits(PatientFacts())
    assert logits.shape == (8,)
    assert logits.dtype == np.float64
    assert not logits.any()


@given(FACTS)
def test_the_evidence_is_the_sum_over_the_facts(facts):
    alone = [
        PatientFacts(facts.age_years),
        PatientFacts(sex=facts.sex),
        PatientFacts(site=facts.site),
    ]
    assert np.allclose(EVIDENCE.logits(facts), sum(EVIDENCE.logits(fact) for fact in alone))


@given(PROBABILITIES)
def test_probabilities_without_evidence_stay_bit_for_bit(probabilities):
    assert np.array_equal(add_evidence(probabilities, np.zeros(8)), probabilities)


@given(PROBABILITIES, FACTS)
def test_probabilities_with_evidence_are_the_softmax_of_the_summed_logits(probabilities, facts):
    summed = np.exp(np.log(probabilities) + EVIDENCE.logits(facts))
    assert np.allclose(add_evidence(probabilities, EVIDENCE.logits(facts)), summed / summed.sum())


@given(PROBABILITIES, st.floats(0, 5), FACTS)
def test_more_evidence_of_malignancy_never_lowers_the_action(probabilities, more, facts):
    evidence = EVIDENCE.logits(facts)
    less = malignant_probability(add_evidence(probabilities, evidence))
    then = malignant_probability(
        add_evidence(probabilities, (evidence + more * np.array(MALIGNANT)))
    )
    assert then >= less - 1e-12
    if decide(less - 1e-12 if less > 1e-12 else 0.0, POINT).action == "refer":
        assert decide(float(then), POINT).action == "refer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("female"), "Expected evidence for"),
        (lambda raw: raw.update(nose=[0.0] * 8), "Expected evidence for"),
        (lambda raw: raw.update(female=[0.0] * 7), "8 logits for female"),
        (lambda raw: raw.update(female=[float("nan")] * 8), "8 logits for female"),
        (lambda raw: raw.update(female=[50.0] * 8), "8 logits for female"),
        (lambda raw: raw.update(female=["1"] * 8), "8 logits for female"),
    ],
)
def test_refuses_a_table_of_evidence_that_is_wrong(change, message):
    table = dict(EVIDENCE.table)
    change(table)
    with pytest.raises(ValueError, match=message):
        MetadataEvidence(table)


# fitting


@pytest.fixture(scope="module")
def age_sample():
    """Return facts, flat probabilities, labels, archives and lesions: age separates nevus and melanoma."""
    rng = np.random.default_rng(0)
    ages = rng.choice([20.0, 80.0], 600)
    archives = np.where(rng.random(600) < 0.5, "A", "B")
    labels = np.where(
        rng.random(600) < np.where(ages > 50, 0.8, 0.2), CODES.index("MEL"), CODES.index("NV")
    )
    table = table_of(list(ages), [None] * 600, [None] * 600, list(archives))
    even = np.isin(CODES, ["MEL", "NV"])
    probabilities = np.tile(np.where(even, 0.497, 0.001), (600, 1))
    return table, probabilities, labels, archives, np.arange(600) // 2


def test_learns_the_effect_of_age(age_sample):
    table, probabilities, labels, archives, _ = age_sample
    evidence = MetadataEvidence.from_weights(
        fit_evidence(design_of(table), probabilities, labels, archives)
    )
    young = evidence.logits(PatientFacts(20))
    old = evidence.logits(PatientFacts(80))
    melanoma = CODES.index("MEL")
    nevus = CODES.index("NV")
    assert young[nevus] > young[melanoma]
    assert old[melanoma] > old[nevus]


def test_a_fact_confounded_with_the_archive_adds_nothing():
    archives = np.repeat(["A", "B"], 300)
    labels = np.repeat([CODES.index("NV"), CODES.index("MEL")], 300)
    labels[::10] = CODES.index("BCC")
    sites = ["head/neck" if archive == "A" else "palms/soles" for archive in archives]
    design = design_of(table_of([None] * 600, [None] * 600, sites))
    flat = np.full((600, 8), 1 / 8)
    within = fit_evidence(design, flat, labels, archives)
    pooled = fit_evidence(design, flat, labels, np.full(600, "one"))
    assert np.abs(within).max() < 0.1
    assert np.abs(pooled).max() > 1


def test_the_shift_of_an_archive_makes_its_mean_answer_right():
    labels = np.repeat([0, 1], [900, 300])
    truth = np.eye(8)[labels]
    shifts = archive_shifts(np.zeros((1200, 8)), truth, np.full(1200, "A"))
    shares = np.exp(shifts[0]) / np.exp(shifts[0]).sum()
    assert shares[:2] == pytest.approx([0.75, 0.25], abs=0.02)


def test_the_loss_has_the_slope_of_its_differences():
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(5, 8))
    counts = rng.integers(0, 4, (5, 8)).astype(float)
    loss, slope = loss_and_slope(logits, counts)
    step = np.zeros((5, 8))
    step[3, 4] = 1e-6
    assert (loss_and_slope(logits + step, counts)[0] - loss) / 1e-6 == pytest.approx(
        slope[3, 4], abs=1e-4
    )


def test_a_class_that_cannot_be_costs_nothing_where_it_never_came():
    loss, slope = loss_and_slope(np.array([[0.0, 0, -np.inf]]), np.array([[1.0, 1, 0]]))
    assert loss == pytest.approx(2 * np.log(2))
    assert slope[0, 2] == 0


def test_the_fit_is_the_regression_of_scikit_learn_on_the_rows_of_all_drops(age_sample):
    table, _, labels, _, _ = age_sample
    design = design_of(table)
    truth = np.eye(8)[labels]
    weights = fit_additive(
        design, np.where(truth.any(axis=0), 0.0, -np.inf)[None].repeat(600, 0), truth, prior_sd=1.0
    )
    rows = np.concatenate([design * columns for columns, _ in dropped()])
    shares = np.repeat([share for _, share in dropped()], 600)
    reference = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-8).fit(
        rows, np.tile(labels, 7), shares
    )
    two = weights[:, CODES.index("NV")] - weights[:, CODES.index("MEL")]
    assert np.allclose(two, reference.coef_[0], atol=1e-3)


def test_the_ways_to_drop_factors_have_probabilities_that_leave_room_for_none():
    assert sum(share for _, share in dropped()) == pytest.approx(1 - (1 - KEPT) ** 3)


def test_a_lesion_is_in_one_fold():
    lesions = np.random.default_rng(0).integers(0, 100, 500)
    fold = folds(lesions, seed=3)
    assert all(len(set(fold[lesions == lesion])) == 1 for lesion in lesions)
    assert set(fold) == set(range(FOLDS))


def test_the_evidence_of_an_image_is_fitted_without_its_lesion(age_sample):
    table, probabilities, labels, archives, lesions = age_sample
    relabelled = labels.copy()
    relabelled[lesions == 7] = CODES.index("VASC")
    evidence = out_of_fold(design_of(table), probabilities, labels, archives, lesions)
    evidence_relabelled = out_of_fold(
        design_of(table), probabilities, relabelled, archives, lesions
    )
    assert np.array_equal(evidence[lesions == 7], evidence_relabelled[lesions == 7])
    assert not np.array_equal(evidence, evidence_relabelled)


# trial


def sampled(log_odds_of_male: dict[str, float], male_share: float = 0.5):
    """Return table, probabilities, labels and lesions of 600 images in each archive.

    The image has noise, and the sex adds log odds of a melanoma that the image does not show.
    """
    rng = np.random.default_rng(4)
    archives = np.repeat(list(log_odds_of_male), 600)
    n = len(archives)
    is_male = rng.random(n) < male_share
    by_sex = np.where(is_male, 1.0, -1.0) * [log_odds_of_male[name] for name in archives]
    by_image = rng.normal(0, 1.5, n)
    chance = 1 / (1 + np.exp(-by_image - by_sex))
    labels = np.where(rng.random(n) < chance, CODES.index("MEL"), CODES.index("NV"))
    melanoma = 1 / (1 + np.exp(-by_image))
    probabilities = np.full((n, 8), 1e-6)
    probabilities[:, CODES.index("MEL")] = melanoma
    probabilities[:, CODES.index("NV")] = 1 - melanoma
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    ages = rng.choice([20.0, 50.0, 80.0], n)
    sexes = np.where(is_male, "male", "female")
    table = table_of(list(ages), list(sexes), [None] * n, list(archives))
    return table, probabilities, labels, np.arange(n) // 2


@pytest.fixture(scope="module")
def sex_sample():
    return sampled({"A": 1.5, "B": 1.5})


@pytest.fixture(scope="module")
def accepted_trial(sex_sample):
    return run_trial(*sex_sample, short_side_px=150)


def test_accepted_evidence_is_kept_and_read_back_from_json(accepted_trial):
    trial = accepted_trial
    assert trial.evidence is not None
    assert trial.result.startswith(
        "Accepted. Over all images, the balanced accuracy is significantly better: +0.147 ("
    )
    assert set(trial.age_bands) == {"0 to 29", "45 to 59", "75 to 120"}
    assert {point.name for point in trial.operating_points} == {"rule-out", "balanced", "rule-in"}
    assert msgspec.json.decode(msgspec.json.encode(trial), type=MetadataTrial) == trial


def test_the_thresholds_with_facts_are_chosen_on_probabilities_with_facts(
    accepted_trial, sex_sample
):
    table, probabilities, labels, lesions = sex_sample
    archives = table["archive"].to_numpy(str)
    evidence = out_of_fold(design_of(table), probabilities, labels, archives, lesions)
    malignant = malignant_probability(add_evidence(probabilities, evidence))
    is_malignant = labels == CODES.index("MEL")
    thresholds = {point.name: point.threshold for point in accepted_trial.operating_points}
    for expected in choose_thresholds(malignant, is_malignant):
        assert thresholds[expected.name] == pytest.approx(expected.threshold)
    image_alone = choose_thresholds(malignant_probability(probabilities), is_malignant)
    assert thresholds["balanced"] != pytest.approx(image_alone[1].threshold, abs=1e-3)


def test_a_gain_over_all_images_does_not_outweigh_one_archive_that_is_worse():
    trial = run_trial(*sampled({"A": 1.5, "B": 1.5, "C": -1.0}), short_side_px=150)
    assert trial.differences["all"]["balanced_accuracy"].low > 0
    assert trial.evidence is None
    assert "Rejected. Over all images, the balanced accuracy is significantly better" in (
        trial.result
    )
    change = trial.differences["archive C"]["balanced_accuracy"]
    assert change.high < 0
    assert (
        f"In the archive C, the balanced accuracy is significantly worse: {change.text}."
        in trial.result
    )
    assert "In the archive A" not in trial.result


def test_an_age_band_that_is_worse_rejects_the_facts(age_sample):
    table, probabilities, labels, _, lesions = age_sample
    trial = run_trial(table, probabilities, labels, lesions, short_side_px=150)
    assert trial.differences["all"]["balanced_accuracy"].low > 0
    assert trial.age_bands["0 to 29"].high < 0
    assert trial.evidence is None
    assert trial.operating_points == ()
    assert "At the age of 0 to 29 years, the sensitivity" in trial.result


def test_the_sensitivity_of_an_age_band_by_hand():
    # 40 melanomas, so that the default operating point may miss 2; half of them at 20 years.
    melanoma = np.linspace(0.5, 0.9, 40)
    ages = [20.0, 80.0] * 20
    table = table_of([*ages, None], [None] * 41, [None] * 41)
    labels = np.array([CODES.index("MEL")] * 40 + [CODES.index("NV")])

    def of_two(scores):
        probabilities = np.zeros((41, 8))
        probabilities[:, CODES.index("MEL")] = [*scores, 0.1]
        probabilities[:, CODES.index("NV")] = 1 - probabilities[:, CODES.index("MEL")]
        return probabilities

    # Without facts, the lowest two are the first of each age; with them, both at 20 years.
    with_facts = melanoma.copy()
    with_facts[2] = 0.4
    changes = compare_age_bands(table, labels, of_two(melanoma), of_two(with_facts), np.arange(41))
    assert set(changes) == {"0 to 29", "75 to 120"}
    young = changes["0 to 29"]
    old = changes["75 to 120"]
    assert (young.before, young.after, young.n_malignant) == (0.95, 0.9, 20)
    assert (old.before, old.after, old.n_malignant) == (0.95, 1.0, 20)
    assert young.low < 0 == young.high


def test_a_band_without_a_malignant_image_has_no_sensitivity():
    table = table_of([20.0, 80.0], [None] * 2, [None] * 2)
    probabilities = np.full((2, 8), 1 / 8)
    labels = np.array([CODES.index("NV"), CODES.index("MEL")])
    changes = compare_age_bands(table, labels, probabilities, probabilities, np.arange(2))
    assert changes["0 to 29"] == SensitivityDifference(None, None, None, None, n_malignant=0)
    assert judge({"all": BA_BETTER, "archive A": NOTHING}, changes).accepted


def test_facts_without_an_effect_are_not_kept_but_their_metrics_are(age_sample):
    table, probabilities, labels, _, lesions = age_sample
    shuffled = table.assign(
        age_approx=table["age_approx"].sample(frac=1, random_state=0).to_numpy()
    )
    trial = run_trial(shuffled, probabilities, labels, lesions, short_side_px=150)
    assert trial.evidence is None
    assert trial.operating_points == ()
    assert trial.result.startswith(
        "Rejected. Over all images, the balanced accuracy is not significantly better: "
    )
    assert set(trial.differences) == {"all", "archive A", "archive B", "short side < 150 px"}
    assert msgspec.json.decode(msgspec.json.encode(trial), type=MetadataTrial) == trial


def test_a_table_without_facts_has_no_trial(age_sample):
    _, probabilities, labels, _, lesions = age_sample
    assert (
        run_trial(
            table_of([None] * 600, [None] * 600, [None] * 600),
            probabilities,
            labels,
            lesions,
            short_side_px=150,
        )
        is None
    )


NOTHING = {name: Difference(0.5, 0.5, -0.1, 0.1) for name in METRICS}
AUC_BETTER = {**NOTHING, "malignant_auc": Difference(0.5, 0.6, 0.01, 0.1)}
NLL_BETTER = {**NOTHING, "nll": Difference(0.5, 0.4, -0.2, -0.01)}
BA_BETTER = {**NOTHING, "balanced_accuracy": Difference(0.5, 0.55, 0.01, 0.09)}
NLL_WORSE = {**NOTHING, "nll": Difference(0.5, 0.6, 0.02, 0.2)}
SPECIFICITY_WORSE = {**NOTHING, "specificity": Difference(0.5, 0.4, -0.2, -0.01)}
SAME_AGE = {"0 to 29": SensitivityDifference(0.9, 0.85, -0.12, 0.0, n_malignant=40)}
WORSE_AGE = {"30 to 44": SensitivityDifference(0.9, 0.84, -0.1, -0.02, n_malignant=40)}
GAIN_TEXT = (
    "Over all images, the balanced accuracy is significantly better: "
    "+0.050 (95 % CI +0.010 to +0.090)."
)


@pytest.mark.parametrize(
    ("differences", "age_bands", "expected"),
    [
        (
            {"all": BA_BETTER, "archive A": NOTHING},
            SAME_AGE,
            (
                f"Accepted. {GAIN_TEXT} No archive is significantly worse in any metric, "
                "and no age band in sensitivity."
            ),
        ),
        (
            {"all": NOTHING, "archive A": BA_BETTER},
            SAME_AGE,
            (
                "Rejected. Over all images, the balanced accuracy is not significantly better: "
                "+0.000 (95 % CI -0.100 to +0.100). No archive is significantly worse in any metric, "
                "and no age band in sensitivity."
            ),
        ),
        (
            {"all": BA_BETTER, "archive A": BA_BETTER, "archive B": NLL_WORSE},
            SAME_AGE,
            (
                f"Rejected. {GAIN_TEXT} In the archive B, the negative log-likelihood is "
                "significantly worse: +0.100 (95 % CI +0.020 to +0.200)."
            ),
        ),
        (
            {"all": BA_BETTER, "archive B": SPECIFICITY_WORSE},
            SAME_AGE,
            (
                f"Rejected. {GAIN_TEXT} In the archive B, the specificity at 0.95 sensitivity is "
                "significantly worse: -0.100 (95 % CI -0.200 to -0.010)."
            ),
        ),
        (
            {"all": BA_BETTER, "archive A": NOTHING},
            {**SAME_AGE, **WORSE_AGE},
            (
                f"Rejected. {GAIN_TEXT} At the age of 30 to 44 years, the sensitivity of the default "
                "operating point is significantly worse: -0.060 (95 % CI -0.100 to -0.020)."
            ),
        ),
        (
            {"archive A": BA_BETTER},
            {},
            (
                "Rejected. Over all images, the balanced accuracy is not significantly better: "
                "not defined. No archive is significantly worse in any metric, "
                "and no age band in sensitivity."
            ),
        ),
    ],
)
def test_the_rule_states_its_verdict_with_the_numbers(differences, age_bands, expected):
    verdict = judge(differences, age_bands)
    assert verdict.text == expected
    assert verdict.accepted is expected.startswith("Accepted")


def test_a_size_alone_cannot_reject_the_facts():
    differences = {"all": BA_BETTER, "archive A": NOTHING, "short side < 150 px": NLL_WORSE}
    assert judge(differences, SAME_AGE).accepted


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ({"archive A": AUC_BETTER, "archive B": NLL_BETTER}, True),
        ({"archive A": AUC_BETTER, "archive B": NOTHING}, False),
        ({"all": AUC_BETTER}, False),
        ({"archive A": {**AUC_BETTER, "nll": Difference(0.5, 0.6, 0.01, 0.2)}}, False),
        (
            {"archive A": AUC_BETTER, "small": {**NOTHING, "ece": Difference(0.1, 0.2, 0.01, 0.2)}},
            False,
        ),
        ({"archive A": {**NOTHING, "balanced_accuracy": Difference(0.5, 0.6, 0.01, 0.1)}}, False),
        ({"archive A": {**AUC_BETTER, "specificity": Difference(None, None, None, None)}}, True),
    ],
)
def test_the_earlier_rule_keeps_metadata_that_helps_in_every_archive_and_harms_nowhere(
    differences, expected
):
    assert accepted_by_earlier_rule(differences) is expected
    # A record without age bands is of this rule.
    if expected:
        assert MetadataTrial(differences, EVIDENCE.table, ()).evidence == EVIDENCE
        return
    with pytest.raises(ValueError, match="Expected no evidence"):
        MetadataTrial(differences, EVIDENCE.table, ())


def test_the_record_of_an_earlier_version_stays_without_the_new_fields():
    earlier = MetadataTrial({"archive A": NOTHING}, None, ())
    assert set(msgspec.to_builtins(earlier)) == {"differences", "evidence", "operating_points"}


def test_a_file_that_keeps_evidence_against_its_own_metrics_is_refused(accepted_trial):
    trial = accepted_trial
    without_effect = MetadataTrial({"archive A": NOTHING}, None, ())
    raw = msgspec.to_builtins(trial)
    assert convert(raw, MetadataTrial, Path("model.json")) == trial
    raw["differences"] = msgspec.to_builtins(without_effect)["differences"]
    with pytest.raises(ModelInvalid, match="Expected no evidence"):
        convert(raw, MetadataTrial, Path("model.json"))


def test_the_same_probabilities_differ_nowhere(age_sample):
    table, probabilities, labels, _, lesions = age_sample
    comparison = compare(
        labels, probabilities, probabilities, lesions, parts_of(table, 150), draws=50
    )
    for metrics in comparison.values():
        assert {difference.verdict(name) for name, difference in metrics.items()} == {0}
        assert metrics["nll"].low == metrics["nll"].high == 0
        assert metrics["nll"].before == pytest.approx(-np.log(0.497), abs=1e-4)


def test_a_difference_is_judged_by_the_way_its_metric_is_better():
    lower = Difference(0.5, 0.4, -0.2, -0.1)
    assert lower.verdict("malignant_auc") == -1
    assert lower.verdict("nll") == 1
    assert structs.replace(lower, high=0.1).verdict("nll") == 0
