"""The images behind a figure: those of a cell of the confusion matrix, and those that a threshold gets wrong."""

from typing import TYPE_CHECKING

import streamlit as st

from cadlib.metrics.image_counts import NO_DIAGNOSIS_NOTE, Counts
from cadlib.metrics.operating_point import (
    DEFAULT_OPERATING_POINT,
    about_the_points,
    shown_name,
    two_digits,
)
from cadlib.report import charts
from cadlib.taxonomy import CODES
from cadlib.ui.frame import chart
from cadlib.ui.gallery import gallery, tiles_of
from cadlib.ui.metrics_source import Shown
from cadlib.ui.text import named, sign
from cadlib.ui.tiles import Pages, Tile

if TYPE_CHECKING:
    import pandas as pd

PAGE_SIZE = 12
NO_IMAGES = "To open images, choose a data set above: the model's own figures hold counts alone."


@st.fragment
def confusion(shown: Shown) -> None:
    """Draw the confusion matrix; a click on a cell, or the two boxes below it, open its images."""
    st.subheader("Confusion matrix", anchor=False)
    if not Counts.of(shown.figures).diagnosed:
        st.caption(NO_DIAGNOSIS_NOTE)
        return
    unit = st.segmented_control(
        "Cells", ["percent", "images"], default="percent", key="unit", required=True
    )
    opens = shown.evaluated is not None
    figure = charts.confusion_chart(
        shown.figures["confusion_matrix"], unit == "percent", opens=opens
    )
    if (found := shown.evaluated) is None:
        chart(figure, key="confusion")
        st.caption(NO_IMAGES)
        return
    st.session_state.setdefault("cell-truth", "MEL")
    st.session_state.setdefault("cell-said", "NV")
    chart(figure, key="confusion", on_select=_open_cell)
    left, right = st.columns(2)
    truth = left.selectbox("True diagnosis", CODES, format_func=named, key="cell-truth")
    said = right.selectbox("Model said", CODES, format_func=named, key="cell-said")
    cell = found.cell(truth, said)
    about = f"{sign(truth)} {truth} that the model called {sign(said)} {said}, the surest first"
    _gallery(cell, about, f"{truth} {said} {shown.key}", said, "cell", found.table)


@st.fragment
def errors(shown: Shown) -> None:
    """Draw what referring at an operating point gets wrong, missed melanomas first, by how sure the model was."""
    st.subheader("Errors by cost", anchor=False)
    if (found := shown.evaluated) is None:
        st.caption(NO_IMAGES)
        return
    thresholds = {point.name: point.threshold for point in shown.record.operating_points}
    point = st.segmented_control(
        "At the operating point", [*thresholds], default=_usual(thresholds), key="errors-at", required=True,
        format_func=shown_name, help=about_the_points(),
    )  # fmt: skip
    wrong = found.errors(thresholds[point])
    counts = wrong["cost"].value_counts()
    # Other images can have other errors, and a choice among those of the last ones would not be among these.
    cost = st.segmented_control(
        "Error", found.costs, default=found.costs[0], key=f"errors-of-{len(found.costs)}", required=True,
        format_func=lambda cost: f"{cost} {counts[cost]:,}",
    )  # fmt: skip
    of = wrong[wrong["cost"] == cost]
    about = f"Malignant probability against a threshold of {thresholds[point]:.3f}, the surest errors first"
    _gallery(of, about, f"{cost} {shown.key}", "malignant", "errors", found.table)


def _usual(thresholds: dict[str, float]) -> str:
    return (
        DEFAULT_OPERATING_POINT if DEFAULT_OPERATING_POINT in thresholds else next(iter(thresholds))
    )


def _open_cell() -> None:
    """Take the cell that was clicked into the boxes."""
    points = st.session_state["confusion"]["selection"]["points"]
    if points:
        st.session_state["cell-truth"] = points[0]["y"].split(" ")[0]
        st.session_state["cell-said"] = points[0]["x"]


def _gallery(
    rows: "pd.DataFrame", about: str, of: str, whose: str, key: str, table: "pd.DataFrame"
) -> None:
    """Draw the images of some rows of a table, each with its truth and the probability of what `whose` names."""
    words = f"{len(rows):,} images: {about}" if len(rows) else f"No image: {about}"

    def tiles(first: int, end: int) -> list[Tile]:
        return tiles_of(
            rows.iloc[first:end], words=lambda row: f", {whose} {two_digits(row['probability'])}"
        )

    gallery(Pages(len(rows), tiles, words, f"{about} {of}", PAGE_SIZE), table, key)
