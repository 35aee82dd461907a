"""Images as points in the plane, coloured by what is known of them."""

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
"""What a page passes on to plotly for a map: the buttons that choose, zoom and go back."""
_PALETTE: Final = qualitative.Safe[
    :10
]  # CARTO's, for the colour-blind; its eleventh is grey, here what is not known
_SYMBOLS: Final = (
    "circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down", "star", "pentagon", "hexagram",
)  # fmt: skip
_HEIGHT_PX: Final = 560
_DIM: Final = 0.1
_MARGIN: Final = 0.03


@dataclass(frozen=True)
class _Kind:
    """Images drawn alike: what they are called, which rows they are, how they look, and their place in the legend."""

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
    """Draw N images at their places, (N, 2), in colours of `values`, (N,): numbers, or text by the category.

    `name` says what the values are; NaN and "" are values that are not known. The customdata of a point is the name of
    its image, of `images`. Where some are `chosen`, (N,), the others are dimmed. Codes of ISIC 2019, "malignant" and
    "benign" have the colours and shapes of all charts; of other text the ten most frequent values have a colour and a
    shape each. Raise ValueError for arrays of other lengths.
    """
    if not places.shape == (len(images), 2) == (len(values), 2):
        raise ValueError(
            f"Expected places, (N, 2), and values of {len(images):,} images but got {places.shape} and {len(values):,}."
        )
    numeric = values.dtype.kind in "fiu"
    kinds = _of_numbers(values, name) if numeric else _of_text(values.astype(str))
    figure = go.Figure()
    for kind in sorted(kinds, key=lambda kind: -len(kind.rows)):  # rare ones lie on top
        marker: dict[str, Any] = {"symbol": kind.symbol, "color": kind.colour}
        hover = "%{meta}"
        if numeric and kind.label != UNKNOWN:
            bar = {"title": {"text": name}, "thickness": 12, "outlinewidth": 0}
            marker = {
                "color": values[kind.rows].astype(np.float32),
                "colorscale": "Viridis",
                "colorbar": bar,
            }
            hover = "%{meta} %{marker.color:.4~g}"
        _add(figure, kind, places, np.asarray(images, dtype=object), chosen, marker, hover)
    said = ", ".join(
        f"{kind.label} {len(kind.rows):,}" for kind in sorted(kinds, key=lambda kind: kind.rank)
    )
    return _finish(
        figure,
        places,
        f"Map of {len(images):,} images, like beside like, by {name}: {said}. No axis has a unit.",
    )


def _add(
    figure: go.Figure,
    kind: _Kind,
    places: NDArray[np.float32],
    images: NDArray[Any],
    chosen: NDArray[np.bool_] | None,
    marker: dict[str, Any],
    hover: str,
) -> None:
    size_px = 9 if len(images) < 500 else 6 if len(images) < 5000 else 4
    opacity = 0.8 if chosen is None else np.where(chosen[kind.rows], 1, _DIM).astype(np.float32)
    figure.add_scattergl(
        x=places[kind.rows, 0].astype(np.float32),
        y=places[kind.rows, 1].astype(np.float32),
        customdata=images[kind.rows],
        mode="markers",
        name=f"{html.escape(kind.label)} {len(kind.rows):,}",
        meta=html.escape(kind.label),
        legendrank=kind.rank,
        marker={"size": size_px, "opacity": opacity, "line": {"width": 0}, **marker},
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": _DIM}},
        hovertemplate=f"%{{customdata}}<br>{hover}<extra></extra>",
    )


def _of_numbers(values: NDArray[Any], name: str) -> list[_Kind]:
    known = np.isfinite(values.astype(np.float64))
    kinds = [_Kind(name, np.flatnonzero(known), "circle", "", 1), _unknown(~known, 2)]
    return [kind for kind in kinds if len(kind.rows)]


def _of_text(text: NDArray[np.str_]) -> list[_Kind]:
    unknown = np.isin(text, ("", UNKNOWN, taxonomy.UNKNOWN))
    found, counts = np.unique(text[~unknown], return_counts=True)
    looks = _looks([str(value) for value in found[np.argsort(-counts, kind="stable")]])
    kinds = [
        _Kind(label, np.flatnonzero(text == value), symbol, colour, rank)
        for rank, (value, (label, symbol, colour)) in enumerate(looks.items())
    ]
    rest = np.flatnonzero(~unknown & ~np.isin(text, list(looks)))
    kinds.append(
        _Kind(
            f"{len(found) - len(looks):,} others", rest, "square-open", GREY.format(0.8), len(looks)
        )
    )
    return [kind for kind in (*kinds, _unknown(unknown, len(looks) + 1)) if len(kind.rows)]


def _looks(found: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return label, shape and colour of values that are given by their frequency, in the order of the legend."""
    shapes = {True: "triangle-up", False: "circle"}
    if set(found) <= set(taxonomy.CODES):
        return {
            d.code: (f"{d.mark} {d.code}", shapes[d.malignant], d.colour)
            for d in taxonomy.DIAGNOSES
            if d.code in found
        }
    if set(found) <= {d.group for d in taxonomy.DIAGNOSES}:
        groups = {d.group: d for d in taxonomy.DIAGNOSES}
        return {
            one: (f"{d.mark} {one}", shapes[d.malignant], d.group_colour)
            for one, d in groups.items()
            if one in found
        }
    return {value: (value, *look) for value, *look in zip(found, _SYMBOLS, _PALETTE, strict=False)}


def _unknown(rows: NDArray[np.bool_], rank: int) -> _Kind:
    return _Kind(UNKNOWN, np.flatnonzero(rows), "circle-open", GREY.format(0.8), rank)


def _finish(figure: go.Figure, places: NDArray[np.float32], alt: str) -> go.Figure:
    """Make a map of it: no axis, one scale, a lasso in the hand, and kinds that a click in the legend hides.

    The ranges are those of all images, so that nothing moves when a kind is hidden.
    """
    finish(figure, alt)
    legend = {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "itemsizing": "constant"}
    legend |= {"itemclick": "toggle", "itemdoubleclick": "toggleothers"}
    figure.update_layout(
        height=_HEIGHT_PX, dragmode="lasso", legend=legend, margin={"l": 0, "r": 0, "b": 0, "t": 64}
    )
    figure.update_layout(
        modebar={
            "bgcolor": "rgba(0, 0, 0, 0)", "color": GREY.format(0.8), "activecolor": GREY.format(1),
            "orientation": "v",  # beside the map: above it, it would lie on the legend of a narrow page
        }
    )  # fmt: skip
    low, high = places.min(axis=0), places.max(axis=0)
    (left, bottom), (right, top) = (
        (low - _MARGIN * (high - low)).tolist(),
        (high + _MARGIN * (high - low)).tolist(),
    )
    figure.update_xaxes(visible=False, fixedrange=False, range=[left, right])
    figure.update_yaxes(visible=False, fixedrange=False, range=[bottom, top], scaleanchor="x")
    return figure
