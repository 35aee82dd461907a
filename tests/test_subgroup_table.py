import numpy as np
import pytest
from msgspec import structs

from cadlib.metrics.subgroup_table import BETTER, WORSE, gaps_note, subgroup_rows
from cadlib.metrics.summary import summarise, without_curves
from cadlib.metrics.summary_schema import SubgroupGap
from cadlib.metrics.tables import metric_text
from tests.measured import evaluation_metrics


@pytest.fixture
def metrics():
    """Return metrics of all images and of two groups, one of which does worse in one metric."""
    labels = np.repeat(np.arange(8), 150)
    summary = summarise(labels, np.eye(8)[labels], draws=1)
    intervals = structs.replace(
        summary.intervals, balanced_accuracy=(0.4, 0.6), malignant_auc=None, ece=None
    )
    overall = structs.replace(
        summary, balanced_accuracy=0.5, malignant_auc=None, ece=0.125, intervals=intervals
    )
    part = without_curves(overall)

    def gap(group, metric, subgroup, beyond_chance):
        return SubgroupGap(
            group=group, metric=metric, subgroup=subgroup, rest=0.5, interval=(-0.5, -0.125),
            kinds=2, lesions=50, p=0.5, adjusted=0.5, beyond_chance=beyond_chance,
        )  # fmt: skip

    gaps = (gap("sex male", "balanced_accuracy", 0.25, True), gap("sex male", "sensitivity", 0.75, True),
            gap("sex female", "balanced_accuracy", 0.25, False))  # fmt: skip
    return evaluation_metrics(overall, subgroups={"sex male": part, "sex female": part}, gaps=gaps)


def test_only_a_gap_beyond_chance_is_marked_by_its_direction(metrics):
    everyone, male, female = subgroup_rows(metrics, metric_text)
    assert male["Balanced accuracy"] == f"0.500 (0.400 to 0.600) {WORSE}"
    assert male["Sensitivity, gap"] == f"0.250 (-0.500 to -0.125) {BETTER}"
    assert male["Specificity, gap"] == "–"
    assert female["Balanced accuracy"] == everyone["Balanced accuracy"] == "0.500 (0.400 to 0.600)"
    assert [everyone["Images"], everyone["n"]] == ["all", "1,200"]
    assert male["AUC malignant"] == "not defined"
    assert "2 of 3 differences tested" in gaps_note(metrics.gaps)


def test_without_gaps_there_is_no_column_of_them(metrics):
    untested = structs.replace(metrics, gaps=None)
    assert not [name for name in subgroup_rows(untested, metric_text)[0] if "gap" in name]
