"""A list of suspects to be worked through: a verdict on each finding, kept at once; what is done leaves the list."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from cadlib import command_hints
from cadlib.data.subsets import Subset, save_subset
from cadlib.errors import CadError
from cadlib.images.thumbnails import thumbnail
from cadlib.label_review import (
    CHOICES,
    CLEAN,
    CORRECTS,
    Finding,
    Suspects,
    Verdict,
    Verdicts,
    cleaned,
    said_now,
    save_verdict,
    sides,
)
from cadlib.metrics.operating_point import two_digits
from cadlib.taxonomy import CODES
from cadlib.ui.gallery import NO_LABEL
from cadlib.ui.pictures import photograph_of
from cadlib.ui.text import mark, named, plain, sign

if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset

PAGE_SIZE = 10
_SIDE_PX = 144
_WIDTHS_PX = {1: (300, 400), 2: (200, 374)}
"""Of words and of verdicts beside so many pictures: one row on a wide screen, on a narrow one verdicts below."""
_SHOWN = {
    "label is right": "Label correct",
    "label is wrong": "Label wrong",
    "a label is wrong": "A label is wrong",
    "cannot tell": "Undecided",
    "same picture": "Same image",
    "different": "Different lesions",
    "not one lesion": "Different lesions",
    "fetch again": "Download again",
    "broken at its source": "Damaged at source",
    "no picture": "Not an image",
}
"""Stored verdict -> its text for a reader."""
_OPEN, _DONE = "Open", "Done"
_LAST, _TROUBLE, _SUBSET, _CLOSER = (
    f"suspects-{name}" for name in ("last", "trouble", "subset", "closer")
)


@dataclass(frozen=True)
class _Last:
    """The verdict that was given last in this session, and what stood there before, to take it back."""

    dataset: str
    finding: Finding
    words: str
    before: Verdict | None


def worklist(dataset: "Dataset", found: Suspects, kind: str, verdicts: Verdicts) -> None:
    """Draw the findings of a kind that are open, or those that are done; `found` has the verdicts beside them."""
    rows = found.of(kind)
    if rows.empty:
        st.markdown("No findings.")
        return
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        with st.container(horizontal=True, vertical_alignment="center", width="content"):
            which = st.segmented_control(
                "Which",
                [_OPEN, _DONE],
                default=_OPEN,
                required=True,
                key="suspects-which",
                label_visibility="collapsed",
            )
            st.caption(f"{found.done[kind]:,} of {len(rows):,} done", width="content")
            _offer_undo(dataset.name, kind)
        shown = rows[rows["verdict"].notna() == (which == _DONE)]
        number = st.pagination(
            max(1, -(-len(shown) // PAGE_SIZE)), key=f"page-suspects-{kind}-{which}"
        )
    if trouble := st.session_state.pop(_TROUBLE, ""):
        st.error(plain(trouble))
    if which == _DONE:
        _offer_subset(dataset, verdicts)
    if shown.empty:
        st.markdown("All findings reviewed." if which == _OPEN else "No verdict yet.")
    _cards(
        dataset,
        list(shown.iloc[(number - 1) * PAGE_SIZE : number * PAGE_SIZE].itertuples()),
        len(rows),
        which,
    )


def _cards(dataset: "Dataset", on_page: list[Any], of: int, which: str) -> None:
    """Draw some of so many findings, and the one that is looked at closer; the keys are for it, else for the first."""
    paths = dict(zip(dataset.table["image"], dataset.table["path"], strict=True))
    closer: int | None = st.session_state.get(_CLOSER)
    if closer is not None and closer >= len(
        on_page
    ):  # the last one was judged; only the whole page closes a dialog
        st.session_state[_CLOSER] = None
        st.rerun()
    by_keys = 0 if closer is None and which == _OPEN else closer
    for place, row in enumerate(on_page):
        with st.container(border=True, horizontal=True, gap="small"):
            for image, code in sides(row):
                _picture(image, code or NO_LABEL, paths.get(image))
            words_px, verdict_px = _WIDTHS_PX[len(sides(row))]
            with st.container(width=words_px, gap="xsmall"):
                _words(row, of)
                st.button(
                    "Enlarge",
                    f"closer-{_key(row)}",
                    type="tertiary",
                    icon=":material/zoom_in:",
                    on_click=_look_at,
                    args=(place,),
                )
            with st.container(width=verdict_px, gap="xsmall"):
                _ask(dataset.name, row, shortcuts=place == by_keys)
    if closer is not None:
        _closer(on_page[closer], of, paths)


def _picture(image: str, label: str, path: str | None) -> None:
    with st.container(width=_SIDE_PX, gap="xsmall"):
        try:
            if path:
                st.image(thumbnail(Path(path)), width=_SIDE_PX, alt=f"{image}, {label}")
        except (CadError, OSError) as error:
            st.caption(plain(str(error)))
        st.markdown(f"{mark(label)} {plain(label)}")
        st.caption(plain(image))


def _words(row: Any, of: int) -> None:
    """Write the rank of a finding, what was given and what is suggested, and why."""
    st.markdown(f"**{row.Index + 1:,} of {of:,}** · {two_digits(row.score)}")
    if isinstance(row.suggested, str):
        given, other = (f"{mark(code)} {named(code)}" for code in (row.diagnosis, row.suggested))
        st.markdown(f"Label: {given}  \nSuggested: {other}")
    st.caption(plain(row.why))


def _ask(dataset: str, row: Any, *, shortcuts: bool) -> None:
    """Draw a button for each thing that can be said of a finding; `shortcuts` gives them the keys 1, 2, 3, 4."""
    key = _key(row)
    with st.container(horizontal=True, gap="xsmall"):
        for number, words in enumerate(CHOICES[row.kind], start=1):
            st.button(
                _shown(words),
                f"{words}-{key}",
                on_click=_give,
                args=(dataset, row, words),
                type="primary" if row.verdict == words else "secondary",
                shortcut=str(number) if shortcuts else None,
            )
    done = isinstance(row.verdict, str)
    if row.verdict in CORRECTS or (not done and set(CORRECTS) & set(CHOICES[row.kind])):
        _ask_for_diagnosis(row, partial(_give, dataset, row, row.verdict) if done else None)
    if done:
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
            st.caption(
                f"{datetime.fromisoformat(row.when_utc):%d %b %Y, %H:%M} UTC", width="content"
            )
            st.button(
                "Remove verdict",
                f"withdraw-{key}",
                type="tertiary",
                on_click=_give,
                args=(dataset, row),
            )


def _ask_for_diagnosis(row: Any, give_again: Callable[[], None] | None) -> None:
    """Let the right diagnosis be named, at first the suggested one; a verdict that was given is given again with it."""
    key, chosen = f"should-{_key(row)}", row.should_be if give_again else row.suggested
    st.session_state.setdefault(
        key, chosen if chosen in CODES else None
    )  # by an index it could not be cleared
    st.selectbox(
        "Correct label",
        [code for code in CODES if row.kind != "doubted labels" or code != row.diagnosis],
        None,
        key=key,
        format_func=lambda code: f"correct label: {sign(code)} {named(code)}",
        placeholder="correct label: unknown",
        on_change=give_again,
        label_visibility="collapsed",
    )


def _give(dataset: str, row: Any, words: str = "") -> None:
    """Keep what was said of a finding, before the list is drawn anew; without words, withdraw it."""
    should_be = (
        st.session_state.get(f"should-{_key(row)}", row.suggested) if words in CORRECTS else None
    )
    verdict = said_now(words, should_be if should_be in CODES else "") if words else None
    _save(dataset, Finding.of(row), verdict, words or "verdict removed")


def _save(dataset: str, finding: Finding, verdict: Verdict | None, words: str = "") -> None:
    """Keep a verdict, and, where there are words for it, how to take it back."""
    try:
        before = save_verdict(dataset, finding, verdict)
        st.session_state[_LAST] = _Last(dataset, finding, words, before) if words else None
    except CadError as error:
        st.session_state[_TROUBLE] = str(error)


def _offer_undo(dataset: str, kind: str) -> None:
    last: _Last | None = st.session_state.get(_LAST)
    if last and (last.dataset, last.finding.kind) == (dataset, kind):
        st.button(
            "Undo",
            "undo",
            plain(f"{last.finding.image}: {_shown(last.words)}"),
            _save,
            (dataset, last.finding, last.before),
            type="tertiary",
            icon=":material/undo:",
            shortcut="Z",
        )


def _offer_subset(dataset: "Dataset", verdicts: Verdicts) -> None:
    """Offer to save the images that the verdicts leave as a subset, and say by which rule."""
    left, of, name = cleaned(dataset.table, verdicts), len(dataset.table), f"{dataset.name} cleaned"
    if len(left) == of:
        return
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    ):
        st.caption(
            f"After your verdicts, {len(left):,} of {of:,} images remain: {CLEAN}.", width="content"
        )
        if st.button(
            f"Save as subset ({len(left):,})", "save-clean", icon=":material/bookmark_add:"
        ):
            try:
                save_subset(Subset(name, dataset.name, left, CLEAN))
            except CadError as error:
                st.error(plain(str(error)))
                return
            st.session_state[_SUBSET] = (name, left)
            st.rerun()  # all of the page: the subset stands among those that can be chosen
    if st.session_state.get(_SUBSET) == (name, left):
        st.code(command_hints.train_subset(name), language="sh")


def _look_at(place: int | None = None) -> None:
    """Look closer at the finding at a place of the page, and then at what comes there in its stead; None: no more."""
    st.session_state[_CLOSER] = place


@st.dialog("Finding", width="large", on_dismiss=_look_at)
def _closer(row: Any, of: int, paths: dict[str, str]) -> None:
    """Show the pictures of a finding large; meanwhile the keys are for it."""
    *columns, words = st.columns(len(sides(row)) + 1)
    for column, (image, code) in zip(columns, sides(row), strict=True):
        with column:
            try:
                if path := paths.get(image):
                    st.image(photograph_of(path), width="stretch", alt=f"Image {image}")
            except (CadError, OSError) as error:
                st.caption(plain(str(error)))
            st.caption(f"{mark(code or NO_LABEL)} {code or NO_LABEL} · {plain(image)}")
    with words:
        _words(row, of)
        st.markdown(
            "  \n".join(
                f"`{number}` {_shown(words)}"
                for number, words in enumerate(CHOICES[row.kind], start=1)
            )
        )


def _shown(words: str) -> str:
    """Return the text that a reader sees for a stored verdict."""
    return _SHOWN.get(words, words.capitalize())


def _key(row: Any) -> str:
    return "-".join([row.kind, *(image for image, _ in sides(row))])
