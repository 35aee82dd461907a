"""Keeps uploads in memory, and limits how much they may hold."""

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
"""Session -> bytes of the uploads that are on their way. Read and written by the thread of the event loop alone."""


def keep_in_memory() -> None:
    """Keep an upload out of the temporary folder, where Starlette puts what exceeds 1 MiB."""
    MultiPartParser.spool_max_size = (config.get_option("server.maxUploadSize") + 1) * _MIB


class UploadLimit:
    """ASGI middleware that refuses an upload for which a session, or the server, has no room."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        keep_in_memory()
        process_limit_bytes()  # a value that is no number ends the start, not the first upload
        count_also(_all_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; an upload only where there is room for it."""
        session_id = _session_of(scope)
        if session_id is None:
            await self.app(scope, receive, send)
            return
        size = Headers(scope=scope).get("content-length", "")
        if not size.isdecimal():
            refusal = PlainTextResponse(
                "Expected the header Content-Length. Send it with the upload.", 411
            )
        elif reason := reason_against(session_id, int(size)):
            refusal = PlainTextResponse(reason, 413)
        else:
            with _announced(session_id, int(size)):
                await self.app(scope, receive, send)
            return
        await refusal(scope, receive, send)


def reason_against(session_id: str, size_bytes: int) -> str:
    """Return why an upload of so many bytes finds no room, "" where it does."""
    waiting = _stored(session_id) + _arriving.get(session_id, 0)
    if waiting + size_bytes > SESSION_LIMIT_BYTES:
        return f"Expected at most {SESSION_LIMIT_BYTES // MB} MB of files at a time. Give fewer files at once."
    if held_bytes() + size_bytes > process_limit_bytes():
        limit = f"{process_limit_bytes() // MB} MB ({LIMIT_VARIABLE})"
        return (
            f"Expected at most {limit} of images on this server. Remove images, or try again later."
        )
    return ""


def _session_of(scope: Scope) -> str | None:
    """Return the session that a request uploads a file for, None for every other request."""
    if scope["type"] != "http" or scope["method"] != "PUT":
        return None
    _, found, rest = scope["path"].partition(_ROUTE)
    return rest.partition("/")[0] if found else None


@contextmanager
def _announced(session_id: str, size_bytes: int) -> Iterator[None]:
    _arriving[session_id] = _arriving.get(session_id, 0) + size_bytes
    try:
        yield
    finally:
        _arriving[session_id] -= size_bytes
        if not _arriving[session_id]:
            del _arriving[session_id]


def _all_bytes() -> int:
    return sum(_stored(session_id) for session_id in list(_files())) + sum(list(_arriving.values()))


def _stored(session_id: str) -> int:
    return sum(len(file.data) for file in list(_files().get(session_id, {}).values()))


def _files() -> "dict[str, dict[str, UploadedFileRec]]":
    if not Runtime.exists():
        return {}
    manager = Runtime.instance().uploaded_file_mgr
    return manager.file_storage if isinstance(manager, MemoryUploadedFileManager) else {}
