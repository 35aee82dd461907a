"""Draws grids of coloured cells with their numbers: confusion, damage."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray

from cadlib import taxonomy
from cadlib.metrics.conditions_schema import Robustness
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
    """A cell of the confusion matrix: `n` of the `total` images of its row."""

    truth: int
    prediction: int
    n: int
    total: int

    @property
    def share(self) -> float | None:
        """Return its share of the row, or None for a row without images."""
        return self.n / self.total if self.total else None

    @property
    def ink(self) -> str:
        """Return the colour of its number: the cells are opaque, so the page's does not matter."""
        # The upper half of the colour scale is light, the lower half dark.
        return "black" if self.n / self.total >= 0.5 else "white"

    @property
    def hover(self) -> str:
        """Return the text that hovering shows."""
        truth = taxonomy.DIAGNOSES[self.truth]
        prediction = taxonomy.DIAGNOSES[self.prediction]
        share = percent_text(self.n, self.total)
        lines = (
            f"true {truth.name}",
            f"predicted {prediction.name}",
            f"{self.n:,} of {self.total:,} images, {share}",
        )
        return "<br>".join(lines)


def confusion_chart(matrix: ArrayLike, normalise: bool = True, *, opens: bool = False) -> go.Figure:
    """Draw an (8, 8) confusion matrix of counts, rows the truth, columns the prediction.

    Colour always follows the fraction of the row, so that a rare class is as readable as a common
    one; `normalise` chooses whether a cell prints its percent of the row or its count. Hovering
    shows both. With `opens` each cell has a point, x the prediction and y the truth, for a page
    that opens what is clicked. Raise ValueError for a matrix of another shape, or with negative
    counts.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    _check_counts(counts)
    totals = counts.sum(axis=1).tolist()
    truths = []
    for truth, total in zip(taxonomy.DIAGNOSES, totals, strict=True):
        truths.append(f"{truth.code} ({total:,})")
    figure = go.Figure()
    cells: list[_Cell] = []
    grid = _grid(counts)
    _add_colours(figure, grid, truths)
    for row, truth_label in zip(grid, truths, strict=True):
        if row[0].total:
            cells += row
        else:
            # Without an image of this diagnosis no share is defined.
            _add_undefined(figure, truth_label)
    _add_numbers(figure, cells, truths, normalise=normalise, opens=opens)
    if opens:
        _add_points(figure, cells, truths)
    unit = "% of row" if normalise else "images; colour: share of row"
    _set_confusion_axes(figure, unit)
    return finish(figure, _confusion_text(counts))


def _set_confusion_axes(figure: go.Figure, unit: str) -> None:
    """Make the cells squares, the first diagnosis at the upper left."""
    square = {"constrain": "domain", "showgrid": False, "ticks": ""}
    figure.update_xaxes(title_text=f"Predicted diagnosis ({unit})", tickangle=0, **square)
    figure.update_yaxes(
        title_text="True diagnosis (images)",
        autorange="reversed",
        scaleanchor="x",
        constraintoward="top",
        **square,
    )
    figure.update_layout(height=500)


def _add_undefined(figure: go.Figure, row: str) -> None:
    """Write "not defined" across a row without images."""
    figure.add_annotation(x=0.5, xref="x domain", y=row, text=UNDEFINED, showarrow=False)


def _check_counts(counts: NDArray[np.int64]) -> None:
    """Raise ValueError for a matrix of another shape, or with negative counts."""
    size = len(taxonomy.CODES)
    has_shape = counts.shape == (size, size)
    is_negative = counts < 0
    if not has_shape or is_negative.any():
        raise ValueError(
            f"Expected `matrix` to be ({size}, {size}) counts of 0 or more "
            f"but got the shape {counts.shape}."
        )


def _grid(counts: NDArray[np.int64]) -> list[list[_Cell]]:
    """Return the cells of a confusion matrix, row by row."""
    grid = []
    for truth, row in enumerate(counts.tolist()):
        total = sum(row)
        cells = []
        for prediction, n in enumerate(row):
            cell = _Cell(truth, prediction, n, total)
            cells.append(cell)
        grid.append(cells)
    return grid


def _add_colours(figure: go.Figure, grid: list[list[_Cell]], truths: list[str]) -> None:
    """Draw the cells in the colour of their share of the row."""
    shares = []
    hovers = []
    for row in grid:
        shares.append([cell.share for cell in row])
        hovers.append([cell.hover for cell in row])
    figure.add_heatmap(
        z=shares,
        x=list(taxonomy.CODES),
        y=truths,
        customdata=hovers,
        hovertemplate="%{customdata}<extra></extra>",
        zmin=0,
        zmax=1,
        # Even to every eye, colour-blind or not (Nuñez et al., PLoS ONE 13 (2018) e0199239).
        colorscale="Cividis",
        showscale=False,
        xgap=2,
        ygap=2,
    )


def _add_numbers(
    figure: go.Figure, cells: list[_Cell], truths: list[str], *, normalise: bool, opens: bool
) -> None:
    """Write its number into each cell of a row that has images."""
    texts = []
    for cell in cells:
        text = f"{100 * cell.n / cell.total:.0f}" if normalise else f"{cell.n:,}"
        if opens:
            # plotly gives unselected text a single colour, but does not change that of a span.
            text = f"<span style='color:{cell.ink}'>{text}</span>"
        texts.append(text)
    figure.add_scatter(
        x=[taxonomy.CODES[cell.prediction] for cell in cells],
        y=[truths[cell.truth] for cell in cells],
        text=texts,
        textfont={"color": [cell.ink for cell in cells]},
        unselected={"textfont": {"color": "white"}},
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )


def _add_points(figure: go.Figure, cells: list[_Cell], truths: list[str]) -> None:
    """Lay a point over each cell: the cells of a heatmap cannot be selected, points can."""
    figure.add_scatter(
        x=[taxonomy.CODES[cell.prediction] for cell in cells],
        y=[truths[cell.truth] for cell in cells],
        customdata=[cell.hover for cell in cells],
        hovertemplate="%{customdata}<extra></extra>",
        mode="markers",
        marker={"symbol": "square", "size": 34, "color": "white", "opacity": 0},
        selected={"marker": {"opacity": 0.25}},
        unselected={"marker": {"opacity": 0}},
        showlegend=False,
    )


def _confusion_text(counts: NDArray[np.int64]) -> str:
    """Return the confusion matrix in words: the share of each diagnosis that is correct."""
    n_right = counts.diagonal().tolist()
    totals = counts.sum(axis=1).tolist()
    texts = []
    for truth, n, total in zip(taxonomy.DIAGNOSES, n_right, totals, strict=True):
        share = percent_text(n, total)
        texts.append(f"{truth.name} {share} of {total:,}")
    images = f"{counts.sum():,} images"
    return f"Confusion matrix of {images}; correctly classified: {', '.join(texts)}."


_STRENGTHS: Final = ("1", "2", "3", "4", "5")
_DAMAGE_COLUMNS: Final = ("original", *_STRENGTHS)


def damage_chart(robustness: Robustness, merit: str) -> go.Figure:
    """Draw a metric of `robustness.measure` by damage and strength, undamaged in the first column.

    `merit` is "balanced_accuracy", "malignant_auc" or "accuracy". The colour is the fall from the
    first column.
    """
    clean = getattr(robustness.clean, merit)
    damages = robustness.corruptions
    names = list(damages)
    rows = [_damage_row(clean, getattr(damage, merit)) for damage in damages.values()]
    falls = [[_fall(clean, value) for value in values] for values in rows]
    worst = _worst(falls)
    figure = _coloured_falls(names, falls, worst)
    _add_damage_numbers(figure, names, rows, falls, worst)
    # A category: as numbers, the strengths would not stand beside "original".
    figure.update_xaxes(title_text="Severity (1 to 5)", type="category", showgrid=False, ticks="")
    list_rows(figure, names)
    texts = [_damage_course(name, values) for name, values in zip(names, rows, strict=True)]
    words = merit.replace("_", " ").replace("auc", "AUC")
    undamaged = f"{words}, {number_text(clean)} on original images"
    return finish(figure, f"{undamaged}; from severity 1 to 5: {', '.join(texts)}.")


def _damage_course(name: str, values: list[float | None]) -> str:
    """Return how a metric changes with the strength of a damage, in words."""
    # The first value is the one without damage.
    mildest = number_text(values[1])
    strongest = number_text(values[-1])
    return f"{name} {mildest} to {strongest}"


def _damage_row(clean: float | None, by_strength: Mapping[str, float | None]) -> list[float | None]:
    """Return a metric without damage, and then by the strength of a damage."""
    # In the order of the columns, whatever the order in the file.
    damaged = [by_strength[strength] for strength in _STRENGTHS]
    return [clean, *damaged]


def _worst(falls: list[list[float | None]]) -> float:
    """Return the largest fall; without any, 1 avoids a colour scale of no width."""
    # A metric that rises under damage has a negative fall, which the scale does not show.
    worst = 0.0
    for row in falls:
        defined = [fall for fall in row if fall is not None]
        worst = max([worst, *defined])
    return worst or 1.0


def _fall(clean: float | None, value: float | None) -> float | None:
    """Return how much a metric falls, or None where one of both is not defined."""
    if clean is None or value is None or undefined(clean) or undefined(value):
        return None
    return clean - value


def _coloured_falls(names: list[str], falls: list[list[float | None]], worst: float) -> go.Figure:
    """Draw the cells in the colour of their fall, from 0 to `worst`."""
    return go.Figure(
        go.Heatmap(
            z=falls,
            x=list(_DAMAGE_COLUMNS),
            y=names,
            zmin=0,
            zmax=worst,
            colorscale="Cividis",
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="%{y}, severity %{x}<br>loss %{z:.3f}<extra></extra>",
        )
    )


def _add_damage_numbers(
    figure: go.Figure,
    names: list[str],
    rows: list[list[float | None]],
    falls: list[list[float | None]],
    worst: float,
) -> None:
    """Write its number into each cell."""
    x = []
    y = []
    texts = []
    colours = []
    for name, values, row_falls in zip(names, rows, falls, strict=True):
        for column, value, fall in zip(_DAMAGE_COLUMNS, values, row_falls, strict=True):
            x.append(column)
            y.append(name)
            texts.append(_damage_text(value))
            colours.append(_damage_ink(fall, worst))
    figure.add_scatter(
        x=x,
        y=y,
        text=texts,
        textfont={"color": colours},
        mode="text",
        hoverinfo="skip",
        showlegend=False,
    )


def _damage_text(value: float | None) -> str:
    """Return the number of a cell, which is too narrow for "not defined"."""
    if value is None or undefined(value):
        return "–"
    return f"{value:.2f}"


def _damage_ink(fall: float | None, worst: float) -> str:
    """Return a colour that is readable on a cell: the scale ends in light yellow."""
    if fall is None:
        return GREY.format(1)
    middle = worst / 2
    if fall > middle:
        return "black"
    return "white"
