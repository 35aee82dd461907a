"""Measures what a model loses on an unseen archive.

One recipe is trained on all training images, and once more without each archive in turn, for as
many steps. Both networks are measured on the same validation images, those of the archive left out;
the second was not trained on its camera or its patients. A clinic with another camera has to expect
a difference of this size. Probabilities are the plain softmax: such a clinic has no labelled images
to fit a temperature on.

The result is the section `across_archives` of metrics.json, an `AcrossArchives`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cadlib.errors import TrainingFailed
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.conditions_schema import (
    AcrossArchives,
    ArchiveComparison,
    ArchiveIntervals,
    ArchiveLeftOut,
    TwoRuns,
    TwoRunsIntervals,
)
from cadlib.metrics.model_comparison import melanoma_auc, paired
from cadlib.metrics.summary import Metric, defined, intervals
from cadlib.model import calibration
from cadlib.training.config import TrainConfig
from cadlib.training.data import LEFT_OUT
from cadlib.training.loop import Trained, train
from cadlib.training.run import CHECKPOINT_FILE

KEYS = ("with_archive", "without_archive", "change")


METRICS: dict[str, Callable[..., Floats]] = {
    "balanced_accuracy": classification.balanced_accuracy,
    "malignant_auc": classification.malignant_auc,
    "melanoma_auc": melanoma_auc,
}


def across_archives(
    folder: Path,
    run_dir: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> AcrossArchives:
    """Train the runs in `run_dir`, compare them, and return `across_archives` of metrics.json.

    With `resume` a stopped run continues from its checkpoint and a finished one takes no further
    step; otherwise the checkpoints in `run_dir` are deleted. `say` gets a message before each run.
    Raise TrainingFailed when there are not two archives in training and validation or a run fails,
    and Stopped after Ctrl-C.
    """
    if config.leave_out:
        raise TrainingFailed(
            f"Expected no `leave_out`, for each archive is left out, but got {config.leave_out!r}."
        )
    if not resume:
        for checkpoint in run_dir.glob(f"*/{CHECKPOINT_FILE}"):
            checkpoint.unlink()
    say("Training on all archives")
    whole = _trained(folder, run_dir / "all", config)
    measured = {}
    # The whole run tells which archives the split has in both parts.
    for archive in _archives_to_leave_out(whole, folder):
        say(f"Training without {archive}")
        without_config = replace(config, leave_out=archive)
        without = _trained(folder, run_dir / f"without {archive}", without_config)
        measured[archive] = _measured(whole, without, archive)
    steps_per_epoch = whole.data.epoch_images // config.batch_size
    return AcrossArchives(
        data=whole.data.name,
        split_sha256=whole.data.split_sha256,
        recipe=config.recipe(),
        steps=steps_per_epoch * config.epochs,
        git_commit=whole.git_commit,
        archives=measured,
    )


def _archives_to_leave_out(trained: Trained, folder: Path) -> list[str]:
    """Return the archives that have images in training and in validation.

    Raise TrainingFailed for fewer than two: without the only one no image would be left.
    """
    train = _archives_of(trained, "train")
    validation = _archives_of(trained, "validation")
    archives = sorted(train & validation)
    if len(archives) < 2:
        raise TrainingFailed(
            f"Expected images of two archives in {folder}, for training and validation, but got "
            f"{', '.join(archives) or 'none'}; nothing can be left out."
        )
    return archives


def _archives_of(trained: Trained, split: str) -> set[str]:
    """Return the archives that have images in a split."""
    rows = trained.data.rows(split)
    archives = trained.data.table["archive"].iloc[rows]
    return set(archives.dropna())


def _trained(folder: Path, run_dir: Path, config: TrainConfig) -> Trained:
    """Train a run, or continue it where it has a checkpoint."""
    checkpoint = run_dir / CHECKPOINT_FILE
    resume = checkpoint.exists()
    trained = train(folder, run_dir, config, resume=resume)
    # `train` has a result in the first of several processes only.
    if trained is None:
        raise TrainingFailed("Expected one process to train in but got several; give --devices 1.")
    return trained


def _measured(whole: Trained, without: Trained, archive: str) -> ArchiveLeftOut:
    """Compare two runs on the validation images of an archive."""
    data = without.data
    if data.split_sha256 != whole.data.split_sha256:
        raise TrainingFailed(
            "Expected the images to stay as they are between the runs but they changed; "
            "start again."
        )
    rows = data.rows("validation")
    archives = data.table["archive"].iloc[rows]
    of_archive = (archives == archive).to_numpy(bool)
    archive_rows = rows[of_archive]
    labels = data.labels[archive_rows]
    lesions = data.groups.iloc[archive_rows].to_numpy()
    with_it = _probabilities(whole, of_archive)
    without_it = _probabilities(without, of_archive)
    compared = compare(labels, lesions, with_it, without_it)
    return ArchiveLeftOut(
        **msgspec.structs.asdict(compared),
        trained_on=len(data.rows("train")),
        left_out=len(data.rows(LEFT_OUT)),
    )


def _probabilities(run: Trained, selection: NDArray[np.bool_]) -> Floats:
    """Return the plain softmax of the selected validation images."""
    logits = run.validation_logits[selection]
    temperature = 1.0
    return calibration.probabilities(logits, temperature, calibration.NO_BIAS)


def compare(
    labels: Labels,
    lesions: NDArray[np.integer[Any]],
    with_it: Floats,
    without: Floats,
) -> ArchiveComparison:
    """Return the metrics of two networks on the same images, their change, and its intervals.

    `labels` and `lesions` are (N,) int; both probabilities (N, 8) float64. Intervals are paired
    over lesions: each draw of lesions is the same for both networks. So images that are hard for
    both do not widen the interval of the change.
    """
    _, groups = np.unique(lesions, return_inverse=True)
    pair = np.stack([with_it, without])
    metrics = []
    for name, compute in METRICS.items():
        metric = Metric(name, paired(compute), KEYS)
        metrics.append(metric)
    values_by_name: dict[str, Any] = {}
    for metric in metrics:
        values = metric.compute(labels, pair)
        defined_values = map(defined, values.tolist())
        by_key = dict(zip(KEYS, defined_values, strict=True))
        values_by_name[metric.name] = TwoRuns(**by_key)
    # Every metric is drawn on the same pair of probabilities.
    metrics_with_input = [(metric, pair) for metric in metrics]
    bounds = intervals(labels, groups, metrics_with_input)
    ends = _ends(bounds)
    return ArchiveComparison(
        n=len(labels),
        n_lesions=len(np.unique(groups)),
        n_classes=len(np.unique(labels)),
        **values_by_name,
        intervals=ends,
    )


def _ends(by_name: Mapping[str, Any]) -> ArchiveIntervals:
    """Return the intervals of each metric, with and without the archive and of the change."""
    ends = {}
    for name, ends_by_key in by_name.items():
        ends[name] = TwoRunsIntervals(**ends_by_key)
    return ArchiveIntervals(**ends)
