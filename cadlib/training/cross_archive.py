"""Across archives: what a network loses on images of an archive that it was not trained on.

One recipe is trained on all training images, and once more without each archive in turn, for as many steps. Both
networks are measured on the same validation images, those of the archive left out; the second has seen neither
its camera nor its patients. The difference is what a clinic with another camera has to expect. Probabilities are the
plain softmax: a temperature fitted on labelled images of that archive is what such a clinic has not got.

`across_archives` in metrics.json:

    data, split_sha256   the images and their split
    recipe, steps        the settings of every run, and how many steps each took
    git_commit           the code that trained them
    archives             archive -> n, n_lesions, n_classes; trained_on and left_out, the training images of the run
                         without it and of the archive; each of FIGURES with and without the archive in training
                         and the change between them; the same in `intervals`, paired over lesions
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import TrainingFailed
from cadlib.metrics import classification
from cadlib.metrics.classification import Floats, Labels
from cadlib.metrics.model_comparison import melanoma_auc, paired
from cadlib.metrics.summary import Figure, intervals, json_ready
from cadlib.model import calibration
from cadlib.training.config import TrainConfig
from cadlib.training.data import LEFT_OUT
from cadlib.training.loop import Trained, train
from cadlib.training.run import CHECKPOINT_FILE

KEYS = ("with", "without", "change")


FIGURES: dict[str, Callable[..., Floats]] = {
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
) -> dict[str, Any]:
    """Train the runs in `run_dir`, compare them, and return `across_archives` of metrics.json.

    With `resume` a run that was stopped goes on from its checkpoint and a finished one takes no step more; without it
    the checkpoints in `run_dir` are deleted. Raise TrainingFailed when there are not two archives in training and
    validation or a run cannot be made, and Stopped after Ctrl-C.
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
    archive_of, rows = whole.data.table["archive"], whole.data.rows
    archives = sorted(
        {*archive_of.iloc[rows("train")].dropna()} & {*archive_of.iloc[rows("validation")].dropna()}
    )
    if len(archives) < 2:
        raise TrainingFailed(
            f"Expected images of two archives in {folder}, for training and validation, but got "
            f"{', '.join(archives) or 'none'}; nothing can be left out."
        )
    found = {}
    for archive in archives:
        say(f"Training without {archive}")
        without = _trained(
            folder, run_dir / f"without {archive}", replace(config, leave_out=archive)
        )
        found[archive] = _measured(whole, without, archive)
    return {
        "data": whole.data.name,
        "split_sha256": whole.data.split_sha256,
        "recipe": config.recipe(),
        "steps": whole.data.epoch_images // config.batch_size * config.epochs,
        "git_commit": whole.git_commit,
        "archives": found,
    }


def _trained(folder: Path, run_dir: Path, config: TrainConfig) -> Trained:
    trained = train(folder, run_dir, config, resume=(run_dir / CHECKPOINT_FILE).exists())
    if trained is None:
        raise TrainingFailed("Expected one process to train in but got several; give --devices 1.")
    return trained


def _measured(whole: Trained, without: Trained, archive: str) -> dict[str, Any]:
    data = without.data
    if data.split_sha256 != whole.data.split_sha256:
        raise TrainingFailed(
            "Expected the images to stay as they are between the runs but they changed; start anew."
        )
    rows = data.rows("validation")
    here = (data.table["archive"].iloc[rows] == archive).to_numpy(bool)
    pair = [
        calibration.probabilities(run.validation_logits[here], 1.0, calibration.NO_BIAS)
        for run in (whole, without)
    ]
    return {
        **compare(data.labels[rows][here], data.groups.iloc[rows[here]].to_numpy(), *pair),
        "trained_on": len(data.rows("train")),
        "left_out": len(data.rows(LEFT_OUT)),
    }


def compare(
    labels: Labels, lesions: NDArray[np.integer[Any]], with_it: Floats, without: Floats
) -> dict[str, Any]:
    """Return FIGURES of two networks on the same images, their change, and intervals paired over lesions.

    `labels` and `lesions` are (N,) int; both probabilities (N, 8) float64. A draw of lesions is the same for both
    networks, so that what makes an archive hard for either does not widen the interval of the change.
    """
    groups, pair = np.unique(lesions, return_inverse=True)[1], np.stack([with_it, without])
    asked = [(Figure(name, paired(figure), KEYS), pair) for name, figure in FIGURES.items()]
    found = {
        "n": len(labels),
        "n_lesions": len(np.unique(groups)),
        "n_classes": len(np.unique(labels)),
        **{
            f.name: dict(zip(KEYS, f.compute(labels, pair).tolist(), strict=True)) for f, _ in asked
        },
        "intervals": intervals(labels, groups, asked),
    }
    ready: dict[str, Any] = json_ready(found)
    return ready
