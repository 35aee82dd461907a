"""For whom a model is how good, and where the gap to the others is larger than chance makes it."""

from collections.abc import Callable

import streamlit as st

from cadlib.metrics.subgroup_table import gaps_note, subgroup_rows
from cadlib.metrics.summary import ECE_NOTE
from cadlib.ui.harmless import plain_rows
from cadlib.ui.metrics_source import Shown


def subgroups(shown: Shown, told: Callable[..., str]) -> None:
    """Draw a row a subgroup: figures with their intervals by `told`, marked where they are not those of the rest."""
    st.subheader("Subgroups", anchor=False)
    st.table(plain_rows(subgroup_rows(shown.figures, told)), hide_index=True)
    if "gaps" in shown.figures:
        st.caption(gaps_note(shown.figures))
    else:
        st.caption("To test which differences are significant, select a data set above.")
    st.caption(ECE_NOTE)
