"""Matches soft targets of a teacher with images, and computes their loss.

A small network learns from the probabilities of a committee, which say more than the label alone:
Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015, arXiv 1503.02531).

The targets are the out-of-fold predictions of the committee. The network that gave the target of an
image was not trained on it: a network that was would repeat the label with great confidence. The
test images are those of the committee, and no target comes from a network that read one. But some
networks of the committee were trained on the validation images of the student.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cadlib.errors import TrainingFailed
from cadlib.model.manifest import read_manifest
from cadlib.model.out_of_fold import OutOfFold, read_out_of_fold
from cadlib.model.record import (
    OUT_OF_FOLD_FILE,
    SPLIT_FILE,
    ModelRecord,
    find_model,
    read_record,
)
from cadlib.model.split import find_split
from cadlib.taxonomy import CODES
from cadlib.training.config import TrainConfig
from cadlib.training.data import TrainingData

_NAMED_IMAGES = 5
"""Images without a prediction that a message names."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A cross-validated model and its out-of-fold predictions.

    `predictions_sha256` is the hash of its out_of_fold.csv, in hexadecimal. `adjustments`, (N,)
    float32, is the `logit_adjustment` of the network that predicted each image.
    """

    model_id: str
    predictions: OutOfFold
    predictions_sha256: str
    adjustments: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SoftTargets:
    """The soft targets of a run.

    `logits`, (N, 8) float32, has a row for each row of the data, NaN for one outside training and
    validation. `weight`, 0 to 1, is the share of their loss. `predictions_sha256` is the hash of
    the teacher's out_of_fold.csv.
    """

    teacher_id: str
    predictions_sha256: str
    logits: Tensor
    weight: float
    temperature: float

    def to(self, device: torch.device) -> "SoftTargets":
        """Return the same targets on a device."""
        return replace(self, logits=self.logits.to(device))

    def shares(self, rows: Tensor) -> Tensor:
        """Return the softened probabilities of the teacher for rows, (N,) int64: (N, 8)."""
        places = rows.to(self.logits.device)
        softened = self.logits[places] / self.temperature
        return functional.softmax(softened, dim=1)

    def add_loss(self, label_loss: Tensor, logits: Tensor, soft_shares: Tensor) -> Tensor:
        """Return the weighted sum of the loss on labels and that on `soft_shares`, (N, 8).

        `logits`, (N, 8), are those of the network, without an adjustment by class frequency. The
        loss is the mean Kullback-Leibler divergence of both at the temperature.
        """
        softened = logits / self.temperature
        log_shares = functional.log_softmax(softened, dim=1)
        divergence = functional.kl_div(log_shares, soft_shares, reduction="batchmean")
        # Gradients of softened probabilities shrink by the square of the temperature.
        soft_loss = self.temperature**2 * divergence
        label_part = (1 - self.weight) * label_loss
        soft_part = self.weight * soft_loss
        return label_part + soft_part


def read_teacher(config: TrainConfig) -> Teacher | None:
    """Read the teacher of a run; None for a run without one.

    Raise ModelInvalid for a folder that is no model or was changed. Raise TrainingFailed for a
    model without out-of-fold predictions, and where the run follows the split of another model.
    """
    if not config.teacher:
        return None
    folder = find_model(config.teacher)
    _check_split(folder, config)
    # A model of other diagnoses is refused here.
    record = read_record(folder)
    predictions = read_out_of_fold(folder)
    if predictions is None:
        raise TrainingFailed(
            f"Expected a teacher with {OUT_OF_FOLD_FILE} but {record.model_id} has none. "
            "Give a model of several networks that `cadlib pack` has written."
        )
    listed = read_manifest(folder)
    return Teacher(
        model_id=record.model_id,
        predictions=predictions,
        predictions_sha256=listed.files[OUT_OF_FOLD_FILE].sha256,
        adjustments=_adjustments(record, predictions),
    )


def _check_split(teacher: Path, config: TrainConfig) -> None:
    """Raise TrainingFailed where the run follows the split of another model than the teacher."""
    if not config.split_of:
        return
    split = find_split(config.split_of)
    if split.resolve() != (teacher / SPLIT_FILE).resolve():
        raise TrainingFailed(
            f"Expected `split_of` to be the teacher, {config.teacher!r}, "
            f"but got {config.split_of!r}. With a teacher, its split is followed: its test images "
            "must stay out of training. Leave `split_of` out."
        )


def _adjustments(record: ModelRecord, predictions: OutOfFold) -> NDArray[np.float32]:
    """Return the `logit_adjustment` of the network that predicted each image, (N,)."""
    weight_of = {}
    for member in record.members:
        settings = member.run.config
        weight = settings.get("logit_adjustment") or 0
        weight_of[member.fold] = float(weight)
    folds = predictions.folds.tolist()
    weights = [weight_of[fold] for fold in folds]
    return np.array(weights, np.float32)


def match_targets(
    teacher: Teacher,
    data: TrainingData,
    log_frequency: Tensor,
    config: TrainConfig,
) -> SoftTargets:
    """Return the soft targets of each row of the data.

    `log_frequency`, (8,), is that of each class in training. Raise TrainingFailed where a training
    or validation image has no prediction.
    """
    rows = np.concatenate([data.rows("train"), data.rows("validation")])
    images = data.table["image"].iloc[rows].tolist()
    places = _places(images, teacher)
    logits = np.full((len(data.table), len(CODES)), np.nan, np.float32)
    logits[rows] = _moved_logits(teacher, places, log_frequency, config.logit_adjustment)
    return SoftTargets(
        teacher_id=teacher.model_id,
        predictions_sha256=teacher.predictions_sha256,
        logits=torch.from_numpy(logits),
        weight=config.teacher_weight,
        temperature=config.teacher_temperature,
    )


def _places(images: Sequence[str], teacher: Teacher) -> list[int]:
    """Return the row of each image in the predictions of the teacher.

    Raise TrainingFailed where an image has none.
    """
    place_of = {image: place for place, image in enumerate(teacher.predictions.images)}
    missing = [image for image in images if image not in place_of]
    if missing:
        message = _missing_predictions(missing, teacher)
        raise TrainingFailed(message)
    return [place_of[image] for image in images]


def _missing_predictions(images: Sequence[str], teacher: Teacher) -> str:
    """Return the message for images without a prediction."""
    names = ", ".join(images[:_NAMED_IMAGES])
    more = " …" if len(images) > _NAMED_IMAGES else ""
    return (
        f"Expected a prediction in {OUT_OF_FOLD_FILE} of {teacher.model_id} for each training and "
        f"validation image, but {len(images):,} have none: {names}{more}. "
        "Pack the teacher again with the same data set."
    )


def _moved_logits(
    teacher: Teacher,
    places: Sequence[int],
    log_frequency: Tensor,
    student_weight: float,
) -> NDArray[np.float32]:
    """Return the logits that the teacher would have with the `logit_adjustment` of the student.

    `places` are rows of its predictions; the logits are (len(places), 8).
    """
    # A network that is trained with the adjustment w * log(frequency) in its loss predicts
    # log(probability) - w * log(frequency): its logits are those of classes that are more evenly
    # frequent. The adjustment belongs to the loss on labels alone, and the soft loss compares
    # logits without it. So both losses have their minimum at the same logits only if teacher and
    # student have the same weight w: where they differ, the teacher's logits are moved. The
    # student's logits then mean the same as without a teacher, and its calibration on validation
    # images fits a temperature and a bias for each class as always.
    weights = teacher.adjustments[places] - np.float32(student_weight)
    shifts = weights[:, None] * log_frequency.numpy()
    moved: NDArray[np.float32] = teacher.predictions.logits[places] + shifts
    return moved
