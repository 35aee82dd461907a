"""Draws the malignant probability of a lesion over its visits."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import plotly.graph_objects as go

from cadlib.metrics.operating_point import two_digits
from cadlib.report.charts.style import GREY, GRID, UNIT, finish


@dataclass(frozen=True)
class HistoryPoint:
    """A result at a visit: `low` and `high` are the ends of the model's networks, if several."""

    day: date
    probability: float
    low: float | None
    high: float | None
    model: str


def history_chart(points: Sequence[HistoryPoint], threshold: float) -> go.Figure:
    """Draw the malignant probability by day, with the referral threshold as a dashed line.

    Results of different models cannot be compared, so each model has a line of its own.
    """
    figure = go.Figure()
    models = list(dict.fromkeys(point.model for point in points))
    symbols = ("circle", "diamond", "square", "triangle-up")
    for number, model in enumerate(models):
        of_model = [point for point in points if point.model == model]
        symbol = symbols[number % len(symbols)]
        _add_line(figure, of_model, model, symbol)
    figure.add_hline(y=threshold, line={"color": GREY.format(0.9), "dash": "dash", "width": 1})
    figure.update_xaxes(title_text="Visit", tickformat="%-d %b %Y", nticks=6, **GRID)
    figure.update_yaxes(title_text="Malignant probability", **UNIT)
    texts = [f"{_day(point.day)} {two_digits(point.probability)}" for point in points]
    finish(
        figure,
        f"Malignant probability by visit, referral threshold {two_digits(threshold)}: "
        f"{', '.join(texts)}.",
    )
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(height=260, legend=legend, showlegend=len(models) > 1)
    return figure


def _add_line(
    figure: go.Figure,
    points: Sequence[HistoryPoint],
    model: str,
    symbol: str,
) -> None:
    """Draw the results of one model, with the range of its networks."""
    above = []
    below = []
    for point in points:
        # A model of one network has no range.
        above.append((point.high or point.probability) - point.probability)
        below.append(
            point.probability - (point.low if point.low is not None else point.probability)
        )
    figure.add_scatter(
        x=[point.day for point in points],
        y=[point.probability for point in points],
        mode="lines+markers",
        name=model,
        marker={"symbol": symbol, "size": 9, "color": GREY.format(1)},
        line={"color": GREY.format(0.9), "width": 2},
        error_y={"type": "data", "array": above, "arrayminus": below, "thickness": 1.5},
        hovertemplate="%{x|%-d %b %Y}: %{y:.2f}<extra></extra>",
    )


def _day(day: date) -> str:
    return f"{day.day} {day:%b %Y}"
