"""Draws the metrics of each diagnosis, and reliability diagrams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import plotly.graph_objects as go

from cadlib import taxonomy
from cadlib.metrics.summary_schema import ReliabilityBin, Summary
from cadlib.report.charts.style import (
    GREY,
    GRID,
    UNDEFINED,
    UNIT,
    add_diagonal,
    finish,
    list_rows,
    number_text,
    row_label,
    undefined,
    whiskers,
)

_SYMBOLS: Final = {"sensitivity": "circle", "specificity": "diamond-open"}
_UNDEFINED_X: Final = {"sensitivity": 0.02, "specificity": 0.45}
"""Where "not defined" is written: apart, as both metrics of a diagnosis may be undefined."""


def per_class_chart(summary: Summary) -> go.Figure:
    """Draw sensitivity and specificity by diagnosis from `summary.summarise`.

    Intervals and numbers of images are drawn too.
    """
    counts = summary.n_by_class
    labels = {}
    for d in taxonomy.DIAGNOSES:
        # Few images make a wide interval, so their number is part of the label.
        n = f" n = {counts[d.code]:,} "
        labels[d.code] = row_label(d, n)
    figure = go.Figure()
    _add_connections(figure, summary, labels)
    for key in _SYMBOLS:
        _add_class_metrics(figure, summary, key, labels)
    _add_undefined(figure, summary, labels)
    figure.update_xaxes(title_text="Sensitivity, specificity", **UNIT)
    list_rows(figure, [labels[code] for code in taxonomy.CODES])
    texts = [_class_text(summary, d) for d in taxonomy.DIAGNOSES]
    return finish(figure, f"Per diagnosis: {'; '.join(texts)}.")


def _class_text(summary: Summary, d: taxonomy.Diagnosis) -> str:
    """Return the metrics of a diagnosis in words."""
    sensitivity = number_text(summary.sensitivity[d.code])
    specificity = number_text(summary.specificity[d.code])
    n = f"{summary.n_by_class[d.code]:,}"
    return f"{d.name} sensitivity {sensitivity}, specificity {specificity}, n {n}"


def _add_connections(figure: go.Figure, summary: Summary, labels: Mapping[str, str]) -> None:
    """Draw a line between the two metrics of each diagnosis, where both are defined."""
    for code in taxonomy.CODES:
        ends = [summary.sensitivity[code], summary.specificity[code]]
        # A line to a missing end would look like a value of 0.
        if any(undefined(end) for end in ends):
            continue
        figure.add_scatter(
            x=ends,
            y=[labels[code]] * 2,
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            line={"color": GREY.format(0.45), "width": 2},
        )


def _add_undefined(figure: go.Figure, summary: Summary, labels: Mapping[str, str]) -> None:
    """Write "not defined" where a metric of a diagnosis is."""
    for key, place in _UNDEFINED_X.items():
        for code in taxonomy.CODES:
            if undefined(getattr(summary, key)[code]):
                figure.add_annotation(
                    x=place,
                    y=labels[code],
                    text=f"{key} {UNDEFINED}",
                    showarrow=False,
                    xanchor="left",
                )


def _add_class_metrics(
    figure: go.Figure, summary: Summary, key: str, labels: Mapping[str, str]
) -> None:
    """Draw a metric of each diagnosis with its interval, and its marker in the legend."""
    colours = [d.group_colour for d in taxonomy.DIAGNOSES]
    grey = GREY.format(1)
    symbol = _SYMBOLS[key]
    values = []
    bounds = []
    for code in taxonomy.CODES:
        value = getattr(summary, key)[code]
        # plotly leaves a gap for None, but would not write NaN as JSON.
        values.append(None if undefined(value) else value)
        bounds.append(getattr(summary.intervals, key)[code])
    figure.add_scatter(
        x=values,
        y=[labels[code] for code in taxonomy.CODES],
        mode="markers",
        marker={
            "symbol": symbol,
            "size": 12,
            "color": colours,
            "line": {"width": 2, "color": colours},
        },
        error_x=whiskers(values, bounds),
        hovertemplate=f"%{{y}}<br>{key} %{{x:.2f}}<extra></extra>",
        # A marker at 0 or 1 would be cut in half at the edge.
        cliponaxis=False,
        showlegend=False,
    )
    # The legend's own marker is grey: it explains the shape, not the colour.
    figure.add_scatter(
        x=[None],
        # Any row will do: a point without x is not drawn.
        y=[labels["MEL"]],
        mode="markers",
        name=key.capitalize(),
        marker={"symbol": symbol, "size": 12, "color": grey, "line": {"width": 2, "color": grey}},
    )


def malignant_reliability_chart(bins: Sequence[ReliabilityBin]) -> go.Figure:
    """Draw the reliability diagram of the malignant probability.

    `bins` are `malignant_reliability` of `summary.summarise`, as for `reliability_chart`.
    """
    return _reliability_chart(bins, _MALIGNANT_WORDS)


def reliability_chart(bins: Sequence[ReliabilityBin]) -> go.Figure:
    """Draw the reliability diagram of `summary.summarise` above the number of images in each bin.

    A bin without a prediction has no dot.
    """
    return _reliability_chart(bins, _DIAGNOSIS_WORDS)


@dataclass(frozen=True)
class _Words:
    """The words of a reliability diagram: its title, diagonal, axes, and points."""

    title: str
    diagonal: str
    x_title: str
    y_title: str
    x: str
    y: str


_DIAGNOSIS_WORDS = _Words(
    title="Reliability diagram",
    diagonal="Perfect calibration",
    x_title="Probability of the predicted diagnosis",
    y_title="Fraction correct",
    x="sure",
    y="right",
)
_MALIGNANT_WORDS = _Words(
    title="Reliability diagram of the malignant probability",
    diagonal="Perfect calibration",
    x_title="Malignant probability",
    y_title="Fraction malignant",
    x="probability",
    y="malignant",
)


def _reliability_chart(bins: Sequence[ReliabilityBin], words: _Words) -> go.Figure:
    """Draw a reliability diagram above the number of predictions in each bin."""
    # A bin without a prediction has no mean, but keeps its place in the bars below.
    filled = [part for part in bins if _is_filled(part)]
    figure = go.Figure()
    # The dots of perfect probabilities lie on this line.
    add_diagonal(figure, words.diagonal)
    _add_reliability(figure, filled, words)
    _add_bin_counts(figure, bins)
    figure.update_layout(
        height=460,
        xaxis={"title": {"text": words.x_title}, "anchor": "y2", **UNIT},
        yaxis={"title": {"text": words.y_title}, "domain": [0.3, 1], **UNIT},
        yaxis2={
            "title": {"text": "Images"},
            "domain": [0, 0.22],
            # The lower chart is a fifth of the height, too low for more numbers.
            "nticks": 3,
            "rangemode": "tozero",
            **GRID,
        },
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )
    texts = [_bin_text(part, words) for part in filled]
    return finish(figure, f"{words.title}: {'; '.join(texts) or UNDEFINED}.")


def _bin_text(part: ReliabilityBin, words: _Words) -> str:
    """Return the numbers of a bin in words."""
    x = f"{words.x} {part.confidence:.2f}"
    y = f"{words.y} {part.accuracy:.2f}"
    return f"{x}, {y}, n {part.n:,}"


def _is_filled(part: ReliabilityBin) -> bool:
    """Return whether a bin has a prediction."""
    return not undefined(part.confidence) and not undefined(part.accuracy)


def _add_reliability(figure: go.Figure, bins: Sequence[ReliabilityBin], words: _Words) -> None:
    """Draw the accuracy of each bin, with its interval, over its confidence."""
    accuracies = [part.accuracy for part in bins]
    intervals = [part.interval for part in bins]
    point = f"{words.x} %{{x:.2f}}<br>{words.y} %{{y:.2f}}<br>%{{customdata[0]:,}} images"
    figure.add_scatter(
        x=[part.confidence for part in bins],
        y=accuracies,
        mode="lines+markers",
        name="Model",
        error_y=whiskers(accuracies, intervals),
        customdata=[[part.n] for part in bins],
        line={"color": taxonomy.BENIGN_COLOUR, "width": 2},
        marker={"size": 8},
        cliponaxis=False,
        hovertemplate=f"{point}<extra></extra>",
    )


def _add_bin_counts(figure: go.Figure, bins: Sequence[ReliabilityBin]) -> None:
    """Draw the number of images in each bin, as bars on an axis of their own."""
    centres = []
    widths = []
    for part in bins:
        centres.append((part.low + part.high) / 2)
        # A narrow gap between the bars.
        widths.append(0.92 * (part.high - part.low))
    figure.add_bar(
        x=centres,
        y=[part.n for part in bins],
        width=widths,
        yaxis="y2",
        showlegend=False,
        marker_color=GREY.format(0.55),
        hovertemplate="%{y:,} images<extra></extra>",
    )
