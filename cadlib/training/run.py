"""A training run on disk: its checkpoint, split, history and curves, and the commit of the code that trains."""

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
    """The curves of a run, by torch's own writer, where TensorBoard and `cadlib.training.monitor` read them.

    As long as they are written their lock is held: the system lets go of it when the process ends, however it ends.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(
            folder / monitor.LOCK_FILE, "a", timeout=2
        )  # a reader asks for it, for a moment
        try:
            self._lock.acquire()
        except AlreadyLocked as error:
            raise TrainingFailed(
                f"Expected nobody else to train in {folder.parent} but a process does; wait for it, or give another "
                "--run-dir."
            ) from error
        except LockException as error:
            tqdm.write(
                f"{folder} knows no locks ({error.strerror}); whether this run is running will not be known."
            )
        if first_step == 0:
            for earlier in folder.glob(monitor.EVENT_FILES):
                earlier.unlink()
        # Readers take the files in the order of their names: the second, and then a number without leading zeros.
        while any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
            time.sleep(0.02)
        # What a reader has of later steps, from a sitting that broke off, it forgets.
        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)
        self._writer.add_text(
            monitor.FACTS, indent(json.dumps(facts, indent=1), "    "), first_step
        )  # as code
        self._writer.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add a point to each curve named, at the number of steps taken, for readers to see at once."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file and let go of the lock."""
        try:
            self._writer.close()
        finally:
            self._lock.release()


class Run:
    """The state of a run on disk: checkpoint, and beside it split.csv, one line an epoch in history.jsonl, curves."""

    def __init__(
        self,
        path: Path,
        config: TrainConfig,
        split_sha256: str,
        network: nn.Module,
        average: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.network = network
        self._path, self._average, self._optimizer = path, average, optimizer
        self._config, self._identity = config, {**config.recipe(), "split_sha256": split_sha256}
        self._curves: Curves  # from `begin` on
        self._begun = ExitStack()
        self.commits = [git_commit()]
        self._seconds_before = 0.0
        self._has_checkpoint = False  # what stands at the path is of an earlier run
        self._started = self._saved = self._noted = time.monotonic()
        self._noted_step = 0

    def seconds(self) -> float:
        """Return the time spent training so far, over all sittings."""
        return self._seconds_before + time.monotonic() - self._started

    def begin(self, data: TrainingData, plan: BatchPlan) -> None:
        """Write split.csv, and go on with an earlier history and its curves up to the plan's first step.

        Raise TrainingFailed when another process trains in this folder.
        """
        folder = self._path.parent
        facts = {
            "settings": {
                **asdict(self._config),
                "train_images": len(data.rows("train")),
                "validation_images": len(data.rows("validation")),
                "split_sha256": data.split_sha256,
                "code": self.commits[-1],
            },
            "steps": plan.steps,
            "steps_per_epoch": plan.steps_per_epoch,
            "host": socket.gethostname(),
        }
        self._curves = self._begun.enter_context(
            closing(Curves(folder / monitor.CURVES_FOLDER, facts, plan.first_step))
        )
        (folder / SPLIT_FILE).write_text(data.split_csv, encoding="utf-8")
        try:
            history.cut(folder / HISTORY_FILE, plan.first_step // plan.steps_per_epoch, tqdm.write)
        except TrainingFailed:
            self.close()
            raise
        self._noted_step, self._noted = plan.first_step, time.monotonic()

    def close(self) -> None:
        """End what `begin` opened: nothing trains here any more."""
        self._begun.close()

    def is_due(self) -> bool:
        """Tell whether enough time has passed since the last checkpoint."""
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def save(self, step: int) -> None:
        """Write the checkpoint of a run that has taken `step` steps."""
        parts = {"network": self.network.state_dict(), "average": self._average.state_dict()}
        facts = {
            "step": step,
            "seconds": self.seconds(),
            "commits": self.commits,
            "identity": self._identity,
        }
        checkpoint.save(
            self._path, parts, self._optimizer, facts, keep_previous=self._has_checkpoint
        )
        self._has_checkpoint = True
        self._saved = time.monotonic()

    @staticmethod
    def check(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
        """Return the facts of a checkpoint; raise TrainingFailed if it is of other settings or images."""
        facts = checkpoint.read_facts(path)
        differing = [
            f"{name} {facts['identity'].get(name)!r}, not {value!r}"
            for name, value in identity.items()
            if facts["identity"].get(name) != value
        ]
        if differing:
            raise TrainingFailed(
                f"Expected the settings of the run in {path.parent} but it had {'; '.join(differing)}. "
                "Give the same settings and images, or start anew with --overwrite."
            )
        return facts

    def restore(self) -> int:
        """Put the checkpoint back in place and return its step; raise TrainingFailed if it is of another run."""
        facts = self.check(self._path, self._identity)
        checkpoint.restore(
            self._path, {"network": self.network, "average": self._average}, self._optimizer
        )
        self._has_checkpoint = True
        self._seconds_before = facts["seconds"]
        self.commits = list(dict.fromkeys(facts["commits"] + self.commits))
        return int(facts["step"])

    def note(self, step: int, losses: Sequence[Tensor], learning_rate: float) -> None:
        """Add to the curves the mean loss and the speed of the steps since the last note, and the learning rate.

        `losses` are scalars, the last ones those of the last steps.
        """
        taken, seconds = step - self._noted_step, time.monotonic() - self._noted
        values = {
            monitor.LOSS: torch.stack(list(losses[-taken:])).mean().item(),
            monitor.LEARNING_RATE: learning_rate,
            monitor.SPEED: taken * self._config.batch_size / seconds,
        }
        self._curves.write(step, values)
        self._noted_step, self._noted = step, time.monotonic()

    def report(
        self,
        epoch: int,
        loss: float,
        validation_loss: float,
        logits: NDArray[float32],
        data: TrainingData,
    ) -> None:
        """Print an epoch's figures on the validation images and add them to history.jsonl and to the curves."""
        labels = data.labels[data.rows("validation")]
        probabilities = calibration.probabilities(logits, 1.0, calibration.NO_BIAS)
        figures: dict[str, float] = {
            "loss": loss,
            "validation_loss": validation_loss,
            "balanced_accuracy": float(classification.balanced_accuracy(labels, probabilities)),
            "malignant_auc": float(classification.malignant_auc(labels, probabilities)),
        }
        row = {"epoch": epoch, **figures, "seconds": self.seconds()}
        with (self._path.parent / HISTORY_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        tqdm.write(
            "  ".join(
                f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
            )
        )
        self._curves.write(
            self._noted_step, {f"epoch/{name}": value for name, value in figures.items()}
        )
        self._noted = (
            time.monotonic()
        )  # the speed is that of training, without the look at the validation images


def git_commit() -> str:
    """Return the commit of the code that runs, with "+changes" where files differ from it."""
    folder = Path(__file__).parents[1]
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "--no-optional-locks", "status", "--porcelain", "--untracked-files=no", "."],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"{commit}+changes" if changed else commit
