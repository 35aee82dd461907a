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
WRITING_CALL = re.compile(
    r"^\d+ +(?:\S+ )?(open|openat|creat|mkdir|mkdirat|rename|renameat2?|symlink|link)\((.*)\) += (\d+)"
)
WRITES = re.compile(r"O_CREAT|O_TMPFILE|O_WRONLY|O_RDWR|O_TRUNC")
DEVICES = ("/dev/", "/proc/")


@dataclass(frozen=True)
class Watched:
    """The connections of a process to other machines, and the files and folders that it created or wrote."""

    connections: tuple[str, ...]
    written: tuple[Path, ...]

    def outside(self, *folders: Path) -> list[Path]:
        """Return the files and folders written outside of these folders."""
        return [
            path
            for path in self.written
            if not any(path.is_relative_to(folder) for folder in folders)
        ]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return the environment of a new user: libraries behave differently where CI is set."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    basic = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "LANG": "C.UTF-8",
    }
    return {
        **basic,
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
    """Return the connections and the written files in a log of strace."""
    connections = list[str]()
    paths = list[Path]()
    for line in _complete_calls(trace.read_text(errors="replace").splitlines()):
        if "sa_family=AF_INET" in line and not LOOPBACK.search(line):
            connections.append(line)
        elif call := WRITING_CALL.match(line):
            path = _path(call[1], call[2])
            if path and not path.startswith(DEVICES):
                paths.append((cwd / path).resolve())
    return Watched(tuple(connections), tuple(paths))


def _path(call: str, arguments: str) -> str | None:
    names = re.findall(r'"((?:[^"\\]|\\.)*)"', arguments)
    if not names or (call.startswith("open") and not WRITES.search(arguments)):
        return None
    return names[-1]


def _complete_calls(lines: Iterable[str]) -> Iterable[str]:
    """Join a call with its end where strace wrote another thread's call in between."""
    begun: dict[str, str] = {}
    for line in lines:
        thread, _, event = line.partition(" ")
        if event.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        elif resumed := re.match(r" *<\.\.\. \w+ resumed>(.*)", event):
            yield begun.pop(thread, f"{thread} ") + resumed[1]
        else:
            yield line


def run(command: Sequence[str], trace: Path, env: dict[str, str], cwd: Path = ROOT) -> Watched:
    """Run a command to its end and return its calls; fail the test where the command fails."""
    process = subprocess.run(
        watching(trace, command), env=env, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return watched(trace, cwd)
