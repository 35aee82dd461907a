"""Draws a hundred patients as marks: referred rightly, needlessly, or missed."""

import math
from typing import Final

import plotly.graph_objects as go

from cadlib import taxonomy
from cadlib.metrics.predictive_values import PredictiveValues
from cadlib.report.charts.style import finish

PATIENTS: Final = 100
_PER_ROW: Final = 20


def hundred_patients(values: PredictiveValues) -> go.Figure:
    """Draw the outcomes of a threshold for 100 patients.

    Shape and hue show the lesion, a filled mark a referral.
    """
    malignant = taxonomy.MALIGNANT_COLOUR
    benign = taxonomy.BENIGN_COLOUR
    outcomes = values.of(PATIENTS)
    kinds = (
        ("malignant, referred", outcomes.detected, "triangle-up", malignant),
        ("malignant, missed", outcomes.missed, "triangle-up-open", malignant),
        ("benign, referred", outcomes.needless, "circle", benign),
        ("benign, not referred", outcomes.spared, "circle-open", benign),
    )
    figure = go.Figure()
    first = 0
    texts = []
    for name, number, symbol, colour in kinds:
        _add_patients(figure, first, number, name, symbol, colour)
        first += number
        texts.append(f"{number} {name}")
    _set_axes(figure)
    finish(figure, f"Of {PATIENTS} patients with one lesion each: {', '.join(texts)}.")
    legend = {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": -0.02,
        "yanchor": "top",
    }
    margin = {"l": 0, "r": 0, "t": 4, "b": 56}
    figure.update_layout(height=190, margin=margin, legend=legend)
    return figure


def _set_axes(figure: go.Figure) -> None:
    """Show the whole grid, the first row on top, without axes."""
    # Half a row and a bit more on each side, so that no mark is cut off.
    figure.update_xaxes(visible=False, range=[-0.7, _PER_ROW - 0.3])
    # A falling range puts the first row on top.
    figure.update_yaxes(visible=False, range=[PATIENTS / _PER_ROW - 0.4, -0.6])


def _add_patients(
    figure: go.Figure, first: int, number: int, name: str, symbol: str, colour: str
) -> None:
    """Draw patients of one kind from the place `first` on."""
    places = [float(place) for place in range(first, first + number)]
    if not places:
        # A mark at NaN is not drawn, but has an entry in the legend.
        places = [math.nan]
    figure.add_scatter(
        x=[place % _PER_ROW for place in places],
        y=[place // _PER_ROW for place in places],
        mode="markers",
        marker={
            "symbol": symbol,
            "color": colour,
            "size": 11,
            "line": {"width": 1.5, "color": colour},
        },
        name=f"{number} {name}",
        hovertemplate=f"{name}<extra></extra>",
    )
