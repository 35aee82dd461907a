"""Draws images as points in the plane, coloured by a property."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import qualitative

from cadlib import taxonomy
from cadlib.report.charts.style import GREY, finish

UNKNOWN: Final = "not given"
MAP_CONFIG: Final[dict[str, Any]] = {
    "displayModeBar": True,
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["autoScale2d", "toImage"],
}
"""Settings that a page passes to plotly for a map: buttons that select, zoom and reset."""
# CARTO's palette for the colour-blind. Its eleventh colour, grey, marks missing values here.
_PALETTE: Final = qualitative.Safe[:10]
_SYMBOLS: Final = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "x",
    "triangle-down",
    "star",
    "pentagon",
    "hexagram",
)
_HEIGHT_PX: Final = 560
_DIM: Final = 0.1
_MARGIN: Final = 0.03


@dataclass(frozen=True)
class _Kind:
    """Images drawn alike: label, rows, symbol, colour, and place in the legend."""

    label: str
    rows: NDArray[np.intp]
    symbol: str
    colour: str
    rank: int


def image_map(
    places: NDArray[np.float32],
    values: NDArray[Any],
    name: str,
    images: Sequence[str],
    chosen: NDArray[np.bool_] | None = None,
) -> go.Figure:
    """Draw N images at their places, (N, 2), in colours of `values`, (N,).

    Values are numbers, or text by category; NaN and "" are missing values. `name` is their name.
    The customdata of a point is the name of its image, of `images`. Where some are `chosen`, (N,),
    the others are dimmed. Codes of ISIC 2019, "malignant" and "benign" have the colours and shapes
    of all charts; of other text the ten most frequent values have a colour and a shape each. Raise
    ValueError for arrays of other lengths.
    """
    n_images = len(images)
    _check_shapes(places, values, n_images)
    numeric = values.dtype.kind in "fiu"
    kinds = _kinds_of_numbers(values, name) if numeric else _kinds_of_text(values.astype(str))
    figure = go.Figure()
    image_names = np.asarray(images, dtype=object)
    # Rare kinds are drawn last, and so on top.
    for kind in sorted(kinds, key=lambda kind: -len(kind.rows)):
        marker: dict[str, Any] = {"symbol": kind.symbol, "color": kind.colour}
        hover = "%{meta}"
        if numeric and kind.label != UNKNOWN:
            marker = _colour_scale(values[kind.rows], name)
            hover = "%{meta} %{marker.color:.4~g}"
        _add(figure, kind, places, image_names, chosen, marker, hover)
    in_legend_order = sorted(kinds, key=lambda kind: kind.rank)
    counts = ", ".join(f"{kind.label} {len(kind.rows):,}" for kind in in_legend_order)
    alt = f"Map of {n_images:,} images, similar ones close together, by {name}: {counts}. No axis has a unit."
    return _finish(figure, places, alt)


def _check_shapes(places: NDArray[np.float32], values: NDArray[Any], n_images: int) -> None:
    if places.shape != (n_images, 2) or len(values) != n_images:
        raise ValueError(
            f"Expected places, (N, 2), and values of {n_images:,} images "
            f"but got {places.shape} and {len(values):,}."
        )


def _colour_scale(values: NDArray[Any], name: str) -> dict[str, Any]:
    """Return the marker that colours points by their numbers."""
    bar = {"title": {"text": name}, "thickness": 12, "outlinewidth": 0}
    return {"color": values.astype(np.float32), "colorscale": "Viridis", "colorbar": bar}


def _add(
    figure: go.Figure,
    kind: _Kind,
    places: NDArray[np.float32],
    images: NDArray[Any],
    chosen: NDArray[np.bool_] | None,
    marker: dict[str, Any],
    hover: str,
) -> None:
    """Draw the images of a kind."""
    opacity: float | NDArray[np.float32] = 0.8
    if chosen is not None:
        opacity = np.where(chosen[kind.rows], 1, _DIM).astype(np.float32)
    marker_style = {
        "size": _point_size_px(len(images)),
        "opacity": opacity,
        "line": {"width": 0},
        **marker,
    }
    figure.add_scattergl(
        x=places[kind.rows, 0].astype(np.float32),
        y=places[kind.rows, 1].astype(np.float32),
        customdata=images[kind.rows],
        mode="markers",
        name=f"{html.escape(kind.label)} {len(kind.rows):,}",
        meta=html.escape(kind.label),
        legendrank=kind.rank,
        marker=marker_style,
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": _DIM}},
        hovertemplate=f"%{{customdata}}<br>{hover}<extra></extra>",
    )


def _point_size_px(n_images: int) -> int:
    if n_images < 500:
        return 9
    if n_images < 5000:
        return 6
    return 4


def _kinds_of_numbers(values: NDArray[Any], name: str) -> list[_Kind]:
    """Return the images with a number, and those without, where there are any."""
    is_number = np.isfinite(values.astype(np.float64))
    numbers = _Kind(name, np.flatnonzero(is_number), "circle", "", 1)
    kinds = [numbers, _unknown(~is_number, 2)]
    return [kind for kind in kinds if len(kind.rows)]


def _kinds_of_text(text: NDArray[np.str_]) -> list[_Kind]:
    """Return the images of each frequent value, of all others, and without a value."""
    unknown = np.isin(text, ("", UNKNOWN, taxonomy.UNKNOWN))
    values, counts = np.unique(text[~unknown], return_counts=True)
    most_frequent_first = np.argsort(-counts, kind="stable")
    looks = _looks([str(value) for value in values[most_frequent_first]])
    kinds = []
    for rank, (value, (label, symbol, colour)) in enumerate(looks.items()):
        rows = np.flatnonzero(text == value)
        kinds.append(_Kind(label, rows, symbol, colour, rank))
    is_other = ~unknown & ~np.isin(text, list(looks))
    n_others = len(values) - len(looks)
    kinds.append(_others(is_other, n_others, len(looks)))
    kinds.append(_unknown(unknown, len(looks) + 1))
    return [kind for kind in kinds if len(kind.rows)]


def _looks(values: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return label, shape and colour of values, in the order of the legend.

    `values` are sorted by their frequency.
    """
    looks: dict[str, tuple[str, str, str]] = {}
    if set(values) <= set(taxonomy.CODES):
        for d in taxonomy.DIAGNOSES:
            if d.code in values:
                looks[d.code] = (f"{d.mark} {d.code}", _shape(d), d.colour)
        return looks
    groups = {d.group: d for d in taxonomy.DIAGNOSES}
    if set(values) <= set(groups):
        for group, d in groups.items():
            if group in values:
                looks[group] = (f"{d.mark} {group}", _shape(d), d.group_colour)
        return looks
    # Values beyond the last colour have no look of their own.
    for value, symbol, colour in zip(values, _SYMBOLS, _PALETTE, strict=False):
        looks[value] = (value, symbol, colour)
    return looks


def _shape(diagnosis: taxonomy.Diagnosis) -> str:
    return "triangle-up" if diagnosis.malignant else "circle"


def _others(rows: NDArray[np.bool_], n_values: int, rank: int) -> _Kind:
    """Return the images of `n_values` values that are too rare for a colour of their own."""
    label = f"{n_values:,} others"
    return _Kind(label, np.flatnonzero(rows), "square-open", GREY.format(0.8), rank)


def _unknown(rows: NDArray[np.bool_], rank: int) -> _Kind:
    return _Kind(UNKNOWN, np.flatnonzero(rows), "circle-open", GREY.format(0.8), rank)


def _finish(figure: go.Figure, places: NDArray[np.float32], alt: str) -> go.Figure:
    """Make a map of a figure: no axis, one scale, a lasso, and kinds that the legend can hide.

    The ranges are those of all images, so that nothing moves when a kind is hidden.
    """
    finish(figure, alt)
    legend = {
        "orientation": "h",
        "x": 0,
        "y": 1.01,
        "yanchor": "bottom",
        "itemsizing": "constant",
        "itemclick": "toggle",
        "itemdoubleclick": "toggleothers",
    }
    margin = {"l": 0, "r": 0, "b": 0, "t": 64}
    figure.update_layout(height=_HEIGHT_PX, dragmode="lasso", legend=legend, margin=margin)
    buttons = {
        "bgcolor": "rgba(0, 0, 0, 0)",
        "color": GREY.format(0.8),
        "activecolor": GREY.format(1),
        # Beside the map: above it, they would lie on the legend of a narrow page.
        "orientation": "v",
    }
    figure.update_layout(modebar=buttons)
    low = places.min(axis=0)
    high = places.max(axis=0)
    left, bottom = (low - _MARGIN * (high - low)).tolist()
    right, top = (high + _MARGIN * (high - low)).tolist()
    figure.update_xaxes(visible=False, fixedrange=False, range=[left, right])
    figure.update_yaxes(visible=False, fixedrange=False, range=[bottom, top], scaleanchor="x")
    return figure
