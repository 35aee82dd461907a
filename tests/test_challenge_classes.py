import numpy as np
import pytest

from cadlib.metrics import classification
from cadlib.metrics.challenge_classes import merged_labels, merged_probabilities, named
from cadlib.metrics.summary import summarise
from cadlib.taxonomy import CLASSES, CODES, ISIC_2018, ISIC_2019, diagnosis

AK = CODES.index("AK")
SCC = CODES.index("SCC")
NV = CODES.index("NV")


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.arange(8), rng.integers(0, 8, 292)])
    return labels, (rng.dirichlet(np.full(8, 0.5), 300) + 0.4 * np.eye(8)[labels]) / 1.4


def test_the_classes_of_2018_are_seven_in_the_order_of_its_columns():
    assert ISIC_2018.codes == ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    assert sorted(code for members in ISIC_2018.members for code in members) == sorted(CODES)
    assert CLASSES == {8: ISIC_2019, 7: ISIC_2018}


def test_no_class_mixes_malignant_and_benign():
    for merged, members in zip(ISIC_2018.diagnoses, ISIC_2018.members, strict=True):
        assert {diagnosis(code).malignant for code in members} == {merged.malignant}


def test_ak_and_scc_are_summed_and_nothing_else_changes(sample):
    _, probabilities = sample
    merged = merged_probabilities(probabilities, ISIC_2018)
    assert merged[:, AK] == pytest.approx(probabilities[:, AK] + probabilities[:, SCC])
    assert (merged[:, SCC] == 0).all()
    unchanged = [i for i in range(8) if i not in (AK, SCC)]
    assert np.array_equal(merged[:, unchanged], probabilities[:, unchanged])
    assert merged_labels(np.array([NV, AK, SCC]), ISIC_2018).tolist() == [NV, AK, AK]


def test_the_eight_classes_are_left_as_they_are(sample):
    labels, probabilities = sample
    assert np.array_equal(merged_labels(labels, ISIC_2019), labels)
    assert np.array_equal(merged_probabilities(probabilities, ISIC_2019), probabilities)
    summary = summarise(labels, probabilities, draws=2)
    assert named(summary, ISIC_2019) == summary


def test_merging_no_labels_gives_none():
    assert merged_labels(np.empty(0, np.int64), ISIC_2018).shape == (0,)


def test_metrics_are_named_by_the_classes(sample):
    labels, probabilities = sample
    labels = merged_labels(labels, ISIC_2018)
    probabilities = merged_probabilities(probabilities, ISIC_2018)
    eight = summarise(labels, probabilities, draws=20)
    seven = named(eight, ISIC_2018)
    assert (
        tuple(seven.auc) == tuple(seven.intervals.auc) == tuple(seven.n_by_class) == ISIC_2018.codes
    )
    assert list(seven.roc) == [*ISIC_2018.codes, "malignant"]
    assert seven.sensitivity["AKIEC"] == eight.sensitivity["AK"]
    assert np.shape(seven.confusion_matrix) == (7, 7)
    assert np.sum(seven.confusion_matrix) == 300
    assert seven.confusion_matrix[3][3] == eight.confusion_matrix[AK][AK]
    assert seven.n_classes == 7


def test_malignant_metrics_are_the_same_over_seven_classes(sample):
    labels, probabilities = sample
    merged = merged_labels(labels, ISIC_2018), merged_probabilities(probabilities, ISIC_2018)
    assert classification.malignant_auc(*merged) == pytest.approx(
        classification.malignant_auc(labels, probabilities)
    )
