"""Watches what a process and its children connect to and write, native code too, by strace."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLS = "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,symlink,link"
LOOPBACK = re.compile(
    r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"|inet_pton\(AF_INET6, "::ffff:127\.'
)
MADE = re.compile(
    r"^\d+ +(?:\S+ )?(open|openat|creat|mkdir|mkdirat|rename|renameat2?|symlink|link)\((.*)\) += (\d+)"
)
WRITES = re.compile(r"O_CREAT|O_TMPFILE|O_WRONLY|O_RDWR|O_TRUNC")
DEVICES = ("/dev/", "/proc/")


@dataclass(frozen=True)
class Watched:
    """What was seen: connections to other machines, and the files and folders that were made or written."""

    connections: tuple[str, ...]
    written: tuple[Path, ...]

    def outside(self, *folders: Path) -> list[Path]:
        """Return what was written outside of these folders."""
        return [
            path
            for path in self.written
            if not any(path.is_relative_to(folder) for folder in folders)
        ]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a user who has nothing yet: libraries behave differently where CI is set."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    kept = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
    }
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        **more,
    }


def watching(trace: Path, command: Sequence[str]) -> list[str]:
    """Return the command that runs another one and notes its calls; skip the test where there is no strace."""
    strace = shutil.which("strace")
    if strace is None:
        if os.environ.get("CI"):
            pytest.fail("Expected strace, but found none. Install it: apt-get install strace.")
        pytest.skip("No strace here to see what native code does")
    return [
        strace,
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-s",
        "300",
        "-o",
        str(trace),
        "-e",
        f"trace={CALLS}",
        *command,
    ]


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def watched(trace: Path, cwd: Path) -> Watched:
    """Return what the notes of strace tell."""
    connections, written = list[str](), list[Path]()
    for line in _whole(trace.read_text(errors="replace").splitlines()):
        if "sa_family=AF_INET" in line and not LOOPBACK.search(line):
            connections.append(line)
        elif made := MADE.match(line):
            path = _path(made[1], made[2])
            if path and not path.startswith(DEVICES):
                written.append((cwd / path).resolve())
    return Watched(tuple(connections), tuple(written))


def _path(call: str, arguments: str) -> str | None:
    names = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)
    if not names or (call.startswith("open") and not WRITES.search(arguments)):
        return None
    return names[-1]


def _whole(lines: Iterable[str]) -> Iterable[str]:
    """Join a call with its end where strace has noted another thread's call between."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, rest = line.partition(" ")
        if rest.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        elif resumed := re.match(r" *<\.\.\. \w+ resumed>(.*)", rest):
            yield begun.pop(thread, f"{thread} ") + resumed[1]
        else:
            yield line


def run(command: Sequence[str], trace: Path, env: dict[str, str], cwd: Path = ROOT) -> Watched:
    """Run a command to its end and return what it did; fail the test where the command fails."""
    done = subprocess.run(
        watching(trace, command), env=env, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return watched(trace, cwd)
