"""Draws the data review: lists of findings, created in the background."""

from functools import partial
from shlex import quote
from typing import TYPE_CHECKING

import streamlit as st

from cadlib import jobs
from cadlib.errors import CadError
from cadlib.model.record import ModelRecord, find_model
from cadlib.ui.models import model_beside
from cadlib.ui.text import plain
from cadlib.ui.working import working

if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset
    from cadlib.label_review import Suspects
    from cadlib.progress import Progress

SHOWN_KINDS = {"doubted labels": "doubtful labels", "contradictions": "conflicting labels"}
"""Kind of finding -> its name for a reader, where that is not the stored one."""


@st.fragment
def suspects(dataset: "Dataset", folder: str, record: ModelRecord | None) -> None:
    """Draw a data set's lists of findings for this model, or offer to create them."""
    # Imported late: pandas takes a third of a second, and only this part of the page needs it.
    from cadlib.label_review import KINDS, beside, kept, read_verdicts  # noqa: PLC0415
    from cadlib.ui.worklist import worklist  # noqa: PLC0415

    if record is None:
        st.info("These lists need a model, and none is available.", icon=":material/info:")
        return
    lists = kept(dataset, record.model_id)
    if lists is None:
        _offer(dataset, folder, record)
        return
    try:
        verdicts = read_verdicts(dataset.name)
    except CadError as error:
        st.error(plain(str(error)))
        return
    lists = beside(lists, verdicts)
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        kind = _choose_kind(lists)
        st.download_button(
            "Download all (CSV)",
            lists.to_csv,
            f"suspects-{dataset.name}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    st.caption(KINDS[kind])
    worklist(dataset, lists, kind, verdicts)


def _choose_kind(lists: "Suspects") -> str:
    """Draw the kinds of findings with their counts; return the selected one."""
    from cadlib.label_review import KINDS  # noqa: PLC0415 - as above

    counts = lists.counts

    def with_count(kind: str) -> str:
        name = SHOWN_KINDS.get(kind, kind)
        return f"{name.capitalize()} {counts[kind]:,}"

    kind: str = st.segmented_control(
        "Findings",
        list(KINDS),
        default=next(iter(KINDS)),
        format_func=with_count,
        required=True,
        key="page-suspects-kind",
        label_visibility="collapsed",
        wrap=True,
    )
    return kind


def _offer(dataset: "Dataset", folder: str, record: ModelRecord) -> None:
    """Offer to create the lists in the background, and show the command that creates them too."""
    from cadlib.label_review import kept_at  # noqa: PLC0415 - as above

    key = f"suspects-{kept_at(dataset, record.model_id).stem}"
    if working(jobs.find(key), "Lists"):
        return

    def begin() -> None:
        jobs.start(key, partial(_create, dataset, record.name))

    st.info(
        f"No lists yet for the current data set with {plain(record.model_id)}. Every image is "
        "checked, which takes minutes for thousands of images. You can leave this page meanwhile.",
        icon=":material/hourglass_empty:",
    )
    st.button(
        "Create lists",
        "make-suspects",
        type="primary",
        icon=":material/checklist:",
        on_click=begin,
    )
    st.caption("Or create them as a CSV file with a command:")
    command = (
        f"python -m cadlib suspects --data {quote(folder)} --model {record.name} "
        "--output suspects.csv"
    )
    st.code(command, language=None)


def _create(dataset: "Dataset", model: str, progress: "Progress") -> None:
    from cadlib.label_review import keep  # noqa: PLC0415 - as above
    from cadlib.label_review.search import find_suspects  # noqa: PLC0415 - as above

    def report(what: str, done: int, total: int) -> None:
        progress(f"images · {what}", done, total)

    # On half of the cores, so that the pages stay responsive.
    loaded = model_beside(model)
    folder = find_model(model)
    lists = find_suspects(loaded, folder, dataset, report)
    keep(lists, dataset)
