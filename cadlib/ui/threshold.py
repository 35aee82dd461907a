"""Draws the referral threshold as a slider."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from cadlib.evaluation import threshold_curves
from cadlib.metrics.decision_curve import DecisionCurve
from cadlib.metrics.operating_point_table import one_group_note, point_rows
from cadlib.metrics.predictive_values import INTERVAL_NOTE, PredictiveValues
from cadlib.metrics.summary import defined
from cadlib.metrics.tables import metric_text
from cadlib.metrics.thresholds import UNNAMED, TradeOff, trade_offs
from cadlib.report import charts
from cadlib.report.charts.reliability import reliability_charts
from cadlib.server.clinic_settings import LEAST, MOST
from cadlib.ui.clinic import operating_point, prevalence
from cadlib.ui.frame import chart
from cadlib.ui.metrics_source import Shown

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from cadlib.evaluation.cached import Evaluated


@st.fragment
def threshold(shown: Shown) -> None:
    """Draw the curves of a model with the threshold that the reader moves, and its reliability."""
    st.subheader("Operating point", anchor=False)
    points = trade_offs(shown.metrics)
    if not points:
        _one_group(shown)
        return
    slider_place, share_place = st.columns([3, 1], vertical_alignment="bottom")
    with slider_place:
        point = _choose_point(shown, points)
    with share_place:
        here = _choose_prevalence(points[0].prevalence)
    _values(point, here)
    with st.grid(2, min_column_width=420, gap="medium") as grid:
        with grid.cell():
            _roc(shown, points, point)
        with grid.cell():
            _precision_recall(shown, point)
        with grid.cell():
            _decision_curve(shown, point, here)
        for name, figure in reliability_charts(shown.metrics):
            with grid.cell():
                _reliability(name, figure)


def _choose_point(shown: Shown, points: Sequence[TradeOff]) -> TradeOff:
    """Draw the slider of thresholds; return the point at which it is."""
    place: int = st.select_slider(
        "Referral threshold (malignant probability)",
        range(len(points)),
        _start(points, operating_point(shown.record)),
        lambda place: _label(points[place]),
        # Another number of points is another slider, as the former place may not exist.
        key=f"threshold-{len(points)}",
    )
    return points[place]


def _choose_prevalence(in_the_images: float) -> float:
    """Draw the field for the share of malignant lesions; return it, 0 to 1."""
    preset = prevalence() or in_the_images
    percent: float = st.number_input(
        "Share of malignant lesions (%)",
        100 * LEAST,
        100 * MOST,
        preset * 100,
        0.5,
        "%.1f",
        key="judged-prevalence",
        help=(
            "Among all lesions examined. Default: the share set for the clinic, otherwise the "
            "share in these images."
        ),
    )
    return percent / 100


def _start(points: Sequence[TradeOff], usual: str) -> int:
    """Return the place of the operating point of that name, else the middle of the slider."""
    for place, point in enumerate(points):
        if point.name == usual:
            return place
    return len(points) // 2


def _roc(
    shown: Shown,
    points: Sequence[TradeOff],
    point: TradeOff,
) -> None:
    st.markdown("**ROC curve**")
    operating_points = [other for other in points if other.name != UNNAMED]
    curves = threshold_curves.roc_curves(shown.metrics)
    areas = threshold_curves.areas(shown.metrics)
    figure = charts.roc_chart(
        curves,
        areas,
        operating_points,
        point,
    )
    chart(figure, key="roc")


def _precision_recall(shown: Shown, point: TradeOff) -> None:
    st.markdown("**Precision–recall curve**")
    metrics = shown.metrics
    curves = threshold_curves.precision_recall(
        metrics,
        shown.evaluated,
    )
    average = threshold_curves.average_precisions(metrics)
    figure = charts.precision_recall_chart(
        curves,
        average,
        point,
    )
    chart(figure, key="precision-recall")


def _decision_curve(shown: Shown, point: TradeOff, here: float) -> None:
    st.markdown("**Decision curve**")
    curve = _decision(shown, here)
    figure = charts.decision_chart(curve, point)
    chart(figure, key="decision")


def _reliability(name: str, figure: "Figure") -> None:
    st.markdown(f"**{name}**")
    key = name.lower().replace(" ", "-")
    chart(figure, key=key)


def _one_group(shown: Shown) -> None:
    """Draw what is measured without malignant or without benign images."""
    metrics = shown.metrics
    st.caption(one_group_note(metrics))
    rows = point_rows(metrics)
    if rows:
        st.table(rows, hide_index=True)
    curves = threshold_curves.roc_curves(metrics)
    if any(curves.values()):
        areas = threshold_curves.areas(metrics)
        figure = charts.roc_chart(curves, areas)
        chart(figure, key="roc")
    for name, figure in reliability_charts(metrics):
        _reliability(name, figure)


def _label(point: TradeOff) -> str:
    text = f"{point.threshold:.3f}"
    if point.name == UNNAMED:
        return text
    return f"{text} {point.shown_name}"


def _values(point: TradeOff, here: float) -> None:
    """Draw the four values of a threshold at a prevalence, each with its interval and its n."""
    values = PredictiveValues(point, here)
    positive_ends, negative_ends = values.intervals or (None, None)
    malignant = f"{point.n_malignant:,} malignant images"
    benign = f"{point.n_benign:,} benign images"
    prior = f"at {100 * here:.1f} % malignant lesions"
    rows = [
        _row("Sensitivity", point.sensitivity, point.intervals.sensitivity, malignant),
        _row("Specificity", point.specificity, point.intervals.specificity, benign),
        _row("PPV", defined(values.positive), positive_ends, prior),
        _row("NPV", defined(values.negative), negative_ends, prior),
    ]
    st.table(rows, hide_index=True)
    if values.intervals is not None:
        st.caption(INTERVAL_NOTE)
    else:
        st.caption(
            "No 95 % CI: there are too few lesions at this threshold, or the results come from an "
            "earlier version."
        )


def _row(
    name: str, value: float | None, interval: Sequence[float] | None, basis: str
) -> dict[str, str]:
    return {
        "Measure at this threshold": name,
        "Value (95 % CI)": metric_text(value, interval),
        "Based on": basis,
    }


def _decision(shown: Shown, here: float) -> DecisionCurve:
    if shown.evaluated is None:
        return threshold_curves.decision(shown.metrics, None, here)
    # Rounded, so that the cache finds the same prevalence again.
    return _decision_of_images(shown.key, round(here, 4), shown.evaluated)


# `key` names the images and the model, because an evaluation cannot be hashed.
@st.cache_resource(max_entries=50, show_spinner="Resampling lesions for the 95 % CI …")
def _decision_of_images(
    key: str,  # noqa: ARG001
    here: float,
    _evaluated: "Evaluated",
) -> DecisionCurve:
    return threshold_curves.decision(_evaluated.metrics, _evaluated, here)
