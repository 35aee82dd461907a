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
"""The limit is multiplied by this for a process that was ready to run but got no processor."""

# After a longer gap between two looks, this process was stopped or the machine slept.
_PAUSE_S = 1.0
# Waiting for the processor, for the disk, and for a signal to continue.
_WAITING_STATES = ("R", "D", "T")
# After so long without a task the thread ends. The next task starts another one.
_IDLE_S = 2.0
# A process that used a smaller share of its time on the processor had to wait for it.
_STARVED_SHARE = 0.8


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
    """A thread that looks at the running tasks ten times a second, and ends when there are none.

    Tasks are added and removed without waking it, because a decoder needs 5 ms for a usual image.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._tasks: set[Task] = set()
        self._running = False

    @contextmanager
    def watch(
        self,
        pid: int,
        end: Callable[[], None],
        limit_s: float,
    ) -> Iterator[Task]:
        """Call `end` when the block takes longer than `limit_s` seconds."""
        task = Task(pid, end, limit_s, began=time.monotonic())
        with self._lock:
            self._tasks.add(task)
            if not self._running:
                self._running = True
                thread = Thread(target=self._look, name="cadlib-watchdog", daemon=True)
                thread.start()
        try:
            yield task
        finally:
            with self._lock:
                self._tasks.discard(task)

    def _look(self) -> None:
        last_look = time.monotonic()
        last_busy = last_look
        while True:
            time.sleep(LOOK_EVERY_S)
            now = time.monotonic()
            gap_s = now - last_look
            last_look = now
            with self._lock:
                # A pause does not count as time of the tasks.
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
        """End the process of a task that is late."""
        used_s = cpu_seconds(task.pid)
        if task.began_cpu_s is None:
            task.began_cpu_s = used_s
        took_s = now - task.began
        moved = used_s != task.last_cpu_s
        task.last_cpu_s = used_s
        if took_s < task.limit_s:
            return
        starved_limit_s = STARVED_FACTOR * task.limit_s
        if took_s < starved_limit_s and _starved(task, used_s, moved):
            return
        task.expired = True
        self._tasks.discard(task)
        # The process may have ended by itself.
        with suppress(OSError):
            task.end()


def _starved(task: Task, used_s: float | None, moved: bool) -> bool:
    """Return whether a task is late because the machine is busy or the process was stopped.

    Return False if the system does not report the time. A process that sleeps and uses no time
    waits for something else, so it does not count.
    """
    if used_s is None or task.began_cpu_s is None:
        return False
    waits = moved or process_state(task.pid) in _WAITING_STATES
    if not waits:
        return False
    task_cpu_s = used_s - task.began_cpu_s
    return task_cpu_s < _STARVED_SHARE * task.limit_s


def cpu_seconds(pid: int) -> float | None:
    """Return the processor time of a process, or None if the system does not report it."""
    fields = _stat(pid)
    if fields is None:
        return None
    user_ticks = int(fields[11])
    system_ticks = int(fields[12])
    ticks = user_ticks + system_ticks
    return ticks / os.sysconf("SC_CLK_TCK")


def process_state(pid: int) -> str | None:
    """Return Linux's letter for a process's state, or None if the system does not report it."""
    fields = _stat(pid)
    if fields is None:
        return None
    return fields[0]


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state on (proc(5))."""
    path = Path(f"/proc/{pid}/stat")
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name of the process may itself contain parentheses.
    _, _, fields = text.rpartition(")")
    return fields.split()
