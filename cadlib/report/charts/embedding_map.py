"""Draws images as points in the plane, coloured by a property."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

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


@dataclass(frozen=True, eq=False)
class _Points:
    """All N images of a map: places (N, 2), names (N,), and which are chosen, (N,), if any are."""

    places: NDArray[np.float32]
    names: NDArray[Any]
    chosen: NDArray[np.bool_] | None


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
    # numpy's kinds of numbers: float, integer, unsigned integer.
    numeric = values.dtype.kind in "fiu"
    kinds = _kinds_of_numbers(values, name) if numeric else _kinds_of_text(values.astype(str))
    figure = go.Figure()
    points = _Points(places, np.asarray(images, dtype=object), chosen)
    # Rare kinds are drawn last, and so on top.
    for kind in sorted(kinds, key=lambda kind: -len(kind.rows)):
        marker: dict[str, Any] = {"symbol": kind.symbol, "color": kind.colour}
        hover = "%{meta}"
        if numeric and kind.label != UNKNOWN:
            marker = _colour_scale(values[kind.rows], name)
            hover = "%{meta} %{marker.color:.4~g}"
        _add(figure, kind, points, marker, hover)
    return _finish(figure, places, _map_text(kinds, name, n_images))


def _map_text(kinds: Sequence[_Kind], name: str, n_images: int) -> str:
    """Return a map in words: the number of images of each kind, in the order of the legend."""
    counts = _counts_text(kinds)
    order = f"similar ones close together, by {name}: {counts}"
    return f"Map of {n_images:,} images, {order}. No axis has a unit."


def _counts_text(kinds: Sequence[_Kind]) -> str:
    """Return the number of images of each kind, separated by commas."""
    in_legend_order = sorted(kinds, key=lambda kind: kind.rank)
    texts = [f"{kind.label} {len(kind.rows):,}" for kind in in_legend_order]
    return ", ".join(texts)


def _check_shapes(places: NDArray[np.float32], values: NDArray[Any], n_images: int) -> None:
    """Raise ValueError for places or values of another number of images."""
    if places.shape != (n_images, 2) or len(values) != n_images:
        raise ValueError(
            f"Expected places, (N, 2), and values of {n_images:,} images "
            f"but got {places.shape} and {len(values):,}."
        )


def _colour_scale(values: NDArray[Any], name: str) -> dict[str, Any]:
    """Return the marker that colours points by their numbers."""
    title = {"text": name}
    bar = {"title": title, "thickness": 12, "outlinewidth": 0}
    numbers = values.astype(np.float32)
    return {"color": numbers, "colorscale": "Viridis", "colorbar": bar}


def _add(
    figure: go.Figure, kind: _Kind, points: _Points, marker: dict[str, Any], hover: str
) -> None:
    """Draw the images of a kind."""
    # plotly sends float32 in half the bytes.
    places = points.places[kind.rows].astype(np.float32)
    marker_style = {
        "size": _point_size_px(len(points.names)),
        "opacity": _opacity(kind, points),
        "line": {"width": 0},
        **marker,
    }
    figure.add_scattergl(
        x=places[:, 0],
        y=places[:, 1],
        customdata=points.names[kind.rows],
        mode="markers",
        # plotly reads tags in names, and labels come from files.
        name=f"{html.escape(kind.label)} {len(kind.rows):,}",
        meta=html.escape(kind.label),
        legendrank=kind.rank,
        marker=marker_style,
        # plotly dims what a reader leaves out of a selection, as the page dims what is not chosen.
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": _DIM}},
        hovertemplate=f"%{{customdata}}<br>{hover}<extra></extra>",
    )


def _opacity(kind: _Kind, points: _Points) -> float | NDArray[np.float32]:
    """Return one opacity, or with chosen images that of each image of the kind."""
    if points.chosen is None:
        # Below 1, so that points on top of each other are seen as such.
        return 0.8
    is_chosen = points.chosen[kind.rows]
    opacity = np.where(is_chosen, 1, _DIM)
    return opacity.astype(np.float32)


def _point_size_px(n_images: int) -> int:
    """Return the diameter of a point: many points need small ones."""
    if n_images < 500:
        return 9
    if n_images < 5000:
        return 6
    return 4


def _kinds_of_numbers(values: NDArray[Any], name: str) -> list[_Kind]:
    """Return the images with a number, and those without, where there are any."""
    is_number = np.isfinite(values.astype(np.float64))
    rows = np.flatnonzero(is_number)
    numbers = _Kind(name, rows, symbol="circle", colour="", rank=1)
    unknown = _unknown(~is_number, rank=2)
    return _with_images([numbers, unknown])


def _kinds_of_text(text: NDArray[np.str_]) -> list[_Kind]:
    """Return the images of each frequent value, of all others, and without a value."""
    # UNK is a label, but states no property, so it is drawn as missing.
    is_unknown = np.isin(text, ("", UNKNOWN, taxonomy.UNKNOWN))
    values = _most_frequent_first(text[~is_unknown])
    looks = _looks(values)
    kinds = []
    for rank, (value, look) in enumerate(looks.items()):
        rows = np.flatnonzero(text == value)
        kinds.append(_Kind(look.label, rows, look.symbol, look.colour, rank))
    has_look = np.isin(text, list(looks))
    n_others = len(values) - len(looks)
    kinds.append(_others(~is_unknown & ~has_look, n_others, rank=len(looks)))
    kinds.append(_unknown(is_unknown, rank=len(looks) + 1))
    return _with_images(kinds)


def _most_frequent_first(text: NDArray[np.str_]) -> list[str]:
    """Return the distinct values; equally frequent ones are sorted by name."""
    values, counts = np.unique(text, return_counts=True)
    # `unique` sorts by name, and a stable sort keeps that order among equal counts.
    order = np.argsort(-counts, kind="stable")
    return [str(value) for value in values[order]]


def _with_images(kinds: list[_Kind]) -> list[_Kind]:
    """Return the kinds that have an image: the others need no entry in the legend."""
    return [kind for kind in kinds if len(kind.rows)]


class _Look(NamedTuple):
    """How a value is drawn: its label in the legend, symbol and colour."""

    label: str
    symbol: str
    colour: str


def _looks(values: Sequence[str]) -> dict[str, _Look]:
    """Return the look of values, in the order of the legend; the most frequent value is first."""
    for looks in (_looks_of_codes(), _looks_of_groups()):
        # Colours with a fixed meaning apply only where every value has one.
        if set(values) <= set(looks):
            return {value: look for value, look in looks.items() if value in values}
    looks = {}
    # Values beyond the last colour have no look of their own.
    for value, symbol, colour in zip(values, _SYMBOLS, _PALETTE, strict=False):
        looks[value] = _Look(value, symbol, colour)
    return looks


def _looks_of_codes() -> dict[str, _Look]:
    """Return the look of each diagnosis code, as in all charts."""
    looks = {}
    for d in taxonomy.DIAGNOSES:
        looks[d.code] = _Look(f"{d.mark} {d.code}", _shape(d), d.colour)
    return looks


def _looks_of_groups() -> dict[str, _Look]:
    """Return the look of "malignant" and "benign", as in all charts."""
    looks = {}
    for d in taxonomy.DIAGNOSES:
        looks[d.group] = _Look(f"{d.mark} {d.group}", _shape(d), d.group_colour)
    return looks


def _shape(diagnosis: taxonomy.Diagnosis) -> str:
    """Return the symbol of a diagnosis: a sign beside the colour."""
    return "triangle-up" if diagnosis.malignant else "circle"


def _others(rows: NDArray[np.bool_], n_values: int, rank: int) -> _Kind:
    """Return the images of `n_values` values that are too rare for a colour of their own."""
    label = f"{n_values:,} others"
    numbers = np.flatnonzero(rows)
    return _Kind(label, numbers, "square-open", GREY.format(0.8), rank)


def _unknown(rows: NDArray[np.bool_], rank: int) -> _Kind:
    """Return the images without a value."""
    numbers = np.flatnonzero(rows)
    return _Kind(UNKNOWN, numbers, "circle-open", GREY.format(0.8), rank)


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
    # Over all images, whichever kinds the legend shows.
    low = places.min(axis=0)
    high = places.max(axis=0)
    margins = _MARGIN * (high - low)
    left, bottom = (low - margins).tolist()
    right, top = (high + margins).tolist()
    figure.update_xaxes(visible=False, fixedrange=False, range=[left, right])
    # One scale for both axes: distances in the map would mean nothing otherwise.
    figure.update_yaxes(visible=False, fixedrange=False, range=[bottom, top], scaleanchor="x")
    return figure
