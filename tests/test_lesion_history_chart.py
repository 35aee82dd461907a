"""The chart of a lesion's results over time."""

from datetime import date

from cadlib.report.charts.lesion_history import HistoryPoint, history_chart

FIRST = HistoryPoint(date(2026, 1, 5), 0.10, 0.05, 0.20, "isic2019 2.0.0")
SECOND = HistoryPoint(date(2026, 7, 1), 0.45, 0.40, 0.55, "isic2019 2.0.0")


def test_a_chart_has_the_results_with_the_range_of_the_networks():
    figure = history_chart([FIRST, SECOND], 0.22)
    [line] = figure.data
    assert list(line.y) == [0.10, 0.45]
    assert [round(value, 6) for value in line.error_y.array] == [0.10, 0.10]
    assert [round(value, 6) for value in line.error_y.arrayminus] == [0.05, 0.05]
    assert figure.layout.shapes[0].y0 == 0.22
    assert figure.layout.meta["alt"] == (
        "Malignant probability by visit, referral threshold 0.22: 5 Jan 2026 0.10, 1 Jul 2026 0.45."
    )


def test_results_of_two_models_are_two_lines():
    other = HistoryPoint(date(2026, 9, 1), 0.5, None, None, "isic2019 1.3.0")
    figure = history_chart([FIRST, SECOND, other], 0.22)
    assert [line.name for line in figure.data] == ["isic2019 2.0.0", "isic2019 1.3.0"]
    assert figure.layout.showlegend
    # A model of one network has no range.
    assert list(figure.data[1].error_y.array) == [0]
    assert list(figure.data[1].error_y.arrayminus) == [0]
