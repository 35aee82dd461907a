"""What was measured of a model: each diagnosis, and whether its probabilities hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from cadlib import taxonomy
from cadlib.report.charts.style import (
    GREY,
    GRID,
    UNDEFINED,
    UNIT,
    finish,
    list_rows,
    number_text,
    row_label,
    undefined,
    whiskers,
)


def per_class_chart(summary: Mapping[str, Any]) -> go.Figure:
    """Draw sensitivity and specificity by diagnosis from `summary.summarise`, with intervals and number of images."""
    counts = summary["n_by_class"]
    colours, grey = [d.group_colour for d in taxonomy.DIAGNOSES], GREY.format(1)
    labels = {d.code: row_label(d, f" n = {counts[d.code]:,} ") for d in taxonomy.DIAGNOSES}
    figure = go.Figure()
    for d in taxonomy.DIAGNOSES:
        ends = [summary[key][d.code] for key in ("sensitivity", "specificity")]
        if not any(map(undefined, ends)):
            figure.add_scatter(
                x=ends, y=[labels[d.code]] * 2, mode="lines", hoverinfo="skip", showlegend=False,
                line={"color": GREY.format(0.45), "width": 2},
            )  # fmt: skip
    for key, symbol in (("sensitivity", "circle"), ("specificity", "diamond-open")):
        values = {code: None if undefined(value) else value for code, value in summary[key].items()}
        bounds = [summary["intervals"][key][code] for code in taxonomy.CODES]
        figure.add_scatter(
            x=[values[code] for code in taxonomy.CODES],
            y=[labels[code] for code in taxonomy.CODES],
            mode="markers",
            marker={"symbol": symbol, "size": 12, "color": colours, "line": {"width": 2, "color": colours}},
            error_x=whiskers([values[code] for code in taxonomy.CODES], bounds),
            hovertemplate=f"%{{y}}<br>{key} %{{x:.2f}}<extra></extra>",
            cliponaxis=False,
            showlegend=False,
        )  # fmt: skip
        # The legend's own marker is grey: what it explains is the shape, not the colour.
        figure.add_scatter(
            x=[None], y=[labels["MEL"]], mode="markers", name=key.capitalize(),
            marker={"symbol": symbol, "size": 12, "color": grey, "line": {"width": 2, "color": grey}},
        )  # fmt: skip
    for place, key in ((0.02, "sensitivity"), (0.45, "specificity")):
        for code in taxonomy.CODES:
            if undefined(summary[key][code]):
                figure.add_annotation(
                    x=place,
                    y=labels[code],
                    text=f"{key} {UNDEFINED}",
                    showarrow=False,
                    xanchor="left",
                )
    figure.update_xaxes(title_text="Fraction of images", **UNIT)
    list_rows(figure, [labels[code] for code in taxonomy.CODES])
    said = [
        f"{d.name} sensitivity {number_text(summary['sensitivity'][d.code])}, "
        f"specificity {number_text(summary['specificity'][d.code])}, n {counts[d.code]:,}"
        for d in taxonomy.DIAGNOSES
    ]
    return finish(figure, f"Per diagnosis: {'; '.join(said)}.")


def malignant_reliability_chart(bins: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the same for the malignant probability: `malignant_reliability` of `summary.summarise`."""
    return _reliability_chart(bins, _MALIGNANT_WORDS)


def reliability_chart(bins: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the reliability diagram of `summary.summarise` above the number of predictions in each bin.

    A bin is {"low", "high", "n", "confidence", "accuracy", "interval"}; one without a prediction has no dot, one of an
    earlier version no interval.
    """
    return _reliability_chart(bins, _DIAGNOSIS_WORDS)


@dataclass(frozen=True)
class _Words:
    """The words of a reliability diagram: its title, its diagonal and axes, and what a point states."""

    title: str
    diagonal: str
    x_title: str
    y_title: str
    x: str
    y: str


_DIAGNOSIS_WORDS = _Words(
    "Reliability diagram", "As sure as right", "Probability of the predicted diagnosis", "Fraction right",
    "sure", "right",
)  # fmt: skip
_MALIGNANT_WORDS = _Words(
    "Reliability diagram of the malignant probability", "Perfect calibration", "Malignant probability",
    "Fraction malignant", "probability", "malignant",
)  # fmt: skip


def _reliability_chart(bins: Sequence[Mapping[str, Any]], words: _Words) -> go.Figure:
    filled = [b for b in bins if not undefined(b["confidence"]) and not undefined(b["accuracy"])]
    colour = taxonomy.BENIGN_COLOUR
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name=words.diagonal, hoverinfo="skip",
        line={"color": GREY.format(0.7), "dash": "longdash", "width": 1},
    )  # fmt: skip
    figure.add_scatter(
        x=[b["confidence"] for b in filled],
        y=[b["accuracy"] for b in filled],
        mode="lines+markers",
        name="Model",
        error_y=whiskers([b["accuracy"] for b in filled], [b.get("interval") for b in filled]),
        customdata=[[b["n"]] for b in filled],
        line={"color": colour, "width": 2},
        marker={"size": 8},
        cliponaxis=False,
        hovertemplate=f"{words.x} %{{x:.2f}}<br>{words.y} %{{y:.2f}}<br>%{{customdata[0]:,}} images<extra></extra>",
    )
    figure.add_bar(
        x=[(b["low"] + b["high"]) / 2 for b in bins],
        y=[b["n"] for b in bins],
        width=[0.92 * (b["high"] - b["low"]) for b in bins],
        yaxis="y2",
        showlegend=False,
        marker_color=GREY.format(0.55),
        hovertemplate="%{y:,} images<extra></extra>",
    )
    figure.update_layout(
        height=460,
        xaxis={"title": {"text": words.x_title}, "anchor": "y2", **UNIT},
        yaxis={"title": {"text": words.y_title}, "domain": [0.3, 1], **UNIT},
        yaxis2={
            "title": {"text": "Images"},
            "domain": [0, 0.22],
            "nticks": 3,
            "rangemode": "tozero",
            **GRID,
        },
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    said = [
        f"{words.x} {b['confidence']:.2f}, {words.y} {b['accuracy']:.2f}, n {b['n']:,}"
        for b in filled
    ]
    return finish(figure, f"{words.title}: {'; '.join(said) or UNDEFINED}.")
