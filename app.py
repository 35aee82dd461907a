"""Starts the app: `streamlit run app.py`.

Modules and model are loaded while the first browser fetches the frame of the page.
"""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread

import streamlit as st

from cadlib import server


def load_ahead() -> None:
    """Import the modules of the pages, load the model, and prepare the first run of a page."""
    # First, because a decoder starts in its own process, beside the imports below.
    from cadlib.images import start_decoders  # noqa: PLC0415

    start_decoders()
    # Imported late: it takes more than a second.
    from cadlib import ui  # noqa: PLC0415

    ui.load_ahead()
    # Reads the path of each module, which Streamlit would do before its first element.
    inspect.stack()
    ui.spare()


@asynccontextmanager
async def ready(_: st.App) -> AsyncIterator[None]:
    """Load in the background, and forget the images of closed tabs while the server runs."""
    Thread(target=load_ahead, daemon=True).start()
    async with server.forgetting_sessions():
        yield


server.forbid_lookups()
app = st.App("menu.py", lifespan=ready, middleware=server.middleware())
