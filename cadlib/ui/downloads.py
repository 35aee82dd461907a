"""Draws the buttons that download the results and remove images."""

from collections.abc import Sequence

import streamlit as st

from cadlib.ui.blind import is_hidden
from cadlib.ui.pdf_report import pdf_report
from cadlib.ui.session import Case, cases_csv, cases_json, remove

DOWNLOAD_ICON = ":material/download:"


def downloads(cases: Sequence[Case], case: Case) -> None:
    """Draw the buttons that download all results and remove images.

    `case` is the one on the page; its button removes it alone. Results that are hidden from this
    reader are not downloaded.
    """
    visible = [held for held in cases if not is_hidden(held.key)]
    with st.container(horizontal=True, key="downloads"):
        st.download_button(
            "Download CSV",
            cases_csv(visible),
            "cadlib.csv",
            "text/csv",
            "download-csv",
            icon=DOWNLOAD_ICON,
            on_click="ignore",
        )
        st.download_button(
            "Download JSON",
            cases_json(visible),
            "cadlib.json",
            "application/json",
            "download-json",
            icon=DOWNLOAD_ICON,
            on_click="ignore",
        )
        pdf_report(case)
        st.button(
            "Remove image",
            "remove",
            on_click=remove,
            args=(case.key,),
            icon=":material/close:",
        )
        st.button(
            "Remove all images",
            "clear",
            on_click=remove,
            # Keys, because Streamlit keeps the arguments of a button longer than the button.
            args=tuple(held.key for held in cases),
            icon=":material/delete:",
        )
