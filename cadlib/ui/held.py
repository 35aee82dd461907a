"""Counts the bytes that each session holds in memory."""

from collections.abc import Iterable

import streamlit as st
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from cadlib.server.session_memory import Holding

_KEY = "holding"


def holding() -> Holding:
    """Return what this session holds; it ends with the session."""
    held: Holding = st.session_state.setdefault(_KEY, Holding())
    return held


def let_go(uploads: Iterable[UploadedFile]) -> None:
    """Drop uploads that were read.

    Streamlit keeps them until the tab is closed, even without their widget.
    """
    context = get_script_run_ctx()
    if context is None or not Runtime.exists():
        # A test runs the page without a server.
        return
    manager = Runtime.instance().uploaded_file_mgr
    if isinstance(manager, MemoryUploadedFileManager):
        for upload in uploads:
            manager.remove_file(context.session_id, upload.file_id)
