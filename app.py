"""Starts the app: `streamlit run app.py`. What its pages need is loaded while a browser still fetches the frame."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread

import streamlit as st


def load_ahead() -> None:
    """Import what the pages import, a second's work, and load the model."""
    from cadlib import ui  # noqa: PLC0415 - this is the import that takes the second

    ui.load_ahead()


@asynccontextmanager
async def ready(_: st.App) -> AsyncIterator[None]:
    """Answer at once, and load meanwhile."""
    Thread(target=load_ahead, daemon=True).start()
    yield


app = st.App("menu.py", lifespan=ready)
