import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
from msgspec import structs

from cadlib import taxonomy
from cadlib.evaluation.threshold_curves import areas
from cadlib.metrics.curves import Area, precision_recall_points
from cadlib.metrics.decision_curve import curve_of_points, decision_curve
from cadlib.metrics.model_comparison import METRIC_NAMES, Comparison, Difference
from cadlib.metrics.operating_point import OperatingPoint, PointIntervals
from cadlib.metrics.predictive_values import PredictiveValues
from cadlib.metrics.summary import summarise
from cadlib.metrics.summary_schema import ReliabilityBin
from cadlib.metrics.thresholds import TradeOff
from cadlib.report import charts as figures
from cadlib.training import monitor
from cadlib.training.monitor import Curve, RunReading, State

PROBABILITIES = np.array([0.48, 0.31, 0.05, 0.01, 0.12, 0.002, 0.0, 0.028])
POINT = OperatingPoint("balanced", 0.3, 0.95, 0.75, 100, 300, "test", PointIntervals(None, None))


SELECTED = TradeOff("chosen", 0.3, 0.9, 0.8, 100, 300)
SCORES = np.linspace(0, 1, 40)
TRUTH = np.arange(40) % 3 > 0
PRECISION_RECALL = {
    "melanoma": precision_recall_points(SCORES, np.zeros(40, bool)),
    "malignant": precision_recall_points(SCORES, TRUTH),
}
DECISION = decision_curve(SCORES, TRUTH, np.arange(40), draws=20)
COMPARISON = Comparison(
    40,
    40,
    40,
    {
        **dict.fromkeys(METRIC_NAMES, Difference(0.5, 0.51, 0.01, (-0.1, 0.12))),
        "malignant_auc": Difference(0.8, 0.9, 0.1, (0.05, 0.15)),
        "brier": Difference(0.4, 0.6, 0.2, (0.1, 0.3), higher_is_better=False),
        "specificity": Difference(None, None, None, None),
    },
    {},
)

DAMAGE = SimpleNamespace(
    clean=SimpleNamespace(malignant_auc=0.9),
    corruptions={
        "hair": SimpleNamespace(malignant_auc={"1": 0.9, "2": 0.88, "3": 0.8, "4": 0.7, "5": 0.5}),
        "ink": SimpleNamespace(malignant_auc={"1": 0.92, "2": 0.9, "3": 0.9, "4": None, "5": 0.89}),
    },
)


@pytest.fixture(scope="module")
def summary():
    """A model that is mostly right on 400 images, none of them a vascular lesion."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 3, 4, 5, 7], 400)
    logits = rng.normal(0, 1, (400, 8))
    logits[np.arange(400), labels] += 2
    probabilities = np.exp(logits)
    return summarise(labels, probabilities / probabilities.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def every_figure(summary):
    return {
        "confidence": figures.confidence_chart(PROBABILITIES),
        "counts": figures.class_counts_chart({**summary.n_by_class, "UNK": 3}),
        "confusion": figures.confusion_chart(summary.confusion_matrix),
        "roc": figures.roc_chart(summary.roc, areas(summary), [POINT]),
        "per class": figures.per_class_chart(summary),
        "reliability": figures.reliability_chart(summary.reliability),
        "damage": figures.damage_chart(DAMAGE, "malignant_auc"),
        "precision-recall": figures.precision_recall_chart(
            PRECISION_RECALL, {"malignant": Area(0.8, (0.7, 0.9))}, SELECTED
        ),
        "decision": figures.decision_chart(DECISION, SELECTED),
        "comparison": figures.comparison_chart(COMPARISON, "old", "new"),
        "hundred": figures.hundred_patients(PredictiveValues(POINT, 0.08)),
        "training": figures.training_chart(
            [trained("one", 0.5, 0.75), trained("two", 0.25)], monitor.BALANCED_ACCURACY
        ),
    }


def trained(name, *accuracies):
    """Return a run of four epochs that has come as far as there are figures."""
    epochs = tuple(range(1, len(accuracies) + 1))
    now = datetime.now(UTC)
    none = dict.fromkeys(monitor.TAGS, Curve((), (), ()))
    curves = {
        **none,
        monitor.BALANCED_ACCURACY: Curve(tuple(10 * epoch for epoch in epochs), epochs, accuracies),
    }
    return RunReading(
        name, State.STOPPED, now, now, 10 * len(accuracies), 40, 10, {"batch_size": 8}, curves
    )


def alt(figure):
    return figure.layout.meta["alt"]


def row_of(bars, code):
    """Return the trace and the position of the bar of a diagnosis."""
    return next(
        (t, i) for t in bars.data for i, label in enumerate(t.y) if f"<b>{code}</b>" in label
    )


def test_the_confidence_chart_ranks_from_the_top():
    figure = figures.confidence_chart(PROBABILITIES)
    order = [
        code
        for label in figure.layout.yaxis.categoryarray
        for code in taxonomy.CODES
        if f">{code}<" in label
    ]
    assert order == ["MEL", "NV", "BKL", "BCC", "SCC", "AK", "DF", "VASC"]
    assert figure.layout.yaxis.range == (7.5, -0.5)


def test_a_bar_has_the_length_and_the_text_of_its_probability():
    figure = figures.confidence_chart(PROBABILITIES)
    for code, text in (("MEL", "0.48"), ("SCC", "0.03"), ("VASC", "0.00"), ("DF", "<0.01")):
        trace, i = row_of(figure, code)
        assert trace.x[i] == PROBABILITIES[taxonomy.CODES.index(code)]
        assert trace.text[i] == text


def test_malignant_and_benign_bars_differ_by_colour_hatch_and_mark():
    figure = figures.confidence_chart(PROBABILITIES)
    for d in taxonomy.DIAGNOSES:
        trace, i = row_of(figure, d.code)
        assert trace.marker.color == d.group_colour
        assert trace.marker.pattern.shape == ("/" if d.malignant else "")
        assert (("▲" in trace.y[i]), ("●" in trace.y[i])) == (d.malignant, not d.malignant)
        assert d.name in trace.y[i]


def test_the_probability_axis_is_the_same_for_every_image():
    sure = figures.confidence_chart(np.eye(8)[1])
    unsure = figures.confidence_chart(np.full(8, 1 / 8))
    assert sure.layout.xaxis.range == unsure.layout.xaxis.range == (0, 1)
    assert sure.layout.height == unsure.layout.height <= 320


def test_equal_probabilities_keep_the_order_of_the_taxonomy():
    labels = figures.confidence_chart(np.full(8, 1 / 8)).layout.yaxis.categoryarray
    assert all(
        f"<b>{code}</b>" in label for code, label in zip(taxonomy.CODES, labels, strict=True)
    )


def test_the_confidence_chart_names_the_diagnoses_of_the_set():
    figure = figures.confidence_chart(PROBABILITIES, ["MEL"])
    texts = [text for bar in figure.data for text in bar.text or ()]
    assert [text.endswith("◆") for text in texts].count(True) == 1
    assert figure.layout.meta["alt"].count("in the prediction set") == 1


@pytest.mark.parametrize(
    "bad", [np.full(7, 1 / 7), np.full(8, math.nan), np.array([1.2, *[0] * 7]), np.eye(8)]
)
def test_the_confidence_chart_requires_eight_probabilities(bad):
    with pytest.raises(ValueError, match="Expected `probabilities`"):
        figures.confidence_chart(bad)


def test_class_counts_are_in_taxonomy_order_with_separated_thousands():
    figure = figures.class_counts_chart({"NV": 12463, "MEL": 4270})
    assert [
        label.split("<b>")[1].split("<")[0] for label in figure.layout.yaxis.categoryarray
    ] == list(taxonomy.CODES)
    trace, i = row_of(figure, "NV")
    assert (trace.x[i], trace.text[i]) == (12463, "12,463")
    trace, i = row_of(figure, "DF")
    assert (trace.x[i], trace.text[i]) == (0, "0")
    assert "16,733 in all" in alt(figure)


def test_images_of_no_known_class_get_a_visible_row_of_their_own():
    figure = figures.class_counts_chart({"NV": 5, "UNK": 9})
    trace, i = row_of(figure, "UNK")
    assert trace.x[i] == 9
    assert trace.y[i] == figure.layout.yaxis.categoryarray[-1]
    low, high = sorted(figure.layout.yaxis.range)
    assert low < len(taxonomy.CODES) < high
    assert figure.layout.xaxis.range[1] >= 9


def test_class_counts_show_labels_without_a_diagnosis_below_the_diagnoses():
    figure = figures.class_counts_chart({"NV": 5, "malignant": 2, "benign": 1200})
    assert [*figure.layout.yaxis.categoryarray][8:] == [
        "Malignant, no diagnosis ",
        "Benign, no diagnosis ",
    ]
    assert "malignant, no diagnosis 2, benign, no diagnosis 1,200" in alt(figure)
    assert "1,207 in all" in alt(figure)


def test_class_counts_without_a_diagnosis_have_no_row_of_zero():
    figure = figures.class_counts_chart({"malignant": 2, "benign": 12})
    assert [*figure.layout.yaxis.categoryarray] == [
        "Malignant, no diagnosis ",
        "Benign, no diagnosis ",
    ]
    assert (
        alt(figure)
        == "Images by diagnosis, 14 in all: malignant, no diagnosis 2, benign, no diagnosis 12."
    )


def test_the_malignant_reliability_chart_names_its_axes(summary):
    figure = figures.malignant_reliability_chart(summary.malignant_reliability)
    assert figure.layout.xaxis.title.text == "Malignant probability"
    assert figure.layout.yaxis.title.text == "Fraction malignant"
    assert alt(figure).startswith(
        "Reliability diagram of the malignant probability: probability 0."
    )


def test_class_counts_refuse_a_code_that_isic_does_not_have():
    with pytest.raises(ValueError, match="NEVUS"):
        figures.class_counts_chart({"NEVUS": 1})


def test_an_empty_data_set_has_a_chart_of_zeros():
    figure = figures.class_counts_chart({})
    assert sum(sum(trace.x) for trace in figure.data) == 0
    assert figure.layout.xaxis.range[1] > 0


@pytest.mark.parametrize(("normalise", "printed"), [(True, "75"), (False, "1,500")])
def test_a_confusion_cell_prints_its_percent_or_its_count_and_hovers_both(normalise, printed):
    matrix = np.zeros((8, 8), dtype=int)
    matrix[0, 0] = 1500
    matrix[0, 1] = 500
    matrix[1:, 1] = 1
    heatmap, cells = figures.confusion_chart(matrix, normalise).data
    assert cells.text[0] == printed
    assert list(heatmap.z[0][:2]) == [0.75, 0.25]
    assert (
        "true Melanoma<br>predicted Melanocytic nevus<br>500 of 2,000 images, 25 %"
        in heatmap.customdata[0][1]
    )


def test_each_cell_of_a_confusion_matrix_that_opens_has_a_point_that_names_it():
    matrix = np.ones((8, 8), dtype=int)
    points = figures.confusion_chart(matrix, opens=True).data[-1]
    assert list(zip(points.y, points.x, strict=True)) == [
        (f"{truth} (8)", predicted) for truth in taxonomy.CODES for predicted in taxonomy.CODES
    ]
    assert points.customdata[1].startswith("true Melanoma<br>predicted Melanocytic nevus")


def test_confusion_rows_are_the_truth_from_the_top():
    matrix = np.diag(np.arange(1, 9))
    figure = figures.confusion_chart(matrix)
    assert figure.data[0].y == tuple(
        f"{code} ({n})" for code, n in zip(taxonomy.CODES, range(1, 9), strict=True)
    )
    assert figure.data[0].x == taxonomy.CODES
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.yaxis.scaleanchor == "x"


def test_a_class_without_an_image_has_no_percentages():
    matrix = np.eye(8, dtype=int)
    matrix[6] = 0
    figure = figures.confusion_chart(matrix)
    heatmap, cells = figure.data
    assert all(z is None for z in heatmap.z[6])
    assert "VASC (0)" not in cells.y
    assert [(a.y, a.text) for a in figure.layout.annotations] == [("VASC (0)", "not defined")]
    assert "Vascular lesion not defined of 0" in alt(figure)


@pytest.mark.parametrize("bad", [np.zeros((8, 9), dtype=int), -np.eye(8, dtype=int)])
def test_the_confusion_chart_requires_a_matrix_of_counts(bad):
    with pytest.raises(ValueError, match="Expected `matrix`"):
        figures.confusion_chart(bad)


def test_roc_legends_name_the_area_and_an_undefined_one_as_such(summary):
    names = [trace.name for trace in figures.roc_chart(summary.roc, areas(summary)).data]
    for name, area, ends in (
        ("MEL", summary.auc["MEL"], summary.intervals.auc["MEL"]),
        ("Malignant", summary.malignant_auc, summary.intervals.malignant_auc),
    ):
        assert f"{name}  AUC {area:.3f} ({ends[0]:.2f}–{ends[1]:.2f})" in names
    assert "VASC  AUC not defined" in names
    assert "Chance" in names


def test_the_malignant_curve_is_the_boldest_on_top_and_first_in_the_legend(summary):
    curves = [t for t in figures.roc_chart(summary.roc, areas(summary)).data if "AUC" in t.name]
    assert curves[-1].name.startswith("Malignant")
    assert all(curves[-1].line.width >= 2 * curve.line.width for curve in curves[:-1])
    assert all(curves[-1].legendrank < curve.legendrank for curve in curves[:-1])


def test_a_roc_curve_is_drawn_through_the_points_given(summary):
    figure = figures.roc_chart(summary.roc, areas(summary))
    curve = next(t for t in figure.data if t.name.startswith("MEL"))
    assert tuple(curve.x) == summary.roc["MEL"].fpr
    assert tuple(curve.y) == summary.roc["MEL"].tpr


def test_an_operating_point_is_drawn_at_its_sensitivity_and_specificity(summary):
    figure = figures.roc_chart(summary.roc, areas(summary), [POINT])
    points = next(t for t in figure.data if t.name == "Operating points")
    assert (points.x, points.y) == ((pytest.approx(0.25),), (0.95,))
    assert "balanced point at sensitivity 0.95, specificity 0.75 on test images" in alt(figure)


def test_per_class_dots_carry_their_intervals(summary):
    dots = [
        trace for trace in figures.per_class_chart(summary).data if trace.error_x.array is not None
    ]
    assert [len(trace.x) for trace in dots] == [8, 8]
    for trace, key in zip(dots, ("sensitivity", "specificity"), strict=True):
        for place, code in enumerate(taxonomy.CODES):
            low = trace.error_x.arrayminus[place]
            high = trace.error_x.array[place]
            interval = getattr(summary.intervals, key)[code]
            if interval is None:
                assert (low, high) == (0, 0)
            else:
                assert (trace.x[place] - low, trace.x[place] + high) == pytest.approx(interval)


def test_per_class_dots_are_drawn_at_their_values_with_n(summary):
    figure = figures.per_class_chart(summary)
    dots = [t for t in figure.data if t.mode == "markers" and t.showlegend is False]
    for key, trace in zip(("sensitivity", "specificity"), dots, strict=True):
        assert list(trace.x) == [getattr(summary, key)[code] for code in taxonomy.CODES]
    assert f"n = {summary.n_by_class['MEL']} " in dots[0].y[0]
    assert len({t.marker.symbol for t in dots}) == 2


def test_an_undefined_sensitivity_is_named_and_not_drawn_as_zero(summary):
    figure = figures.per_class_chart(summary)
    assert [a.text for a in figure.layout.annotations] == ["sensitivity not defined"]
    points = next(t for t in figure.data if t.mode == "markers" and t.showlegend is False)
    assert points.x[taxonomy.CODES.index("VASC")] is None
    assert "Vascular lesion sensitivity not defined" in alt(figure)


def test_nan_is_treated_as_none(summary):
    nan = {**summary.sensitivity, "VASC": math.nan}
    undefined = structs.replace(summary, sensitivity=nan)
    assert figures.per_class_chart(undefined) == figures.per_class_chart(summary)


def test_the_reliability_diagram_leaves_out_empty_bins_but_counts_every_bin(summary):
    bins = summary.reliability
    dots, bars = figures.reliability_chart(bins).data[1:]
    filled = [b for b in bins if b.n]
    assert 0 < len(filled) < len(bins)
    assert list(dots.x) == [b.confidence for b in filled]
    assert list(dots.y) == [b.accuracy for b in filled]
    assert list(bars.y) == [b.n for b in bins]


def test_an_empty_reliability_diagram_reads_not_defined():
    empty = ReliabilityBin(low=0.0, high=1.0, n=0, confidence=None, accuracy=None, interval=None)
    assert alt(figures.reliability_chart([empty])) == "Reliability diagram: not defined."


def test_every_figure_fits_a_light_and_a_dark_page(every_figure):
    for name, figure in every_figure.items():
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0, 0, 0, 0)", name
        own = {
            key: value
            for key, value in figure.to_plotly_json()["layout"].items()
            if key != "template"
        }
        assert "font" not in json.dumps(own), name


def test_every_axis_of_quantities_has_a_title(every_figure):
    for name, figure in every_figure.items():
        if figure.layout.xaxis.visible is False and figure.layout.yaxis.visible is False:
            continue  # a picture of counted marks has no axis
        assert figure.layout.xaxis.title.text, name
        listed = figure.layout.yaxis.categoryarray is not None  # rows that name themselves
        assert listed or figure.layout.yaxis.title.text, name


def test_every_chart_has_a_text_description(every_figure):
    texts = {name: alt(figure) for name, figure in every_figure.items()}
    assert texts["confidence"].startswith(
        "Probability by diagnosis, highest first: Melanoma (malignant) 0.48, Melanocytic nevus (benign) 0.31"
    )
    for name, text in texts.items():
        assert text.endswith("."), name
        assert not {"nan", "None"} & set(re.findall(r"\w+", text)), name


def test_every_figure_is_json_that_a_browser_reads(every_figure):
    for name, figure in every_figure.items():
        text = figure.to_json()
        assert not re.search(r"\b(NaN|Infinity)\b", text), name
        assert go.Figure(json.loads(text)).layout.meta["alt"] == alt(figure)


def test_no_chart_offers_to_upload_its_data(every_figure):
    assert figures.CONFIG["displayModeBar"] is False
    assert figures.CONFIG["showSendToCloud"] is False
    for figure in every_figure.values():
        assert "sendChartToCloud" in figure.layout.modebar.remove


def test_damage_cells_show_colour_and_number_of_the_loss():
    cells, texts = figures.damage_chart(DAMAGE, "malignant_auc").data
    assert list(cells.y) == ["hair", "ink"]
    assert cells.z[0] == pytest.approx((0, 0, 0.02, 0.1, 0.2, 0.4))
    assert (cells.zmin, cells.zmax) == (0, pytest.approx(0.4))
    assert texts.text == (
        "0.90",
        "0.90",
        "0.88",
        "0.80",
        "0.70",
        "0.50",
        "0.90",
        "0.92",
        "0.90",
        "0.90",
        "–",
        "0.89",
    )


def test_damage_that_is_not_defined_is_no_fall():
    undefined = SimpleNamespace(
        clean=SimpleNamespace(accuracy=None),
        corruptions={"hair": SimpleNamespace(accuracy=dict.fromkeys("12345"))},
    )
    cells, texts = figures.damage_chart(undefined, "accuracy").data
    assert set(cells.z[0]) == {None}
    assert set(texts.text) == {"–"}


def test_the_words_of_the_damage_chart_name_each_damage():
    text = alt(figures.damage_chart(DAMAGE, "malignant_auc"))
    assert (
        text
        == "malignant AUC, 0.90 on original images; from severity 1 to 5: hair 0.90 to 0.50, ink 0.92 to 0.89."
    )


@pytest.mark.parametrize("prevalence", [0.001, 0.08, 0.5, 0.999])
def test_each_of_a_hundred_patients_has_a_mark(prevalence):
    values = PredictiveValues(POINT, prevalence)
    n_marks = 0
    for trace in figures.hundred_patients(values).data:
        marks = [x for x in trace.x if not math.isnan(x)]
        assert len(marks) == int(trace.name.split()[0])
        n_marks += len(marks)
    assert n_marks == 100


def test_the_four_kinds_of_patients_differ_by_shape_and_by_filling():
    traces = figures.hundred_patients(PredictiveValues(POINT, 0.3)).data
    symbols = {trace.name.split(maxsplit=1)[1]: trace.marker.symbol for trace in traces}
    assert len(set(symbols.values())) == 4
    for name, symbol in symbols.items():
        assert ("triangle" in symbol) == ("malignant" in name)
        assert ("open" in symbol) == ("missed" in name or "not referred" in name)


def test_two_runs_differ_by_colour_dash_and_mark_on_an_axis_as_long_as_the_longer():
    longer = replace(trained("two", 0.25), steps=80)
    figure = figures.training_chart([trained("one", 0.5, 0.75), longer], monitor.BALANCED_ACCURACY)
    first, best, second, _ = figure.data
    assert (first.x, first.y, second.x, second.y) == ((1, 2), (0.5, 0.75), (1,), (0.25,))
    for sign in ("line.color", "line.dash", "marker.symbol"):
        assert first[sign] != second[sign]
    assert (best.x, best.y, best.marker.symbol) == ((2,), (0.75,), "star")
    assert figure.layout.xaxis.range[1] >= 8
    assert alt(figure) == (
        "Balanced accuracy by epoch, of 8: one from 0.5 at epoch 1 to 0.75 at epoch 2, 0.750 at its best epoch, 2; "
        "two from 0.25 at epoch 1 to 0.25 at epoch 1, 0.250 at its best epoch, 1."
    )


def test_nan_leaves_a_gap_and_an_empty_curve_a_note():
    run = trained("one", 0.5)
    curves = {**run.curves, monitor.LOSS: Curve((5, 10), (0.5, 1.0), (2.0, math.nan))}
    figure = figures.training_chart([replace(run, curves=curves)], monitor.LOSS)
    assert "one from 2 at epoch 0.5 to 2 at epoch 0.5" in alt(figure)
    assert "NaN" not in figure.to_json()
    assert "one has no point yet" in alt(figures.training_chart([run], monitor.SPEED))


def test_operating_points_of_any_images_are_marked_on_both_curves(summary):
    named = [
        TradeOff("rule-out", 0.1, 0.95, 0.5, 100, 300),
        TradeOff("rule-in", 0.5, 0.6, 0.9, 100, 300),
    ]
    roc = figures.roc_chart(summary.roc, {}, named)
    curve = figures.precision_recall_chart(PRECISION_RECALL, {}, operating_points=named)
    for figure, places in (
        (roc, [(0.5, 0.95), (0.1, 0.6)]),
        (curve, [(0.95, 95 / (95 + 150)), (0.6, 60 / (60 + 30))]),
    ):
        marks = next(trace for trace in figure.data if trace.name == "Operating points")
        assert list(zip(marks.x, marks.y, strict=True)) == [
            pytest.approx(place) for place in places
        ]
    assert "fewer referrals point at sensitivity 0.60, specificity 0.90 on these images" in alt(roc)
    assert "rule-in" not in roc.to_json() + curve.to_json()
    assert "rule-out point at precision 0.39, recall 0.95" in alt(curve)


def threshold_mark(chart):
    """Return the trace of a chart that marks the selected threshold."""
    [mark] = [trace for trace in chart.data if trace.name == "This threshold"]
    return mark


def test_the_selected_threshold_is_marked_on_every_curve_at_its_values(summary):
    roc = figures.roc_chart(summary.roc, areas(summary), [], SELECTED)
    precision_recall = figures.precision_recall_chart(PRECISION_RECALL, {}, SELECTED)
    decision = figures.decision_chart(DECISION, SELECTED)
    threshold = SELECTED.threshold_at(DECISION.prevalence)
    net_benefit = SELECTED.net_benefit(DECISION.prevalence)
    for chart, x, y in (
        (roc, 1 - 0.8, 0.9),
        (precision_recall, 0.9, 90 / (90 + 60)),
        (decision, threshold, net_benefit),
    ):
        mark = threshold_mark(chart)
        assert mark.x[0] == pytest.approx(x)
        assert mark.y[0] == pytest.approx(y)
        assert "this threshold" in alt(chart)


def test_the_selected_threshold_is_drawn_with_its_intervals(summary):
    point = structs.replace(SELECTED, intervals=PointIntervals((0.85, 0.93), (0.7, 0.9)))
    mark = threshold_mark(figures.roc_chart(summary.roc, {}, [], point))
    assert mark.y[0] - mark.error_y.arrayminus[0] == pytest.approx(0.85)
    assert mark.y[0] + mark.error_y.array[0] == pytest.approx(0.93)
    assert mark.x[0] - mark.error_x.arrayminus[0] == pytest.approx(0.1)
    assert mark.x[0] + mark.error_x.array[0] == pytest.approx(0.3)


def test_a_curve_without_a_positive_is_named_not_defined():
    text = alt(figures.precision_recall_chart(PRECISION_RECALL, {"melanoma": Area(None, None)}))
    assert "Melanoma average precision not defined" in text


def test_a_decision_curve_without_images_has_no_band():
    points = [SELECTED, TradeOff("chosen", 0.6, 0.7, 0.95, 100, 300)]
    chart = figures.decision_chart(curve_of_points(points, 0.1))
    assert [trace.name for trace in chart.data] == ["Refer all", "Refer none", "Model"]
    assert "10.0 % are malignant" in alt(chart)
    banded = figures.decision_chart(DECISION).data[0]
    assert banded.fill == "toself"
    assert max(banded.y) == pytest.approx(DECISION.high.max())


def test_the_axis_of_a_comparison_names_the_metric_whose_sign_is_reversed():
    chart = figures.comparison_chart(COMPARISON, "old", "new")
    assert chart.layout.xaxis.title.text == (
        "← old better · improvement (sign of the Brier score reversed) · new better →"
    )
    brier = next(trace for trace in chart.data if trace.y[0].startswith("Brier"))
    assert brier.x[0] == -COMPARISON.metrics["brier"].difference


def test_the_better_model_is_on_its_side_and_in_the_text():
    chart = figures.comparison_chart(COMPARISON, "old", "new")
    at = {trace.y[0]: trace for trace in chart.data}
    assert at["AUC malignant"].x[0] == pytest.approx(0.1)
    assert at["Brier score (lower is better)"].x[0] == pytest.approx(
        -0.2
    )  # more of it speaks for the first
    assert (at["AUC malignant"].marker.symbol, at["Sensitivity"].marker.symbol) == (
        "diamond",
        "diamond-open",
    )
    assert "Specificity" not in at
    text = alt(chart)
    assert "AUC malignant 0.800 and 0.900, new is better" in text
    assert "Brier score (lower is better) 0.400 and 0.600, old is better" in text
    assert "Sensitivity 0.500 and 0.510, no significant difference" in text
    assert "Specificity not defined and not defined" in text
