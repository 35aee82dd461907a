"""Two models on the same images: the difference of each figure with its interval."""

import plotly.graph_objects as go

from cadlib import taxonomy
from cadlib.metrics.model_comparison import FIGURE_NAMES, Comparison
from cadlib.report.charts.style import GREY, GRID, finish, list_rows, number_text, undefined


def comparison_chart(found: Comparison, first: str, second: str) -> go.Figure:
    """Draw second minus first, a row a figure; filled where chance does not explain it, to the right where better."""
    figure, said = go.Figure(), []
    for key, name in FIGURE_NAMES.items():
        part = found.figures[key]
        words = f"{name} {number_text(part.first, 3)} and {number_text(part.second, 3)}"
        if part.difference is None or undefined(part.difference):
            figure.add_annotation(x=0, y=name, text="not defined", showarrow=False)
            said.append(words)
            continue
        turn = 1 if part.higher_is_better else -1
        ends = part.interval or (part.difference, part.difference)
        low, high = sorted(turn * end for end in ends)
        value = turn * part.difference
        colour = {"second": taxonomy.BENIGN_COLOUR, "first": taxonomy.MALIGNANT_COLOUR}.get(
            part.better or "", GREY.format(0.9)
        )
        figure.add_scatter(
            x=[value],
            y=[name],
            mode="markers",
            marker={
                "size": 12,
                "symbol": "diamond" if part.better else "diamond-open",
                "color": colour,
            },
            error_x={
                "symmetric": False,
                "array": [high - value],
                "arrayminus": [value - low],
                "color": colour,
            },
            hovertemplate=f"{words}<extra></extra>",
            showlegend=False,
            cliponaxis=False,
        )
        verdict = {"first": f"{first} is better", "second": f"{second} is better"}.get(
            part.better or "", "no more than chance"
        )
        said.append(f"{words}, {verdict}")
    list_rows(figure, list(FIGURE_NAMES.values()))
    figure.add_vline(x=0, line={"color": GREY.format(0.9), "dash": "longdash", "width": 1})
    figure.update_xaxes(title_text=f"← {first} better · {_axis(found)} · {second} better →", **GRID)
    return finish(
        figure, f"{second} compared with {first} on {found.n:,} images: {'; '.join(said)}."
    )


def _axis(found: Comparison) -> str:
    """Return the words for the axis: which figures are drawn with the opposite sign of the table."""
    reversed_names = [
        FIGURE_NAMES[key].split(" (")[0]
        for key, part in found.figures.items()
        if not part.higher_is_better
    ]
    if not reversed_names:
        return "improvement"
    return f"improvement (sign of the {' and the '.join(reversed_names)} reversed)"
