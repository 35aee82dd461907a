"""Opens the app in this process, gives it an image and closes the tab; prints what remains in memory, as JSON.

A process of its own, because Streamlit's runtime is one to a process. `python -m tests.closed_tab`
"""

import asyncio
import gc
import io
import json
import logging
import sys
import time
import weakref

import numpy as np
from PIL import Image
from starlette.testclient import TestClient
from streamlit import config
from streamlit.runtime import Runtime
from streamlit.runtime.media_file_storage import MediaFileKind

import app
from cadlib.images.synthetic import render_lesion
from cadlib.server import session_memory
from cadlib.server.sessions import Forgetting, collect
from tests.streamlit_tab import Reader

ORIGIN = {"host": "localhost", "origin": "http://localhost"}


def photograph(number: int) -> bytes:
    pixels = np.asarray(Image.fromarray(render_lesion("MEL", number, 600)))
    Image.fromarray(pixels).save(buffer := io.BytesIO(), "PNG")
    return buffer.getvalue()


def open_tab(client: TestClient) -> Reader:
    socket = client.websocket_connect("/_stcore/stream", subprotocols=["streamlit"], headers=ORIGIN)
    socket.__enter__()

    def send_file(path: str, kind: str, body: bytes) -> int:
        client.get("/_stcore/health")
        token = client.cookies["_streamlit_xsrf"]
        headers = {"content-type": kind, "x-xsrftoken": token}
        return client.put(path, content=body, headers=headers).status_code

    reader = Reader(socket, send_file)
    reader.run()
    return reader


def state_of(session_id: str) -> dict:
    info = Runtime.instance()._session_mgr.get_session_info(session_id)
    return info.session.session_state.filtered_state


def pixels_of(session_id: str) -> list[weakref.ref]:
    return [
        weakref.ref(case.assessment.image.pixels) for case in state_of(session_id)["cases"].values()
    ]


def alive(references: list[weakref.ref]) -> int:
    settle()
    gc.collect()
    return sum(reference() is not None for reference in references)


def settle(most_s: float = 20) -> None:
    """Wait until nothing changes for a second: the page has been sent, but its run is still tidying up."""
    deadline = time.monotonic() + most_s
    before: dict = {}
    while before != (before := memory_in_use()) and time.monotonic() < deadline:
        time.sleep(1)


def memory_in_use() -> dict:
    runtime = Runtime.instance()
    storage = runtime.media_file_mgr._storage._files_by_id.values()
    uploads = runtime.uploaded_file_mgr.file_storage
    return {
        "images": sum(file.kind is MediaFileKind.MEDIA for file in list(storage)),
        "downloads": sum(file.kind is MediaFileKind.DOWNLOADABLE for file in list(storage)),
        "uploads": sum(len(file.data) for files in uploads.values() for file in files.values()),
        "held": session_memory.held_bytes(),
        "sessions": len(runtime._session_mgr.list_sessions()),
    }


def look(references: list[weakref.ref]) -> dict:
    n_alive = alive(references)
    return {"alive": n_alive, **memory_in_use()}


def read_and_remove(tab: Reader) -> dict:
    """Read two images, remove one, then all; return what is held after each step."""
    tab.give(("one.png", photograph(1)), ("two.png", photograph(2)))
    references = pixels_of(tab.session_id)
    result = {"read": look(references)}
    tab.click("Remove image")
    result["removed_one"] = look(references)
    tab.click("Remove all images")
    result["removed_all"] = look(references)
    return result


def close(tab: Reader) -> None:
    """Close the connection of a tab, and wait until the server has noticed."""
    tab.socket.close()
    tab.socket.__exit__(None, None, None)
    deadline = time.monotonic() + 20
    manager = Runtime.instance()._session_mgr
    while manager.num_active_sessions() and time.monotonic() < deadline:
        time.sleep(0.1)


def tick(forgetting: Forgetting, now: float) -> int:
    """Forget the tabs that are closed for long enough at a time, in the loop of the server."""

    async def once() -> int:
        closed = forgetting.tick(now)
        if closed:
            collect()
        return closed

    loop = Runtime.instance()._get_async_objs().eventloop
    return asyncio.run_coroutine_threadsafe(once(), loop).result(60)


def main() -> None:
    with TestClient(app.app, base_url="http://localhost") as client:
        tab = open_tab(client)
        result = read_and_remove(tab)
        tab.give(("three.png", photograph(3)))
        from cadlib import ui

        # The page of another reader may do this at any time.
        ui.spare()
        references = pixels_of(tab.session_id)
        close(tab)
        forgetting = Forgetting(Runtime.instance(), after_s=30)
        tick(forgetting, 100.0)
        result["closed"] = look(references)
        tick(forgetting, 129.0)
        result["soon"] = look(references)
        tick(forgetting, 131.0)
        tick(forgetting, 136.0)
        result["later"] = look(references)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    config.set_option("server.allowedHosts", ["localhost"])
    sys.exit(main())
