"""Images as a map: what the model finds alike lies together, and a lasso or a list chooses of it."""

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
"""Points that a browser turns over at once; of more images, so many are drawn by lot."""
PARTS: Final = 24
ABOUT: Final = (
    "Images with similar model features are close together. The axes have no unit. "
    "Distances between far groups and the sizes of groups have no meaning."
)


@dataclass
class _Map:
    """The map of a session: the figure, of what it is, and the images that are chosen.

    `figure` is None when it is to be drawn anew, with what is not chosen dimmed. After that the browser shows by itself
    what a lasso chooses, and the map need not be sent again. `times` it was drawn: a new map begins without a lasso.
    """

    chosen: frozenset[str] | None = None
    figure: "Figure | None" = None
    content: int = 0
    times: int = 0


def map_places(table: "pd.DataFrame", record: ModelRecord, key: str) -> NDArray[np.float32] | None:
    """Return the place of each image of a data set's whole table on its map, (N, 2), by what a model sees of it.

    The place of an image that cannot be read is NaN.
    It takes minutes for thousands of images, once: features and places are kept on disk. It is made in the background;
    meanwhile None is returned, and how far it is is drawn. `key` names the images and the model.
    """
    job = jobs.find(key)
    if job and job.state in ("failed", "stopped"):
        working(job, "Map")
        st.button(
            "Draw the map", "draw-map", on_click=jobs.forget, args=(key,), icon=":material/refresh:"
        )
        return None
    job = job or jobs.start(key, partial(_placed, table, record.name))
    if working(job, "Map"):
        return None
    places: Any = job.result
    return np.asarray(places, np.float32)


def image_map(
    table: "pd.DataFrame", xy: NDArray[np.float32], column: str, key: str, label: str = ""
) -> list[str] | None:
    """Draw the images of a table at their places, (N, 2), coloured by a column; return those that are chosen.

    They are chosen by a lasso or a box on the map, or, without a mouse, from the list of its parts, and stay so when
    another column colours it or other rows are drawn. None while nothing is chosen; else names in the order of the
    table, none of them where a filter has taken all away. `label` says what the column is, its name where that is "".
    """
    label = label or column.replace("_", " ")
    images, values = table["image"].tolist(), _values(table[column])
    shown: _Map = st.session_state.setdefault(f"{key}-map", _Map())
    content = hash((label, tuple(images), values.tobytes(), xy.tobytes()))
    if content != shown.content:
        shown.content, shown.figure, st.session_state[f"{key}-part"] = content, None, None
    if shown.figure is None:
        shown.figure, shown.times = _drawn(xy, values, label, images, shown.chosen), shown.times + 1
    _list_parts(shown, xy, values, images, key)
    chart = f"{key}-{shown.times}"
    st.plotly_chart(
        shown.figure,
        key=chart,
        on_select=partial(_take_lasso, shown, chart, key),
        selection_mode=("lasso", "box"),
        config=MAP_CONFIG,
        alt=shown.figure.layout.meta["alt"],
    )
    st.caption(ABOUT if len(images) <= DRAWN_AT_MOST else f"{ABOUT} {_about_the_lot(len(images))}")
    if shown.chosen is None:
        return None
    rows = np.array([image in shown.chosen for image in images], dtype=bool)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{_count(rows.sum())} selected** {plain(_mostly(values[rows]))}", width="content"
        )
        st.button(
            "Clear selection",
            f"{key}-clear",
            on_click=_choose,
            args=(shown, key, None),
            icon=":material/close:",
        )
    return [image for image, taken in zip(images, rows, strict=True) if taken]


def _drawn(
    xy: NDArray[np.float32],
    values: NDArray[Any],
    label: str,
    images: list[str],
    chosen: Collection[str] | None,
) -> "Figure":
    rows = np.arange(len(images))
    if len(rows) > DRAWN_AT_MOST:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:DRAWN_AT_MOST])
    names = [images[row] for row in rows]
    dimmed = None if chosen is None else np.array([name in chosen for name in names], dtype=bool)
    return map_of(xy[rows], values[rows], label, names, dimmed)


def _list_parts(
    shown: _Map, xy: NDArray[np.float32], values: NDArray[Any], images: list[str], key: str
) -> None:
    """Offer the parts of the map, the largest first, each with what most of its images are."""
    part_of = _parts(xy)
    members = [np.flatnonzero(part_of == part) for part in range(part_of.max() + 1)]
    said = [
        f"Region {part}: {_count(len(rows))} {_mostly(values[rows])}"
        for part, rows in enumerate(members, start=1)
    ]

    def take() -> None:
        part = st.session_state[f"{key}-part"]
        _choose(shown, key, None if part is None else [images[row] for row in members[part]])
        st.session_state[f"{key}-part"] = part

    st.selectbox(
        "Map region",
        range(len(members)),
        index=None,
        format_func=said.__getitem__,
        key=f"{key}-part",
        on_change=take,
        placeholder="Draw a lasso on the map, or select a region here",
    )


def _take_lasso(shown: _Map, chart: str, key: str) -> None:
    """Choose what the mouse was drawn round; nothing when that holds no image or was taken back."""
    points = st.session_state[chart]["selection"]["points"]
    figure = shown.figure
    _choose(shown, key, [point["customdata"] for point in points] or None)
    if points:
        shown.figure = figure  # the browser has dimmed the others already


def _choose(shown: _Map, key: str, images: Collection[str] | None) -> None:
    shown.chosen, shown.figure = None if images is None else frozenset(images), None
    st.session_state[f"{key}-part"] = None


def _placed(table: "pd.DataFrame", model: str, progress: "Progress") -> NDArray[np.float32]:
    from cadlib.evaluation.features import cached_features  # noqa: PLC0415 - pandas takes a third of a second, an answer needs none

    rejected = dict[str, str]()
    seen = cached_features(model_beside(model), table, progress, rejected)
    places = np.full((len(table), 2), np.nan, np.float32)
    readable = ~table["image"].isin(rejected).to_numpy(bool)
    places[readable] = project(seen.features, progress=progress)
    return places


@st.cache_data(max_entries=4, show_spinner=False)
def _parts(xy: NDArray[np.float32]) -> NDArray[np.int64]:
    return parts(xy, PARTS)


def _values(column: "pd.Series") -> NDArray[Any]:
    """Return a column as the figure takes it: numbers with NaN, or text with "" for what is not known."""
    if column.dtype.kind in "fiu":
        return column.to_numpy(np.float32, na_value=np.nan)
    return column.astype(object).where(column.notna(), "").to_numpy().astype(str)


def _mostly(values: NDArray[Any]) -> str:
    """Progress in a few words what images are: the median of numbers, the most frequent of other values."""
    known = values[
        np.isfinite(values) if values.dtype.kind == "f" else ~np.isin(values, ("", UNKNOWN))
    ]
    if not len(known):
        return f"· {UNKNOWN}"
    if known.dtype.kind == "f":
        return f"· median {np.median(known):.4g}"
    found, counts = np.unique(known, return_counts=True)
    most = str(found[counts.argmax()])
    return (
        f"· {100 * counts.max() / len(values):.0f} % {sign(most) if most in CODES else ''} {most}"
    )


def _count(n: int) -> str:
    return "1 image" if n == 1 else f"{n:,} images"


def _about_the_lot(n: int) -> str:
    return (
        f"The map shows a random {DRAWN_AT_MOST:,} of {n:,} images. "
        "A lasso selects among these; a region selects all its images."
    )
