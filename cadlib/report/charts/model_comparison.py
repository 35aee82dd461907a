"""Draws the differences of two models on the same images, with intervals."""

import plotly.graph_objects as go

from cadlib import taxonomy
from cadlib.metrics.model_comparison import METRIC_NAMES, Comparison, Difference
from cadlib.report.charts.style import GREY, GRID, finish, list_rows, number_text, undefined


def comparison_chart(comparison: Comparison, first: str, second: str) -> go.Figure:
    """Draw second minus first, a row a metric.

    A mark is filled where the difference is significant, and lies on the right where the second
    model is better.
    """
    figure = go.Figure()
    texts = []
    for key, name in METRIC_NAMES.items():
        difference = comparison.metrics[key]
        text = f"{name} {_values_text(difference)}"
        if difference.difference is None or undefined(difference.difference):
            figure.add_annotation(x=0, y=name, text="not defined", showarrow=False)
            texts.append(text)
            continue
        _add_difference(figure, name, difference, text)
        texts.append(f"{text}, {_verdict(difference, first, second)}")
    list_rows(figure, list(METRIC_NAMES.values()))
    figure.add_vline(x=0, line={"color": GREY.format(0.9), "dash": "longdash", "width": 1})
    # The side of a mark shows the better model, whatever the sign of its metric.
    title = f"← {first} better · {_axis(comparison)} · {second} better →"
    figure.update_xaxes(title_text=title, **GRID)
    n = f"{comparison.n:,}"
    return finish(figure, f"{second} compared with {first} on {n} images: {'; '.join(texts)}.")


def _values_text(difference: Difference) -> str:
    """Return the metric of both models."""
    digits = 3
    first = number_text(difference.first, digits)
    second = number_text(difference.second, digits)
    return f"{first} and {second}"


def _add_difference(figure: go.Figure, name: str, difference: Difference, text: str) -> None:
    """Draw a difference with its interval, turned so that better is on the right."""
    if difference.difference is None:
        return
    # The sign of a metric such as the Brier score is reversed, so that right is always better.
    sign = 1 if difference.higher_is_better else -1
    value = sign * difference.difference
    # Without an interval the bar has no length.
    ends = difference.interval or (difference.difference, difference.difference)
    # A reversed sign swaps the ends.
    low, high = sorted(sign * end for end in ends)
    colour = _colour(difference)
    figure.add_scatter(
        x=[value],
        y=[name],
        mode="markers",
        marker={
            "size": 12,
            "symbol": "diamond" if difference.better else "diamond-open",
            "color": colour,
        },
        error_x={
            "symmetric": False,
            "array": [high - value],
            "arrayminus": [value - low],
            "color": colour,
        },
        hovertemplate=f"{text}<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )


def _colour(difference: Difference) -> str:
    if difference.better == "second":
        return taxonomy.BENIGN_COLOUR
    if difference.better == "first":
        return taxonomy.MALIGNANT_COLOUR
    return GREY.format(0.9)


def _verdict(difference: Difference, first: str, second: str) -> str:
    if difference.better == "first":
        return f"{first} is better"
    if difference.better == "second":
        return f"{second} is better"
    return "no significant difference"


def _axis(comparison: Comparison) -> str:
    """Return the title of the axis, with the metrics drawn with the opposite sign of the table."""
    reversed_names = []
    for key, difference in comparison.metrics.items():
        if not difference.higher_is_better:
            # The note in brackets is about the table, where the sign is not reversed.
            name, _, _ = METRIC_NAMES[key].partition(" (")
            reversed_names.append(name)
    if not reversed_names:
        return "improvement"
    return f"improvement (sign of the {' and the '.join(reversed_names)} reversed)"
