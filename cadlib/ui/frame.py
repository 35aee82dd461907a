"""Draws the frame around each page, and charts with their text."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import streamlit as st
from PIL import Image, ImageDraw

from cadlib.files.installation import project_dir
from cadlib.model.record import ModelRecord
from cadlib.report import charts
from cadlib.ui.models import model_record, shown_model
from cadlib.ui.text import plain

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

INTENDED_USE = (
    "Computer-aided diagnosis: it supports the reader and never replaces one. "
    "It is not a diagnosis."
)

_BUTTON_STYLE = """
<style>
/* Streamlit writes white on teal buttons and tags: hard to read on the teal of the dark theme. */
[data-testid="stBaseButton-primary"],
[data-testid="stMultiSelectTagsContainer"] [data-tag],
[data-testid="stMultiSelectTagsContainer"] [data-tag] * { color: light-dark(#fff, #0b0d0f); }
</style>
"""


def page(title: str) -> ModelRecord | None:
    """Draw the frame of a page: title, model, intended use.

    Return the model's record, None without one.
    """
    _start_from_the_menu()
    # The icon is drawn here: Streamlit would fetch one by name from a server of Google's.
    st.set_page_config(f"{title} · cadlib", _icon(), layout="wide")
    st.html(_BUTTON_STYLE)
    record, reason = model_record()
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.title(title, anchor=False, width="content")
        _draw_badge(record)
    st.markdown(f"{INTENDED_USE} [Model card](performance#model-card)")
    _draw_warnings(record, reason)
    return record


def chart(figure: "Figure", key: str, on_select: Callable[[], None] | None = None) -> None:
    """Draw a chart with its text for those who cannot see it; call back when a point is clicked."""
    st.plotly_chart(
        figure,
        key=key,
        config=charts.CONFIG,
        alt=figure.layout.meta["alt"],
        # Without a callback, a click must not run the page again.
        on_select=on_select or "ignore",
        selection_mode="points",
    )


def _start_from_the_menu() -> None:
    """Run menu.py first where a fresh server opens a page by its address.

    Streamlit then runs the page without menu.py, because a folder is called pages. After one call
    of `st.navigation` with its pages it runs menu.py.
    """
    if "menu" in st.session_state:
        return
    project = project_dir()
    page_files = sorted((project / "pages").glob("*.py"))
    st.navigation([project / "menu.py", *page_files])
    st.rerun()


def _draw_badge(record: ModelRecord | None) -> None:
    """Draw the model's name, and whether its leak audit has passed."""
    if record is None:
        st.badge("No model", icon=":material/block:", color="gray")
        return
    icon = ":material/check:" if record.audit_passed else ":material/warning:"
    st.badge(
        f"Model {plain(record.model_id)} · ready",
        icon=icon,
        color="gray",
        help=plain(f"{record.model_id}: {record.validation_claim}"),
    )


def _draw_warnings(record: ModelRecord | None, reason: str) -> None:
    """Draw the warnings of a model without a passed audit, a replaced model, or none."""
    if record and not record.audit_passed:
        claim = plain(f"{record.name} {record.version}: {record.validation_claim}.")
        st.warning(claim, icon=":material/warning:")
    former = shown_model(record)
    if former:
        current = record.model_id if record else ""
        replaced = plain(f"{former} was replaced by {current} since this session began.")
        st.warning(
            f"{replaced} Results of the former model are no longer shown. Add the images again.",
            icon=":material/sync_alt:",
        )
    if not record:
        st.warning(
            f"{plain(reason)} Without a model, only the Data set and Training pages work.",
            icon=":material/info:",
        )


def _icon() -> Image.Image:
    """Draw the icon of the app: a lesion on a disc, RGBA, 64 × 64 px."""
    size_px = (64, 64)
    disc_px = (2, 2, 61, 61)
    lesion_px = (20, 22, 46, 44)
    icon = Image.new("RGBA", size_px)
    draw = ImageDraw.Draw(icon)
    draw.ellipse(disc_px, fill="#0F766E")
    draw.ellipse(lesion_px, fill="#FAFAFA")
    return icon
