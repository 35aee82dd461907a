"""Closes a session soon after its tab was closed.

Streamlit keeps a closed session, so that a tab can return to it after a network failure. It drops
one only when another reader comes, which may never happen.
"""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from streamlit.runtime import Runtime

from cadlib.server.freed_memory import give_back

if TYPE_CHECKING:
    from streamlit.runtime.app_session import AppSession

FORGET_AFTER_S: Final = 30.0
"""Time in which a tab that lost its connection can return to its images."""
EVERY_S: Final = 5.0
_log = logging.getLogger(__name__)


class Forgetting:
    """Closes the sessions of a runtime whose tabs do not return.

    To be used in the thread of the runtime's event loop.
    """

    def __init__(self, runtime: Runtime, after_s: float = FORGET_AFTER_S) -> None:
        self._runtime = runtime
        self._after_s = after_s
        # Sessions are stored here because Streamlit no longer lists a session once it counts it as
        # expired.
        self._away: dict[str, tuple[AppSession, float]] = {}

    def tick(self, now_s: float) -> int:
        """Close sessions that have been away for long enough, and drop files without a reader.

        Return how many sessions were closed.
        """
        # Streamlit has no public list of its sessions.
        sessions = self._runtime._session_mgr
        for info in sessions.list_sessions():
            session = info.session
            if not sessions.is_active_session(session.id):
                self._away.setdefault(session.id, (session, now_s))
        closed = 0
        # A list, because the loop deletes items.
        for session_id, (session, since_s) in list(self._away.items()):
            if sessions.is_active_session(session_id):
                del self._away[session_id]
                continue
            away_s = now_s - since_s
            if away_s >= self._after_s:
                del self._away[session_id]
                self._close(session)
                closed += 1
        # A download is dropped at the second call without a reader.
        self._runtime.media_file_mgr.remove_orphaned_files()
        return closed

    def _close(self, session: "AppSession") -> None:
        self._runtime.close_session(session.id)
        # This does nothing where `close_session` has already done it.
        session.shutdown()
        # Streamlit's own loop refers to the session it served last until it serves another one,
        # so the session is emptied: its state, the arguments of its fragments, and messages that
        # nobody fetched.
        session.session_state.clear()
        session._fragment_storage.clear()
        session.flush_browser_queue()


@asynccontextmanager
async def forgetting_sessions() -> AsyncIterator[None]:
    """Close forgotten sessions every few seconds while the server runs."""
    task = asyncio.create_task(_forget_for_ever())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _forget_for_ever() -> None:
    forgetting = Forgetting(Runtime.instance())
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            closed = forgetting.tick(time.monotonic())
        except Exception:  # noqa: BLE001 - one failure must not end the loop
            _log.exception("Sessions could not be forgotten.")
            continue
        if closed:
            collect()


def collect() -> None:
    """Free the memory of closed sessions now, and return it to the system.

    Their objects refer to each other, so only the collector frees them. `ui.spare` has exempted
    some of them from collection.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    give_back()
