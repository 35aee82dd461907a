"""Two models on the same images: which is better, by more than chance."""

from typing import TYPE_CHECKING

import streamlit as st

from cadlib import command_hints
from cadlib.errors import CadError
from cadlib.metrics.comparison_table import Compared
from cadlib.model import record
from cadlib.report import charts
from cadlib.ui.frame import chart
from cadlib.ui.harmless import plain_rows
from cadlib.ui.metrics_source import Shown, evaluation_of, kept_evaluation
from cadlib.ui.text import plain

if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset
    from cadlib.evaluation.cached import Evaluated
    from cadlib.model.record import ModelRecord

OTHER = "other-model"
"""Key of the box in which the other model is chosen."""


def versus(shown: Shown) -> None:
    """Let another model be chosen, evaluate it on the same images, and draw the differences."""
    st.subheader("Comparison with another model", anchor=False)
    others = [name for name in record.list_models() if name != shown.record.name]
    if not others:
        st.caption(f"No other model in models/. Train one: `{command_hints.train()}`.")
        return
    other = st.selectbox("Other model", others, None, placeholder="none", key=OTHER)
    if other is None:
        return
    if shown.evaluated is None or shown.data is None:
        st.caption("Two models are compared on the same images. Select a data set above.")
        return
    try:
        found = record.read_record(record.find_model(other))
        if second := evaluation_of(found, shown.data):
            _draw(
                _compared(
                    shown.key,
                    second.name,
                    shown.record.name,
                    shown.evaluated,
                    found,
                    second,
                    shown.data,
                )
            )
    except CadError as error:
        st.error(plain(str(error)))


def chosen_comparison(shown: Shown, other: str | None) -> Compared | None:
    """Return the comparison that the page shows, None where no other model is chosen or it was not evaluated yet."""
    if other is None or other == shown.record.name or shown.evaluated is None or shown.data is None:
        return None
    found = record.read_record(record.find_model(other))
    if not (second := kept_evaluation(found, shown.data)):
        return None
    return _compared(
        shown.key, second.name, shown.record.name, shown.evaluated, found, second, shown.data
    )


def _draw(found: Compared) -> None:
    chart(charts.comparison_chart(found.comparison, found.first, found.second), key="comparison")
    st.table(plain_rows(found.difference_rows), hide_index=True)
    st.table(plain_rows(found.test_rows), hide_index=True)
    role = plain(found.about_the_second)
    st.caption(f"{found.note} " + (f":orange[**{role}**]" if found.flattered else role))


@st.cache_resource(max_entries=10, show_spinner="Comparing …")
def _compared(
    key: str,  # noqa: ARG001 - of model and images
    other: str,  # noqa: ARG001 - the same of the other model
    name: str,
    _first: "Evaluated",
    _found: "ModelRecord",
    _second: "Evaluated",
    _data: "Dataset",
) -> Compared:
    from cadlib.evaluation.cached import compared  # noqa: PLC0415 - pandas takes a third of a second
    from cadlib.model.split import part_in_training  # noqa: PLC0415 - as above

    role = part_in_training(record.find_model(_found.name), _found, _data)
    return Compared(name, _found.name, compared(_first, _second), *role)
