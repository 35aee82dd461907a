"""Forbids the browser requests to other servers, and caching of images.

It is the second line of defence: text from files is escaped before it reaches a page.
"""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'self'",
    # Streamlit's pages and plotly build scripts in the page. None can be loaded from elsewhere.
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "media-src 'self' data: blob:",
    "font-src 'self' data:",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'self'",
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecurityHeaders:
    """ASGI middleware that adds a Content-Security-Policy and related headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Pass a request on, and add the headers to its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host = Headers(scope=scope).get("host", "")
        policy = "; ".join([*_POLICY, _connections(host)])
        holds_images = scope["path"].split("/")[-2:-1] == ["media"]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = policy
                headers.update(_HEADERS)
                if holds_images:
                    # Otherwise the browser writes them to its disk.
                    headers["Cache-Control"] = "no-store"
            await send(message)

        await self.app(scope, receive, send_with_headers)


def _connections(host: str) -> str:
    """Return where a page may connect to: its server, and data in the page, as a camera image.

    Some browsers do not count the WebSocket as 'self'.
    """
    if not re.fullmatch(r"[\w.:\[\]-]+", host, re.ASCII):
        return "connect-src 'self' data: blob:"
    return f"connect-src 'self' data: blob: ws://{host} wss://{host}"
