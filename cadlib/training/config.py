"""Defines every setting of a training run."""

import math
from dataclasses import dataclass, field, fields
from typing import Any


def _setting(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    below: float = math.inf,
    engine: bool = False,
) -> Any:
    """Define a field with its help text and range; an `engine` setting does not decide results."""
    metadata = {"help": text, "range": (least, below), "engine": engine}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a run with its default; the flags of the command line are these fields."""

    backbone: str = _setting(
        "tf_efficientnet_lite0", "a timm network with pooling and a linear head"
    )
    pretrained: bool = _setting(True, "start from ImageNet weights")
    input_px: int = _setting(176, "side of the square the finished model reads", least=32)
    first_px: int = _setting(128, "side of the training crops in the first epoch", least=32)
    last_px: int = _setting(160, "side of the training crops in the last epoch", least=32)
    least_crop: float = _setting(
        0.6,
        "least share of an image's area that a training crop shows",
        least=0.05,
        below=1,
    )
    mixup_alpha: float = _setting(
        0.0,
        "mixup blends two images by a share drawn from Beta(alpha, alpha); 0: none",
        least=0,
    )
    epochs: int = _setting(16, "passes over the training images", least=1)
    batch_size: int = _setting(32, "images a step, over all devices", least=1)
    learning_rate: float = _setting(1e-3, "peak of the cosine schedule (AdamW)", least=1e-9)
    last_rate: float = _setting(
        0.2,
        "share of the peak learning rate that the cosine ends at",
        least=0,
        below=1,
    )
    warmup: float = _setting(
        0.05,
        "share of the steps in which the learning rate rises",
        least=0,
        below=1,
    )
    weight_decay: float = _setting(
        0.05,
        "decoupled weight decay, on weights of two dimensions and more",
        least=0,
    )
    drop_rate: float = _setting(0.2, "dropout before the head", least=0, below=1)
    drop_path_rate: float = _setting(
        0.1,
        "stochastic depth: how often the last block is left out",
        least=0,
        below=1,
    )
    patch_drop_rate: float = _setting(
        0.0,
        "share of a transformer's patches left out in training",
        least=0,
        below=1,
    )
    layer_decay: float = _setting(
        1.0,
        "learning rate of a block as a share of that of the next",
        least=1e-9,
    )
    ema_decay: float = _setting(
        0.999,
        "decay a step of the averaged weights, which become the model",
        least=0,
        below=1,
    )
    logit_adjustment: float = _setting(
        0.5,
        "weight of the log class frequency added to the logits in the loss",
        least=0,
    )
    validation: float = _setting(
        0.15,
        "share of the images kept for choosing and calibrating",
        least=0,
        below=1,
    )
    test: float = _setting(
        0.15,
        "share of the images never looked at in training",
        least=0,
        below=1,
    )
    split_of: str = _setting(
        "",
        "model, or a split.csv, whose split is followed: its test images stay its test images",
    )
    teacher: str = _setting(
        "",
        "cross-validated model that gives soft targets, by out_of_fold.csv, and the split",
    )
    teacher_weight: float = _setting(
        0.7,
        "share of the loss on the soft targets of the teacher, 0 to 1",
        least=0,
    )
    teacher_temperature: float = _setting(
        2.0,
        "temperature that softens teacher and network in the loss on soft targets",
        least=1,
    )
    folds: int = _setting(
        0,
        "folds for cross-validation of the images outside the test split; 0: none",
        least=0,
    )
    fold: int = _setting(0, "fold that validates this run, counted from 0", least=0)
    leave_out: str = _setting(
        "", "archive whose images are not trained on, as BCN20000; an epoch stays as long"
    )
    subset: str = _setting(
        "", "name of a saved subset: its images alone are trained on, validated and tested"
    )
    seed: int = _setting(0, "of the split and of everything random in the run")
    validate_every: int = _setting(
        1,
        "epochs between two looks at the validation images",
        least=1,
        engine=True,
    )
    workers: int = _setting(2, "processes that augment images", least=0, engine=True)
    accelerator: str = _setting("auto", "Fabric's: auto, cpu, gpu", engine=True)
    devices: int = _setting(1, "devices, or processes on a CPU", least=1, engine=True)
    nodes: int = _setting(1, "machines", least=1, engine=True)
    strategy: str = _setting("auto", "Fabric's: auto, ddp", engine=True)
    precision: str = _setting("32-true", "Fabric's: 32-true, bf16-mixed", engine=True)

    def __post_init__(self) -> None:
        self._check_ranges()
        # `side_px` only rises.
        if self.last_px < self.first_px:
            raise ValueError(
                f"Expected `last_px` to be at least `first_px`, {self.first_px}, "
                f"but got {self.last_px}."
            )
        if self.folds and not self.split_of:
            raise ValueError(
                "Expected `split_of` together with `folds`: "
                "every fold must leave the same test images alone. "
                "Name a model, as in --split-of isic2019."
            )
        self._check_teacher()
        # With one fold, no image would be left to train on.
        if self.folds == 1 or self.fold >= max(self.folds, 1):
            raise ValueError(
                "Expected `folds` to be 0 or at least 2, and `fold` below it, "
                f"but got {self.folds} and {self.fold}."
            )
        # The model is calibrated on validation images, and needs images to train on.
        if self.validation == 0 or self.validation + self.test >= 1:
            raise ValueError(
                "Expected `validation` above 0, and below 1 together with `test`, but got "
                f"{self.validation} and {self.test}."
            )

    def _check_teacher(self) -> None:
        if self.teacher_weight > 1:
            raise ValueError(
                f"Expected `teacher_weight` to be at most 1 but got {self.teacher_weight}."
            )
        # The networks of the teacher were trained on images of every fold and archive. Their soft
        # targets would carry labels of those that are held out.
        if self.teacher and (self.folds or self.leave_out):
            raise ValueError(
                "Expected `folds` to be 0 and no archive to leave out together with `teacher`, "
                f"but got {self.folds} and {self.leave_out!r}. "
                "Train one network on the whole split of the teacher."
            )

    def _check_ranges(self) -> None:
        for setting in fields(self):
            least, below = setting.metadata["range"]
            # Texts and flags have no range.
            if least is None:
                continue
            value = getattr(self, setting.name)
            if not least <= value < below:
                upper = f" and below {below}" if below < math.inf else ""
                raise ValueError(
                    f"Expected `{setting.name}` to be at least {least}{upper} but got {value}."
                )

    def recipe(self) -> dict[str, Any]:
        """Return the settings that decide the result, without those of the machine."""
        recipe = {}
        for setting in fields(self):
            if setting.metadata["engine"]:
                continue
            name = setting.name
            recipe[name] = getattr(self, name)
        return recipe

    def side_px(self, epoch: int) -> int:
        """Return the side of the training crops in an epoch.

        It rises from `first_px` in steps of 32, and is `last_px` at the end.
        """
        # A run of one epoch must not divide by 0.
        last_epoch = max(self.epochs - 1, 1)
        share = epoch / last_epoch
        if share == 1:
            return self.last_px
        # Multiples of 32 px: most networks halve the side five times.
        growth_px = share * (self.last_px - self.first_px)
        n_steps = round(growth_px / 32)
        side_px = self.first_px + 32 * n_steps
        return min(side_px, self.last_px)

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of a step.

        It rises linearly, then falls by a half cosine to `last_rate` of the peak. It does not fall
        to zero: the averaged weights settle by themselves, and small steps at the end only memorise
        the training images.
        """
        warmup_steps = round(self.warmup * steps)
        rise = max(warmup_steps, 1)
        if step < rise:
            # The first step has a rate above zero, or it would change nothing.
            return self.learning_rate * (step + 1) / rise
        # At least 1: a run may consist of the rise alone.
        fall = max(steps - rise, 1)
        angle = math.pi * (step - rise) / fall
        # From 1 at the peak to 0 at the end.
        height = (1 + math.cos(angle)) / 2
        share = self.last_rate + (1 - self.last_rate) * height
        return self.learning_rate * share


ACROSS_RECIPE = TrainConfig(input_px=112, first_px=96, last_px=112, epochs=3, validate_every=3)
"""Settings of `across`, which trains once with all archives and once without each of them.

They are cheap, because the change is of interest, not the level.
"""
