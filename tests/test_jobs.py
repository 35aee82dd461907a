import threading
import time

import pytest

from cadlib import jobs
from cadlib.errors import DatasetInvalid


def ended(job):
    """Wait for a job's end and return it."""
    deadline = time.monotonic() + 20
    while not job.ended:
        assert time.monotonic() < deadline, job.state
        time.sleep(0.01)
    return job


@pytest.fixture
def gate():
    """Return an event that blocks work until it is set, at the latest at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


def held_up(gate, starts=None):
    """Return work that reports its progress until the gate opens."""

    def work(say):
        if starts is not None:
            starts.append(1)
        while not gate.wait(0.01):
            say("images", 1, 4)

    return work


def reached(job, state):
    """Wait until a job is in a state."""
    deadline = time.monotonic() + 20
    while job.state != state:
        assert time.monotonic() < deadline, job.state
        time.sleep(0.01)


def test_a_job_runs_in_the_background_and_reports_progress(gate):
    job = jobs.start("a", held_up(gate))
    reached(job, "running")
    while not job.done:
        time.sleep(0.01)
    assert (job.what, job.done, job.total) == ("images", 1, 4)
    assert job.seconds_left > 0
    gate.set()
    assert ended(job).state == "done"
    assert job.seconds_left is None


def test_progress_after_a_first_report_of_zero_counts_as_done(gate):
    def work(say):
        say("subgroups", 0, 4)
        time.sleep(0.2)
        say("subgroups", 1, 4)
        gate.wait()

    job = jobs.start("from nothing", work)
    reached(job, "running")
    while not job.done:
        time.sleep(0.01)
    assert job.seconds_left > 0.2 * 3
    gate.set()
    ended(job)


def test_work_done_before_the_start_does_not_change_the_estimated_time(gate):
    def work(say):
        say("images", 9001, 10_000)
        time.sleep(0.2)
        while not gate.wait(0.01):
            say("images", 9003, 10_000)

    job = jobs.start("late", work)
    while job.done < 9003:
        time.sleep(0.01)
    assert job.seconds_left > 0.1 * 997 / 2
    gate.set()
    ended(job)


def test_the_same_work_never_runs_twice_at_once(gate):
    starts = []
    first = jobs.start("b", held_up(gate, starts))
    assert jobs.start("b", held_up(gate, starts)) is first is jobs.find("b")
    gate.set()
    ended(first)
    assert starts == [1]
    second = jobs.start("b", held_up(gate, starts))
    assert second is not first
    ended(second)


def test_other_work_waits_for_its_turn_and_can_be_stopped_there(gate):
    first = jobs.start("c", held_up(gate))
    reached(first, "running")
    waiting = jobs.start("d", held_up(gate))
    time.sleep(0.3)
    assert waiting.state == "waiting"
    waiting.stop()
    assert ended(waiting).state == "stopped"
    assert first.state == "running"


def test_running_work_ends_at_the_next_sign_of_progress_when_it_is_stopped(gate):
    job = jobs.start("e", held_up(gate))
    reached(job, "running")
    job.stop()
    assert ended(job).state == "stopped"
    after = jobs.start("f", lambda say: say("images", 1, 1))  # and the turn is free again
    assert ended(after).state == "done"


def test_a_failed_job_shows_the_message_of_its_error():
    def work(say):
        raise DatasetInvalid("Expected images but none came.")

    job = ended(jobs.start("g", work))
    assert (job.state, job.reason) == ("failed", "Expected images but none came.")


def test_an_unexpected_error_is_logged_and_not_shown(caplog):
    def work(say):
        raise KeyError("secret")

    job = ended(jobs.start("h", work))
    assert job.state == "failed"
    assert "secret" not in job.reason
    assert "secret" in caplog.text


def test_a_job_that_has_ended_can_be_forgotten_and_a_running_one_not(gate):
    job = jobs.start("i", held_up(gate))
    jobs.forget("i")
    assert jobs.find("i") is job
    gate.set()
    ended(job)
    jobs.forget("i")
    assert jobs.find("i") is None
