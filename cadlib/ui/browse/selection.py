"""A selection of images, kept under a name: saved, looked at again, and given to `evaluate` and `train`."""

import io

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cadlib import command_hints
from cadlib.data.dataset import Dataset
from cadlib.data.subsets import Subset, list_subsets, read_subset, save_subset
from cadlib.errors import SubsetInvalid
from cadlib.evaluation.catalogue import Catalogue, Rows
from cadlib.files.spreadsheets import safe_table
from cadlib.ui.text import plain

_ALL, _SAVED = "all images", "saved-subset"


def chosen_subset(catalogue: Catalogue) -> tuple[str, NDArray[np.bool_] | None]:
    """Let a saved subset be chosen; return its name and which rows are in it, (N,); "" and None for all images."""
    if not (names := list_subsets()):
        return "", None
    name = st.selectbox("Subset", [_ALL, *names], key="facet-subset")
    if name == _ALL:
        return "", None
    try:
        subset = read_subset(name)
    except SubsetInvalid as error:
        st.error(plain(str(error)))
        return "", None
    rows = catalogue.holds(subset.images)
    missing = len(subset.images) - int(rows.sum())
    st.caption(
        plain(subset.chosen)
        + f" · {missing:,} of its {len(subset.images):,} images are not in this data set"
        * bool(missing)
    )
    return name, rows


def keep(dataset: Dataset, catalogue: Catalogue, rows: Rows, chosen: str) -> None:
    """Let the images at these places be saved under a name, or taken along as CSV; `chosen` says how they were."""
    with st.popover(
        f"Save selection ({len(rows):,})", icon=":material/bookmark_add:", disabled=not len(rows)
    ):
        name = st.text_input(
            "Subset name", key="subset-name", placeholder="missed melanomas"
        ).strip()
        what = (name, dataset.name, catalogue, rows, chosen)
        st.button(
            "Save", "save-subset", type="primary", disabled=not name, on_click=_save, args=what
        )
        saved, said = st.session_state.get(_SAVED, ("", ""))
        if said and saved == name:
            st.error(said)
        elif saved and saved == name:
            st.code(command_hints.evaluate_subset(name), language="sh")
        st.download_button(
            "Download all fields (CSV)",
            lambda: _csv(catalogue, rows),
            f"{dataset.name}.csv",
            "text/csv",
            "download-selection",
            icon=":material/download:",
            on_click="ignore",
        )


def _save(name: str, dataset: str, catalogue: Catalogue, rows: Rows, chosen: str) -> None:
    """Save before the page is drawn, so that the new subset stands among those that can be chosen."""
    try:
        save_subset(Subset(name, dataset, tuple(catalogue.table["image"].iloc[rows]), chosen))
        st.session_state[_SAVED] = (name, "")
    except SubsetInvalid as error:
        st.session_state[_SAVED] = (name, plain(str(error)))


def _csv(catalogue: Catalogue, rows: Rows) -> bytes:
    text = io.StringIO()
    fields = catalogue.table.iloc[rows].drop(columns=["path", "malignancy"])
    safe_table(fields).to_csv(text, index=False, lineterminator="\n")
    return text.getvalue().encode()
