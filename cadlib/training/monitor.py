"""Runs of training, read while they run: their settings, their curves, and whether they still run.

A run (`cadlib.training.run`) writes in `curves/` of its folder:

    events.out.tfevents.*   by torch's own writer: scalars by the number of steps taken, and FACTS as text. TensorBoard
                            reads them too; they are of no format of ours
    lock                    held by the process that trains, which loses it when it ends, however it ends
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
"""A page searches for runs no deeper, and in no more folders: it must not search a disk."""

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
"""The scalars. What stands behind "epoch/" is the figure's name in history.jsonl."""


class State(StrEnum):
    """What can be said of a run from here; UNKNOWN where it trains, or trained, out of this machine's sight."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    UNKNOWN = "not known"


@dataclass(frozen=True)
class Curve:
    """A figure of a run at the end of n `steps`, and the n `epochs` that these were, fractions too."""

    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class RunReading:
    """A run as it stands: `step` of `steps` were taken when it was last `heard`; its settings; its curves by tag.

    Times are UTC. A curve that has no point yet has no points.
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
        """Return the epoch of the highest balanced accuracy on validation, and that figure; None before the first."""
        curve = self.curves[BALANCED_ACCURACY]
        points = zip(curve.epochs, curve.values, strict=True)
        defined = [(round(epoch), value) for epoch, value in points if not math.isnan(value)]
        return max(defined, key=lambda point: point[1], default=None)

    @property
    def seconds_left(self) -> float | None:
        """Return how long the steps to come will take at the latest speed, without the looks at validation."""
        speeds = self.curves[SPEED].values
        return (
            (self.steps - self.step) * self.settings["batch_size"] / speeds[-1] if speeds else None
        )


class RunReader:
    """Reads a run again and again, each time only what is new; sessions may share one."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder / CURVES_FOLDER, name
        self._first_file: Path | None = None
        self._events: EventAccumulator
        self._one_at_a_time = Lock()

    def read(self) -> RunReading:
        """Return the run as it stands; raise RunInvalid where its curves cannot be read.

        A record that is only half written is left for the next time.
        """
        held = _is_held(
            self._folder / LOCK_FILE
        )  # before its last word is read, or that could be missed
        with self._one_at_a_time:
            first_file = min(self._folder.glob(EVENT_FILES), default=None)
            if first_file is None:
                raise RunInvalid(
                    f"Expected the curves of a run in {self._folder} but there are none."
                )
            if first_file != self._first_file:  # a run begun anew
                self._first_file, self._events = first_file, _accumulator(self._folder)
            self._events.Reload()
            return self._reading(held)

    def _reading(self, held: bool | None) -> RunReading:
        tags, events = self._events.Tags(), self._events
        try:
            # `add_text` writes under this name; the last sitting's word counts.
            facts = json.loads(
                events.Tensors(f"{FACTS}/text_summary")[-1].tensor_proto.string_val[0]
            )
            settings, steps, per_epoch = (
                dict(facts["settings"]),
                int(facts["steps"]),
                int(facts["steps_per_epoch"]),
            )
            host = facts["host"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise RunInvalid(
                f"Expected the settings of a run in {self._folder} but they cannot be read ({error!r}): it is just "
                "beginning, or another program wrote it. Look again, or open it with TensorBoard."
            ) from error
        points = {tag: events.Scalars(tag) if tag in tags["scalars"] else [] for tag in TAGS}
        last = [curve[-1] for curve in points.values() if curve]
        begun, step = events.FirstEventTimestamp(), max((point.step for point in last), default=0)
        return RunReading(
            self._name,
            _state(held, finished=step >= steps, here=host == socket.gethostname()),
            datetime.fromtimestamp(begun, UTC),
            datetime.fromtimestamp(max((point.wall_time for point in last), default=begun), UTC),
            step,
            steps,
            per_epoch,
            MappingProxyType(settings),
            MappingProxyType({tag: _curve(curve, per_epoch) for tag, curve in points.items()}),
        )


def runs_dir() -> Path:
    """Return the folder of runs: CADLIB_RUNS where it is set, else runs/ where the command was given."""
    return Path(os.environ.get("CADLIB_RUNS") or "runs")


def find_runs(root: Path) -> dict[str, Path]:
    """Return the folders of the runs below `root` by their names from there on, the last begun first.

    Raise RunInvalid where the folder cannot be searched.
    """
    try:
        begun: dict[Path, str] = {}
        for run in _run_folders(root):
            first = min((run / CURVES_FOLDER).glob(EVENT_FILES), default=None)
            if first is not None:
                begun[run] = first.name  # its name begins with the time
    except (OSError, ValueError) as error:
        raise RunInvalid(
            f"Expected a folder of runs but {root} cannot be searched: {error}."
        ) from error
    return {
        str(run.relative_to(root)): run
        for run in sorted(begun, key=lambda run: begun[run], reverse=True)
    }


def _run_folders(root: Path) -> list[Path]:
    """Return the folders below `root`, and itself, that have curves: a few levels down, not into links."""
    found: list[Path] = []
    level, seen = [root], 0
    for _ in range(SEARCHED_LEVELS):
        below: list[Path] = []
        for folder in level:
            seen += 1
            if seen > SEARCHED_FOLDERS:
                raise RunInvalid(
                    f"Expected a folder of runs, but found more than {SEARCHED_FOLDERS:,} folders below {root}. "
                    "Name the folder that holds the runs themselves."
                )
            for entry in _folders_in(folder, root):
                if entry.name == CURVES_FOLDER:
                    found.append(folder)
                elif not entry.name.startswith("."):
                    below.append(Path(entry.path))
        level = below
    return sorted(found)


def _folders_in(folder: Path, root: Path) -> list[os.DirEntry[str]]:
    """Return the folders in a folder; none where it is missing, or closed to this user below `root`."""
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
    """Return the settings in which two runs differ, each with both values; None where a run has no such setting."""
    first, second = (reading.settings for reading in readings)
    pairs = {name: (first.get(name), second.get(name)) for name in [*first, *second]}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _is_held(lock: Path) -> bool | None:
    """Tell whether a process trains; None where the file or its file system cannot tell."""
    import portalocker  # noqa: PLC0415 - asked for by one page, which alone waits for it

    try:
        with lock.open("rb") as file:  # closed, and so let go, at once
            portalocker.lock(
                file, portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING
            )
    except portalocker.AlreadyLocked:
        return True
    except (portalocker.LockException, OSError):
        return None
    return False


def _state(held: bool | None, *, finished: bool, here: bool) -> State:
    if held:
        return State.RUNNING
    if finished:
        return State.FINISHED
    # A lock need not reach from one machine to another.
    return State.STOPPED if held is False and here else State.UNKNOWN


def _accumulator(folder: Path) -> "EventAccumulator":
    try:
        from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415 - as above
            EventAccumulator,
        )
    except ModuleNotFoundError as error:
        raise RunInvalid(
            f"Reading curves needs {error.name}; run `pip install -r requirements-train.txt`, as for training."
        ) from error
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it warns of each resumed run
    return EventAccumulator(str(folder), size_guidance={"scalars": 0})  # 0: all of them


def _curve(events: list[Any], steps_per_epoch: int) -> Curve:
    return Curve(
        tuple(event.step for event in events),
        tuple(event.step / steps_per_epoch for event in events),
        tuple(event.value for event in events),
    )
