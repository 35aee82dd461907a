"""What memory many readers cost the server, one after the other and all at once, and what of it stays.

    python benchmarks/sessions.py IMAGES [--sessions N] [--app DIR]

Starts the app as `make app` does. Each reader opens a tab, gives three of the image files in the
folder IMAGES, waits for the answers and closes the tab. First the readers come one after the
other, then all are there together. After each round nobody is there for 50 seconds. Prints the
resident memory of the server: VmRSS, Linux alone. `--app` names the folder of another version of
the app. The last line is one JSON object.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError

sys.path.insert(0, str(Path(__file__).parent.parent))

from websockets.sync.client import ClientConnection, connect

from tests.reader import Reader

ROOT = Path(__file__).parent.parent
FILES_A_READER = 3
EMPTY_S = 50


class Socket:
    """A WebSocket of a server that runs."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def send_bytes(self, data: bytes) -> None:
        """Send a message."""
        self._connection.send(data)

    def receive_bytes(self) -> bytes:
        """Wait for a message."""
        data = self._connection.recv()
        assert isinstance(data, bytes)
        return data

    def close(self) -> None:
        """Close the connection, as a tab that is closed."""
        self._connection.close()


def open_tab(address: str) -> Reader:
    """Open a tab and wait for its first page."""
    with urllib.request.urlopen(f"{address}/_stcore/health") as answer:
        cookie = answer.headers["set-cookie"].partition(";")[0]
    token = cookie.partition("=")[2]

    def put(path: str, kind: str, body: bytes) -> int:
        headers = {"content-type": kind, "cookie": cookie, "x-xsrftoken": token}
        request = urllib.request.Request(f"{address}{path}", body, headers, method="PUT")
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)

    stream = address.replace("http", "ws") + "/_stcore/stream"
    connection = connect(stream, origin=address, subprotocols=["streamlit"], max_size=None)
    reader = Reader(Socket(connection.__enter__()), put)
    reader.run()
    return reader


@contextmanager
def serving(folder: Path, cache: str) -> Iterator[tuple[str, int]]:
    """Start a folder's app.py as `make app` does; give its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true"]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "CADLIB_CACHE": cache}
    line.append(f"--server.port={port}")
    settings = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL}
    with subprocess.Popen(line, **settings) as server:
        try:
            address = f"http://localhost:{port}"
            while not answers(f"{address}/_stcore/health"):
                time.sleep(0.1)
            yield address, server.pid
        finally:
            server.terminate()


def answers(url: str) -> bool:
    """Tell whether a server answers there."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (URLError, OSError):
        return False


def resident_mb(process: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def visit(address: str, readers: int, files: Iterator[Path], pid: int) -> float:
    """Let so many readers come together, and go; return the memory while all are there."""
    tabs = []
    for _ in range(readers):
        tabs.append(open_tab(address))
        tabs[-1].give(*((path.name, path.read_bytes()) for path in islice(files, FILES_A_READER)))
    resident = resident_mb(pid)
    for tab in tabs:
        tab.socket.close()
    return resident


def main() -> None:
    """Run the rounds and print what they cost."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("images", type=Path)
    options.add_argument("--sessions", type=int, default=60)
    options.add_argument("--app", type=Path, default=ROOT)
    chosen = options.parse_args()
    files = cycle(
        sorted(path for path in chosen.images.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    )
    rows: list[tuple[str, float]] = []

    def note(when: str, resident: float) -> None:
        rows.append((when, resident))
        print(f"{when:<40}{resident:8.0f} MB", flush=True)

    with TemporaryDirectory() as cache, serving(chosen.app, cache) as (address, pid):
        visit(address, 1, files, pid)
        time.sleep(EMPTY_S)
        note("after the first reader", resident_mb(pid))
        for round_ in (1, 2):
            peak = max(visit(address, 1, files, pid) for _ in range(chosen.sessions))
            note(f"round {round_}: {chosen.sessions}, one by one, most", peak)
            time.sleep(EMPTY_S)
            note(f"round {round_}: later", resident_mb(pid))
        note(f"{chosen.sessions} at once", visit(address, chosen.sessions, files, pid))
        time.sleep(EMPTY_S)
        note("later", resident_mb(pid))
    print(json.dumps({when: round(resident) for when, resident in rows}))


if __name__ == "__main__":
    main()
