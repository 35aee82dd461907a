"""A hundred patients as a hundred marks: who is referred rightly, needlessly, or missed."""

import math
from typing import Final

import plotly.graph_objects as go

from cadlib import taxonomy
from cadlib.metrics.predictive_values import PredictiveValues
from cadlib.report.charts.style import finish

PATIENTS: Final = 100
_PER_ROW: Final = 20


def hundred_patients(values: PredictiveValues) -> go.Figure:
    """Draw what a threshold does to 100 patients; shape and hue tell the lesion, a filled mark a referral."""
    outcomes = values.of(PATIENTS)
    kinds = (
        ("malignant, referred", outcomes.found, "triangle-up", taxonomy.MALIGNANT_COLOUR),
        ("malignant, missed", outcomes.missed, "triangle-up-open", taxonomy.MALIGNANT_COLOUR),
        ("benign, referred", outcomes.needless, "circle", taxonomy.BENIGN_COLOUR),
        ("benign, not referred", outcomes.spared, "circle-open", taxonomy.BENIGN_COLOUR),
    )
    figure, first = go.Figure(), 0
    for name, number, symbol, colour in kinds:
        places = [float(place) for place in range(first, first + number)] or [
            math.nan
        ]  # nan: in the legend alone
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
        first += number
    figure.update_xaxes(visible=False, range=[-0.7, _PER_ROW - 0.3])
    figure.update_yaxes(visible=False, range=[PATIENTS / _PER_ROW - 0.4, -0.6])
    said = ", ".join(f"{number} {name}" for name, number, *_ in kinds)
    finish(figure, f"Of {PATIENTS} patients like these: {said}.")
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.02, "yanchor": "top"}
    figure.update_layout(height=190, margin={"l": 0, "r": 0, "t": 4, "b": 56}, legend=legend)
    return figure
