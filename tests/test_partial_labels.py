"""Labels that are only malignant or benign: read from a table, and their metrics."""

import json
import re

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec import UNSET, structs
from sklearn.calibration import calibration_curve
from sklearn.metrics import average_precision_score, roc_auc_score

from cadlib.data.consistency import Mismatches
from cadlib.data.dataset import join_dataset
from cadlib.data.malignancy import complete_labels
from cadlib.evaluation.evaluate import build_metrics
from cadlib.metrics import classification
from cadlib.metrics.image_counts import Counts
from cadlib.metrics.model_comparison import OF_DIAGNOSES, Answers, compare
from cadlib.metrics.operating_point import Threshold
from cadlib.metrics.partial_labels import (
    NO_DIAGNOSIS,
    PartialLabels,
    has_label,
    malignant_of,
    malignant_words,
)
from cadlib.metrics.subgroup_gaps import gaps
from cadlib.metrics.summary import (
    BEFORE_CALIBRATION,
    METRICS,
    Metric,
    intervals,
    measured_point,
    summarise,
)
from cadlib.metrics.summary_schema import EvaluationMetrics, FullSummary
from cadlib.metrics.tables import metrics_table
from cadlib.model.metrics_file import metrics_json
from cadlib.model.record import ConformalSets, Quantiles
from cadlib.taxonomy import CLASSES, CODES, MALIGNANT
from tests.partial_labels import leaning, partly
from tests.test_dataset import write_image
from tests.test_evaluation import table_of

N = 300
POINTS = (Threshold("balanced", 0.4), Threshold("rule-out", 0.2))
MALIGNANT_METRICS = tuple(metric.name for metric in METRICS if metric.malignant)
DIAGNOSIS_METRICS = tuple(
    metric.name for metric in (*METRICS, *BEFORE_CALIBRATION) if not metric.malignant
)


@pytest.fixture(scope="module")
def labels():
    return np.concatenate([np.arange(8), np.random.default_rng(0).integers(0, 8, N - 8)])


@pytest.fixture(scope="module")
def diagnosed():
    return np.random.default_rng(1).random(N) < 0.5


@pytest.fixture(scope="module")
def lesions():
    return np.arange(N) // 2


@pytest.fixture(scope="module")
def full(labels, lesions):
    return summarise(labels, leaning(labels), lesions, leaning(labels, seed=1), draws=200)


@pytest.fixture(scope="module")
def part(labels, diagnosed, lesions):
    return summarise(
        partly(labels, diagnosed), leaning(labels), lesions, leaning(labels, seed=1), draws=200
    )


@pytest.fixture(scope="module")
def binary(labels, lesions):
    return summarise(
        partly(labels, np.zeros(N, bool)),
        leaning(labels),
        lesions,
        leaning(labels, seed=1),
        draws=200,
    )


# Labels from a table


def labelled(*rows: tuple[str | None, bool | None]) -> pd.DataFrame:
    diagnoses, malignant = zip(*rows, strict=True)
    return pd.DataFrame(
        {
            "image": [f"I{number}" for number in range(len(rows))],
            "diagnosis": pd.array(diagnoses, dtype="str"),
            "malignant": pd.array(malignant, dtype="boolean"),
        }
    )


def test_a_diagnosis_implies_malignant_or_benign():
    table = labelled(*((code, None) for code in CODES))
    assert malignant_of(table).tolist() == list(MALIGNANT)
    assert malignant_of(table).dtype == "boolean"


def test_without_a_diagnosis_the_column_decides():
    table = labelled((None, True), (None, False), (None, None))
    assert malignant_of(table).tolist() == [True, False, pd.NA]
    assert has_label(table).tolist() == [True, True, False]
    assert malignant_words(table).fillna("missing").tolist() == ["malignant", "benign", "missing"]


def test_unk_is_neither_malignant_nor_benign():
    table = labelled(("UNK", True), ("UNK", None))
    assert malignant_of(table).isna().all()
    assert not has_label(table).any()


def test_a_table_without_the_column_has_the_labels_of_its_diagnoses():
    table = labelled(("MEL", None), (None, None)).drop(columns="malignant")
    assert has_label(table).tolist() == [True, False]


def test_a_contradicting_diagnosis_decides_and_is_reported():
    mismatches = Mismatches()
    table = labelled(("NV", True), ("MEL", True), (None, True), ("UNK", True)).set_index("image")
    complete = complete_labels(table, mismatches)
    assert complete["malignant"].tolist() == [False, True, True, pd.NA]
    (mismatch,) = mismatches.freeze()
    assert mismatch.kind == "diagnoses that contradict malignant or benign"
    assert mismatch.examples == ("I0 NV but malignant",)


def test_labels_of_a_table_hold_codes_and_groups():
    labels = PartialLabels.of_table(labelled(("SCC", None), (None, False), (None, True)))
    assert labels.codes.tolist() == [CODES.index("SCC"), NO_DIAGNOSIS, NO_DIAGNOSIS]
    assert labels.malignant.tolist() == [True, False, True]
    assert labels.diagnosed.tolist() == [True, False, False]
    assert labels[1:].malignant.tolist() == [False, True]


def test_labels_of_a_table_need_a_label_for_each_row():
    with pytest.raises(ValueError, match="Expected a label for each image but I1 has none"):
        PartialLabels.of_table(labelled(("MEL", None), (None, None)))


@pytest.mark.parametrize(
    ("codes", "malignant", "message"),
    [
        ([0], [False], "`malignant` to follow from the diagnosis MEL in row 0"),
        ([-2], [False], "`codes` to be from -1 to 7"),
        ([8], [False], "`codes` to be from -1 to 7"),
        ([1, 1], [False], r"`malignant` to be \(2,\) bool"),
        ([1.0], [False], r"`codes` to be \(N,\) int"),
    ],
)
def test_rejects_labels_that_are_none(codes, malignant, message):
    with pytest.raises(ValueError, match=message):
        PartialLabels(np.array(codes), np.array(malignant))


def test_labels_are_read_only(labels):
    with pytest.raises(ValueError, match="read-only"):
        PartialLabels.of(labels).codes[0] = 3


def test_a_data_set_keeps_images_that_are_only_malignant_or_benign(tmp_path):
    for name in "abcd":
        write_image(tmp_path / "images" / f"{name}.jpg")
    truth = tmp_path / "truth.csv"
    truth.write_text("image,diagnosis,benign_malignant\na,,malignant\nb,NV,\nc,,\nd,,benign\n")
    table = join_dataset(tmp_path / "images", truth).table
    assert table["image"].tolist() == ["a", "b", "c", "d"]
    assert table["malignant"].tolist() == [True, False, pd.NA, False]
    assert table["malignant"].dtype == "boolean"
    assert table["diagnosis"].isna().tolist() == [True, False, True, True]


# Metrics


def test_labels_that_all_have_a_diagnosis_give_the_same_as_plain_ones(labels, full, lesions):
    every = partly(labels, np.ones(N, bool))
    assert summarise(every, leaning(labels), lesions, leaning(labels, seed=1), draws=200) == full


def test_the_metrics_of_diagnosed_images_do_not_depend_on_the_new_ones(labels, full, lesions):
    """The definitions before partial labels give the same to the last digit."""
    probabilities = leaning(labels)
    truth = np.array(MALIGNANT)[labels]
    scores = classification.malignant_probability(probabilities)
    former = Metric(
        "auc", lambda _, values, weights=None: classification.auc(values, truth, weights)
    )
    precision = Metric(
        "precision",
        lambda _, values, weights=None: classification.average_precision(values, truth, weights),
    )
    ends = intervals(labels, lesions, [(former, scores), (precision, scores)], 200)
    assert full.malignant_auc == float(classification.auc(scores, truth))
    assert full.intervals.malignant_auc == ends["auc"]
    assert full.malignant_average_precision == float(
        classification.average_precision(scores, truth)
    )
    assert full.intervals.malignant_average_precision == ends["precision"]
    accuracy = Metric("accuracy", classification.accuracy)
    assert (
        full.intervals.accuracy
        == intervals(labels, lesions, [(accuracy, probabilities)], 200)["accuracy"]
    )


def test_malignant_metrics_count_all_images(full, part, binary):
    for metrics in (part, binary):
        assert (metrics.n, metrics.n_malignant, metrics.n_lesions) == (
            N,
            full.n_malignant,
            N // 2,
        )
        for name in MALIGNANT_METRICS:
            assert getattr(metrics, name) == getattr(full, name)
            assert getattr(metrics.intervals, name) == getattr(full.intervals, name)
        assert metrics.roc["malignant"] == full.roc["malignant"]
        assert metrics.malignant_reliability == full.malignant_reliability


def test_metrics_of_diagnoses_are_those_of_the_images_with_one(labels, diagnosed, lesions, part):
    alone = summarise(
        labels[diagnosed],
        leaning(labels)[diagnosed],
        lesions[diagnosed],
        leaning(labels, seed=1)[diagnosed],
        draws=200,
    )
    assert sum(part.n_by_class.values()) == diagnosed.sum()
    for name in DIAGNOSIS_METRICS:
        assert getattr(part, name) == getattr(alone, name)
        assert getattr(part.intervals, name) == getattr(alone.intervals, name)
    for name in ("n_classes", "n_by_class", "confusion_matrix", "reliability"):
        assert getattr(part, name) == getattr(alone, name)
    for code in CODES:
        assert part.roc[code] == alone.roc[code]


def test_metrics_of_diagnoses_are_not_defined_without_one(binary):
    assert msgspec.convert(json.loads(metrics_json(binary)), FullSummary) == binary
    for name in DIAGNOSIS_METRICS:
        value = getattr(binary, name)
        assert set(value.values()) == {None} if isinstance(value, dict) else value is None
    assert np.sum(binary.confusion_matrix) == 0
    assert all(binary.roc[code] is None for code in CODES)
    assert (binary.n_classes, Counts.of(binary).diagnosed) == (0, 0)


def test_malignant_metrics_are_those_of_scikit_learn(labels, binary):
    truth = np.array(MALIGNANT)[labels]
    scores = classification.malignant_probability(leaning(labels))
    assert binary.malignant_auc == pytest.approx(roc_auc_score(truth, scores))
    assert binary.malignant_average_precision == pytest.approx(
        average_precision_score(truth, scores)
    )


def test_the_malignant_reliability_is_that_of_scikit_learn(labels, binary):
    truth = np.array(MALIGNANT)[labels]
    scores = classification.malignant_probability(leaning(labels))
    fraction, mean = calibration_curve(truth, scores, n_bins=15)
    bins = [part for part in binary.malignant_reliability if part.n]
    accuracies = np.array([part.accuracy for part in bins])
    confidences = np.array([part.confidence for part in bins])
    counts = np.array([part.n for part in bins])
    assert accuracies == pytest.approx(fraction)
    assert confidences == pytest.approx(mean)
    error = np.sum(counts * np.abs(accuracies - confidences)) / N
    assert binary.malignant_ece == pytest.approx(error)
    for part in bins:
        assert part.interval is None or part.interval[0] <= part.accuracy


def test_an_operating_point_is_measured_without_a_diagnosis(labels, lesions):
    named = measured_point(POINTS[0], labels, leaning(labels), lesions)
    assert (
        measured_point(POINTS[0], partly(labels, np.zeros(N, bool)), leaning(labels), lesions)
        == named
    )


def test_benign_images_alone_have_a_specificity_and_no_sensitivity(labels):
    benign = ~np.array(MALIGNANT)[labels]
    table = table_of(
        [None] * int(benign.sum()), malignant=pd.array([False] * int(benign.sum()), dtype="boolean")
    )
    metrics = build_metrics(table, leaning(labels)[benign], POINTS)
    referred = classification.malignant_probability(leaning(labels)[benign]) >= POINTS[0].threshold
    point = metrics.operating_points[0]
    assert point.specificity == pytest.approx(1 - referred.mean())
    assert point.intervals.specificity[0] < point.specificity < point.intervals.specificity[1]
    assert (point.sensitivity, metrics.malignant_auc, point.n_malignant) == (None, None, 0)
    assert metrics.malignant_ece > 0


def test_malignant_images_alone_have_a_sensitivity_and_no_specificity():
    table = table_of([None] * 20, malignant=pd.array([True] * 20, dtype="boolean"))
    point = build_metrics(table, leaning(np.zeros(20, int)), POINTS).operating_points[0]
    assert point.sensitivity is not None
    assert point.specificity is None


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(st.integers(0, 2**32 - 1))
def test_any_labels_make_strict_json_and_a_table_without_nan(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(0, 12))
    diagnoses = rng.choice([*CODES, "UNK", *[None] * 9], size).tolist()
    malignant = pd.array([rng.choice([True, False, None]) for _ in range(size)], dtype="boolean")
    sets = ConformalSets(0.9, Quantiles(**dict.fromkeys(CODES, 0.8)))
    probabilities = rng.dirichlet(np.ones(8), size)
    metrics = build_metrics(
        table_of(diagnoses, malignant=malignant), probabilities, POINTS, sets=sets
    )
    assert msgspec.convert(json.loads(metrics_json(metrics)), EvaluationMetrics) == metrics
    assert not re.search(r"\b(nan|None)\b", metrics_table(metrics))
    counts = Counts.of(metrics)
    assert 0 <= counts.diagnosed <= counts.n == size - metrics.unlabelled - metrics.unknown


def test_prediction_sets_are_measured_on_images_with_a_diagnosis(labels, diagnosed):
    table = table_of(
        [
            CODES[code] if has_diagnosis else None
            for code, has_diagnosis in zip(labels, diagnosed, strict=True)
        ],
        malignant=pd.array(np.array(MALIGNANT)[labels], dtype="boolean"),
    )
    sets = ConformalSets(0.9, Quantiles(**dict.fromkeys(CODES, 0.8)))
    mixed = build_metrics(table, leaning(labels), sets=sets)
    alone = build_metrics(table[diagnosed], leaning(labels)[diagnosed], sets=sets)
    assert mixed.prediction_sets == alone.prediction_sets
    assert (mixed.unlabelled, mixed.unknown) == (0, 0)


def test_the_seven_classes_of_isic_2018_take_partial_labels(labels, diagnosed):
    table = table_of(
        [
            CODES[code] if has_diagnosis else None
            for code, has_diagnosis in zip(labels, diagnosed, strict=True)
        ],
        malignant=pd.array(np.array(MALIGNANT)[labels], dtype="boolean"),
    )
    metrics = build_metrics(table, leaning(labels), POINTS, classes=CLASSES[7])
    assert (
        metrics.n_by_class["AKIEC"]
        == np.isin(labels[diagnosed], [CODES.index("AK"), CODES.index("SCC")]).sum()
    )
    assert Counts.of(metrics).malignant == np.array(MALIGNANT)[labels].sum()
    assert metrics.malignant_auc == build_metrics(table, leaning(labels)).malignant_auc


def test_metrics_of_an_earlier_version_have_counts_of_their_classes(full):
    earlier = structs.replace(full, n_malignant=UNSET)
    assert Counts.of(earlier) == Counts.of(full)


# Gaps and comparison


def test_gaps_in_malignant_metrics_need_no_diagnosis(labels, lesions):
    inside = {"old": np.random.default_rng(2).random(N) < 0.5}
    options = {"permutations": 200, "draws": 50}
    named = gaps(labels, leaning(labels), lesions, inside, 0.4, **options)
    differences = gaps(
        partly(labels, np.zeros(N, bool)), leaning(labels), lesions, inside, 0.4, **options
    )
    assert [gap.metric for gap in differences] == ["malignant_auc", "sensitivity", "specificity"]
    named = [gap for gap in named if gap.metric != "balanced_accuracy"]
    for gap, named_gap in zip(differences, named, strict=True):
        assert gap.subgroup == named_gap.subgroup
        assert gap.rest == named_gap.rest
        assert gap.interval == named_gap.interval
        assert gap.p == named_gap.p


def test_a_gap_in_balanced_accuracy_is_that_of_the_images_with_a_diagnosis():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 8, 800)
    lesions = np.arange(800)  # enough for ten lesions of each on both sides
    diagnosed = rng.random(800) < 0.7
    inside = rng.random(800) < 0.5
    options = {"permutations": 200, "draws": 50}
    mixed = gaps(
        partly(labels, diagnosed), leaning(labels), lesions, {"old": inside}, 0.4, **options
    )
    alone = gaps(
        labels[diagnosed],
        leaning(labels)[diagnosed],
        lesions[diagnosed],
        {"old": inside[diagnosed]},
        0.4,
        **options,
    )
    assert mixed[0].metric == alone[0].metric == "balanced_accuracy"
    assert (mixed[0].subgroup, mixed[0].rest) == (
        alone[0].subgroup,
        alone[0].rest,
    )


def test_two_models_are_compared_without_a_diagnosis(labels, lesions):
    model_a = Answers(leaning(labels), 0.4)
    model_b = Answers(leaning(labels, seed=3), 0.3)
    named = compare(labels, model_a, model_b, lesions, draws=100)
    comparison = compare(partly(labels, np.zeros(N, bool)), model_a, model_b, lesions, draws=100)
    assert (comparison.n, comparison.n_diagnosed, named.n_diagnosed) == (N, 0, N)
    for name, difference in comparison.metrics.items():
        if name in OF_DIAGNOSES:
            assert (difference.first, difference.difference, difference.interval) == (
                None,
                None,
                None,
            )
            assert difference.better is None
        else:
            assert difference == named.metrics[name]
    assert comparison.tests["malignant referred"] == named.tests["malignant referred"]
    assert comparison.tests["benign not referred"] == named.tests["benign not referred"]
    assert (comparison.tests["right"].n, comparison.tests["right"].exact) == (0, 1.0)


def test_a_comparison_on_mixed_labels_takes_each_metric_from_its_images(labels, diagnosed, lesions):
    model_a = Answers(leaning(labels), 0.4)
    model_b = Answers(leaning(labels, seed=3), 0.3)
    named = compare(labels, model_a, model_b, lesions, draws=100)
    comparison = compare(partly(labels, diagnosed), model_a, model_b, lesions, draws=100)
    diagnosed_only = [
        Answers(model.probabilities[diagnosed], model.threshold) for model in (model_a, model_b)
    ]
    alone = compare(labels[diagnosed], *diagnosed_only, lesions[diagnosed], draws=100)
    for name, difference in comparison.metrics.items():
        assert difference == (alone if name in OF_DIAGNOSES else named).metrics[name]
    assert comparison.tests["right"] == alone.tests["right"]
    assert (
        json.loads(json.dumps(comparison.to_json(), allow_nan=False))["n_diagnosed"]
        == diagnosed.sum()
    )
