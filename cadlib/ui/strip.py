"""The files of a session as a strip of thumbnails, the highest risk first, the unreadable with their reason."""

from collections.abc import Sequence

import streamlit as st

from cadlib.metrics.operating_point import two_digits
from cadlib.ui.pictures import square
from cadlib.ui.quality import shown
from cadlib.ui.session import Case, choose
from cadlib.ui.text import mark, plain, sign

_SIDE_PX = 128


def strip(ranked: Sequence[Case], chosen: Case) -> None:
    """Draw a tile for each file, whose button chooses it."""
    unread = sum(one.assessment is None for one in ranked)
    st.caption(
        f"{len(ranked)} files, highest malignant probability first"
        + f" · {unread} with a file error" * bool(unread)
    )
    with st.container(horizontal=True, wrap=False, gap="small", key="strip"):
        for one in ranked:
            _tile(one, chosen=one is chosen)


def _tile(case: Case, *, chosen: bool) -> None:
    key, label = case.key[:8], "file error"
    with st.container(width=_SIDE_PX, gap="xsmall", key=f"tile-{key}"):
        if case.assessment:
            st.image(square(case.assessment.image), width=_SIDE_PX, alt=case.name)
            top, _ = case.assessment.prediction.ranking()[0]
            label = f"{two_digits(case.risk)} {sign(top) if chosen else mark(top)} {top}"
            if not shown(case.assessment):
                label = (
                    "other image type" if case.assessment.quality.readable else "quality too low"
                )
        else:
            with st.container(height=_SIDE_PX, border=True, gap=None):
                st.caption(plain(case.reason))
        st.button(
            label,
            f"choose-{key}",
            plain(case.name),
            choose,
            (case.key,),
            type="primary" if chosen else "secondary",
            width="stretch",
        )
