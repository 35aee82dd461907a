"""Starts a PostgreSQL server for tests, on loopback, in a temporary folder."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import psycopg

START_S = 30
USER = "cadlib"


def find_binaries() -> Path | None:
    """Return the folder of PostgreSQL's programs; Debian does not put it on the path."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").is_file():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


class PostgresqlServer:
    """A running server. Its data are gone when it is closed."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(mkdtemp(prefix="cadlib-postgresql-"))
        # PostgreSQL refuses to run as root.
        self._as_user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._as_user:
            shutil.chown(self._folder, "postgres", "postgres")
        self.data = self._folder / "data"
        self._run("initdb", "--auth=trust", f"--username={USER}", "--encoding=UTF8", "--no-sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen | None = None
        self.start()

    def _run(self, program: str, *options: str) -> None:
        command = [self._binaries / program, "-D", self.data, *options]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            cwd=self._folder,
            **self._as_user,
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            # The tests end processes, not the machine.
            "fsync": "off",
            # Old rows are removed when a test says so.
            "autovacuum": "off",
        }
        options = [part for item in settings.items() for part in ("-c", f"{item[0]}={item[1]}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self.data, *options],
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd=self._folder,
                **self._as_user,
            )
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.address("postgres"), connect_timeout=1).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    reason = (self._folder / "log").read_text()
                    raise RuntimeError(f"PostgreSQL does not start: {reason}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop the server as a crash would; `start` starts it again with the same data."""
        if self._process:
            self._run("pg_ctl", "stop", "-m", "immediate")
            self._process.wait()
            self._process = None

    def address(self, database: str) -> str:
        """Return the URL of a database for libpq."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Create an empty database and return its URL for SQLAlchemy."""
        name = f"test_{uuid4().hex}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.address(name).replace("postgresql:", "postgresql+psycopg:", 1)

    def close(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self._folder)
