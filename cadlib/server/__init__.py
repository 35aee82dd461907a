"""Guards the web server around the pages; `app.py` installs it.

guard     answers only requests that name this server and come from its own pages
headers   forbids the browser requests to other servers, and caching of images
uploads   keeps uploads in memory, and limits their size
sessions  closes a session soon after its tab was closed
"""

from cadlib.server.guard import forbid_lookups
from cadlib.server.sessions import forgetting_sessions
from cadlib.server.stack import middleware

__all__ = ["forbid_lookups", "forgetting_sessions", "middleware"]
