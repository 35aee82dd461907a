"""The runs of training that a page can show, and what is said of one."""

import math
from datetime import timedelta
from pathlib import Path
from typing import Any

import streamlit as st

from cadlib.files.allowed_folders import folder_below
from cadlib.training import monitor
from cadlib.training.monitor import RunReader, RunReading, State


def run_folders(folder: str) -> dict[str, Path]:
    """Return the runs below a folder by name, the last begun first.

    Raise FolderRefused for a folder that is not the reader's to open, RunInvalid where it cannot be searched.
    """
    root = monitor.runs_dir()
    return monitor.find_runs(folder_below(folder, root, "CADLIB_RUNS") if folder else root)


def run_reading(folder: Path, name: str) -> RunReading:
    """Return a run as it stands; what was read before is not read again. Raise RunInvalid where it cannot be read."""
    return _reader(str(folder.resolve()), name).read()


def about_the_run(reading: RunReading) -> str:
    """Say how far a run is, and whether it goes on."""
    how_far = f"epoch {math.floor(reading.epoch * 10) / 10:g} of {reading.epochs}"
    heard = f"{reading.heard.astimezone():%Y-%m-%d %H:%M:%S}"
    if reading.state is State.RUNNING:
        seconds = reading.seconds_left
        left = (
            ""
            if seconds is None
            else f", about {timedelta(seconds=round(seconds))} left without validation"
        )
        return f"Running: {how_far}{left}. Last point at {heard}."
    if reading.state is State.FINISHED:
        return f"Finished: {reading.epochs} epochs, the last at {heard}."
    if reading.state is State.STOPPED:
        return f"Stopped: {how_far}, last point at {heard}. Continue with the same command and `--resume`."
    return (
        f"State unknown: {how_far}, last point at {heard}. The run is on another machine, or its folder "
        "does not support file locks. Check there."
    )


def run_row(reading: RunReading) -> dict[str, str]:
    """Return a run as a row of a table of runs."""
    best = reading.best
    return {
        "Run": reading.name,
        "State": reading.state.value,
        "Started": f"{reading.started.astimezone():%Y-%m-%d %H:%M}",
        "Epochs": f"{math.floor(reading.epoch):,} of {reading.epochs:,}",
        "Best balanced accuracy": f"{best[1]:.3f} at epoch {best[0]}" if best else "none yet",
    }


def setting(value: Any) -> str:
    """Return a setting as a table shows it."""
    return "not set" if value in (None, "") else str(value)


@st.cache_resource(max_entries=200, show_spinner=False)
def _reader(folder: str, name: str) -> RunReader:
    return RunReader(Path(folder), name)
