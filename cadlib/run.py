"""A training run on disk: its checkpoint, its split, its history, and the commit of the code that trains."""

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import torch
from numpy import float32
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from cadlib import calibration, checkpoint, metrics
from cadlib.errors import TrainingFailed
from cadlib.record import SPLIT_FILE
from cadlib.train_config import TrainConfig
from cadlib.training_data import TrainingData

CHECKPOINT_FILE = "checkpoint.safetensors"
HISTORY_FILE = "history.jsonl"
CHECKPOINT_SECONDS = 120


class Run:
    """The state of a run on disk: checkpoint, and beside it split.csv and one line an epoch in history.jsonl."""

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
        self._identity = {**config.recipe(), "split_sha256": split_sha256}
        self.commits = [git_commit()]
        self._seconds_before = 0.0
        self._started = self._saved = time.monotonic()

    def seconds(self) -> float:
        """Return the time spent training so far, over all sittings."""
        return self._seconds_before + time.monotonic() - self._started

    def begin(self, split_csv: str, epochs: int) -> None:
        """Write split.csv, and keep of an earlier history the finished `epochs`."""
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPLIT_FILE).write_text(split_csv, encoding="utf-8")
        history = folder / HISTORY_FILE
        lines = history.read_text(encoding="utf-8").splitlines(keepends=True) if history.exists() else []
        history.write_text("".join(line for line in lines if json.loads(line)["epoch"] <= epochs), encoding="utf-8")

    def is_due(self) -> bool:
        """Tell whether enough time has passed since the last checkpoint."""
        return time.monotonic() - self._saved > CHECKPOINT_SECONDS

    def save(self, step: int) -> None:
        """Write the checkpoint of a run that has taken `step` steps."""
        parts = {"network": self.network.state_dict(), "average": self._average.state_dict()}
        facts = {"step": step, "seconds": self.seconds(), "commits": self.commits, "identity": self._identity}
        checkpoint.save(self._path, parts, self._optimizer, facts)
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
        checkpoint.restore(self._path, {"network": self.network, "average": self._average}, self._optimizer)
        self._seconds_before = facts["seconds"]
        self.commits = list(dict.fromkeys(facts["commits"] + self.commits))
        return int(facts["step"])

    def report(self, epoch: int, loss: float, logits: NDArray[float32], data: TrainingData) -> None:
        """Print an epoch's figures on the validation images and add them to history.jsonl."""
        labels = data.labels[data.rows("validation")]
        probabilities = calibration.probabilities(logits, 1.0, calibration.NO_BIAS)
        row = {
            "epoch": epoch,
            "loss": loss,
            "balanced_accuracy": metrics.balanced_accuracy(labels, probabilities),
            "malignant_auc": metrics.malignant_auc(labels, probabilities),
            "seconds": self.seconds(),
        }
        with (self._path.parent / HISTORY_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        tqdm.write("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


def git_commit() -> str:
    """Return the commit of the code that runs, with "+changes" where files differ from it."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "."],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"{commit}+changes" if changed else commit
