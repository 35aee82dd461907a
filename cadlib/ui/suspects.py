"""What of a data set a person should look at again: lists that are made in the background, a worklist at a time."""

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
    from cadlib.progress import Progress

SHOWN_KINDS = {"doubted labels": "doubtful labels", "contradictions": "conflicting labels"}
"""Kind of finding -> its name for a reader, where that is not the stored one."""


@st.fragment
def suspects(dataset: "Dataset", folder: str, record: ModelRecord | None) -> None:
    """Draw the lists of a folder's data set that were made with this model, as worklists; offer to make them."""
    from cadlib.label_review import KINDS, beside, kept, read_verdicts  # noqa: PLC0415 - pandas: not before it is asked for
    from cadlib.ui.worklist import worklist  # noqa: PLC0415 - as above

    if record is None:
        st.info("These lists need a model, and none is available.", icon=":material/info:")
        return
    found = kept(dataset, record.model_id)
    if found is None:
        _offer(dataset, folder, record)
        return
    try:
        verdicts = read_verdicts(dataset.name)
    except CadError as error:
        st.error(plain(str(error)))
        return
    found = beside(found, verdicts)
    counts = found.counts

    def with_count(kind: str) -> str:
        name = SHOWN_KINDS.get(kind, kind)
        return f"{name.capitalize()} {counts[kind]:,}"

    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        kind = st.segmented_control(
            "Findings",
            list(KINDS),
            default=next(iter(KINDS)),
            format_func=with_count,
            required=True,
            key="page-suspects-kind",
            label_visibility="collapsed",
            wrap=True,
        )
        name = f"suspects-{dataset.name}.csv"
        st.download_button(
            "Download all (CSV)",
            found.to_csv,
            name,
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    st.caption(KINDS[kind])
    worklist(dataset, found, kind, verdicts)


def _offer(dataset: "Dataset", folder: str, record: ModelRecord) -> None:
    """Make the lists in the background when asked to, and name the command that makes them too."""
    from cadlib.label_review import kept_at  # noqa: PLC0415 - as above

    key = f"suspects-{kept_at(dataset, record.model_id).stem}"
    if working(jobs.find(key), "Lists"):
        return

    def begin() -> None:
        jobs.start(key, partial(_made, dataset, record.name))

    st.info(
        f"No lists yet for the current data set with {plain(record.model_id)}. Every image is checked, "
        "which takes minutes for thousands of images. You can leave this page meanwhile.",
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
    st.code(
        f"python -m cadlib suspects --data {quote(folder)} --model {record.name} --output suspects.csv",
        "sh",
    )


def _made(dataset: "Dataset", model: str, progress: "Progress") -> None:
    from cadlib.label_review import keep  # noqa: PLC0415 - as above
    from cadlib.label_review.search import find_suspects  # noqa: PLC0415

    def told(what: str, done: int, total: int) -> None:
        progress(f"images · {what}", done, total)

    keep(find_suspects(model_beside(model), find_model(model), dataset, told), dataset)
