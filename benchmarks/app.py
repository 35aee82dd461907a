"""Measures the app's first result after a cold start, and the memory of each further session.

    python benchmarks/app.py [--sessions N]

It starts the app as `make app` does and opens it in a Chromium of this system, once for each
session. Every tab stays open and gets a drawn image of its own. It prints the seconds from the
start of the server until the first decision is written and until its saliency map is drawn (the
browser runs already, with an empty tab), and the resident memory of the server after each session:
VmRSS, Linux only. The peer is the least that Streamlit can do: a page that shows the image it
receives, started and opened in the same way. The last line is one JSON object.
"""

import argparse
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from urllib.error import URLError

sys.path.insert(0, str(Path(__file__).parent.parent))

from PIL import Image
from playwright.sync_api import (
    Browser,
    FilePayload,
    Page,
    ViewportSize,
    sync_playwright,
)

from cadlib.images.synthetic import render_lesion

ROOT = Path(__file__).parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
LEAST = """
import streamlit as st
for file in st.file_uploader("Pictures", accept_multiple_files=True, key="upload"):
    st.image(file.getvalue(), alt="Saliency map, none")
"""


def draw_jpeg(number: int) -> bytes:
    """Return a drawn lesion as a JPEG file of 600 × 450 px, another file for each number."""
    drawn = render_lesion("MEL", 0, 600)
    square = Image.fromarray(drawn)
    image = square.crop((0, 75, 600, 525))
    quality = 90 - number
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def chromium() -> str:
    """Return the browser of this system; end where there is none."""
    for name in CHROMIUM:
        path = shutil.which(name)
        if path:
            return path
    raise SystemExit(
        f"Expected a browser named {', '.join(CHROMIUM)}; `make chromium` says how to get one."
    )


def free_port() -> int:
    """Return a port of this machine that no server uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """Start a folder's app.py as `make app` does.

    Yield its address and the id of its process once it responds.
    """
    port = free_port()
    flags = ["--server.headless=true", f"--server.port={port}"]
    line = [sys.executable, "-m", "streamlit", "run", "app.py", *flags]
    settings = {
        "cwd": folder,
        "env": {**os.environ, "MALLOC_ARENA_MAX": "2"},
        "stderr": subprocess.STDOUT,
    }
    with TemporaryFile() as log, subprocess.Popen(line, stdout=log, **settings) as server:
        try:
            address = f"http://localhost:{port}"
            while not responds(f"{address}/_stcore/health"):
                if server.poll() is not None:
                    log.seek(0)
                    text = log.read().decode()
                    raise SystemExit(f"Expected the app to start but it ended:\n{text}")
                time.sleep(0.05)
            yield address, server.pid
        finally:
            server.terminate()


def responds(url: str) -> bool:
    """Return whether there is a server at an address."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def open_tab(browser: Browser, address: str, number: int) -> Page:
    """Open an app in a tab of its own, upload an image, and return the tab."""
    viewport: ViewportSize = {"width": 1440, "height": 1000}
    context = browser.new_context(viewport=viewport)
    tab = context.new_page()
    tab.goto(address)
    uploads = tab.locator(".st-key-upload input[type=file]")
    file: FilePayload = {
        "name": f"{number}.jpg",
        "mimeType": "image/jpeg",
        "buffer": draw_jpeg(number),
    }
    uploads.first.set_input_files([file])
    return tab


def wait_for_decision(tab: Page) -> float:
    """Wait until the decision is written; return the time."""
    decision = tab.get_by_role("heading", name="malignant probability")
    decision.wait_for()
    return time.perf_counter()


def wait_for_map(tab: Page) -> float:
    """Wait until the saliency map is drawn, or what the peer has instead; return the time."""
    maps = tab.get_by_alt_text("Saliency map, ", exact=False)
    maps.first.wait_for()
    return time.perf_counter()


def resident_mb(process: int) -> float:
    """Return the resident memory of a process."""
    path = Path(f"/proc/{process}/statm")
    statm = path.read_text()
    pages = int(statm.split()[1])
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return pages * page_bytes / 1e6


def measure_peer(browser: Browser) -> float:
    """Return the seconds until a page that only shows its image has drawn it."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        app = folder / "app.py"
        app.write_text(LEAST, encoding="utf-8")
        began = time.perf_counter()
        with serving(folder) as (address, _):
            tab = open_tab(browser, address, 0)
            drawn = wait_for_map(tab)
            return drawn - began


@dataclass(frozen=True)
class Measured:
    """The app: seconds to its first decision and map, MB after each session, and torch."""

    decision_s: float
    map_s: float
    memory_mb: list[float]
    torch_loaded: bool


def measure_app(browser: Browser, sessions: int) -> Measured:
    """Open the app in as many tabs, print what each costs, and return it."""
    decision_s = 0.0
    map_s = 0.0
    memory_mb = []
    began = time.perf_counter()
    with serving(ROOT) as (address, process):
        up_s = time.perf_counter() - began
        up_mb = resident_mb(process)
        print(f"the server responds after {up_s:.2f} s: {up_mb:.0f} MB", flush=True)
        for number in range(sessions):
            tab = open_tab(browser, address, number)
            if not number:
                decision_s = wait_for_decision(tab) - began
                map_s = wait_for_map(tab) - began
                times = f"{decision_s:.2f} s, its saliency map after {map_s:.2f} s"
                print(f"the first decision is written after {times}")
            tab.get_by_text("same top diagnosis in").wait_for()
            # The memory that a run of the page needed for itself is returned by then.
            time.sleep(1)
            session_mb = resident_mb(process)
            memory_mb.append(session_mb)
            print(f"{number + 1} sessions: {session_mb:.0f} MB", flush=True)
        maps = Path(f"/proc/{process}/maps").read_text()
    torch_loaded = "libtorch" in maps
    return Measured(decision_s, map_s, memory_mb, torch_loaded)


def as_json(measured: Measured, least_s: float) -> dict[str, object]:
    """Return the results of the last line."""
    memory_mb = measured.memory_mb
    first_mb = memory_mb[0]
    last_mb = memory_mb[-1]
    n_further = max(len(memory_mb) - 1, 1)
    further_mb = (last_mb - first_mb) / n_further
    map_ratio = measured.map_s / least_s
    greatest_mb = None
    # One session alone has no step.
    if len(memory_mb) > 1:
        steps_mb = [after - before for before, after in pairwise(memory_mb)]
        greatest_mb = round(max(steps_mb), 1)
    return {
        "first_decision_s": round(measured.decision_s, 2),
        "first_heatmap_s": round(measured.map_s, 2),
        "first_heatmap_over_least": round(map_ratio, 2),
        "one_session_mb": round(first_mb),
        "further_session_mb": round(further_mb, 1),
        "greatest_step_mb": greatest_mb,
        "torch_loaded": measured.torch_loaded,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--sessions",
        type=int,
        default=8,
        help="tabs that are open at once (default: 8)",
        choices=range(1, 11),
    )
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        browser.new_page().goto("about:blank")
        least_s = measure_peer(browser)
        print(f"a page that only shows its image has drawn it after {least_s:.2f} s", flush=True)
        measured = measure_app(browser, options.sessions)
        browser.close()
    print(json.dumps(as_json(measured, least_s)))


if __name__ == "__main__":
    main()
