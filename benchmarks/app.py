"""How soon the app answers after a cold start, and what memory each further reader costs it.

    python benchmarks/app.py [--sessions N]

Starts the app as `make app` does and opens it in a Chromium of this system, once for each session. Every tab stays open
and gets a drawn lesion of its own, of those that the page itself offers; it is done when its decision and its heatmap
are there. Prints the seconds from the start of the server to the first answer (the browser runs already,
with an empty tab), and the resident memory of the server after each session: VmRSS, Linux alone. The last line is one
JSON object.
"""

import argparse
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
from tempfile import TemporaryFile
from urllib.error import URLError

sys.path.insert(0, str(Path(__file__).parent.parent))

from playwright.sync_api import Browser, Page, sync_playwright

from cadlib.synthetic import demo_lesions

ROOT = Path(__file__).parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")  # fmt: skip


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """Start the app as `make app` does; give its address and the id of its process once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", f"--server.port={port}"]
    settings = {"cwd": ROOT, "env": {**os.environ, "MALLOC_ARENA_MAX": "2"}, "stderr": subprocess.STDOUT}
    with TemporaryFile() as log, subprocess.Popen(line, stdout=log, **settings) as server:
        try:
            address = f"http://localhost:{port}"
            while not answers(f"{address}/_stcore/health"):
                if server.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"Expected the app to start but it ended:\n{log.read().decode()}")
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


def ask(browser: Browser, address: str, name: str, picture: bytes) -> Page:
    """Open the app in a tab of its own, give it a picture, and return the tab when its heatmap is drawn."""
    tab = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    tab.goto(address)
    chooser = tab.locator(".st-key-upload input[type=file]").first
    chooser.set_input_files([{"name": name, "mimeType": "image/png", "buffer": picture}])
    tab.get_by_alt_text("Heatmap, Grad-CAM", exact=False).first.wait_for()
    return tab


def resident_mb(process: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--sessions", type=int, default=8, help="tabs that are open at once (default: 8)", choices=range(1, 11)
    )
    options = parser.parse_args()
    if not (path := next(filter(None, map(shutil.which, CHROMIUM)), None)):
        raise SystemExit(f"Expected a browser named {', '.join(CHROMIUM)}; `make chromium` says how to get one.")
    pictures = [lesion.png() for lesion in demo_lesions()[: options.sessions]]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        browser.new_page().goto("about:blank")
        began = time.perf_counter()
        with serving() as (address, process):
            up_s, idle_mb = time.perf_counter() - began, resident_mb(process)
            print(f"the server answers after {up_s:.2f} s: {idle_mb:.0f} MB", flush=True)
            held_mb = []
            for number, picture in enumerate(pictures):
                tab = ask(browser, address, f"{number}.png", picture)
                if not number:
                    first_s = time.perf_counter() - began
                    print(f"the first answer is drawn after {first_s:.2f} s")
                tab.locator("[data-test-script-state=notRunning]").wait_for()
                time.sleep(1)  # what a run of the page needs for itself is given back
                held_mb.append(resident_mb(process))
                print(f"{number + 1} sessions: {held_mb[-1]:.0f} MB", flush=True)
            torch_loaded = "libtorch" in Path(f"/proc/{process}/maps").read_text()
        browser.close()
    further_mb = (held_mb[-1] - held_mb[0]) / max(len(held_mb) - 1, 1)
    measured = {
        "first_answer_s": round(first_s, 2),
        "one_session_mb": round(held_mb[0]),
        "further_session_mb": round(further_mb, 1),
        "greatest_step_mb": round(max(b - a for a, b in pairwise(held_mb)), 1) if len(held_mb) > 1 else None,
        "torch_loaded": torch_loaded,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
