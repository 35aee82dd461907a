"""Writes a training run to disk: checkpoint, split, history and curves.

It also reads the commit of the code that trains.
"""

import json
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Any

import torch
from numpy import float32
from numpy.typing import NDArray
from portalocker import AlreadyLocked, Lock, LockException
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cadlib.errors import TrainingFailed
from cadlib.metrics import classification
from cadlib.model import calibration
from cadlib.model.record import SPLIT_FILE
from cadlib.training import checkpoint, history, monitor
from cadlib.training.config import TrainConfig
from cadlib.training.data import BatchPlan, TrainingData

CHECKPOINT_FILE = "checkpoint.safetensors"
HISTORY_FILE = "history.jsonl"
CHECKPOINT_SECONDS = 120


class Curves:
    """The curves of a run, for TensorBoard and `cadlib.training.monitor`, by torch's own writer.

    A lock is held as long as they are written. The system releases it when the process ends, even
    after a crash.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # The timeout is for a reader, which holds the lock for a moment.
        self._lock = Lock(folder / monitor.LOCK_FILE, "a", timeout=2)
        self._acquire(folder)
        if first_step == 0:
            for earlier in folder.glob(monitor.EVENT_FILES):
                earlier.unlink()
        _wait_for_free_name(folder)
        # Readers drop the later steps of a run that was interrupted.
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        # TensorBoard shows indented text as code.
        text = indent(json.dumps(facts, indent=1), "    ")
        self._writer.add_text(monitor.FACTS, text, first_step)
        self._writer.flush()

    def _acquire(self, folder: Path) -> None:
        """Take the lock; where the file system has none, train without it."""
        try:
            self._lock.acquire()
        except AlreadyLocked as error:
            raise TrainingFailed(
                f"Expected nobody else to train in {folder.parent} but a process does; "
                "wait for it, or give another --run-dir."
            ) from error
        except LockException as error:
            tqdm.write(
                f"{folder} knows no locks ({error.strerror}); "
                "whether this run is running will not be known."
            )

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each named curve, at the number of steps taken, and flush it."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file and release the lock."""
        try:
            self._writer.close()
        finally:
            self._lock.release()


def _wait_for_free_name(folder: Path) -> None:
    """Wait until no event file of this second is in the folder.

    Readers sort the files by name: the second, and then a number without leading zeros.
    """
    while True:
        second = int(time.time())
        event_files = folder.glob(f"events.out.tfevents.{second:010d}.*")
        if not any(event_files):
            return
        time.sleep(0.02)


class Run:
    """The state of a run on disk.

    Beside the checkpoint are split.csv, history.jsonl with one line an epoch, and the curves. A
    resumed run must have the same `identity`: its recipe, and hashes of its split and targets.
    """

    def __init__(
        self,
        path: Path,
        config: TrainConfig,
        identity: dict[str, Any],
        network: nn.Module,
        average: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._network = network
        self._path = path
        self._average = average
        self._optimizer = optimizer
        self._config = config
        self._identity = identity
        self._curves: Curves  # set by `begin`
        self._opened = ExitStack()
        self.commits = [git_commit()]
        self._seconds_before = 0.0
        # Until this run has saved one, a checkpoint at the path is of an earlier run.
        self._has_checkpoint = False
        now = time.monotonic()
        self._started = now
        self._saved_at = now
        self._noted_at = now
        self._noted_step = 0

    def seconds(self) -> float:
        """Return the time spent training so far, in all parts of a resumed run."""
        return self._seconds_before + time.monotonic() - self._started

    def begin(self, data: TrainingData, plan: BatchPlan) -> None:
        """Write split.csv, and continue an earlier history and its curves.

        Both are kept up to the plan's first step. Raise TrainingFailed when another process trains
        in this folder.
        """
        folder = self._path.parent
        facts = self._facts(data, plan)
        curves = Curves(folder / monitor.CURVES_FOLDER, facts, plan.first_step)
        self._curves = self._opened.enter_context(closing(curves))
        (folder / SPLIT_FILE).write_text(data.split_csv, encoding="utf-8")
        finished_epochs = plan.first_step // plan.steps_per_epoch
        try:
            history.cut(folder / HISTORY_FILE, finished_epochs, tqdm.write)
        # A run that cannot begin must not hold the lock of its folder.
        except TrainingFailed:
            self.close()
            raise
        # The first speed does not include the steps of an earlier part of the run.
        self._noted_step = plan.first_step
        self._noted_at = time.monotonic()

    def _facts(self, data: TrainingData, plan: BatchPlan) -> dict[str, Any]:
        """Return the settings and sizes of the run that its readers show."""
        settings = {
            **asdict(self._config),
            "train_images": len(data.rows("train")),
            "validation_images": len(data.rows("validation")),
            "split_sha256": data.split_sha256,
            "code": self.commits[-1],
        }
        return {
            "settings": settings,
            "steps": plan.steps,
            "steps_per_epoch": plan.steps_per_epoch,
            "host": socket.gethostname(),
        }

    def close(self) -> None:
        """Close what `begin` opened, and release the run's lock."""
        self._opened.close()

    def is_due(self) -> bool:
        """Return whether enough time has passed since the last checkpoint."""
        return time.monotonic() - self._saved_at > CHECKPOINT_SECONDS

    def save(self, step: int) -> None:
        """Write the checkpoint of a run that has taken `step` steps."""
        parts = {
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
        }
        facts = {
            "step": step,
            "seconds": self.seconds(),
            "commits": self.commits,
            "identity": self._identity,
        }
        keep_previous = self._has_checkpoint
        checkpoint.save(self._path, parts, self._optimizer, facts, keep_previous=keep_previous)
        self._has_checkpoint = True
        self._saved_at = time.monotonic()

    @staticmethod
    def check(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
        """Return the facts of a checkpoint.

        Raise TrainingFailed if it is of other settings or images.
        """
        facts = checkpoint.read_facts(path)
        # An earlier version did not have every setting, and used what is the default now.
        saved_identity = {**TrainConfig().recipe(), **facts["identity"]}
        # All differences are listed at once, so that one correction is enough.
        differing = []
        for name, value in identity.items():
            saved_value = saved_identity.get(name)
            if saved_value != value:
                differing.append(f"{name} {saved_value!r}, not {value!r}")
        if differing:
            raise TrainingFailed(
                f"Expected the settings of the run in {path.parent} "
                f"but it had {'; '.join(differing)}. "
                "Give the same settings and images, or start again with --overwrite."
            )
        return facts

    def restore(self) -> int:
        """Load the checkpoint in place and return its step.

        Raise TrainingFailed if it is of another run.
        """
        facts = self.check(self._path, self._identity)
        modules = {"network": self._network, "average": self._average}
        checkpoint.restore(self._path, modules, self._optimizer)
        self._has_checkpoint = True
        self._seconds_before = facts["seconds"]
        # A dict drops repeated commits and keeps the order.
        commits = facts["commits"] + self.commits
        self.commits = list(dict.fromkeys(commits))
        return int(facts["step"])

    def note(self, step: int, losses: Sequence[Tensor], learning_rate: float) -> None:
        """Add the learning rate, and the mean loss and speed since the last note, to the curves.

        `losses` are scalars; the last ones are those of the last steps.
        """
        steps = step - self._noted_step
        seconds = time.monotonic() - self._noted_at
        recent_losses = list(losses[-steps:])
        mean_loss = torch.stack(recent_losses).mean()
        values = {
            monitor.LOSS: mean_loss.item(),
            monitor.LEARNING_RATE: learning_rate,
            monitor.SPEED: steps * self._config.batch_size / seconds,
        }
        self._curves.write(step, values)
        self._noted_step = step
        self._noted_at = time.monotonic()

    def report(
        self,
        epoch: int,
        loss: float,
        validation_loss: float,
        logits: NDArray[float32],
        data: TrainingData,
    ) -> None:
        """Print an epoch's metrics on the validation images.

        Add them to history.jsonl and to the curves too.
        """
        labels = data.labels[data.rows("validation")]
        probabilities = calibration.probabilities(logits, 1.0, calibration.NO_BIAS)
        balanced_accuracy = classification.balanced_accuracy(labels, probabilities)
        malignant_auc = classification.malignant_auc(labels, probabilities)
        metrics: dict[str, float] = {
            "loss": loss,
            "validation_loss": validation_loss,
            "balanced_accuracy": float(balanced_accuracy),
            "malignant_auc": float(malignant_auc),
        }
        row = {"epoch": epoch, **metrics, "seconds": self.seconds()}
        self._add_to_history(row)
        tqdm.write(_row_text(row))
        values = {f"epoch/{name}": value for name, value in metrics.items()}
        self._curves.write(self._noted_step, values)
        # The speed is that of training, without the prediction of the validation images.
        self._noted_at = time.monotonic()

    def _add_to_history(self, row: dict[str, float]) -> None:
        """Append a line to history.jsonl; the file is opened for each line, so it is complete."""
        path = self._path.parent / HISTORY_FILE
        line = json.dumps(row)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def _row_text(row: dict[str, float]) -> str:
    """Return the metrics of an epoch in one line, fractions with four decimals."""
    words = []
    for name, value in row.items():
        # The epoch is an integer.
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value}"
        words.append(f"{name} {shown}")
    return "  ".join(words)


def git_commit() -> str:
    """Return the commit of the running code, with "+changes" where files differ from it."""
    try:
        commit = _git("rev-parse", "HEAD").strip()
        # Without optional locks, a git command of the user is not disturbed.
        changes = _git("--no-optional-locks", "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"{commit}+changes" if changes else commit


def _git(*arguments: str) -> str:
    """Return what git prints in the folder of the package."""
    folder = Path(__file__).parents[1]
    result = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout
