"""How soon the app answers after a cold start, and what memory each further reader costs it.

    python benchmarks/app.py [--sessions N]

Starts the app as `make app` does and opens it in a Chromium of this system, once for each session. Every tab stays open
and gets a drawn photograph of its own. Prints the seconds from the start of the server until the first decision is
written and until its heatmap is drawn (the browser runs already, with an empty tab), and the resident memory of the
server after each session: VmRSS, Linux alone. The peer is the least that Streamlit can do: a page that shows the
picture it is given, started and opened in the same way. The last line is one JSON object.
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
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from urllib.error import URLError

sys.path.insert(0, str(Path(__file__).parent.parent))

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from cadlib.images.synthetic import render_lesion

ROOT = Path(__file__).parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")  # fmt: skip
LEAST = """
import streamlit as st
for file in st.file_uploader("Pictures", accept_multiple_files=True, key="upload"):
    st.image(file.getvalue(), alt="Saliency map, none")
"""


def photograph(number: int) -> bytes:
    """Return a drawn lesion as a JPEG file of 600 × 450 px, another file for each number."""
    picture = Image.fromarray(render_lesion("MEL", 0, 600)).crop((0, 75, 600, 525))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90 - number)
    return buffer.getvalue()


def chromium() -> str:
    """Return the browser of this system; end where there is none."""
    if path := next(filter(None, map(shutil.which, CHROMIUM)), None):
        return path
    raise SystemExit(
        f"Expected a browser named {', '.join(CHROMIUM)}; `make chromium` says how to get one."
    )


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, int]]:
    """Start a folder's app.py as `make app` does; give its address and the id of its process once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        "app.py",
        "--server.headless=true",
        f"--server.port={port}",
    ]
    settings = {
        "cwd": folder,
        "env": {**os.environ, "MALLOC_ARENA_MAX": "2"},
        "stderr": subprocess.STDOUT,
    }
    with TemporaryFile() as log, subprocess.Popen(line, stdout=log, **settings) as server:
        try:
            address = f"http://localhost:{port}"
            while not answers(f"{address}/_stcore/health"):
                if server.poll() is not None:
                    log.seek(0)
                    raise SystemExit(
                        f"Expected the app to start but it ended:\n{log.read().decode()}"
                    )
                time.sleep(0.05)
            yield address, server.pid
        finally:
            server.terminate()


def answers(url: str) -> bool:
    """Tell whether there is a server at an address."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def ask(browser: Browser, address: str, number: int) -> Page:
    """Open an app in a tab of its own, give it a picture, and return the tab."""
    tab = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    tab.goto(address)
    chooser = tab.locator(".st-key-upload input[type=file]").first
    chooser.set_input_files(
        [{"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": photograph(number)}]
    )
    return tab


def drawn(tab: Page) -> float:
    """Wait until the heatmap is drawn, or what the peer shows in its place, and return when."""
    tab.get_by_alt_text("Saliency map, ", exact=False).first.wait_for()
    return time.perf_counter()


def resident_mb(process: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


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
    with sync_playwright() as playwright, TemporaryDirectory() as place:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        browser.new_page().goto("about:blank")
        Path(place, "app.py").write_text(LEAST, encoding="utf-8")
        began = time.perf_counter()
        with serving(Path(place)) as (address, _):
            least_s = drawn(ask(browser, address, 0)) - began
        print(f"a page that only shows its picture has drawn it after {least_s:.2f} s", flush=True)
        began = time.perf_counter()
        with serving(ROOT) as (address, process):
            up_s, idle_mb = time.perf_counter() - began, resident_mb(process)
            print(f"the server answers after {up_s:.2f} s: {idle_mb:.0f} MB", flush=True)
            held_mb = []
            for number in range(options.sessions):
                tab = ask(browser, address, number)
                if not number:
                    tab.get_by_role("heading", name="malignant probability").wait_for()
                    decision_s = time.perf_counter() - began
                    heatmap_s = drawn(tab) - began
                    print(
                        f"the first decision is written after {decision_s:.2f} s, its heatmap after {heatmap_s:.2f} s"
                    )
                tab.get_by_text("same top diagnosis in").wait_for()
                time.sleep(1)  # what a run of the page needs for itself is given back
                held_mb.append(resident_mb(process))
                print(f"{number + 1} sessions: {held_mb[-1]:.0f} MB", flush=True)
            torch_loaded = "libtorch" in Path(f"/proc/{process}/maps").read_text()
        browser.close()
    further_mb = (held_mb[-1] - held_mb[0]) / max(len(held_mb) - 1, 1)
    measured = {
        "first_decision_s": round(decision_s, 2),
        "first_heatmap_s": round(heatmap_s, 2),
        "first_heatmap_over_least": round(heatmap_s / least_s, 2),
        "one_session_mb": round(held_mb[0]),
        "further_session_mb": round(further_mb, 1),
        "greatest_step_mb": round(max(b - a for a, b in pairwise(held_mb)), 1)
        if len(held_mb) > 1
        else None,
        "torch_loaded": torch_loaded,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
