"""Ends decoders that work on one file for too long."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread

LOOK_EVERY_S = 0.1
STARVED_FACTOR = 2
"""A process that was ready to run but got no processor has this many times as long."""

_PAUSE_S = (
    1.0  # a longer gap between two looks means that this process was stopped or the machine slept
)
_WAITING_STATES = ("R", "D", "T")  # for the processor, for the disk, for a signal to go on
_IDLE_S = 2.0  # after so long without a task the thread ends; the next task starts another
_STARVED_SHARE = 0.8  # of its time: a process that used less of the processor had to wait for it


@dataclass(eq=False)
class Task:
    """One file in one decoder. `expired` is set before the decoder is ended."""

    pid: int
    end: Callable[[], None]
    limit_s: float
    began: float
    began_cpu_s: float | None = None
    last_cpu_s: float | None = None
    expired: bool = False


class Watchdog:
    """A thread that looks at the running tasks ten times a second, and is only there while there are any.

    Tasks are added and removed without waking it, because a decoder needs 5 ms for a usual image.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._tasks: set[Task] = set()
        self._running = False

    @contextmanager
    def watch(self, pid: int, end: Callable[[], None], limit_s: float) -> Iterator[Task]:
        """Call `end` when the block takes longer than `limit_s` seconds."""
        task = Task(pid, end, limit_s, time.monotonic())
        with self._lock:
            self._tasks.add(task)
            if not self._running:
                self._running = True
                Thread(target=self._look, name="cadlib-watchdog", daemon=True).start()
        try:
            yield task
        finally:
            with self._lock:
                self._tasks.discard(task)

    def _look(self) -> None:
        last_busy = last_look = time.monotonic()
        while True:
            time.sleep(LOOK_EVERY_S)
            now = time.monotonic()
            gap_s = now - last_look
            last_look = now
            with self._lock:
                if gap_s > _PAUSE_S:
                    for task in self._tasks:
                        task.began += gap_s
                if self._tasks:
                    last_busy = now
                elif now - last_busy > _IDLE_S:
                    self._running = False
                    return
                for task in list(self._tasks):
                    self._check(task, now)

    def _check(self, task: Task, now: float) -> None:
        used_s = cpu_seconds(task.pid)
        if task.began_cpu_s is None:
            task.began_cpu_s = used_s
        took_s = now - task.began
        moved = used_s != task.last_cpu_s
        task.last_cpu_s = used_s
        if took_s < task.limit_s:
            return
        if took_s < STARVED_FACTOR * task.limit_s and _starved(task, used_s, moved):
            return
        task.expired = True
        self._tasks.discard(task)
        with suppress(OSError):  # it ended by itself
            task.end()


def _starved(task: Task, used_s: float | None, moved: bool) -> bool:
    """Return whether a task is late because the machine is busy or the process was stopped.

    Where the system does not tell, nothing is late for that reason. A process that sleeps and does not
    move waits for something else, so it does not count.
    """
    if used_s is None or task.began_cpu_s is None:
        return False
    waits = moved or process_state(task.pid) in _WAITING_STATES
    return waits and used_s - task.began_cpu_s < _STARVED_SHARE * task.limit_s


def cpu_seconds(pid: int) -> float | None:
    """Return the processor time of a process, None where the system does not tell."""
    fields = _stat(pid)
    return (
        None if fields is None else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    )


def process_state(pid: int) -> str | None:
    """Return the letter of Linux for a process's state, None where the system does not tell."""
    fields = _stat(pid)
    return None if fields is None else fields[0]


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on (proc(5))."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
