"""Finds training runs and describes their state."""

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

    Raise FolderRefused for a folder that the reader may not open, RunInvalid if it cannot be
    searched.
    """
    root = monitor.runs_dir()
    if not folder:
        return monitor.find_runs(root)
    return monitor.find_runs(folder_below(folder, root, "CADLIB_RUNS"))


def run_reading(folder: Path, name: str) -> RunReading:
    """Return the current state of a run; only new points are read.

    Raise RunInvalid if it cannot be read.
    """
    # Resolved, so that a folder has one reader, whatever its path.
    reader = _reader(str(folder.resolve()), name)
    return reader.read()


def about_the_run(reading: RunReading) -> str:
    """Return how far a run is, and whether it is still training."""
    # Rounded down, so that an epoch is not shown as complete too early.
    epoch = math.floor(reading.epoch * 10) / 10
    how_far = f"epoch {epoch:g} of {reading.epochs}"
    last_point = f"{reading.heard.astimezone():%d %b %Y, %H:%M:%S}"
    if reading.state is State.RUNNING:
        left = ""
        if reading.seconds_left is not None:
            duration = timedelta(seconds=round(reading.seconds_left))
            left = f", about {duration} left without validation"
        return f"Running: {how_far}{left}. Last point at {last_point}."
    if reading.state is State.FINISHED:
        return f"Finished: {reading.epochs} epochs, the last at {last_point}."
    if reading.state is State.STOPPED:
        return (
            f"Stopped: {how_far}, last point at {last_point}. "
            "Continue with the same command and `--resume`."
        )
    return (
        f"State unknown: {how_far}, last point at {last_point}. The run is on another machine, or "
        "its folder does not support file locks. Check there."
    )


def run_row(reading: RunReading) -> dict[str, str]:
    """Return a run as a row of a table of runs."""
    best = "none yet"
    if reading.best:
        epoch, value = reading.best
        best = f"{value:.3f} at epoch {epoch}"
    started = reading.started.astimezone()
    epoch_done = math.floor(reading.epoch)
    return {
        "Run": reading.name,
        "State": reading.state.value,
        "Started": f"{started:%d %b %Y, %H:%M}",
        "Epochs": f"{epoch_done:,} of {reading.epochs:,}",
        "Best balanced accuracy": best,
    }


def setting(value: Any) -> str:
    """Return a setting as a table shows it."""
    if value in (None, ""):
        return "not set"
    return str(value)


@st.cache_resource(max_entries=200, show_spinner=False)
def _reader(folder: str, name: str) -> RunReader:
    return RunReader(Path(folder), name)
