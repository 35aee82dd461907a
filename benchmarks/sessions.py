"""Measures the server's memory with many sessions, one after the other and all at once.

    python benchmarks/sessions.py IMAGES [--sessions N] [--app DIR]

It starts the app as `make app` does. Each reader opens a tab, uploads three of the image files in
the folder IMAGES, waits for the results and closes the tab. First the readers come one after the
other, then all are there together. After each round there is no session for 50 seconds. It prints
the resident memory of the server: VmRSS, Linux only. `--app` names the folder of another version of
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

from tests.streamlit_tab import Reader

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
    with urllib.request.urlopen(f"{address}/_stcore/health") as response:
        cookie, _, _ = response.headers["set-cookie"].partition(";")
    _, _, token = cookie.partition("=")

    def put(path: str, kind: str, body: bytes) -> int:
        headers = {"content-type": kind, "cookie": cookie, "x-xsrftoken": token}
        request = urllib.request.Request(f"{address}{path}", body, headers, method="PUT")
        with urllib.request.urlopen(request) as response:
            return int(response.status)

    stream = address.replace("http", "ws") + "/_stcore/stream"
    connection = connect(stream, origin=address, subprotocols=["streamlit"], max_size=None)
    reader = Reader(Socket(connection.__enter__()), put)
    reader.run()
    return reader


@contextmanager
def serving(folder: Path, cache: str) -> Iterator[tuple[str, int]]:
    """Start a folder's app.py as `make app` does; yield its address and its process."""
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
            while not responds(f"{address}/_stcore/health"):
                time.sleep(0.1)
            yield address, server.pid
        finally:
            server.terminate()


def responds(url: str) -> bool:
    """Return whether there is a server at an address."""
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (URLError, OSError):
        return False


def resident_mb(process: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    _, _, after = status.partition("VmRSS:")
    resident_kb = int(after.split()[0])
    return resident_kb / 1000


def visit(address: str, readers: int, files: Iterator[Path], process: int) -> float:
    """Let so many readers come together, and go; return the memory while all are there."""
    tabs = []
    for _ in range(readers):
        tab = open_tab(address)
        tabs.append(tab)
        uploads = [(path.name, path.read_bytes()) for path in islice(files, FILES_A_READER)]
        tab.give(*uploads)
    resident = resident_mb(process)
    for tab in tabs:
        tab.socket.close()
    return resident


class Rounds:
    """Prints the memory of the server at each time, and keeps it for the last line."""

    def __init__(self) -> None:
        self.memory_mb: dict[str, float] = {}

    def note(self, when: str, memory_mb: float) -> None:
        """Add a line."""
        self.memory_mb[when] = memory_mb
        print(f"{when:<40}{memory_mb:8.0f} MB", flush=True)


def run_rounds(rounds: Rounds, address: str, process: int, files: Iterator[Path], n: int) -> None:
    """Let one reader come, then n in turns, twice, then n together."""
    visit(address, 1, files, process)
    time.sleep(EMPTY_S)
    rounds.note("after the first reader", resident_mb(process))
    for number in (1, 2):
        peak_mb = max(visit(address, 1, files, process) for _ in range(n))
        rounds.note(f"round {number}: {n}, one by one, most", peak_mb)
        time.sleep(EMPTY_S)
        rounds.note(f"round {number}: later", resident_mb(process))
    rounds.note(f"{n} at once", visit(address, n, files, process))
    time.sleep(EMPTY_S)
    rounds.note("later", resident_mb(process))


def main() -> None:
    """Run the rounds and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--sessions", type=int, default=60)
    parser.add_argument("--app", type=Path, default=ROOT)
    options = parser.parse_args()
    images = [path for path in options.images.iterdir() if path.suffix.lower() in (".jpg", ".png")]
    files = cycle(sorted(images))
    rounds = Rounds()
    with TemporaryDirectory() as cache, serving(options.app, cache) as (address, process):
        run_rounds(rounds, address, process, files, options.sessions)
    print(json.dumps({when: round(memory) for when, memory in rounds.memory_mb.items()}))


if __name__ == "__main__":
    main()
