"""Work that goes on while its page is away: once for each key, one after the other, with its progress, to be stopped.

Where the process ends, unfinished work ends with it.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cadlib.errors import CadError

if TYPE_CHECKING:
    from cadlib.progress import Progress

State = Literal["waiting", "running", "done", "failed", "stopped"]
_log = logging.getLogger(__name__)


class _Stopped(Exception):
    pass


@dataclass(eq=False)
class Job:
    """One piece of work; who asks reads its state, which a thread of its own moves on, and at the end its result."""

    key: str
    work: "Callable[[Progress], object]"
    state: State = "waiting"
    result: object = None
    reason: str = ""
    what: str = ""
    done: int = 0
    total: int = 0
    _began: float = 0.0
    _before: int = 0
    """What was done before this work began: most of it, where it goes on from a break."""
    _ending: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> bool:
        """Progress whether nothing more will come of it."""
        return self.state in ("done", "failed", "stopped")

    @property
    def seconds_left(self) -> float | None:
        """Return about how long what is counted now will go on, None where nothing tells."""
        if self.state != "running" or not self.done:
            return None
        return (
            (time.monotonic() - self._began) / (self.done - self._before) * (self.total - self.done)
        )

    def stop(self) -> None:
        """Ask it to end; it does at the next sign of progress, and leaves nothing half-made."""
        self._ending.set()

    def run(self) -> None:
        """Wait for its turn and do the work; whatever goes wrong is its `reason`."""
        while not _turn.acquire(timeout=0.2):
            if self._ending.is_set():
                self.state = "stopped"
                return
        try:
            self.state = "running"
            self._note("", 0, 0)
            self.result = self.work(self._note)
            self.state = "done"
        except _Stopped:
            self.state = "stopped"
        except (CadError, OSError) as error:
            self.reason, self.state = str(error), "failed"
        except Exception:  # noqa: BLE001 - a thread has nobody above it; what is not caught here nobody sees
            _log.exception("The work %s failed.", self.key)
            self.reason, self.state = (
                "Something failed that nobody foresaw; the server's log tells what.",
                "failed",
            )
        finally:
            _turn.release()

    def _note(self, what: str, done: int, total: int) -> None:
        if self._ending.is_set():
            raise _Stopped
        if what != self.what:
            self._began, self._before = time.monotonic(), max(done - 1, 0)
        self.what, self.done, self.total = what, done, total


_turn = threading.Lock()
"""Held by the one that runs: two networks at once on two cores take more than twice as long."""
_jobs: dict[str, Job] = {}
_guard = threading.Lock()


def start(key: str, work: "Callable[[Progress], object]") -> Job:
    """Start work unless the same is waiting or running already; return the job in either case.

    `work` is called with what it tells its progress to: what is counted, how many are done, and of how many.
    """
    with _guard:
        job = _jobs.get(key)
        if job is None or job.ended:
            job = _jobs[key] = Job(key, work)
            threading.Thread(target=job.run, name=f"work {key}", daemon=True).start()
        return job


def find(key: str) -> Job | None:
    """Return the last job of that key, None where there was none."""
    return _jobs.get(key)


def forget(key: str) -> None:
    """Drop a job that has ended, so that nobody asks what became of it."""
    with _guard:
        if (job := _jobs.get(key)) and job.ended:
            del _jobs[key]
