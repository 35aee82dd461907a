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
from cadlib.metrics.operating_point import OperatingPoint, PointIntervals, decide
from cadlib.model.metadata import (
    MetadataEvidence,
    MetadataTrial,
    PatientFacts,
    add_evidence,
    run_trial,
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
from cadlib.model.metadata.trial import METRICS, Difference, compare, helps, parts_of
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


def test_evidence_that_helps_in_every_archive_is_kept_and_read_back_from_json(age_sample):
    table, probabilities, labels, _, lesions = age_sample
    trial = run_trial(table, probabilities, labels, lesions, short_side_px=150)
    assert trial.evidence is not None
    assert {point.name for point in trial.operating_points} == {"rule-out", "balanced", "rule-in"}
    assert msgspec.json.decode(msgspec.json.encode(trial), type=MetadataTrial) == trial


def test_facts_without_an_effect_are_not_kept_but_their_metrics_are(age_sample):
    table, probabilities, labels, _, lesions = age_sample
    shuffled = table.assign(
        age_approx=table["age_approx"].sample(frac=1, random_state=0).to_numpy()
    )
    trial = run_trial(shuffled, probabilities, labels, lesions, short_side_px=150)
    assert trial.evidence is None
    assert trial.operating_points == ()
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
def test_metadata_is_kept_only_where_it_helps_in_every_archive_and_harms_nowhere(
    differences, expected
):
    assert helps(differences) is expected


def test_a_file_that_keeps_evidence_against_its_own_metrics_is_refused(age_sample):
    table, probabilities, labels, _, lesions = age_sample
    trial = run_trial(table, probabilities, labels, lesions, short_side_px=150)
    without_effect = MetadataTrial({"archive A": NOTHING}, None, ())
    raw = msgspec.to_builtins(trial)
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
