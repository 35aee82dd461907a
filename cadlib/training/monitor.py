"""Reads training runs while they run: settings, curves and state.

A run (`cadlib.training.run`) writes in `curves/` of its folder:

    events.out.tfevents.*   by torch's own writer: scalars by the number of steps taken, and FACTS
                            as text. The format is TensorBoard's, which reads them too
    lock                    held by the process that trains; the system releases it when the process
                            ends, even after a crash
"""

import json
import logging
import math
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from cadlib.errors import RunInvalid

if TYPE_CHECKING:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CURVES_FOLDER: Final = "curves"
LOCK_FILE: Final = "lock"
EVENT_FILES: Final = "events.out.tfevents.*"
FACTS: Final = "run"
SEARCHED_LEVELS: Final = 4
SEARCHED_FOLDERS: Final = 10_000
"""Limits of a page's search for runs, in levels and folders: it must not search a whole disk."""

LOSS: Final = "step/loss"
LEARNING_RATE: Final = "step/learning_rate"
SPEED: Final = "step/images_per_second"
EPOCH_LOSS: Final = "epoch/loss"
VALIDATION_LOSS: Final = "epoch/validation_loss"
BALANCED_ACCURACY: Final = "epoch/balanced_accuracy"
MALIGNANT_AUC: Final = "epoch/malignant_auc"
TAGS: Final = (
    LOSS,
    LEARNING_RATE,
    SPEED,
    EPOCH_LOSS,
    VALIDATION_LOSS,
    BALANCED_ACCURACY,
    MALIGNANT_AUC,
)
"""The scalars. The part after "epoch/" is the metric's name in history.jsonl."""


class State(StrEnum):
    """The state of a run; UNKNOWN where it trains, or trained, on another machine."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Curve:
    """A metric of a run after each of n numbers of `steps`.

    `epochs` are the same n points in epochs, with fractions.
    """

    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class RunReading:
    """A run as it is now: its progress, settings, and curves by tag.

    `heard` is the time of its last event: `step` of `steps` were taken then. Times are UTC. A curve
    without a point yet is empty.
    """

    name: str
    state: State
    started: datetime
    heard: datetime
    step: int
    steps: int
    steps_per_epoch: int
    settings: Mapping[str, Any]
    curves: Mapping[str, Curve]

    @property
    def epoch(self) -> float:
        """Return how many epochs were trained."""
        return self.step / self.steps_per_epoch

    @property
    def epochs(self) -> int:
        """Return how many epochs the whole run has."""
        return self.steps // self.steps_per_epoch

    @property
    def best(self) -> tuple[int, float] | None:
        """Return the epoch of the highest balanced accuracy on validation, and that metric.

        Return None before the first one.
        """
        curve = self.curves[BALANCED_ACCURACY]
        best: tuple[int, float] | None = None
        for epoch, value in zip(curve.epochs, curve.values, strict=True):
            # It is not defined where the validation split has no image of a class.
            if math.isnan(value):
                continue
            if best is None or value > best[1]:
                best = (round(epoch), value)
        return best

    @property
    def seconds_left(self) -> float | None:
        """Return how long the remaining steps will take at the latest speed.

        The time for predicting validation images is not included. Return None before the first
        speed.
        """
        speeds = self.curves[SPEED].values
        if not speeds:
            return None
        batch_size: int = self.settings["batch_size"]
        steps_left = self.steps - self.step
        images_left = steps_left * batch_size
        latest_speed = speeds[-1]
        return images_left / latest_speed


@dataclass(frozen=True)
class _Facts:
    """What a run states about itself as text."""

    settings: dict[str, Any]
    steps: int
    steps_per_epoch: int
    host: str


class RunReader:
    """Reads a run again and again, each time only the new events; sessions may share a reader."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder / CURVES_FOLDER
        self._name = name
        self._first_file: Path | None = None
        self._events: EventAccumulator
        self._reading_lock = Lock()

    def read(self) -> RunReading:
        """Return the run as it is now; raise RunInvalid where its curves cannot be read.

        A record that is only half written is left for the next time.
        """
        # The lock is checked before the last event is read, or that event could be missed.
        held = _is_held(self._folder / LOCK_FILE)
        with self._reading_lock:
            first_file = min(self._folder.glob(EVENT_FILES), default=None)
            if first_file is None:
                raise RunInvalid(
                    f"Expected the curves of a run in {self._folder} but there are none."
                )
            if first_file != self._first_file:  # the run was started again from the beginning
                self._first_file = first_file
                self._events = _accumulator(self._folder)
            self._events.Reload()
            return self._reading(held)

    def _reading(self, held: bool | None) -> RunReading:
        """Return the run by the events read so far; `held` tells whether its lock is held."""
        facts = self._facts()
        started = self._events.FirstEventTimestamp()
        # A curve of epochs may end before the curves of steps.
        step = 0
        heard = started
        curves = {}
        for tag in TAGS:
            points = self._points(tag)
            curves[tag] = _curve(points, facts.steps_per_epoch)
            if points:
                step = max(step, points[-1].step)
                heard = max(heard, points[-1].wall_time)
        here = facts.host == socket.gethostname()
        return RunReading(
            name=self._name,
            state=_state(held, finished=step >= facts.steps, here=here),
            started=datetime.fromtimestamp(started, UTC),
            heard=datetime.fromtimestamp(heard, UTC),
            step=step,
            steps=facts.steps,
            steps_per_epoch=facts.steps_per_epoch,
            settings=MappingProxyType(facts.settings),
            curves=MappingProxyType(curves),
        )

    def _points(self, tag: str) -> list[Any]:
        """Return the scalar events of a curve, or none where it has no point yet."""
        tags = self._events.Tags()
        scalar_tags = tags["scalars"]
        if tag not in scalar_tags:
            return []
        points: list[Any] = self._events.Scalars(tag)
        return points

    def _facts(self) -> _Facts:
        """Return the facts that the run wrote last; raise RunInvalid where they cannot be read."""
        try:
            # `add_text` writes under this name; the last text is that of the latest resume.
            texts = self._events.Tensors(f"{FACTS}/text_summary")
            latest = texts[-1].tensor_proto
            facts = json.loads(latest.string_val[0])
            return _Facts(
                settings=dict(facts["settings"]),
                steps=int(facts["steps"]),
                steps_per_epoch=int(facts["steps_per_epoch"]),
                host=facts["host"],
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise RunInvalid(
                f"Expected the settings of a run in {self._folder} "
                f"but they cannot be read ({error!r}): it is just beginning, "
                "or another program wrote it. Look again, or open it with TensorBoard."
            ) from error


def runs_dir() -> Path:
    """Return the folder of runs: CADLIB_RUNS where it is set, else runs/ in the working folder."""
    return Path(os.environ.get("CADLIB_RUNS") or "runs")


def find_runs(root: Path) -> dict[str, Path]:
    """Return the folders of the runs below `root` by their names from there, the latest first.

    Raise RunInvalid where the folder cannot be searched.
    """
    first_files: dict[Path, str] = {}
    try:
        for run in _run_folders(root):
            curves_folder = run / CURVES_FOLDER
            event_files = curves_folder.glob(EVENT_FILES)
            first = min(event_files, default=None)
            if first is not None:
                first_files[run] = first.name
    except (OSError, ValueError) as error:
        raise RunInvalid(
            f"Expected a folder of runs but {root} cannot be searched: {error}."
        ) from error
    # The name of an event file begins with its time.
    latest_first = sorted(
        first_files,
        key=lambda run: first_files[run],
        reverse=True,
    )
    return {str(run.relative_to(root)): run for run in latest_first}


def _run_folders(root: Path) -> list[Path]:
    """Return the folders that have curves: `root` and those a few levels below, without links."""
    runs: list[Path] = []
    level = [root]
    n_searched = 0
    for _ in range(SEARCHED_LEVELS):
        below: list[Path] = []
        for folder in level:
            n_searched += 1
            if n_searched > SEARCHED_FOLDERS:
                raise RunInvalid(
                    f"Expected a folder of runs, but found more than {SEARCHED_FOLDERS:,} folders "
                    f"below {root}. Name the folder that holds the runs themselves."
                )
            for entry in _folders_in(folder, root):
                if entry.name == CURVES_FOLDER:
                    runs.append(folder)
                elif not entry.name.startswith("."):
                    below.append(Path(entry.path))
        level = below
    return sorted(runs)


def _folders_in(folder: Path, root: Path) -> list[os.DirEntry[str]]:
    """Return the folders in a folder.

    Return none where it is missing, and none below `root` where this user may not read it.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except PermissionError:
        if folder == root:
            raise
        return []


def differences(readings: tuple[RunReading, RunReading]) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two runs differ, each with both values.

    A value is None where a run has no such setting.
    """
    first = readings[0].settings
    second = readings[1].settings
    differing = {}
    # A run of another version may have more settings or fewer.
    for name in [*first, *second]:
        value = first.get(name)
        other_value = second.get(name)
        if value != other_value:
            differing[name] = (value, other_value)
    return differing


def _is_held(lock: Path) -> bool | None:
    """Return whether a process holds the lock; None where the file system does not support it."""
    import portalocker  # noqa: PLC0415 - only one page needs it

    try:
        # Shared, so that several readers do not take each other for a training run.
        flags = portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING
        with lock.open("rb") as file:  # closing it releases the lock at once
            portalocker.lock(file, flags)
    except portalocker.AlreadyLocked:
        return True
    except (portalocker.LockException, OSError):
        return None
    return False


def _state(held: bool | None, *, finished: bool, here: bool) -> State:
    """Return the state of a run by its lock, its steps and whether it trains on this machine."""
    if held:
        return State.RUNNING
    if finished:
        return State.FINISHED
    # A lock may not work across machines.
    if held is False and here:
        return State.STOPPED
    return State.UNKNOWN


def _accumulator(folder: Path) -> "EventAccumulator":
    """Return TensorBoard's reader of a folder of event files."""
    # Only one page needs it, and no other has to wait for its import.
    try:
        from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
            EventAccumulator,
        )
    except ModuleNotFoundError as error:
        raise RunInvalid(
            f"Reading curves needs {error.name}; "
            "run `pip install -r requirements-train.txt`, as for training."
        ) from error
    # tensorboard warns about each resumed run.
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    # 0: all scalars, not a sample of them
    return EventAccumulator(str(folder), size_guidance={"scalars": 0})


def _curve(events: list[Any], steps_per_epoch: int) -> Curve:
    """Return the scalar events of a tag as a curve."""
    steps = []
    epochs = []
    values = []
    for event in events:
        epoch = event.step / steps_per_epoch
        steps.append(event.step)
        epochs.append(epoch)
        values.append(event.value)
    return Curve(
        tuple(steps),
        tuple(epochs),
        tuple(values),
    )
