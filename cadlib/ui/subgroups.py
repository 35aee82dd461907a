"""Draws the performance by subgroup, with significant differences marked."""

import streamlit as st

from cadlib.metrics.subgroup_table import gaps_note, subgroup_rows
from cadlib.metrics.summary import ECE_NOTE
from cadlib.ui.harmless import plain_rows
from cadlib.ui.headline import value_text
from cadlib.ui.metrics_source import Shown


def subgroups(shown: Shown) -> None:
    """Draw a row for each subgroup: values with intervals, marked where they differ."""
    st.subheader("Subgroups", anchor=False)
    rows = subgroup_rows(shown.metrics, value_text)
    st.table(plain_rows(rows), hide_index=True)
    gaps = shown.metrics.gaps
    if gaps is not None:
        st.caption(gaps_note(gaps))
    else:
        st.caption("To test which differences are significant, select a data set above.")
    st.caption(ECE_NOTE)
