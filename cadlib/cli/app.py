"""Starts the app."""

import os
import sys
from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from cadlib.cli.command import CliCommand
from cadlib.cli.options import flag
from cadlib.cli.usage import UsageError

# With port 0 the system would choose one that the reader does not know.
_PORTS = range(1, 2**16)


@dataclass(frozen=True, kw_only=True)
class App(CliCommand):
    """Starts the server of the app."""

    EXAMPLE: ClassVar[str] = "cadlib app --port 8600"

    port: Annotated[int, typer.Option(help="Port of the server.", metavar="N")] = 8501
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Host name of a proxy in front of the server; may be given several times.",
            metavar="NAME",
        ),
    ] = None
    no_browser: Annotated[bool, flag("no-browser", "Do not open a browser.")] = False

    def run(self) -> int:
        """Replace this process by the server; raise UsageError for a port out of range."""
        from cadlib.files.installation import project_dir

        if self.port not in _PORTS:
            raise UsageError(f"Expected --port from 1 to {_PORTS[-1]}, but found {self.port}.")
        arguments = ["run", str(project_dir() / "app.py"), "--server.port", str(self.port)]
        for host in self.allowed_host or []:
            arguments += ["--server.allowedHosts", host]
        if self.no_browser:
            arguments += ["--server.headless", "true"]
        # glibc keeps a pool of memory for each thread, and a session is a thread: two pools for
        # all keep a session below 15 MB. glibc reads this when a process starts.
        environment = {"MALLOC_ARENA_MAX": "2", **os.environ}
        # Text in the buffer would be lost with this process.
        sys.stdout.flush()
        command = [sys.executable, "-m", "streamlit", *arguments]
        # The server replaces this process, so signals reach it directly.
        os.execve(sys.executable, command, environment)
