"""Hides results until the reader has recorded a reading ("blind first").

It is a setting of each reader. While it is on, no page shows the result of an image that this
reader has not read, nor sorts images by it.
"""

from collections.abc import Sequence

import streamlit as st

from cadlib.cases import place
from cadlib.errors import CadError
from cadlib.ui.case_store import case_store, reader, stored_image
from cadlib.ui.text import plain

TEXT = "Blind first: record my reading before the result is shown"
HELP = (
    "Your diagnosis, management and confidence are stored before the result is shown, so that you "
    "can compare both. Images are then listed by waiting time. Each change of this setting is in "
    "the audit log."
)
HIDDEN = "Hidden until you have recorded your reading on the Diagnose page."
_KEY = "blind-first"
_HIDDEN = "hidden-cases"
_LAST_KNOWN = "blind-first-last-known"
_TROUBLE = "blind-first-trouble"


def is_blind_first() -> bool:
    """Return whether this reader reads images before their results."""
    # Without a store nobody has chosen it, and no database library is loaded.
    if not place.exists():
        return False
    from cadlib.cases import queries  # noqa: PLC0415

    store = case_store()
    if store is None:
        return _last_known()
    try:
        with store.read() as connection:
            st.session_state[_LAST_KNOWN] = queries.blind_first(connection, reader())
    except CadError as error:
        st.error(plain(str(error)), icon=":material/database_off:")
    return _last_known()


def _last_known() -> bool:
    """Return the setting as this session read it last; what was never read stays hidden."""
    return bool(st.session_state.get(_LAST_KNOWN, True))


def hidden_images(image_ids: Sequence[str]) -> set[str]:
    """Return the ids of those stored images whose results this reader must not see yet."""
    if not is_blind_first():
        return set()
    from cadlib.cases import queries  # noqa: PLC0415

    store = case_store()
    if store is None:
        return set(image_ids)
    try:
        with store.read() as connection:
            return set(image_ids) - queries.images_known_to(connection, reader(), image_ids)
    except CadError:
        # The reason is on the page; what cannot be checked stays hidden.
        return set(image_ids)


def hidden_cases(case_keys: Sequence[str]) -> set[str]:
    """Return the keys of those cases of this session whose results must not be shown yet.

    `is_hidden` knows them for the rest of the page.
    """
    hidden = _hidden_cases(case_keys)
    # A page asks many times, and the database once.
    st.session_state[_HIDDEN] = hidden
    return hidden


def _hidden_cases(case_keys: Sequence[str]) -> set[str]:
    if not case_keys or not is_blind_first():
        return set()
    image_of = {key: stored_image(key) for key in case_keys}
    stored = [image_id for image_id in image_of.values() if image_id]
    hidden = hidden_images(stored)
    # A case that is not stored has no reading.
    return {key for key, image_id in image_of.items() if not image_id or image_id in hidden}


def is_hidden(case_key: str) -> bool:
    """Return whether the result of a case on the page must not be shown yet."""
    hidden: set[str] = st.session_state[_HIDDEN]
    return case_key in hidden


def draw_blind_first() -> None:
    """Draw the switch of the setting."""
    is_on = is_blind_first()
    # The store has the value; another tab of the reader may have changed it.
    st.session_state[_KEY] = is_on
    st.toggle(TEXT, key=_KEY, help=HELP, on_change=_save)
    trouble = st.session_state.pop(_TROUBLE, "")
    if trouble:
        st.error(plain(trouble))


def _save() -> None:
    store = case_store()
    if store is None:
        return
    try:
        with store.write(reader()) as cases:
            cases.set_blind_first(bool(st.session_state[_KEY]))
    except CadError as error:
        # A callback runs before the page, which shows it.
        st.session_state[_TROUBLE] = str(error)
