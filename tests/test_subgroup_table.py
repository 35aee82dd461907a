import pytest

from cadlib.metrics.subgroup_table import BETTER, WORSE, gaps_note, subgroup_rows
from cadlib.metrics.tables import figure_text
from cadlib.taxonomy import CODES


@pytest.fixture
def figures():
    """Return figures of all images and of two groups, one of which does worse in one figure."""
    intervals = {
        "balanced_accuracy": [0.4, 0.6],
        "malignant_auc": None,
        "auc": {"MEL": None},
        "ece": None,
    }
    part = {"n": 1200, "n_by_class": dict.fromkeys(CODES, 150), "n_classes": 8,
            "balanced_accuracy": 0.5, "malignant_auc": None, "auc": {"MEL": 0.75},
            "ece": 0.125, "intervals": intervals}  # fmt: skip

    def gap(group, figure, subgroup, beyond_chance):
        return {"group": group, "figure": figure, "subgroup": subgroup, "rest": 0.5, "interval": [-0.5, -0.125],
                "beyond_chance": beyond_chance}  # fmt: skip

    gaps = [gap("sex male", "balanced_accuracy", 0.25, True), gap("sex male", "sensitivity", 0.75, True),
            gap("sex female", "balanced_accuracy", 0.25, False)]  # fmt: skip
    return {**part, "subgroups": {"sex male": part, "sex female": part}, "gaps": gaps}


def test_only_a_gap_beyond_chance_is_marked_by_its_direction(figures):
    everyone, male, female = subgroup_rows(figures, figure_text)
    assert male["Balanced accuracy"] == f"0.500 (0.400 to 0.600) {WORSE}"
    assert male["Sensitivity, gap"] == f"0.250 (-0.500 to -0.125) {BETTER}"
    assert male["Specificity, gap"] == "–"
    assert female["Balanced accuracy"] == everyone["Balanced accuracy"] == "0.500 (0.400 to 0.600)"
    assert [everyone["Images"], everyone["n"]] == ["all", "1,200"]
    assert male["AUC malignant"] == "not defined"
    assert "2 of 3 differences tested" in gaps_note(figures)


def test_without_gaps_there_is_no_column_of_them(figures):
    del figures["gaps"]
    assert not [name for name in subgroup_rows(figures, figure_text)[0] if "gap" in name]
