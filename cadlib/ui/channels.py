"""Lets a reader swap red and blue of an image."""

from dataclasses import replace

import streamlit as st

from cadlib.images.red_blue_swap import swap_red_and_blue
from cadlib.ui.image_views import assessed
from cadlib.ui.session import Case

LOOK_SWAPPED = "Red and blue look swapped: a common error when images are saved with OpenCV."
WERE_SWAPPED = "Red and blue were swapped at your request. The result is for the swapped image."


def channel_order(case: Case) -> None:
    """Offer to swap red and blue where they look swapped, and to undo it where they were."""
    if case.assessment is None:
        return
    swapped = case.assessment.image.red_blue_swapped
    if not swapped and not case.assessment.quality.swapped:
        return
    label = "Undo the swap" if swapped else "Swap red and blue"
    if swapped:
        st.info(WERE_SWAPPED, icon=":material/swap_horiz:")
    else:
        st.warning(LOOK_SWAPPED, icon=":material/swap_horiz:")
    key = f"swap-{case.key[:8]}"
    st.button(label, key, on_click=_swap, args=(case.key,), icon=":material/swap_horiz:")


def _swap(key: str) -> None:
    """Assess a held case again with red and blue swapped."""
    held: dict[str, Case] = st.session_state.get("cases", {})
    case = held.get(key)
    if case is None or case.assessment is None:
        # It was removed in another tab of the session.
        return
    image = swap_red_and_blue(case.assessment.image)
    held[key] = replace(case, assessment=assessed(image))
