"""Draws a list of findings on which a reader gives verdicts.

A verdict is saved at once, and a finding with one leaves the list of open findings.
"""

import math
from collections.abc import Callable, Iterable
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
from cadlib.ui.image_views import photograph_of
from cadlib.ui.text import mark, named, plain, sign

if TYPE_CHECKING:
    from cadlib.data.dataset import Dataset

PAGE_SIZE = 10
_SIDE_PX = 144
_WIDTHS_PX = {1: (300, 400), 2: (200, 374)}
"""Number of images -> width of the words and of the verdicts beside them.

On a wide screen a finding is one row, on a narrow one the verdicts come below.
"""
_OPEN = "Open"
_DONE = "Done"
_LAST = "suspects-last"
_TROUBLE = "suspects-trouble"
_SUBSET = "suspects-subset"
_CLOSER = "suspects-closer"
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


@dataclass(frozen=True)
class _Last:
    """The last verdict of this session, and the one before it on that finding, to undo it."""

    dataset: str
    finding: Finding
    words: str
    before: Verdict | None


def worklist(dataset: "Dataset", suspects: Suspects, kind: str, verdicts: Verdicts) -> None:
    """Draw the findings of a kind, open or done; `suspects` has the verdicts in its table."""
    rows = suspects.of(kind)
    if rows.empty:
        st.markdown("No findings.")
        return
    header = st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"
    )
    with header:
        which = _choose_which(dataset.name, kind, suspects.done[kind], len(rows))
        has_verdict = rows["verdict"].notna()
        listed = rows[has_verdict] if which == _DONE else rows[~has_verdict]
        # Each list has its own page number, so that a reader returns to the same place.
        number = st.pagination(_page_count(len(listed)), key=f"page-suspects-{kind}-{which}")
    _draw_trouble()
    if which == _DONE:
        _offer_subset(dataset, verdicts)
    if listed.empty:
        st.markdown("All findings reviewed." if which == _OPEN else "No verdict yet.")
    first = (number - 1) * PAGE_SIZE
    on_page = listed.iloc[first : first + PAGE_SIZE]
    _cards(dataset, list(on_page.itertuples()), len(rows), which)


def _page_count(n_findings: int) -> int:
    """Return how many pages there are; an empty list has one."""
    pages = math.ceil(n_findings / PAGE_SIZE)
    return max(1, pages)


def _draw_trouble() -> None:
    """Draw why the last verdict could not be saved, once."""
    # Removed from the state, so that it is drawn once.
    trouble = st.session_state.pop(_TROUBLE, "")
    if trouble:
        st.error(plain(trouble))


def _choose_which(dataset: str, kind: str, done: int, total: int) -> str:
    """Draw the switch between open and done findings, with their number; return its value."""
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        which: str = st.segmented_control(
            "Which",
            [_OPEN, _DONE],
            default=_OPEN,
            required=True,
            key="suspects-which",
            label_visibility="collapsed",
        )
        st.caption(f"{done:,} of {total:,} done", width="content")
        _offer_undo(dataset, kind)
    return which


def _cards(dataset: "Dataset", on_page: list[Any], total: int, which: str) -> None:
    """Draw the findings of a page; the keys are for the enlarged one, else for the first."""
    table = dataset.table
    paths = dict(zip(table["image"], table["path"], strict=True))
    enlarged = _enlarged(len(on_page))
    with_keys = enlarged
    if enlarged is None and which == _OPEN:
        # The first open finding takes the keys, so that a reader can go on without the mouse.
        with_keys = 0
    for place, row in enumerate(on_page):
        _card(dataset.name, row, place, total, paths, shortcuts=place == with_keys)
    if enlarged is not None:
        _closer(on_page[enlarged], total, paths)


def _enlarged(n_on_page: int) -> int | None:
    """Return the place of the finding that is shown large, None for none."""
    place: int | None = st.session_state.get(_CLOSER)
    if place is not None and place >= n_on_page:
        # The last finding has its verdict now. Only a run of the whole page closes a dialog.
        st.session_state[_CLOSER] = None
        st.rerun()
    return place


def _card(
    dataset: str, row: Any, place: int, total: int, paths: dict[str, str], *, shortcuts: bool
) -> None:
    """Draw a finding: its images, the words on it, and the buttons for a verdict."""
    images = sides(row)
    words_px, verdict_px = _WIDTHS_PX[len(images)]
    with st.container(border=True, horizontal=True, gap="small"):
        for image, code in images:
            _picture(image, code or NO_LABEL, paths.get(image))
        with st.container(width=words_px, gap="xsmall"):
            _words(row, total)
            st.button(
                "Enlarge",
                f"closer-{_key(row)}",
                type="tertiary",
                icon=":material/zoom_in:",
                on_click=_look_at,
                args=(place,),
            )
        with st.container(width=verdict_px, gap="xsmall"):
            _ask(dataset, row, shortcuts=shortcuts)


def _picture(image: str, label: str, path: str | None) -> None:
    """Draw an image of a finding small, above its label and its name."""
    with st.container(width=_SIDE_PX, gap="xsmall"):
        if path:
            try:
                small = thumbnail(Path(path))
                st.image(small, width=_SIDE_PX, alt=f"{image}, {label}")
            except (CadError, OSError) as error:
                st.caption(plain(str(error)))
        st.markdown(f"{mark(label)} {plain(label)}")
        st.caption(plain(image))


def _words(row: Any, total: int) -> None:
    """Write the rank of a finding, the label and the suggested diagnosis, and the reason."""
    rank = row.Index + 1
    score = two_digits(row.score)
    st.markdown(f"**{rank:,} of {total:,}** · {score}")
    # Only a doubted label has another diagnosis; the others have a missing value.
    if isinstance(row.suggested, str):
        label = f"{mark(row.diagnosis)} {named(row.diagnosis)}"
        suggested = f"{mark(row.suggested)} {named(row.suggested)}"
        # Two spaces before the end of a line are a line break in Markdown.
        st.markdown(f"Label: {label}  \nSuggested: {suggested}")
    st.caption(plain(row.why))


def _ask(dataset: str, row: Any, *, shortcuts: bool) -> None:
    """Draw a button for each verdict on a finding; with `shortcuts` the keys 1 to 4 press them."""
    key = _key(row)
    choices = CHOICES[row.kind]
    with st.container(horizontal=True, gap="xsmall"):
        for number, words in enumerate(choices, start=1):
            st.button(
                _shown(words),
                f"{words}-{key}",
                on_click=_give,
                args=(dataset, row, words),
                type="primary" if row.verdict == words else "secondary",
                shortcut=str(number) if shortcuts else None,
            )
    # Without a verdict the table has a missing value.
    has_verdict = isinstance(row.verdict, str)
    if has_verdict:
        if row.verdict in CORRECTS:
            give_again = partial(_give, dataset, row, row.verdict)
            _ask_for_diagnosis(row, give_again)
        _offer_removal(dataset, row)
    elif set(CORRECTS) & set(choices):
        _ask_for_diagnosis(row, None)


def _offer_removal(dataset: str, row: Any) -> None:
    """Draw when the verdict was given, and the button that removes it."""
    when = datetime.fromisoformat(row.when_utc)
    with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.caption(f"{when:%d %b %Y, %H:%M} UTC", width="content")
        st.button(
            "Remove verdict",
            f"withdraw-{_key(row)}",
            type="tertiary",
            on_click=_give,
            args=(dataset, row),
        )


def _ask_for_diagnosis(row: Any, give_again: Callable[[], None] | None) -> None:
    """Let the correct diagnosis be selected, at first the suggested one.

    `give_again` saves an earlier verdict with another diagnosis; None if there is no verdict yet.
    """
    key = f"should-{_key(row)}"
    preset = row.should_be if give_again else row.suggested
    # Set as state, because a preset by its index could not be cleared.
    st.session_state.setdefault(key, preset if preset in CODES else None)
    options = list(CODES)
    if row.kind == "doubted labels":
        # The label that is doubted would be no correction.
        options = [code for code in CODES if code != row.diagnosis]
    st.selectbox(
        "Correct label",
        options,
        None,
        key=key,
        format_func=lambda code: f"correct label: {sign(code)} {named(code)}",
        placeholder="correct label: unknown",
        on_change=give_again,
        label_visibility="collapsed",
    )


def _give(dataset: str, row: Any, words: str = "") -> None:
    """Save a verdict on a finding before the list is drawn again; without words, remove it."""
    finding = Finding.of(row)
    if not words:
        _save(dataset, finding, None, "verdict removed")
        return
    should_be = ""
    if words in CORRECTS:
        selected = st.session_state.get(f"should-{_key(row)}", row.suggested)
        if selected in CODES:
            should_be = selected
    verdict = said_now(words, should_be)
    _save(dataset, finding, verdict, words)


def _save(dataset: str, finding: Finding, verdict: Verdict | None, words: str = "") -> None:
    """Save a verdict, and, if there are words for it, how to undo it."""
    try:
        before = save_verdict(dataset, finding, verdict)
    except CadError as error:
        st.session_state[_TROUBLE] = str(error)
        return
    last = None
    # Undoing saves a verdict without words, so that it cannot be undone again.
    if words:
        last = _Last(dataset, finding, words, before)
    st.session_state[_LAST] = last


def _offer_undo(dataset: str, kind: str) -> None:
    """Draw the button that undoes the last verdict, if it was given in this list."""
    last: _Last | None = st.session_state.get(_LAST)
    # An undo in another list would change a finding that is out of sight.
    if last is None or last.dataset != dataset or last.finding.kind != kind:
        return
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
    """Offer to save the images that remain after the verdicts as a subset, with the rule for it."""
    remaining = cleaned(dataset.table, verdicts)
    total = len(dataset.table)
    # No verdict removes an image, so the subset would be the whole data set.
    if len(remaining) == total:
        return
    # The name is fixed: another save after more verdicts replaces the subset.
    name = f"{dataset.name} cleaned"
    with st.container(
        horizontal=True,
        horizontal_alignment="distribute",
        vertical_alignment="center",
    ):
        st.caption(
            f"After your verdicts, {len(remaining):,} of {total:,} images remain: {CLEAN}.",
            width="content",
        )
        label = f"Save as subset ({len(remaining):,})"
        if st.button(label, "save-clean", icon=":material/bookmark_add:"):
            _save_subset(name, dataset.name, remaining)
    # After more verdicts the saved subset is outdated, so its command is hidden.
    if st.session_state.get(_SUBSET) == (name, remaining):
        st.code(command_hints.train_subset(name), language=None)


def _save_subset(name: str, dataset: str, images: tuple[str, ...]) -> None:
    """Save images as a subset, or draw why they cannot be saved."""
    try:
        # A data set may have a name that a subset may not have.
        subset = Subset(name, dataset, images, CLEAN)
        save_subset(subset)
    except CadError as error:
        reason = plain(str(error))
        st.error(reason)
        return
    st.session_state[_SUBSET] = (name, images)
    # The whole page is drawn again, so that its list of subsets has the new one.
    st.rerun()


def _look_at(place: int | None = None) -> None:
    """Enlarge the finding at a place of the page, after its verdict the next; None ends that."""
    st.session_state[_CLOSER] = place


@st.dialog("Finding", width="large", on_dismiss=_look_at)
def _closer(row: Any, total: int, paths: dict[str, str]) -> None:
    """Show the images of a finding large; meanwhile the keys are for it."""
    images = sides(row)
    *columns, words_column = st.columns(len(images) + 1)
    for column, (image, code) in zip(columns, images, strict=True):
        with column:
            _large_picture(image, code or NO_LABEL, paths.get(image))
    with words_column:
        _words(row, total)
        _draw_shortcuts(CHOICES[row.kind])


def _draw_shortcuts(choices: Iterable[str]) -> None:
    """Write the key of each verdict: the buttons themselves are behind the dialog."""
    lines = []
    for number, words in enumerate(choices, start=1):
        lines.append(f"`{number}` {_shown(words)}")
    st.markdown("  \n".join(lines))


def _large_picture(image: str, label: str, path: str | None) -> None:
    """Draw an image of a finding as large as its column, above its label and its name."""
    if path:
        try:
            st.image(photograph_of(path), width="stretch", alt=f"Image {image}")
        except (CadError, OSError) as error:
            st.caption(plain(str(error)))
    st.caption(f"{mark(label)} {label} · {plain(image)}")


def _shown(words: str) -> str:
    """Return the text that a reader sees for a stored verdict."""
    return _SHOWN.get(words, words.capitalize())


def _key(row: Any) -> str:
    """Return a name for the widgets of a finding."""
    images = [image for image, _ in sides(row)]
    parts = [row.kind, *images]
    return "-".join(parts)
