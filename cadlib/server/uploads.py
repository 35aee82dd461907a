"""Keeps uploads in memory, and limits their size."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers
from starlette.formparsers import MultiPartParser
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec

from cadlib.server.session_memory import (
    LIMIT_VARIABLE,
    MB,
    SESSION_LIMIT_BYTES,
    count_also,
    held_bytes,
    process_limit_bytes,
)

_ROUTE = "/_stcore/upload_file/"
_MIB = 2**20
_arriving: dict[str, int] = {}
"""Session -> bytes of its incoming uploads.

Only the thread of the event loop reads and writes it.
"""


def keep_in_memory() -> None:
    """Keep uploads out of the temporary folder, where Starlette puts files over 1 MiB."""
    largest_upload: int = config.get_option("server.maxUploadSize")
    # One MiB more for the form around the file.
    MultiPartParser.spool_max_size = (largest_upload + 1) * _MIB


class UploadLimit:
    """ASGI middleware that refuses an upload for which a session, or the server, has no room."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        keep_in_memory()
        # An invalid limit must fail at the start, not at the first upload.
        process_limit_bytes()
        count_also(_all_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; an upload only where there is room for it."""
        session_id = _session_of(scope)
        if session_id is None:
            await self.app(scope, receive, send)
            return
        size = Headers(scope=scope).get("content-length", "")
        # Without the header the size is known only when all bytes are in memory.
        if not size.isdecimal():
            refusal = PlainTextResponse(
                "Expected the header Content-Length. Send it with the upload.", 411
            )
            await refusal(scope, receive, send)
            return
        size_bytes = int(size)
        reason = reason_against(session_id, size_bytes)
        if reason:
            refusal = PlainTextResponse(reason, 413)
            await refusal(scope, receive, send)
            return
        with _announced(session_id, size_bytes):
            await self.app(scope, receive, send)


def reason_against(session_id: str, size_bytes: int) -> str:
    """Return why there is no room for an upload of so many bytes, or "" if there is."""
    waiting = _stored(session_id) + _arriving.get(session_id, 0)
    if waiting + size_bytes > SESSION_LIMIT_BYTES:
        return (
            f"Expected at most {SESSION_LIMIT_BYTES // MB} MB of files at a time. "
            "Add fewer files at once."
        )
    if held_bytes() + size_bytes > process_limit_bytes():
        limit = f"{process_limit_bytes() // MB} MB ({LIMIT_VARIABLE})"
        return (
            f"Expected at most {limit} of images on this server. Remove images, or try again later."
        )
    return ""


def _session_of(scope: Scope) -> str | None:
    """Return the session of an upload, or None for every other request."""
    if scope["type"] != "http" or scope["method"] != "PUT":
        return None
    _, route, rest = scope["path"].partition(_ROUTE)
    if not route:
        return None
    session_id: str
    session_id, _, _ = rest.partition("/")
    return session_id


@contextmanager
def _announced(session_id: str, size_bytes: int) -> Iterator[None]:
    """Count an upload as incoming while it is read."""
    _arriving[session_id] = _arriving.get(session_id, 0) + size_bytes
    try:
        yield
    finally:
        _arriving[session_id] -= size_bytes
        if not _arriving[session_id]:
            del _arriving[session_id]


# Other threads may change these dictionaries meanwhile, so their items are copied into lists.
def _all_bytes() -> int:
    """Return the bytes of all uploads, stored and incoming."""
    session_ids = list(_files())
    stored = 0
    for session_id in session_ids:
        stored += _stored(session_id)
    arriving = list(_arriving.values())
    return stored + sum(arriving)


def _stored(session_id: str) -> int:
    """Return the bytes of the uploads that Streamlit stores for a session."""
    session_files = _files().get(session_id, {})
    return sum(len(file.data) for file in list(session_files.values()))


def _files() -> "dict[str, dict[str, UploadedFileRec]]":
    """Return Streamlit's uploaded files, by session."""
    if not Runtime.exists():
        return {}
    manager = Runtime.instance().uploaded_file_mgr
    if not isinstance(manager, MemoryUploadedFileManager):
        return {}
    return manager.file_storage
