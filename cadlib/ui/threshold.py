"""One slider for the threshold: it moves the curves, what is referred, and what that means for patients, together."""

from typing import TYPE_CHECKING

import streamlit as st

from cadlib.evaluation import threshold_curves
from cadlib.metrics.decision_curve import DecisionCurve
from cadlib.metrics.operating_point_table import one_group_note, point_rows
from cadlib.metrics.predictive_values import INTERVAL_NOTE, PredictiveValues
from cadlib.metrics.tables import figure_text
from cadlib.metrics.thresholds import UNNAMED, TradeOff, trade_offs
from cadlib.report import charts
from cadlib.report.charts.reliability import reliability_charts
from cadlib.server.clinic_settings import LEAST, MOST
from cadlib.ui.clinic import operating_point, prevalence
from cadlib.ui.frame import chart
from cadlib.ui.metrics_source import Shown

if TYPE_CHECKING:
    from cadlib.evaluation.cached import Evaluated


@st.fragment
def threshold(shown: Shown) -> None:
    """Draw the curves of a model with the threshold that the reader moves, and whether its probabilities hold."""
    st.subheader("Operating point", anchor=False)
    points = trade_offs(shown.figures)
    if not points:
        _one_group(shown)
        return
    usual = operating_point(shown.record)
    start = next(
        (place for place, point in enumerate(points) if point.name == usual), len(points) // 2
    )
    slider, share = st.columns([3, 1], vertical_alignment="bottom")
    place = slider.select_slider(
        "Referral threshold (malignant probability)",
        range(len(points)),
        start,
        lambda place: _label(points[place]),
        key=f"threshold-{len(points)}",
    )
    here = share.number_input(
        "Share of malignant lesions (%)",
        100 * LEAST,
        100 * MOST,
        (prevalence() or points[0].prevalence) * 100,
        0.5,
        "%.1f",
        key="judged-prevalence",
        help="Among all lesions examined. Default: the share set for the clinic, otherwise the share in these images.",
    )
    point = points[place]
    _numbers(point, here / 100)
    with st.grid(2, min_column_width=420, gap="medium") as grid:
        with grid.cell():
            st.markdown("**ROC curve**")
            named = [point for point in points if point.name != UNNAMED]
            curves = threshold_curves.roc_curves(shown.figures)
            chart(
                charts.roc_chart(curves, threshold_curves.areas(shown.figures), named, point),
                key="roc",
            )
        with grid.cell():
            st.markdown("**Precision–recall curve**")
            curves = threshold_curves.precision_recall(shown.figures, shown.evaluated)
            average = threshold_curves.average_precisions(shown.figures)
            chart(charts.precision_recall_chart(curves, average, point), key="precision-recall")
        with grid.cell():
            st.markdown("**Decision curve**")
            chart(charts.decision_chart(_decision(shown, here / 100), point), key="decision")
        for name, figure in reliability_charts(shown.figures):
            with grid.cell():
                st.markdown(f"**{name}**")
                chart(figure, key=name.lower().replace(" ", "-"))


def _one_group(shown: Shown) -> None:
    """Draw what is measured without malignant or without benign images."""
    st.caption(one_group_note(shown.figures))
    if rows := point_rows(shown.figures):
        st.table(rows, hide_index=True)
    curves = threshold_curves.roc_curves(shown.figures)
    if any(curves.values()):
        chart(charts.roc_chart(curves, threshold_curves.areas(shown.figures)), key="roc")
    for name, figure in reliability_charts(shown.figures):
        st.markdown(f"**{name}**")
        chart(figure, key=name.lower().replace(" ", "-"))


def _label(point: TradeOff) -> str:
    return f"{point.threshold:.3f}" + ("" if point.name == UNNAMED else f" {point.shown_name}")


def _numbers(point: TradeOff, here: float) -> None:
    """Draw the four figures of a threshold, each with its interval and its n."""
    values = PredictiveValues(point, here)
    ends = values.intervals or (None, None)
    malignant, benign = (
        f"{point.n_malignant:,} malignant images",
        f"{point.n_benign:,} benign images",
    )
    prior = f"at {100 * here:.1f} % malignant lesions"
    st.table(
        [
            {
                "Measure at this threshold": name,
                "Value (95 % CI)": figure_text(value, interval),
                "Based on": of,
            }
            for name, value, interval, of in (
                ("Sensitivity", point.sensitivity, point.intervals.sensitivity, malignant),
                ("Specificity", point.specificity, point.intervals.specificity, benign),
                ("PPV", _or_none(values.positive), ends[0], prior),
                ("NPV", _or_none(values.negative), ends[1], prior),
            )
        ],
        hide_index=True,
    )
    if values.intervals is not None:
        st.caption(INTERVAL_NOTE)
    else:
        st.caption(
            "No 95 % CI: there are too few lesions at this threshold, or the results come from an earlier version."
        )


def _or_none(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - NaN alone is not itself


def _decision(shown: Shown, here: float) -> DecisionCurve:
    if shown.evaluated:
        return _decision_of_images(shown.key, round(here, 4), shown.evaluated)
    return threshold_curves.decision(shown.figures, None, here)


@st.cache_resource(max_entries=50, show_spinner="Resampling lesions for the 95 % CI …")
def _decision_of_images(key: str, here: float, _found: "Evaluated") -> DecisionCurve:  # noqa: ARG001
    return threshold_curves.decision(_found.figures, _found, here)
