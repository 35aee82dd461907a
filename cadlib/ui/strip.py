"""Draws the files of a session as a strip of thumbnails."""

from collections.abc import Sequence

import streamlit as st

from cadlib.metrics.operating_point import two_digits
from cadlib.ui.blind import is_hidden
from cadlib.ui.image_views import square
from cadlib.ui.quality import shown
from cadlib.ui.session import Case, choose
from cadlib.ui.text import mark, plain, sign

_SIDE_PX = 128


def strip(ranked: Sequence[Case], chosen: Case) -> None:
    """Draw a tile for each file, whose button selects it."""
    hidden = [case for case in ranked if is_hidden(case.key)]
    caption = f"{len(ranked)} files, highest malignant probability first"
    if hidden:
        caption += f" · {len(hidden)} that you have not read, last"
    failed = sum(case.assessment is None for case in ranked)
    if failed:
        caption += f" · {failed} with a file error"
    st.caption(caption)
    with st.container(horizontal=True, wrap=False, gap="small", key="strip"):
        for case in ranked:
            _tile(case, chosen=case is chosen, hidden=is_hidden(case.key))


def _tile(case: Case, *, chosen: bool, hidden: bool) -> None:
    key = case.key[:8]
    with st.container(width=_SIDE_PX, gap="xsmall", key=f"tile-{key}"):
        if case.assessment:
            st.image(square(case.assessment.image), width=_SIDE_PX, alt=case.name)
        else:
            with st.container(height=_SIDE_PX, border=True, gap=None):
                st.caption(plain(case.reason))
        st.button(
            "not read yet" if hidden else _label(case, chosen=chosen),
            f"choose-{key}",
            plain(case.name),
            choose,
            (case.key,),
            type="primary" if chosen else "secondary",
            width="stretch",
        )


def _label(case: Case, *, chosen: bool) -> str:
    """Return the text of a tile's button: the result, or why none is shown."""
    if case.assessment is None:
        return "file error"
    if not shown(case.assessment):
        # A readable image without a result is of another type.
        readable = case.assessment.quality.readable
        return "other image type" if readable else "quality too low"
    code, _ = case.assessment.prediction.ranking()[0]
    # The button of the selected case is coloured, so the sign has no colour of its own.
    symbol = sign(code) if chosen else mark(code)
    return f"{two_digits(case.risk)} {symbol} {code}"
