"""Refuses requests for other hosts and from other pages.

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
    """ASGI middleware that refuses other host names than `server.allowedHosts`.

    It also refuses WebSockets of other pages.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Pass a request on, or refuse it before anything else reads it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        own_page = scope["type"] == "http" or came_from_here(headers)
        if names_this_server(headers) and own_page:
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            # The protocol requires that the request is read before it is refused.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        refusal = PlainTextResponse(REFUSED, status_code=421)
        await refusal(scope, receive, send)


def names_this_server(headers: Headers) -> bool:
    """Return whether a request has one `Host`, and it is one of `server.allowedHosts`.

    No host is allowed by default.
    """
    hosts = headers.getlist("host")
    allowed: list[str] = config.get_option("server.allowedHosts")
    if len(hosts) != 1 or not allowed:
        return False
    host = hosts[0]
    return is_host_allowed(host)


def came_from_here(headers: Headers) -> bool:
    """Return whether the page that opens a WebSocket is this server's, or allowed by the operator.

    Programs other than browsers send no `Origin`. Streamlit would accept any page on this machine,
    on every port.
    """
    origin = headers.get("origin")
    if origin is None:
        return True
    allowed: list[str] = config.get_option("server.corsAllowedOrigins")
    if origin in allowed:
        return True
    origin_host = urlsplit(origin).netloc
    host = headers.get("host", "")
    # The case of a host's name has no meaning.
    return origin_host.lower() == host.lower()


def forbid_lookups() -> None:
    """Stop Streamlit from requesting this machine's addresses from servers on the internet.

    It does so to print them, and for each WebSocket with an unknown `Origin`, which any web page
    can send.
    """
    net_util.get_external_ip = lambda: None
    net_util.get_internal_ip = lambda: None
