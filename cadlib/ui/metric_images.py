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
    if not Counts.of(shown.figures).diagnosed:
        st.caption(NO_DIAGNOSIS_NOTE)
        return
    unit = st.segmented_control(
        "Cell values", ["percent", "images"], default="percent", key="unit", required=True
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
    said = right.selectbox("Predicted diagnosis", CODES, format_func=named, key="cell-said")
    cell = found.cell(truth, said)
    about = f"True {sign(truth)} {truth}, predicted {sign(said)} {said}; highest probability first"
    _gallery(cell, about, f"{truth} {said} {shown.key}", said, "cell", found.table)


@st.fragment
def errors(shown: Shown) -> None:
    """Draw what referring at an operating point gets wrong, missed melanomas first, by how sure the model was."""
    st.subheader("Errors by clinical cost", anchor=False)
    if (found := shown.evaluated) is None:
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
    wrong = found.errors(thresholds[point])
    counts = wrong["cost"].value_counts()
    # Other images can have other errors, and a choice among those of the last ones would not be among these.
    cost = st.segmented_control(
        "Type of error",
        found.costs,
        default=found.costs[0],
        key=f"errors-of-{len(found.costs)}",
        required=True,
        format_func=lambda cost: f"{_SHOWN_COSTS.get(cost, cost)} {counts[cost]:,}",
    )
    of = wrong[wrong["cost"] == cost]
    about = f"Malignant probability; referral threshold {two_digits(thresholds[point])}. Most confident errors first"
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
