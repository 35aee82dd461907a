from cadlib.metrics.comparison_table import TEST_NAMES, Compared
from cadlib.metrics.model_comparison import METRIC_NAMES, Comparison, Difference, McNemar

BETTER = Difference(0.5, 0.6, 0.1, (0.05, 0.15))
NO_INTERVAL = Difference(0.5, 0.4, -0.1, None)
COMPARED = Compared(
    "old",
    "new",
    Comparison(
        1234,
        1000,
        1234,
        {
            **dict.fromkeys(METRIC_NAMES, BETTER),
            "malignant_auc": NO_INTERVAL,
            "melanoma_auc": Difference(None, None, None, None),
            "brier": Difference(0.5, 0.6, 0.1, (0.05, 0.15), higher_is_better=False),
        },
        dict.fromkeys(TEST_NAMES, McNemar(1234, 1001, 30, 0.0004, 0.04)),
    ),
    "Some had.",
    flattered=True,
)


def test_every_metric_has_a_row_with_both_values_the_difference_and_who_is_better():
    rows = COMPARED.difference_rows
    assert [row["Metric"] for row in rows] == [*METRIC_NAMES.values()]
    assert rows[0] == {
        "Metric": "Balanced accuracy",
        "old": "0.500",
        "new": "0.600",
        "Difference (95 % CI)": "0.100 (0.050 to 0.150)",
        "Better": "new",
    }
    assert rows[1]["Better"] == "no significant difference"
    assert [*rows[2].values()][1:] == ["not defined"] * 4
    assert rows[-1]["Better"] == "old"  # less is better


def test_every_test_has_a_row_and_a_small_p_is_not_called_zero():
    rows = COMPARED.test_rows
    assert [row["McNemar's test"] for row in rows] == [*TEST_NAMES.values()]
    assert [*rows[0].values()][1:] == ["1,234", "1,001", "30", "<0.001", "0.040"]
    assert [*rows[0]][2:4] == ["Only old correct", "Only new correct"]


def test_the_note_has_the_number_of_images_and_the_training_overlap():
    assert COMPARED.note.startswith("n = 1,234 images of 1,000 lesions")
    assert COMPARED.about_the_second == "new: Some had."
