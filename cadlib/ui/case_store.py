"""Opens the case store for the pages, once for all sessions.

The store and its libraries are loaded when a reader needs them: a page that stores nothing starts
without them.
"""

from datetime import date, datetime
from typing import TYPE_CHECKING

import streamlit as st

from cadlib.cases import place
from cadlib.errors import CadError
from cadlib.ui.text import plain

if TYPE_CHECKING:
    from cadlib.cases.store import CaseStore

_STORED = "stored"
"""Key of the stored images of this session: key of a case -> id of its image."""


def case_store() -> "CaseStore | None":
    """Return the store; if it cannot be opened, draw the reason and return None."""
    try:
        return _open(place.default_url(), place.default_images())
    except CadError as error:
        st.error(plain(str(error)), icon=":material/database_off:")
        return None


@st.cache_resource(max_entries=2, show_spinner=False)
def _open(url: str, images: str) -> "CaseStore":
    from cadlib.cases.store import CaseStore  # noqa: PLC0415

    return CaseStore.open(url, images)


def reader() -> str:
    """Return the id of who reads, for the audit log."""
    from cadlib.cases.store import LOCAL_READER  # noqa: PLC0415

    return LOCAL_READER


def stored_image(case_key: str) -> str | None:
    """Return the id of the stored image of a case of this session; None if it is not stored."""
    stored: dict[str, str] = st.session_state.get(_STORED, {})
    return stored.get(case_key)


def forget_stored(case_key: str) -> None:
    """Forget that a case of this session is stored: it was erased."""
    stored: dict[str, str] = st.session_state.get(_STORED, {})
    stored.pop(case_key, None)


def today() -> date:
    """Return the day at the clinic, by the clock of the server."""
    return datetime.now().astimezone().date()


def remember_stored(case_key: str, image_id: str) -> None:
    """Remember that a case of this session is stored."""
    # Ids, not rows: the rows are read again, as somebody may have changed them.
    stored = st.session_state.setdefault(_STORED, {})
    stored[case_key] = image_id
