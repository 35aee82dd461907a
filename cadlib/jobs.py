"""Runs work in the background while its page is closed.

Each key has one job, and one job runs at a time. A job reports its progress and can be stopped.
Unfinished work ends with the process.
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
    """One piece of work.

    Its own thread updates its state; callers read the state, and the result at the end.
    """

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
    """What was done before this work began: most of it, where it continues after a break."""
    _ending: threading.Event = field(default_factory=threading.Event)

    @property
    def ended(self) -> bool:
        """Return whether the job is finished."""
        return self.state in ("done", "failed", "stopped")

    @property
    def seconds_left(self) -> float | None:
        """Estimate how long the current count will take; None where there is no basis for it."""
        if self.state != "running" or not self.done:
            return None
        elapsed = time.monotonic() - self._began
        # Items of an earlier run took no time in this one.
        seconds_per_item = elapsed / (self.done - self._before)
        remaining = self.total - self.done
        return seconds_per_item * remaining

    def stop(self) -> None:
        """Request its end; it ends at its next progress report and leaves nothing unfinished."""
        self._ending.set()

    def run(self) -> None:
        """Wait for its turn and do the work; the text of any error becomes its `reason`."""
        # With a timeout, so that a job can be stopped while it waits.
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
            self.reason = str(error)
            self.state = "failed"
        except Exception:  # noqa: BLE001 - no caller sees an error that is not caught in a thread
            _log.exception("The work %s failed.", self.key)
            self.reason = "Unexpected error. Details are in the server log."
            self.state = "failed"
        finally:
            _turn.release()

    def _note(self, what: str, done: int, total: int) -> None:
        if self._ending.is_set():
            raise _Stopped
        # Another count begins; its first report may come after a first item.
        if what != self.what:
            self._began = time.monotonic()
            self._before = max(done - 1, 0)
        self.what = what
        self.done = done
        self.total = total


_turn = threading.Lock()
"""The running job holds it: two networks at once on two cores take more than twice as long."""
_jobs: dict[str, Job] = {}
_guard = threading.Lock()


def start(key: str, work: "Callable[[Progress], object]") -> Job:
    """Start work unless the same is waiting or running already; return the job in either case.

    `work` is called with a function that receives its progress: what is counted, how many are done,
    and of how many.
    """
    with _guard:
        job = _jobs.get(key)
        if job is None or job.ended:
            job = Job(key, work)
            _jobs[key] = job
            # A daemon, so that the server can end while a job runs.
            thread = threading.Thread(
                target=job.run,
                name=f"work {key}",
                daemon=True,
            )
            thread.start()
        return job


def find(key: str) -> Job | None:
    """Return the last job of that key, None where there was none."""
    return _jobs.get(key)


def forget(key: str) -> None:
    """Drop a job that has ended, so that its result is no longer available."""
    with _guard:
        job = _jobs.get(key)
        # A running job stays, or a second one of its key could be started beside it.
        if job and job.ended:
            del _jobs[key]
