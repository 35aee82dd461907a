"""The frame around each page: its title, the model, the intended use; and how a chart stands in it."""

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

INTENDED_USE = "Computer-aided diagnosis: it supports the reader and never replaces one. It is not a diagnosis."


def page(title: str) -> ModelRecord | None:
    """Draw the frame of a page: title, model, intended use. Return the model's record, None without one."""
    if "menu" not in st.session_state:
        # A fresh server runs a deep-linked page without menu.py, because a folder is called pages. Told of its
        # pages once, it runs menu.py from then on.
        project = project_dir()
        st.navigation([project / "menu.py", *sorted((project / "pages").glob("*.py"))])
        st.rerun()
    # A picture of our own: Streamlit would fetch an icon by name from a server of Google's.
    st.set_page_config(f"{title} · cadlib", _icon(), layout="wide")
    found, reason = model_record()
    with st.container(
        horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        st.title(title, anchor=False, width="content")
        if found:
            label = f"Model {plain(found.model_id)} · ready"
            icon = ":material/check:" if found.audit_passed else ":material/warning:"
            about = plain(f"{found.model_id}: {found.validation_claim}")
            st.badge(label, icon=icon, color="gray", help=about)
        else:
            st.badge("No model", icon=":material/block:", color="gray")
    st.markdown(f"{INTENDED_USE} [Model card](performance#model-card)")
    if found and not found.audit_passed:
        said = plain(f"{found.name} {found.version}: {found.validation_claim}.")
        st.warning(said, icon=":material/warning:")
    if former := shown_model(found):
        replaced = (
            f"{former} was replaced by {found.model_id if found else ''} since this session began."
        )
        st.warning(
            f"{plain(replaced)} Results of the former model are no longer shown. Add the images again.",
            icon=":material/sync_alt:",
        )
    if not found:
        st.warning(
            f"{plain(reason)} Without a model, only the Data set and Training pages work.",
            icon=":material/info:",
        )
    return found


def chart(figure: "Figure", key: str, on_select: Callable[[], None] | None = None) -> None:
    """Draw a chart with its text for those who cannot see it; call back when a point is clicked."""
    st.plotly_chart(
        figure,
        key=key,
        config=charts.CONFIG,
        alt=figure.layout.meta["alt"],
        on_select=on_select or "ignore",
        selection_mode="points",
    )


def _icon() -> Image.Image:
    picture = Image.new("RGBA", (64, 64))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((2, 2, 61, 61), fill="#0F766E")
    draw.ellipse((20, 22, 46, 44), fill="#FAFAFA")
    return picture
