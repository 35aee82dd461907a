"""Starts the app."""

import argparse
import os
import sys

from cadlib.cli.usage import UsageError
from cadlib.files.installation import project_dir

_PORTS = range(1, 2**16)


def add(command: argparse.ArgumentParser) -> None:
    """Add the flags of the command."""
    command.set_defaults(run=run)
    command.add_argument(
        "--port", type=int, default=8501, metavar="N", help="port of the server (default: 8501)"
    )
    command.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="host name of a proxy in front of the server; may be given several times",
    )
    command.add_argument("--no-browser", action="store_true", help="do not open a browser")


def run(options: argparse.Namespace) -> int:
    """Replace this process by the server; raise UsageError for a port out of range."""
    if options.port not in _PORTS:
        raise UsageError(f"Expected --port from 1 to {_PORTS[-1]}, but found {options.port}.")
    arguments = ["run", str(project_dir() / "app.py"), "--server.port", str(options.port)]
    for host in options.allowed_host:
        arguments += ["--server.allowedHosts", host]
    if options.no_browser:
        arguments += ["--server.headless", "true"]
    # glibc keeps a pool of memory for each thread, and a session is a thread: two pools for all
    # keep a session below 15 MB. glibc reads this when a process starts.
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ}
    # Text in the buffer would be lost with this process.
    sys.stdout.flush()
    command = [sys.executable, "-m", "streamlit", *arguments]
    os.execve(sys.executable, command, environment)
