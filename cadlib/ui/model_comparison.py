"""Compares two models on the same images."""

from typing import TYPE_CHECKING

import streamlit as st

from cadlib import command_hints
from cadlib.errors import CadError
from cadlib.metrics.comparison_table import Compared
from cadlib.model import record
from cadlib.report import charts
from cadlib.ui.frame import chart
from cadlib.ui.harmless import plain_rows
from cadlib.ui.metrics_source import Shown, evaluation_of, find_saved_evaluation
from cadlib.ui.text import plain

if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset
    from cadlib.evaluation.cached import Evaluated
    from cadlib.model.record import ModelRecord

OTHER = "other-model"
"""Key of the box in which the other model is selected."""


def compare_models(shown: Shown) -> None:
    """Let another model be selected, evaluate it on the same images, and draw the differences."""
    st.subheader("Comparison with another model", anchor=False)
    others = [name for name in record.list_models() if name != shown.record.name]
    if not others:
        st.caption(f"No other model in models/. Train one: `{command_hints.train()}`.")
        return
    other = st.selectbox("Other model", others, None, placeholder="none", key=OTHER)
    if other is None:
        return
    first = shown.evaluated
    data = shown.data
    if first is None or data is None:
        st.caption("Two models are compared on the same images. Select a data set above.")
        return
    try:
        folder = record.find_model(other)
        other_record = record.read_record(folder)
        second = evaluation_of(other_record, data)
        if second:
            compared = _comparison(shown, first, other_record, second, data)
            _draw(compared)
    except CadError as error:
        st.error(plain(str(error)))


def chosen_comparison(shown: Shown, other: str | None) -> Compared | None:
    """Return the comparison on the page.

    It is None if no other model is selected, or if that is not evaluated yet.
    """
    # The selection may be from before the page's model was changed.
    if other is None or other == shown.record.name:
        return None
    if shown.evaluated is None or shown.data is None:
        return None
    other_record = record.read_record(record.find_model(other))
    second = find_saved_evaluation(other_record, shown.data)
    if not second:
        return None
    return _comparison(shown, shown.evaluated, other_record, second, shown.data)


def _draw(comparison: Compared) -> None:
    figure = charts.comparison_chart(comparison.comparison, comparison.first, comparison.second)
    chart(figure, key="comparison")
    st.table(plain_rows(comparison.difference_rows), hide_index=True)
    st.table(plain_rows(comparison.test_rows), hide_index=True)
    role = plain(comparison.about_the_second)
    if comparison.flattered:
        role = f":orange[**{role}**]"
    st.caption(f"{comparison.note} {role}")


def _comparison(
    shown: Shown,
    first: "Evaluated",
    other_record: "ModelRecord",
    second: "Evaluated",
    data: "Dataset",
) -> Compared:
    """Return the comparison of the page's model with another one on the same images."""
    name = shown.record.name
    return _compared(shown.key, second.name, name, first, other_record, second, data)


# `key` and `other` name model and images of the two evaluations, which cannot be hashed.
@st.cache_resource(max_entries=10, show_spinner="Comparing …")
def _compared(
    key: str,  # noqa: ARG001
    other: str,  # noqa: ARG001
    name: str,
    _first: "Evaluated",
    _other_record: "ModelRecord",
    _second: "Evaluated",
    _data: "Dataset",
) -> Compared:
    # Imported late: pandas takes a third of a second.
    from cadlib.evaluation.cached import compared  # noqa: PLC0415
    from cadlib.model.split import part_in_training  # noqa: PLC0415

    folder = record.find_model(_other_record.name)
    role, flattered = part_in_training(folder, _other_record, _data)
    comparison = compared(_first, _second)
    return Compared(name, _other_record.name, comparison, role, flattered)
