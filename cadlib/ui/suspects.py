"""What of a data set a person should look at again: one list at a time, with its pictures side by side."""

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import streamlit as st

from cadlib.decision import two_digits
from cadlib.errors import CadError
from cadlib.record import ModelRecord
from cadlib.thumbnails import thumbnail
from cadlib.ui.text import mark, named, plain

if TYPE_CHECKING:
    from cadlib.dataset import Dataset
    from cadlib.suspects import Suspects

PAGE_SIZE = 10
_SIDE_PX = 144
_WORDS_PX = 320

Verdict = Callable[[Any], None]
"""Draws what a reader says of a finding, a row of `Suspects.table`, beside it."""


@st.fragment
def suspects(dataset: "Dataset", folder: str, record: ModelRecord | None, verdict: Verdict | None = None) -> None:
    """Draw the lists of a folder's data set that were made with this model; where none were, say which command does.

    `verdict` is given the place beside each finding.
    """
    from cadlib.suspects import KINDS, kept  # noqa: PLC0415 - pandas: a page without lists does not wait for it

    if record is None:
        st.info("These lists are made with a model, and there is none.", icon=":material/info:")
        return
    found = kept(dataset, record.model_id)
    if found is None:
        _say_how(folder, record)
        return
    counts = found.counts
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        kind = st.segmented_control(
            "Suspects",
            list(KINDS),
            default=next(iter(KINDS)),
            format_func=lambda one: f"{one.capitalize()} {counts[one]:,}",
            required=True,
            key="page-suspects-kind",
            label_visibility="collapsed",
        )
        name = f"suspects-{dataset.name}.csv"
        st.download_button("All as CSV", found.to_csv, name, "text/csv", icon=":material/download:", on_click="ignore")
    st.caption(KINDS[kind])
    _list(found, kind, dict(zip(dataset.table["image"], dataset.table["path"], strict=True)), verdict)


def _say_how(folder: str, record: ModelRecord) -> None:
    st.info(
        f"No lists of this data set as it is now were made with {plain(record.model_id)}. This command makes them, in "
        "about ten minutes for the 25,331 images of ISIC 2019:",
        icon=":material/hourglass_empty:",
    )
    st.code(f"python -m cadlib suspects --data {quote(folder)} --model {record.name} --output suspects.csv", "sh")


def _list(found: "Suspects", kind: str, paths: dict[str, str], verdict: Verdict | None) -> None:
    rows = found.of(kind)
    if rows.empty:
        st.markdown("None found.")
        return
    number = st.pagination(-(-len(rows) // PAGE_SIZE), key=f"page-suspects-{kind}")
    for row in rows.iloc[(number - 1) * PAGE_SIZE : number * PAGE_SIZE].itertuples():
        with st.container(border=True, horizontal=True, gap="small"):
            for image, code in ((row.image, row.diagnosis), (row.other_image, row.other_diagnosis)):
                if isinstance(image, str):
                    _picture(image, code, paths.get(image))
            with st.container(width=_WORDS_PX, gap="xsmall"):
                _words(row, len(rows))
            if verdict:
                with st.container(width=_WORDS_PX, key=f"verdict-{kind}-{row.Index}"):
                    verdict(row)


def _picture(image: str, code: Any, path: str | None) -> None:
    label = code if isinstance(code, str) else "no label"
    with st.container(width=_SIDE_PX, gap="xsmall"):
        try:
            if path:
                st.image(thumbnail(Path(path)), width=_SIDE_PX, alt=f"{image}, {label}")
        except (CadError, OSError) as error:
            st.caption(plain(str(error)))
        st.markdown(f"{mark(label)} {plain(label)}")
        st.caption(plain(image))


def _words(row: Any, of: int) -> None:
    """Write the rank of a finding, what was given and what is suggested, and why."""
    st.markdown(f"**{row.Index + 1:,} of {of:,}** · {two_digits(row.score)}")
    if isinstance(row.suggested, str):
        given, other = (f"{mark(code)} {named(code)}" for code in (row.diagnosis, row.suggested))
        st.markdown(f"Given {given}  \nSuggested {other}")
    st.caption(plain(row.why))
