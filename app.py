"""Starts the app: `streamlit run app.py`. What its pages need is loaded while a browser still fetches the frame."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread

import streamlit as st

from cadlib import server


def load_ahead() -> None:
    """Import what the pages import, load the model, and do once what Streamlit would do in the first run of a page."""
    from cadlib.images import start_decoders  # noqa: PLC0415 - ready when the rest is

    start_decoders()
    from cadlib import ui  # noqa: PLC0415 - this is the import that takes the time

    ui.load_ahead()
    inspect.stack()  # reads the path of each module; Streamlit asks for it before its first element
    ui.spare()


@asynccontextmanager
async def ready(_: st.App) -> AsyncIterator[None]:
    """Answer at once, and load meanwhile; forget the images of closed tabs as long as the server runs."""
    Thread(target=load_ahead, daemon=True).start()
    async with server.forgetting_sessions():
        yield


server.forbid_lookups()
app = st.App("menu.py", lifespan=ready, middleware=server.middleware())
