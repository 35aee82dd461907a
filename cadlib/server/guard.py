"""Answers only requests that name this server and came from its pages.

A page of another site can point its own host name at this machine (DNS rebinding). The browser
then sends that name as `Host`. Streamlit checks it for its WebSocket alone; images and uploads go
over HTTP.
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit import config, net_util
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

REFUSED = (
    "Expected a request to one of this server's names. To serve another one, start the server with "
    "--server.allowedHosts NAME."
)


class HostGuard:
    """ASGI middleware that refuses other host names than `server.allowedHosts`, and WebSockets of other pages."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it before anything else reads it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if names_this_server(headers) and (scope["type"] == "http" or came_from_here(headers)):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await receive()  # the protocol wants the request to be read before it is refused
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = PlainTextResponse(REFUSED, status_code=421)
        await refusal(scope, receive, send)


def names_this_server(headers: Headers) -> bool:
    """Tell whether a request has one `Host`, and it is one of `server.allowedHosts`; none is allowed by default."""
    hosts = headers.getlist("host")
    allowed: list[str] = config.get_option("server.allowedHosts")
    return len(hosts) == 1 and bool(allowed) and is_host_allowed(hosts[0])


def came_from_here(headers: Headers) -> bool:
    """Tell whether the page that opens a WebSocket is this server's own, or one that the operator names.

    Programs that are no browser send no `Origin`. Streamlit would take any page on this machine,
    whatever its port.
    """
    origin = headers.get("origin")
    if origin is None or origin in config.get_option("server.corsAllowedOrigins"):
        return True
    return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()


def forbid_lookups() -> None:
    """Keep Streamlit from asking servers on the internet for the addresses of this machine.

    It does so to print them, and for each WebSocket with an unknown `Origin`, which any web page
    can send.
    """
    net_util.get_external_ip = lambda: None
    net_util.get_internal_ip = lambda: None
