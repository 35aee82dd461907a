"""Grids of cells that are coloured by a share and tell it as a number: confusion, damage."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from cadlib import taxonomy
from cadlib.report.charts.style import (
    GREY,
    UNDEFINED,
    finish,
    list_rows,
    number_text,
    percent_text,
    undefined,
)


class _Cell(NamedTuple):
    truth: int
    said: int
    n: int
    total: int

    @property
    def ink(self) -> str:
        """Return the colour of its figure: the cells are opaque, so it needs none of the page's."""
        return "black" if self.n / self.total >= 0.5 else "white"

    @property
    def hover(self) -> str:
        truth, said = taxonomy.DIAGNOSES[self.truth], taxonomy.DIAGNOSES[self.said]
        share = percent_text(self.n, self.total)
        return f"truth {truth.name}<br>predicted {said.name}<br>{self.n:,} of {self.total:,} images, {share}"


def confusion_chart(matrix: ArrayLike, normalise: bool = True, *, opens: bool = False) -> go.Figure:
    """Draw an (8, 8) confusion matrix of counts, rows the truth, columns the prediction.

    Colour always follows the fraction of the row, so that a rare class is as readable as a common one;
    `normalise` chooses whether a cell prints its percent of the row or its count. Hovering tells both. With `opens`
    each cell has a point, x the prediction and y the truth, for a page that opens what is clicked.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    size = len(taxonomy.CODES)
    if counts.shape != (size, size) or (counts < 0).any():
        raise ValueError(
            f"Expected `matrix` to be ({size}, {size}) counts of 0 or more but got the shape {counts.shape}."
        )
    totals = counts.sum(axis=1).tolist()
    truths = [
        f"{truth.code} ({total:,})" for truth, total in zip(taxonomy.DIAGNOSES, totals, strict=True)
    ]
    grid = [
        [_Cell(row, column, n, total) for column, n in enumerate(line)]
        for row, (line, total) in enumerate(zip(counts.tolist(), totals, strict=True))
    ]
    figure = _coloured(grid, truths)
    _figures_in(figure, grid, truths, normalise=normalise, opens=opens)
    for truth, total in zip(truths, totals, strict=True):
        if not total:
            figure.add_annotation(x=0.5, xref="x domain", y=truth, text=UNDEFINED, showarrow=False)
    unit = "% of the row" if normalise else "images; colour: share of the row"
    square = {"constrain": "domain", "showgrid": False, "ticks": ""}
    figure.update_xaxes(title_text=f"Predicted ({unit})", tickangle=0, **square)
    figure.update_yaxes(
        title_text="Truth (images)",
        autorange="reversed",
        scaleanchor="x",
        constraintoward="top",
        **square,
    )
    figure.update_layout(height=500)
    return finish(figure, _said_of(counts))


def _coloured(grid: list[list[_Cell]], truths: list[str]) -> go.Figure:
    return go.Figure(
        go.Heatmap(
            z=[[cell.n / cell.total if cell.total else None for cell in row] for row in grid],
            x=list(taxonomy.CODES),
            y=truths,
            customdata=[[cell.hover for cell in row] for row in grid],
            hovertemplate="%{customdata}<extra></extra>",
            zmin=0,
            zmax=1,
            # Even to every eye, colour-blind or not (Nuñez et al., PLoS ONE 13 (2018) e0199239).
            colorscale="Cividis",
            showscale=False,
            xgap=2,
            ygap=2,
        )
    )


def _figures_in(
    figure: go.Figure, grid: list[list[_Cell]], truths: list[str], *, normalise: bool, opens: bool
) -> None:
    """Write its figure into each cell of a row that has images; with `opens`, lay a point over it."""
    cells = [cell for row in grid for cell in row if cell.total]
    x, y = [taxonomy.CODES[cell.said] for cell in cells], [truths[cell.truth] for cell in cells]
    texts = [f"{100 * cell.n / cell.total:.0f}" if normalise else f"{cell.n:,}" for cell in cells]
    if opens:  # plotly gives what is not selected one colour, but not a span in it
        texts = [
            f"<span style='color:{cell.ink}'>{text}</span>"
            for cell, text in zip(cells, texts, strict=True)
        ]
    figure.add_scatter(
        x=x,
        y=y,
        text=texts,
        textfont={"color": [cell.ink for cell in cells]},
        unselected={"textfont": {"color": "white"}},
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )
    if opens:  # a heatmap's cells cannot be selected, points can
        figure.add_scatter(
            x=x,
            y=y,
            customdata=[cell.hover for cell in cells],
            hovertemplate="%{customdata}<extra></extra>",
            mode="markers",
            marker={"symbol": "square", "size": 34, "color": "white", "opacity": 0},
            selected={"marker": {"opacity": 0.25}},
            unselected={"marker": {"opacity": 0}},
            showlegend=False,
        )


def _said_of(counts: NDArray[np.int64]) -> str:
    own = zip(
        taxonomy.DIAGNOSES, counts.diagonal().tolist(), counts.sum(axis=1).tolist(), strict=True
    )
    said = [f"{truth.name} {percent_text(n, total)} of {total:,}" for truth, n, total in own]
    return f"Confusion matrix of {counts.sum():,} images; recognised as itself: {', '.join(said)}."


def damage_chart(robustness: Mapping[str, Any], merit: str) -> go.Figure:
    """Draw a figure of `robustness.measure` by damage and strength, the picture as it is in the first column.

    `merit` is "balanced_accuracy", "malignant_auc" or "accuracy". The colour is the fall from the first column.
    """
    clean, damages = robustness["clean"][merit], robustness["corruptions"]
    names, columns = list(damages), ["as it is", "1", "2", "3", "4", "5"]
    rows = [[clean, *(part[merit][key] for key in columns[1:])] for part in damages.values()]
    lost = [
        [None if undefined(value) or undefined(clean) else clean - value for value in row]
        for row in rows
    ]
    worst = max((fall for row in lost for fall in row if fall is not None), default=0.0) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=lost, x=columns, y=names, zmin=0, zmax=worst, colorscale="Cividis", showscale=False, xgap=2, ygap=2,
            hovertemplate="%{y}, strength %{x}<br>fall %{z:.3f}<extra></extra>",
        )
    )  # fmt: skip
    cells = [(y, x, rows[y][x], lost[y][x]) for y in range(len(rows)) for x in range(len(columns))]
    figure.add_scatter(
        x=[columns[x] for _, x, _, _ in cells],
        y=[names[y] for y, _, _, _ in cells],
        text=["–" if undefined(value) else f"{value:.2f}" for _, _, value, _ in cells],
        textfont={"color": [
            GREY.format(1) if fall is None else "black" if fall > worst / 2 else "white" for *_, fall in cells
        ]},
        mode="text", hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.update_xaxes(
        title_text="Strength of the damage", type="category", showgrid=False, ticks=""
    )
    list_rows(figure, names)
    said = [
        f"{name} {number_text(row[1])} to {number_text(row[-1])}"
        for name, row in zip(names, rows, strict=True)
    ]
    words = merit.replace("_", " ").replace("auc", "AUC")
    return finish(
        figure, f"{words}, {number_text(clean)} undamaged; from strength 1 to 5: {', '.join(said)}."
    )
