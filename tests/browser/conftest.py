"""A cold server of the app and a real Chromium to open it with."""

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.free_port import free_port

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",  # a camera that shows a test picture
    # All tabs of a context share a process, which compiles the scripts of the app once.
    "--process-per-site",
)


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory) -> Path:
    """Return the folder in which the app that tests share saves subsets and verdicts."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def server(server_folder) -> Iterator[str]:
    """Return the address of an app that tests share.

    A test that saves something takes `cold_server`, or removes it from `server_folder`.
    """
    with serving(server_folder / "log.txt") as address:
        yield address


@pytest.fixture
def cold_server(tmp_path) -> Iterator[str]:
    """Return the address of an app that nobody has opened yet."""
    with serving(tmp_path / "log.txt") as address:
        yield address


@contextmanager
def serving(log: Path, script: str = "app.py", port: int = 0) -> Iterator[str]:
    """Start the app, or another script, on a port, and give its address; 0 is any free port."""
    port = port or free_port()
    options = ("--server.headless=true", f"--server.port={port}")
    line = [sys.executable, "-m", "streamlit", "run", script, *options]
    folder_variables = {
        "CADLIB_CLINIC": "clinic.json",
        "CADLIB_SUBSETS": "subsets",
        "CADLIB_VERDICTS": "verdicts",
    }
    own = {name: str(log.with_name(place)) for name, place in folder_variables.items()}
    own["CADLIB_DATABASE"] = f"sqlite:///{log.with_name('cases.sqlite')}"
    own["CADLIB_CASE_IMAGES"] = str(log.with_name("case images"))
    environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        running = subprocess.Popen(
            line, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        address = f"http://localhost:{port}"
        wait_for_server(address, running, log)
        yield address
    finally:
        end_server(running)


def end_server(running: subprocess.Popen) -> None:
    """End a server, at once if it still waits for a connection of the browser that tests share."""
    running.terminate()
    try:
        running.wait(timeout=20)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def wait_for_server(address: str, process: subprocess.Popen, log: Path) -> None:
    """Wait until a server responds; fail the test where it ends, or needs over a minute."""
    deadline = time.monotonic() + 60
    while not _answers(f"{address}/_stcore/health"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, (
            f"The server did not answer within a minute:\n{log.read_text()}"
        )
        time.sleep(0.2)


def settle(page: Any) -> None:
    """Wait until the page is complete: Streamlit drops an image that the next run does not use, fetched or not."""
    page.locator("[data-test-script-state=notRunning]").wait_for()
    page.wait_for_function("[...document.images].every((image) => image.complete)")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


@pytest.fixture(scope="session")
def browser():
    """Return a Chromium of this system; skip the test where there is none."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(
            f"No browser found under the names {', '.join(CHROMIUM)}; `make chromium` says how to get one"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chromium
        chromium.close()


def keep_process(context: Any) -> None:
    """Open an empty tab of the app's site: its process, with all compiled scripts, stays with it."""
    tab = context.new_page()
    tab.route("**/*", lambda route: route.fulfill(body="", content_type="text/html"))
    tab.goto("http://localhost/")


@pytest.fixture(scope="session")
def window(browser):
    """Return a browser window that tests share, so that the scripts of the app are loaded once."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, accept_downloads=True)
    keep_process(context)
    yield context
    context.close()


@pytest.fixture
def page(window):
    """Return an empty tab that fails the test when a page logs an error to its console."""
    tab = window.new_page()
    tab.set_default_timeout(60_000)
    errors: list[str] = []

    def note(message: Any) -> None:
        # Opened at /saliency, Streamlit's page looks for its server at /saliency/_stcore first, then at /_stcore.
        elsewhere = re.match(r"https?://[^/]+/[^/]+/_stcore/", message.location.get("url", ""))
        if message.type == "error" and not elsewhere:
            errors.append(f"{message.text} {message.location}")

    tab.on("console", note)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    yield tab
    # The next test finds the browser as if the app had never been opened.
    if tab.url.startswith("http"):
        tab.evaluate("localStorage.clear()")
    tab.close()
    window.clear_cookies()
    window.clear_permissions()
    assert not errors
