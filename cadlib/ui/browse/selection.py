"""Saves a selection of images as a subset, and opens saved subsets."""

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

_ALL = "all images"
_SAVED = "saved-subset"


def chosen_subset(catalogue: Catalogue) -> tuple[str, NDArray[np.bool_] | None]:
    """Let a saved subset be selected; return its name and a mask of its rows, (N,).

    They are "" and None for all images.
    """
    names = list_subsets()
    if not names:
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
    n_present = int(rows.sum())
    _draw_rule(subset, n_present)
    return name, rows


def _draw_rule(subset: Subset, n_present: int) -> None:
    """Draw how a subset was selected, and how many of its images are not in this data set."""
    caption = plain(subset.chosen)
    total = len(subset.images)
    missing = total - n_present
    if missing:
        caption += f" · {missing:,} of its {total:,} images are not in this data set"
    st.caption(caption)


def save_selection(dataset: Dataset, catalogue: Catalogue, rows: Rows, chosen: str) -> None:
    """Let the images at these places be saved as a subset, or downloaded as CSV.

    `chosen` describes the selection, and is saved with it.
    """
    with st.popover(
        f"Save selection ({len(rows):,})", icon=":material/bookmark_add:", disabled=not len(rows)
    ):
        text = st.text_input("Subset name", key="subset-name", placeholder="missed melanomas")
        name = text.strip()
        st.button(
            "Save",
            "save-subset",
            type="primary",
            disabled=not name,
            on_click=_save,
            args=(name, dataset.name, catalogue, rows, chosen),
        )
        saved_name, error = st.session_state.get(_SAVED, ("", ""))
        # The outcome belongs to the name that was saved, not to one typed since.
        if name and saved_name == name:
            _draw_outcome(name, error)
        st.download_button(
            "Download all fields (CSV)",
            # A function, because the table is needed only after a click.
            lambda: _csv(catalogue, rows),
            f"{dataset.name}.csv",
            "text/csv",
            "download-selection",
            icon=":material/download:",
            on_click="ignore",
        )


def _draw_outcome(name: str, error: str) -> None:
    """Draw why a subset was not saved, or the command that evaluates a model on it."""
    if error:
        st.error(error)
    else:
        st.code(command_hints.evaluate_subset(name), language=None)


def _save(name: str, dataset: str, catalogue: Catalogue, rows: Rows, chosen: str) -> None:
    """Save a subset before the page is drawn, so that the list of subsets has it."""
    images = tuple(catalogue.table["image"].iloc[rows])
    error = ""
    try:
        save_subset(Subset(name, dataset, images, chosen))
    except SubsetInvalid as refusal:
        error = plain(str(refusal))
    st.session_state[_SAVED] = (name, error)


def _csv(catalogue: Catalogue, rows: Rows) -> bytes:
    """Return all fields of these rows as CSV, without the paths of this machine."""
    fields = catalogue.table.iloc[rows].drop(columns=["path", "malignancy"])
    table = safe_table(fields)
    text = io.StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue().encode()
