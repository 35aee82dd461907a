"""Draws the progress of background work, and its errors."""

import streamlit as st

from cadlib import jobs
from cadlib.jobs import Job
from cadlib.ui.text import plain

EVERY_S = 1.0


STOPPED = "Stopped. Predictions made so far are saved; the next start continues from there."


def working(job: Job | None, name: str, stopped: str = STOPPED) -> bool:
    """Draw the progress of a job that runs, and return whether it does.

    Draw the error of a job that failed, and the note `stopped` on one that was stopped.
    """
    if job is None:
        return False
    if not job.ended:
        _watch(job.key, name)
        return True
    if job.state == "failed":
        st.error(plain(job.reason))
    if job.state == "stopped":
        st.caption(stopped)
    return False


@st.fragment(run_every=EVERY_S)
def _watch(key: str, name: str) -> None:
    """Draw the progress of a job every second, with the button that stops it."""
    job = jobs.find(key)
    if job is None or job.ended:
        # The whole page is drawn again, with the result of the job.
        st.rerun()
    # The total is 0 until the job has counted its images.
    share = job.done / job.total if job.total else 0.0
    progress = _progress_text(job)
    st.progress(share, f"{plain(name)}: {plain(progress)}")
    st.button("Stop", key=f"stop-{key}", icon=":material/stop:", on_click=job.stop)


def _progress_text(job: Job) -> str:
    """Return how far a job is: "queued", or "12 of 96 images, about 40 s left"."""
    if job.state == "waiting":
        return "queued"
    text = f"{job.done:,} of {job.total:,} {job.what}"
    if job.seconds_left is None:
        return text
    return f"{text}, about {_duration(job.seconds_left)} left"


def _duration(seconds: float) -> str:
    """Return a time in seconds, from a minute and a half on in minutes."""
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s"
