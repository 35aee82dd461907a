"""Warns a reader whose session is gone that its images are removed."""

import secrets

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

_LOST = "lost"
_TAB = "tab"
NOTICE = (
    "The connection to the server was lost, and the server was restarted or had already removed "
    "your images. Images added before are no longer in memory. Files that were being uploaded were "
    "not read. Add them again."
)
# A tab that connects again shows its old page until the reader does something. This asks for a
# new one.
_RECONNECT = """<script>
if (!window.cadlibReconnect) {
  window.cadlibReconnect = true;
  const app = document.querySelector("[data-test-connection-state]");
  let lost = false;
  new MutationObserver(() => {
    const connected = app.getAttribute("data-test-connection-state") === "CONNECTED";
    if (connected && lost) {
      setTimeout(() => document.querySelector(".st-key-reconnected button")?.click(), 500);
    }
    lost = !connected;
  }).observe(app, { attributes: true, attributeFilter: ["data-test-connection-state"] });
}
</script>
<style>.st-key-reconnecting { display: none; }</style>"""


def about_the_loss() -> None:
    """Draw a warning that an earlier session of this tab is gone, until images are added again."""
    # The button is out of sight, but a script can press it.
    with st.container(key="reconnecting"):
        st.html(_RECONNECT, unsafe_allow_javascript=True)
        st.button("Show the page again", key="reconnected")
    state = st.session_state
    # Asked once: after that, a session on the server is this one.
    if _LOST not in state:
        state[_LOST] = _had_another_session()
    if state[_LOST]:
        st.warning(NOTICE, icon=":material/sync_problem:")


def hide_loss_warning() -> None:
    """Stop drawing the warning of `about_the_loss`."""
    st.session_state[_LOST] = False


def tab() -> str:
    """Return a name of this session for keys of widgets.

    After a restart the browser still lists the files it was uploading, in the widget of the same
    key.
    """
    state = st.session_state
    if _TAB not in state:
        state[_TAB] = secrets.token_hex(3)
    name: str = state[_TAB]
    return name


def _had_another_session() -> bool:
    """Return whether the browser requested a session that the server does not have.

    A tab that connects again names its session as the third of its protocols.
    """
    context = get_script_run_ctx()
    if context is None:
        return False
    header = st.context.headers.get("Sec-WebSocket-Protocol", "")
    names = [name.strip() for name in header.split(",")]
    # A tab that connects for the first time names no session.
    if len(names) < 3:
        return False
    session = names[2]
    return session not in ("", context.session_id)
