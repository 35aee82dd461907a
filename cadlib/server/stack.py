"""Puts the middleware in its order."""

from starlette.middleware import Middleware

from cadlib.server.guard import HostGuard
from cadlib.server.headers import SecurityHeaders
from cadlib.server.uploads import UploadLimit


def middleware() -> list[Middleware]:
    """Return what stands before Streamlit's own middleware, the outermost first."""
    return [Middleware(HostGuard), Middleware(SecurityHeaders), Middleware(UploadLimit)]
