"""Work in the background as a page shows it: how far it is, to be stopped, and what went wrong."""

import streamlit as st

from cadlib import jobs
from cadlib.jobs import Job
from cadlib.ui.text import plain

EVERY_S = 1.0


def working(job: Job | None, name: str) -> bool:
    """Draw a job that goes on and say that it does; of one that failed or was stopped, draw that."""
    if job and not job.ended:
        _watch(job.key, name)
        return True
    if job and job.state == "failed":
        st.error(plain(job.reason))
    if job and job.state == "stopped":
        st.caption(
            "Stopped. Predictions made so far are saved; the next start continues from there."
        )
    return False


@st.fragment(run_every=EVERY_S)
def _watch(key: str, name: str) -> None:
    job = jobs.find(key)
    if job is None or job.ended:
        st.rerun()
    left = "" if job.seconds_left is None else f", about {_duration(job.seconds_left)} left"
    what = "queued" if job.state == "waiting" else f"{job.done:,} of {job.total:,} {job.what}{left}"
    st.progress(job.done / job.total if job.total else 0.0, f"{plain(name)}: {plain(what)}")
    st.button("Stop", key=f"stop-{key}", icon=":material/stop:", on_click=job.stop)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
