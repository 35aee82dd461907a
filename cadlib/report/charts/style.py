"""Defines the common style of charts: axes, rows, and number texts."""

import math
from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go

from cadlib import taxonomy

CONFIG: Final[dict[str, Any]] = {
    "displayModeBar": False,
    "showSendToCloud": False,
    "responsive": True,
}
"""Settings that a page passes to plotly.

No buttons: one of them sends the chart to plotly's own server.
"""

UNDEFINED: Final = "not defined"

GREY: Final = "rgba(128, 128, 128, {})"
GRID: Final = {"gridcolor": GREY.format(0.22), "zeroline": False, "linecolor": GREY.format(0.6)}
UNIT: Final = {"range": [0, 1], "tickvals": [0, 0.2, 0.4, 0.6, 0.8, 1], "tickformat": ".1f", **GRID}
ROW_PX: Final = 28


def list_rows(figure: go.Figure, labels: Sequence[str]) -> None:
    """Give each label a row, the first on top, and put the legend above them."""
    figure.update_yaxes(
        categoryorder="array",
        categoryarray=list(labels),
        # Half a row on each side; a falling range puts the first row on top.
        range=[len(labels) - 0.5, -0.5],
        showgrid=False,
        automargin=True,
        ticks="",
    )
    figure.update_layout(
        barmode="overlay",
        height=ROW_PX * len(labels) + 84,
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.01, "yanchor": "bottom"},
    )


def finish(figure: go.Figure, alt: str) -> go.Figure:
    """Make a figure fit any page, and add the text `alt` that describes it.

    Nothing can be dragged, zoomed or hidden.
    """
    figure.update_layout(
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        # A chart that needs more room on the right has set it before.
        margin={"l": 8, "r": figure.layout.margin.r or 12, "t": 28, "b": 44},
        dragmode=False,
        modebar={"remove": ["sendChartToCloud"]},
        legend={"itemclick": False, "itemdoubleclick": False, "bgcolor": "rgba(0, 0, 0, 0)"},
        meta={"alt": alt},
    )
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure


def add_diagonal(figure: go.Figure, name: str) -> None:
    """Draw the dashed line from (0, 0) to (1, 1), with its entry in the legend."""
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name=name,
        hoverinfo="skip",
        line={"color": GREY.format(0.7), "dash": "longdash", "width": 1},
    )


def row_label(d: taxonomy.Diagnosis, extra: str = "") -> str:
    """Return the name of a row: diagnosis, code, `extra`, and the coloured mark of its group."""
    return f"{d.name} <b>{d.code}</b> {extra}<span style='color:{d.group_colour}'>{d.mark}</span> "


def undefined(value: float | None) -> bool:
    """Return whether a value is not defined: None as JSON has it, or NaN."""
    return value is None or math.isnan(value)


def number_text(value: float | None, digits: int = 2) -> str:
    """Return a value as text, or `UNDEFINED` for None and NaN."""
    if value is None or math.isnan(value):
        return UNDEFINED
    return f"{value:.{digits}f}"


def percent_text(part: int, whole: int) -> str:
    """Return a share as a whole percentage, or `UNDEFINED` where `whole` is 0."""
    if not whole:
        return UNDEFINED
    return f"{100 * part / whole:.0f} %"


def whiskers(
    values: Sequence[float | None], bounds: Sequence[Sequence[float] | None]
) -> dict[str, Any]:
    """Return the error bars from each value to its [low, high].

    A bar has no length where the value or its bounds are None.
    """
    low = []
    high = []
    for value, ends in zip(values, bounds, strict=True):
        if value is None or ends is None:
            low.append(0.0)
            high.append(0.0)
        else:
            # A percentile interval need not contain the value, and a bar has no negative length.
            low.append(max(value - ends[0], 0.0))
            high.append(max(ends[1] - value, 0.0))
    return {
        "symmetric": False,
        "arrayminus": low,
        "array": high,
        "thickness": 1.5,
        "width": 4,
        "color": GREY.format(0.8),
    }
