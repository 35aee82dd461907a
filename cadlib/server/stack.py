"""Lists the middleware in its order."""

from starlette.middleware import Middleware

from cadlib.server.guard import HostGuard
from cadlib.server.headers import SecurityHeaders
from cadlib.server.uploads import UploadLimit


def middleware() -> list[Middleware]:
    """Return the middleware before Streamlit's own, the outermost first."""
    return [Middleware(HostGuard), Middleware(SecurityHeaders), Middleware(UploadLimit)]
