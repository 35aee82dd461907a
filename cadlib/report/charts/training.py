"""The curves of one run of training, or of two to compare."""

import math
from collections.abc import Sequence
from html import escape
from typing import Final

import plotly.graph_objects as go

from cadlib.report.charts.style import GREY, GRID, finish, number_text
from cadlib.training import monitor
from cadlib.training.monitor import Curve, RunReading

RUN_COLOURS: Final = ("#8F6BD1", "#A67C00")
"""Violet and ochre: no colours of a diagnosis group, and apart for the colour-blind (tests/test_colours.py)."""
_SIGNS: Final = (("solid", "circle"), ("dash", "diamond"))

TRAINING_CHARTS: Final = {
    monitor.VALIDATION_LOSS: "Validation loss",
    monitor.BALANCED_ACCURACY: "Balanced accuracy",
    monitor.MALIGNANT_AUC: "AUC malignant",
    monitor.LOSS: "Training loss",
    monitor.LEARNING_RATE: "Learning rate",
    monitor.SPEED: "Images a second",
}
"""The title of the chart of each curve, in the order in which a page shows them."""


def training_chart(readings: Sequence[RunReading], tag: str) -> go.Figure:
    """Draw the curve `tag` of one run or two by epoch; on a curve of validation a star marks the best epoch."""
    title, figure, said = TRAINING_CHARTS[tag], go.Figure(), []
    for reading, colour, (dash, symbol) in zip(readings, RUN_COLOURS, _SIGNS, strict=False):
        curve, name = reading.curves[tag], escape(reading.name)
        figure.add_scatter(
            x=curve.epochs or [None],
            y=curve.values or [None],
            mode="lines+markers",
            name=name,
            showlegend=True,
            line={"color": colour, "dash": dash, "width": 2},
            marker={"symbol": symbol, "size": 6 if len(curve.values) < 60 else 1},
            hovertemplate=f"{name}<br>epoch %{{x:.4~g}}<br>{title} %{{y:.4~g}}<extra></extra>",
        )
        said.append(f"{reading.name} {_words(curve)}")
        if (best := reading.best) and best[0] in curve.epochs and tag.startswith("epoch/"):
            figure.add_scatter(
                x=[best[0]], y=[curve.values[curve.epochs.index(best[0])]], mode="markers", showlegend=False,
                marker={"symbol": "star", "size": 15, "color": colour, "line": {"color": GREY.format(1), "width": 1}},
                hovertemplate=f"{name}<br>best epoch, {best[0]}<br>{title} %{{y:.4~g}}<extra></extra>",
            )  # fmt: skip
            said[-1] += (
                f", {number_text(curve.values[curve.epochs.index(best[0])], 3)} at its best epoch, {best[0]}"
            )
    longest = max(reading.epochs for reading in readings)
    figure.update_xaxes(title_text="Epoch", range=[0, longest * 1.02], nticks=8, **GRID)
    share = (
        {"clipmin": 0, "clipmax": 1}
        if tag in (monitor.BALANCED_ACCURACY, monitor.MALIGNANT_AUC)
        else {}
    )
    figure.update_yaxes(
        title_text=title,
        nticks=6,
        automargin=False,
        tickformat=".4~g",
        autorangeoptions=share,
        **GRID,
    )
    finish(figure, f"{title} by epoch, of {longest}: {'; '.join(said)}.")
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(
        height=230, margin={"l": 72}, legend=legend
    )  # of a fixed size: nothing moves while it grows
    return figure


def _words(curve: Curve) -> str:
    """Say how a curve goes."""
    values = [
        (epoch, value)
        for epoch, value in zip(curve.epochs, curve.values, strict=True)
        if math.isfinite(value)
    ]
    if not values:
        return "has no point yet"
    (first, begun), (last, ended) = values[0], values[-1]
    return f"from {begun:.3g} at epoch {first:.3g} to {ended:.3g} at epoch {last:.3g}"
