"""Whether a heatmap may be read, as the pages say it: measured late, once, and only where it is shown."""

import math

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cadlib.assessment import Assessment
from cadlib.saliency.heatmap import METHODS, Heatmap, Method
from cadlib.saliency.trust import Trust
from cadlib.saliency.trust import trust as trust_of
from cadlib.ui.held import holding
from cadlib.ui.models import model
from cadlib.ui.pictures import heatmap, said

LINE_HEIGHT_PX, NARROW_HEIGHT_PX = 76, 112
"""Of what stands under a map as wide as the page, and as half of it, the longest sentence at 800 px included: it is
there before it is measured."""
TRUST_BYTES = 256
"""About what two figures and a sentence take."""


def trust(found: Assessment, code: str, method: Method = METHODS[0]) -> Trust:
    """Return how far the heatmap of a method may be trusted as evidence for a diagnosis, measured once."""
    key = ("trust", found.image.key, model().record.model_id, code, method.key)
    return holding().derived(
        found.image.sha256,
        key,
        lambda: trust_of(model(), found.image, heatmap(found, code, method), code),
        lambda _: TRUST_BYTES,
    )


def about_the_map(found: Heatmap, measured: Trust | None) -> str:
    """Return what a map shows and its checks: "Grad-CAM for Melanoma · peak 0.31 · …"."""
    return " · ".join([said(found), f"peak {found.raw_peak:.2g}", *_figures(measured)])


def trust_tile(measured: Trust | None) -> str:
    """Return the three lines under a small map, as Markdown: its figures, and whether it may be read."""
    verdict = ":gray[checking]" if measured is None else ":gray[can be interpreted]"
    if measured and not measured.readable:
        verdict = ":material/visibility_off: **do not interpret**"
    return "  \n".join([*_figures(measured), verdict])


def trust_line(
    place: DeltaGenerator, found: Heatmap, measured: Trust | None, height_px: int = LINE_HEIGHT_PX
) -> None:
    """Fill a place under a large map, an `st.empty()`, in the same height whether it is measured already or not."""
    with place.container(height=height_px, border=False, gap="xxsmall"):
        st.caption(about_the_map(found, measured))
        if measured is None:
            st.caption("Checking this map …")
        elif measured.readable:
            st.caption(measured.sentence)
        else:
            st.caption(f":material/visibility_off: **{measured.sentence}**")


def _figures(measured: Trust | None) -> tuple[str, str]:
    if measured is None:
        return "faithfulness …", "stability …"
    return (
        f"faithfulness {_signed(measured.faithfulness)}",
        f"stability {_signed(measured.stability)}",
    )


def _signed(value: float) -> str:
    return "not defined" if math.isnan(value) else f"{value:.2f}".replace("-", "−")
