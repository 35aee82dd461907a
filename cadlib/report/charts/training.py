"""Draws the curves of one training run, or of two to compare."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any, Final

import plotly.graph_objects as go

from cadlib.report.charts.style import GREY, GRID, finish, number_text
from cadlib.training import monitor
from cadlib.training.monitor import Curve, RunReading

RUN_COLOURS: Final = ("#8F6BD1", "#A67C00")
"""Violet and ochre.

They are no colours of a diagnosis group. tests/test_colour_blindness.py checks that they are
distinct for the colour-blind.
"""
_SIGNS: Final = (("solid", "circle"), ("dash", "diamond"))

TRAINING_CHARTS: Final = {
    monitor.VALIDATION_LOSS: "Validation loss",
    monitor.BALANCED_ACCURACY: "Balanced accuracy",
    monitor.MALIGNANT_AUC: "AUC malignant",
    monitor.LOSS: "Training loss",
    monitor.LEARNING_RATE: "Learning rate",
    monitor.SPEED: "Images per second",
}
"""The title of the chart of each curve, in the order in which a page shows them."""


def training_chart(readings: Sequence[RunReading], tag: str) -> go.Figure:
    """Draw the curve `tag` of one run or two by epoch.

    On a curve of validation a star marks the best epoch.
    """
    title = TRAINING_CHARTS[tag]
    figure = go.Figure()
    texts = []
    for reading, colour, (dash, symbol) in zip(readings, RUN_COLOURS, _SIGNS, strict=False):
        line = {"color": colour, "dash": dash, "width": 2}
        _add_curve(figure, reading, tag, line, symbol)
        text = f"{reading.name} {_course(reading.curves[tag])}"
        # The best epoch is chosen after a validation, which only these curves have.
        if tag.startswith("epoch/"):
            text += _mark_best_epoch(figure, reading, tag, colour)
        texts.append(text)
    longest = max(reading.epochs for reading in readings)
    _set_axes(figure, tag, longest)
    finish(figure, f"{title} by epoch, of {longest}: {'; '.join(texts)}.")
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    # The margin is fixed, so that nothing moves while the curve grows.
    figure.update_layout(height=230, margin={"l": 72}, legend=legend)
    return figure


def _set_axes(figure: go.Figure, tag: str, epochs: int) -> None:
    """Show all epochs from the beginning, and the range of the values so far."""
    # A little room, so that a point of the last epoch is not cut off.
    figure.update_xaxes(title_text="Epoch", range=[0, epochs * 1.02], nticks=8, **GRID)
    figure.update_yaxes(
        title_text=TRAINING_CHARTS[tag],
        nticks=6,
        automargin=False,
        tickformat=".4~g",
        autorangeoptions=_limits(tag),
        **GRID,
    )


def _limits(tag: str) -> dict[str, float]:
    """Return the range that an axis does not leave; only a share has one."""
    is_share = tag in (monitor.BALANCED_ACCURACY, monitor.MALIGNANT_AUC)
    return {"clipmin": 0, "clipmax": 1} if is_share else {}


def _add_curve(
    figure: go.Figure, reading: RunReading, tag: str, line: dict[str, Any], symbol: str
) -> None:
    """Draw the curve of a run; one without a point has an entry in the legend only."""
    curve = reading.curves[tag]
    name = escape(reading.name)
    title = TRAINING_CHARTS[tag]
    figure.add_scatter(
        # A point without coordinates draws nothing, but keeps the entry in the legend.
        x=curve.epochs or [None],
        y=curve.values or [None],
        mode="lines+markers",
        name=name,
        showlegend=True,
        line=line,
        # With many points, marks would hide the line.
        marker={"symbol": symbol, "size": 6 if len(curve.values) < 60 else 1},
        hovertemplate=f"{name}<br>epoch %{{x:.4~g}}<br>{title} %{{y:.4~g}}<extra></extra>",
    )


def _mark_best_epoch(figure: go.Figure, reading: RunReading, tag: str, colour: str) -> str:
    """Mark the best epoch of a run where the curve has it; return its text, or ""."""
    curve = reading.curves[tag]
    best = reading.best
    if best is None:
        return ""
    best_epoch, _ = best
    if best_epoch not in curve.epochs:
        return ""
    value = curve.values[curve.epochs.index(best_epoch)]
    title = TRAINING_CHARTS[tag]
    hover = f"{escape(reading.name)}<br>best epoch, {best_epoch}<br>{title} %{{y:.4~g}}"
    figure.add_scatter(
        x=[best_epoch],
        y=[value],
        mode="markers",
        showlegend=False,
        marker={
            "symbol": "star",
            "size": 15,
            "color": colour,
            "line": {"color": GREY.format(1), "width": 1},
        },
        hovertemplate=f"{hover}<extra></extra>",
    )
    return f", {number_text(value, 3)} at its best epoch, {best_epoch}"


def _course(curve: Curve) -> str:
    """Return the first and the last value of a curve in words."""
    points = []
    for epoch, value in zip(curve.epochs, curve.values, strict=True):
        # A loss that is no number any more has no place in a sentence.
        if math.isfinite(value):
            points.append((epoch, value))
    if not points:
        return "has no point yet"
    first_epoch, first_value = points[0]
    last_epoch, last_value = points[-1]
    return (
        f"from {first_value:.3g} at epoch {first_epoch:.3g} "
        f"to {last_value:.3g} at epoch {last_epoch:.3g}"
    )
