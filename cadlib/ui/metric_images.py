"""Draws the images of confusion matrix cells and of referral errors."""

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

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

    from cadlib.evaluation.cached import Evaluated

PAGE_SIZE = 12
NO_IMAGES = "To view images, select a data set above. The model's own results contain only counts."

_SHOWN_COSTS = {
    "other malignant missed": "other missed malignant lesion",
    "needless referral": "unnecessary referral",
    "malignant missed, diagnosis not known": "missed malignant lesion, diagnosis unknown",
}
"""Stored error -> its name for a reader, where that is another."""


@st.fragment
def confusion(shown: Shown) -> None:
    """Draw the confusion matrix; a click on a cell, or the two boxes below it, open its images."""
    st.subheader("Confusion matrix", anchor=False)
    if not Counts.of(shown.metrics).diagnosed:
        st.caption(NO_DIAGNOSIS_NOTE)
        return
    unit = st.segmented_control(
        "Cell values", ["percent", "images"], default="percent", key="unit", required=True
    )
    matrix = shown.metrics.confusion_matrix
    # Without the images, a click has nothing to open.
    opens = shown.evaluated is not None
    figure = charts.confusion_chart(matrix, unit == "percent", opens=opens)
    if shown.evaluated is None:
        chart(figure, key="confusion")
        st.caption(NO_IMAGES)
        return
    # The boxes have their values before the chart is drawn, because a click on it changes them.
    st.session_state.setdefault("cell-truth", "MEL")
    st.session_state.setdefault("cell-predicted", "NV")
    chart(figure, key="confusion", on_select=_open_cell)
    _cell_images(shown, shown.evaluated)


def _cell_images(shown: Shown, evaluated: "Evaluated") -> None:
    """Draw the boxes that select a cell of the confusion matrix, and its images."""
    left, right = st.columns(2)
    truth = left.selectbox("True diagnosis", CODES, format_func=named, key="cell-truth")
    predicted = right.selectbox(
        "Predicted diagnosis", CODES, format_func=named, key="cell-predicted"
    )
    about = (
        f"True {sign(truth)} {truth}, predicted {sign(predicted)} {predicted}; "
        "highest probability first"
    )
    cell = evaluated.cell(truth, predicted)
    content = f"{truth} {predicted} {shown.key}"
    _gallery(cell, about, content, predicted, "cell", evaluated.table)


@st.fragment
def errors(shown: Shown) -> None:
    """Draw the errors of referring at an operating point, missed melanomas first.

    Among each type of error, those come first of which the model was most confident.
    """
    st.subheader("Errors by clinical cost", anchor=False)
    evaluated = shown.evaluated
    if evaluated is None:
        st.caption(NO_IMAGES)
        return
    thresholds = {point.name: point.threshold for point in shown.record.operating_points}
    point = st.segmented_control(
        "Operating point",
        [*thresholds],
        default=_usual(thresholds),
        key="errors-at",
        required=True,
        format_func=shown_name,
        help=about_the_points(),
    )
    threshold = thresholds[point]
    wrong = evaluated.errors(threshold)
    counts = wrong["cost"].value_counts()

    def with_count(cost: str) -> str:
        return f"{_SHOWN_COSTS.get(cost, cost)} {counts[cost]:,}"

    # Other images can have other types of error, so a choice among the former ones may not be an
    # option here. Another key gives another widget.
    cost = st.segmented_control(
        "Type of error",
        evaluated.costs,
        default=evaluated.costs[0],
        key=f"errors-of-{len(evaluated.costs)}",
        required=True,
        format_func=with_count,
    )
    rows = wrong[wrong["cost"] == cost]
    about = (
        f"Malignant probability; referral threshold {two_digits(threshold)}. "
        "Most confident errors first"
    )
    _gallery(rows, about, f"{cost} {shown.key}", "malignant", "errors", evaluated.table)


def _usual(thresholds: dict[str, float]) -> str:
    if DEFAULT_OPERATING_POINT in thresholds:
        return DEFAULT_OPERATING_POINT
    return next(iter(thresholds))


def _open_cell() -> None:
    """Put the cell that was clicked into the boxes."""
    state = st.session_state
    selection = state["confusion"]["selection"]
    points = selection["points"]
    if not points:
        return
    cell = points[0]
    # The row label is a code and a count, "MEL (226)".
    truth, *_ = cell["y"].split(" ")
    state["cell-truth"] = truth
    state["cell-predicted"] = cell["x"]


def _gallery(
    rows: "pd.DataFrame",
    about: str,
    content: str,
    probability_of: str,
    key: str,
    table: "pd.DataFrame",
) -> None:
    """Draw the images of some rows of a table, each with its label and a probability.

    `probability_of` names the diagnosis or the group of that probability. `content` identifies the
    images, `about` is the sentence above them.
    """
    heading = f"No image: {about}"
    if len(rows):
        heading = f"{len(rows):,} images: {about}"

    def words(row: Mapping[Hashable, Any]) -> str:
        return f", {probability_of} {two_digits(row['probability'])}"

    def tiles_between(first: int, end: int) -> list[Tile]:
        return tiles_of(rows.iloc[first:end], words=words)

    pages = Pages(len(rows), tiles_between, heading, f"{about} {content}", PAGE_SIZE)
    gallery(pages, table, key)
