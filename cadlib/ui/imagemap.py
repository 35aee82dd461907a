"""Draws images as a map to select from."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cadlib import jobs
from cadlib.evaluation.embedding_map import parts, project
from cadlib.model.record import ModelRecord
from cadlib.report.charts.embedding_map import MAP_CONFIG, UNKNOWN
from cadlib.report.charts.embedding_map import image_map as map_of
from cadlib.taxonomy import CODES
from cadlib.ui.models import model_beside
from cadlib.ui.text import plain, sign
from cadlib.ui.working import working

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from cadlib.progress import Progress

DRAWN_AT_MOST: Final = 30_000
"""Points that a browser draws without delay; of more images, a random sample is drawn."""
PARTS: Final = 24
ABOUT: Final = (
    "Images with similar model features are close together. The axes have no unit. "
    "Distances between far groups and the sizes of groups have no meaning."
)


@dataclass
class _Map:
    """The map of a session: its chart, what it shows, and the selected images.

    `figure` is None when the chart must be drawn again, with the images outside the selection
    dimmed. After that the browser itself shows what a lasso selects, and the chart need not be sent
    again.
    `content` is a hash of the chart. `times` counts the drawings: a new chart starts
    without a lasso.
    """

    chosen: frozenset[str] | None = None
    figure: "Figure | None" = None
    content: int = 0
    times: int = 0


def map_places(table: "pd.DataFrame", record: ModelRecord, key: str) -> NDArray[np.float32] | None:
    """Return the place of each image of a data set's whole table on its map, (N, 2) float32.

    The place of an image that cannot be read is NaN. The first call takes minutes for thousands of
    images; features and places are then cached on disk. The work runs in the background; meanwhile
    its progress is drawn and None is returned. `key` names the images and the model.
    """
    job = jobs.find(key)
    # Only the reader starts it again, because it may fail once more.
    if job and job.state in ("failed", "stopped"):
        working(job, "Map")
        st.button(
            "Draw the map",
            key="draw-map",
            on_click=jobs.forget,
            args=(key,),
            icon=":material/refresh:",
        )
        return None
    if not job:
        job = jobs.start(key, partial(_compute_places, table, record.name))
    if working(job, "Map"):
        return None
    places: Any = job.result
    return np.asarray(places, np.float32)


def image_map(
    table: "pd.DataFrame", xy: NDArray[np.float32], column: str, key: str, label: str = ""
) -> list[str] | None:
    """Draw images at their places, (N, 2), coloured by a column; return the selected ones.

    They are selected by a lasso or a box on the map, or, without a mouse, from the list of its
    regions. The selection stays when another column colours the map or other rows are drawn. The
    result is None without a selection; else names in the order of the table, none of them if a
    filter has removed all. `label` is the column's title, its name if that is "".
    """
    title = label or column.replace("_", " ")
    images = table["image"].tolist()
    values = _values(table[column])
    state = _current_map(key, title, images, values, xy)
    _list_regions(state, xy, values, images, key)
    _draw_chart(state, key)
    st.caption(_about(len(images)))
    if state.chosen is None:
        return None
    is_selected = _mask(images, state.chosen)
    _draw_selection(state, key, values[is_selected])
    # A filter may have removed some of the selected images from the table.
    return [image for image in images if image in state.chosen]


def _draw_chart(state: _Map, key: str) -> None:
    """Draw the chart of a map; a lasso on it changes the selection."""
    chart = f"{key}-{state.times}"
    figure = state.figure
    assert figure is not None
    st.plotly_chart(
        figure,
        key=chart,
        on_select=partial(_take_lasso, state, chart, key),
        selection_mode=("lasso", "box"),
        config=MAP_CONFIG,
        alt=figure.layout.meta["alt"],
    )


def _current_map(
    key: str, title: str, images: list[str], values: NDArray[Any], xy: NDArray[np.float32]
) -> _Map:
    """Return the map of this session with a chart of these images, drawn again if they changed."""
    state: _Map = st.session_state.setdefault(f"{key}-map", _Map())
    content = hash((title, tuple(images), values.tobytes(), xy.tobytes()))
    if content != state.content:
        state.content = content
        state.figure = None
        # The numbers of the regions belong to the former chart.
        st.session_state[f"{key}-part"] = None
    if state.figure is None:
        state.figure = _draw(xy, values, title, images, state.chosen)
        state.times += 1
    return state


def _draw_selection(state: _Map, key: str, values: NDArray[Any]) -> None:
    """Draw how many images are selected, what most of them are, and the button that clears them."""
    with st.container(horizontal=True, vertical_alignment="center"):
        count = _count(len(values))
        st.markdown(f"**{count} selected** {plain(_mostly(values))}", width="content")
        st.button(
            "Clear selection",
            f"{key}-clear",
            on_click=_choose,
            args=(state, key, None),
            icon=":material/close:",
        )


def _draw(
    xy: NDArray[np.float32],
    values: NDArray[Any],
    title: str,
    images: list[str],
    chosen: Collection[str] | None,
) -> "Figure":
    """Return the chart of these images, or of a sample of so many that a browser draws them."""
    n_images = len(images)
    rows = np.arange(n_images)
    if n_images > DRAWN_AT_MOST:
        # Always the same sample, so that no point comes or goes between two drawings.
        rng = np.random.default_rng(0)
        shuffled = rng.permutation(rows)
        rows = np.sort(shuffled[:DRAWN_AT_MOST])
    names = [images[row] for row in rows]
    selected = None
    if chosen is not None:
        selected = _mask(names, chosen)
    return map_of(xy[rows], values[rows], title, names, selected)


def _mask(images: list[str], chosen: Collection[str]) -> NDArray[np.bool_]:
    """Return whether each image is chosen, (N,)."""
    is_chosen = [image in chosen for image in images]
    return np.array(is_chosen, dtype=bool)


def _list_regions(
    state: _Map, xy: NDArray[np.float32], values: NDArray[Any], images: list[str], key: str
) -> None:
    """Draw the list of the map's regions, largest first, each with what most of its images are."""
    regions = _rows_of_regions(xy)
    labels = []
    for number, rows in enumerate(regions, start=1):
        count = _count(len(rows))
        labels.append(f"Region {number}: {count} {_mostly(values[rows])}")
    box = f"{key}-part"

    def take() -> None:
        number = st.session_state[box]
        selected = None
        if number is not None:
            rows = regions[number]
            selected = [images[row] for row in rows]
        _choose(state, key, selected)
        # `_choose` clears the box, but this choice came from it.
        st.session_state[box] = number

    st.selectbox(
        "Map region",
        range(len(regions)),
        index=None,
        format_func=labels.__getitem__,
        key=box,
        on_change=take,
        placeholder="Draw a lasso on the map, or select a region here",
    )


def _rows_of_regions(xy: NDArray[np.float32]) -> list[NDArray[np.intp]]:
    """Return the rows of each region of the map, largest region first."""
    region_of = _regions(xy)
    n_regions = region_of.max() + 1
    return [np.flatnonzero(region_of == number) for number in range(n_regions)]


def _take_lasso(state: _Map, chart: str, key: str) -> None:
    """Select what a lasso surrounds; clear the selection if that is no image or it was removed."""
    selection = st.session_state[chart]["selection"]
    images = [point["customdata"] for point in selection["points"]]
    figure = state.figure
    _choose(state, key, images or None)
    if images:
        # The browser has already dimmed the other images, so the chart need not be drawn again.
        state.figure = figure


def _choose(state: _Map, key: str, images: Collection[str] | None) -> None:
    """Select these images, or with None all, and have the chart drawn again."""
    state.chosen = None
    if images is not None:
        state.chosen = frozenset(images)
    state.figure = None
    st.session_state[f"{key}-part"] = None


def _compute_places(table: "pd.DataFrame", model: str, progress: "Progress") -> NDArray[np.float32]:
    # Imported late: pandas takes a third of a second, and a result on the Diagnose page needs none.
    from cadlib.evaluation.model_outputs import model_outputs  # noqa: PLC0415

    outputs = model_outputs(model_beside(model), table, progress, skip_unreadable=True)
    outputs.check_any()
    # An image that cannot be read has no place.
    places = np.full((len(table), 2), np.nan, np.float32)
    places[outputs.rows] = project(outputs.features, progress=progress)
    return places


@st.cache_data(max_entries=4, show_spinner=False)
def _regions(xy: NDArray[np.float32]) -> NDArray[np.int64]:
    return parts(xy, PARTS)


def _values(column: "pd.Series") -> NDArray[Any]:
    """Return a column for the chart: numbers with NaN, or text with "" where it is missing."""
    if column.dtype.kind in "fiu":
        return column.to_numpy(np.float32, na_value=np.nan)
    texts = column.astype(object)
    filled = texts.where(column.notna(), "")
    return filled.to_numpy().astype(str)


def _mostly(values: NDArray[Any]) -> str:
    """Return in a few words what images are: a median of numbers, else the most frequent value."""
    is_number = values.dtype.kind == "f"
    is_missing = ~np.isfinite(values) if is_number else np.isin(values, ("", UNKNOWN))
    present = values[~is_missing]
    if not len(present):
        return f"· {UNKNOWN}"
    if is_number:
        median = np.median(present)
        return f"· median {median:.4g}"
    names, counts = np.unique(present, return_counts=True)
    most_frequent = str(names[counts.argmax()])
    # Of all images: missing values are part of the whole.
    percent = 100 * counts.max() / len(values)
    mark = sign(most_frequent) if most_frequent in CODES else ""
    return f"· {percent:.0f} % {mark} {most_frequent}"


def _count(n: int) -> str:
    """Return a number of images in words."""
    if n == 1:
        return "1 image"
    return f"{n:,} images"


def _about(n: int) -> str:
    """Return the caption under a map of n images."""
    if n <= DRAWN_AT_MOST:
        return ABOUT
    return (
        f"{ABOUT} The map shows a random {DRAWN_AT_MOST:,} of {n:,} images. "
        "A lasso selects among these; a region selects all its images."
    )
