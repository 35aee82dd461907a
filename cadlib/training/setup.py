"""Builds the network, batches, optimizer and checkpoint of a training run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from cadlib.data.subsets import read_subset
from cadlib.images.preprocess import InputSpec
from cadlib.model.split import find_split
from cadlib.network.backbones import build, check_side, load_pretrained, saliency_layer
from cadlib.taxonomy import CODES
from cadlib.training.config import TrainConfig
from cadlib.training.data import (
    BatchPlan,
    FoldPlan,
    SplitRequest,
    TrainingData,
    read_training_data,
)
from cadlib.training.distillation import SoftTargets, Teacher, match_targets, read_teacher
from cadlib.training.run import CHECKPOINT_FILE, Run


@dataclass(frozen=True, eq=False)
class Setup:
    """The objects that one process of a run trains with.

    `network` has the weights, and `model` is the same network as Fabric wraps it, for several
    devices and other precisions. `average` has the running average of the weights. `adjustment`
    (8,) float32 is added to the logits in the loss on labels. `soft_targets` are those of the
    teacher, if there is one.
    """

    fabric: Fabric
    config: TrainConfig
    data: TrainingData
    spec: InputSpec
    plan: BatchPlan
    network: nn.Module
    model: nn.Module
    average: ModelEmaV3
    optimizer: torch.optim.Optimizer
    run: Run
    adjustment: Tensor
    soft_targets: SoftTargets | None


def set_up(
    folder: Path,
    run_dir: Path,
    config: TrainConfig,
    fabric: Fabric,
    *,
    resume: bool,
) -> Setup:
    """Prepare everything for the first step, or with `resume` for the step after the checkpoint.

    Raise DatasetInvalid, SubsetInvalid, ModelInvalid or TrainingFailed when the run cannot start or
    continue.
    """
    teacher = read_teacher(config)
    identity = _identity(config, teacher)
    # A checkpoint replaces all weights, so a resumed run needs no pretrained ones.
    network, spec = _prepare_network(config, config.pretrained and not resume, fabric.print)
    checkpoint = run_dir / CHECKPOINT_FILE
    if resume:
        # Reading the images may take minutes: other settings are refused before that.
        Run.check(checkpoint, identity)
    data = _read_data(folder, spec, config, fabric)
    plan = _plan_batches(data, config, fabric)
    model, optimizer = _set_up_optimizer(network, config, fabric)
    # The average is copied from a network that is already on its device.
    average = ModelEmaV3(network, decay=config.ema_decay, use_warmup=True)
    identity["split_sha256"] = data.split_sha256
    adjustment, soft_targets = _prepare_loss(teacher, data, config, fabric)
    run = Run(checkpoint, config, identity, network, average.module, optimizer)
    _open_run(run, data, plan, fabric, resume=resume)
    return Setup(
        fabric=fabric,
        config=config,
        data=data,
        spec=spec,
        plan=plan,
        network=network,
        model=model,
        average=average,
        optimizer=optimizer,
        run=run,
        adjustment=adjustment,
        soft_targets=soft_targets,
    )


def _identity(config: TrainConfig, teacher: Teacher | None) -> dict[str, Any]:
    """Return what a resumed run must have in common, as far as it is known without the images."""
    identity = config.recipe()
    if teacher is not None:
        # The name alone could be that of another model by now.
        identity["teacher_predictions"] = teacher.predictions_sha256
    return identity


def _prepare_network(
    config: TrainConfig,
    pretrained: bool,
    log: Callable[[str], None],
) -> tuple[nn.Module, InputSpec]:
    """Build the network and load its first weights.

    Raise TrainingFailed before any work for a network that could not be trained or explained.
    """
    torch.manual_seed(config.seed)
    network = build(
        config.backbone,
        config.input_px,
        drop_rate=config.drop_rate,
        drop_path_rate=config.drop_path_rate,
        patch_drop_rate=config.patch_drop_rate,
    )
    # Convolutions on a CPU are faster with the channels last.
    network = network.to(memory_format=torch.channels_last)
    # Each epoch may have crops of another side.
    for epoch in range(config.epochs):
        check_side(network, config.side_px(epoch))
    spec = input_spec(network, config.input_px)
    # It raises for a network without a feature map, which could not be explained.
    saliency_layer(network)
    if pretrained:
        source = load_pretrained(network, config.backbone, config.input_px)
        log(f"Pretrained weights from {source}")
    return network, spec


def network_input(config: TrainConfig) -> InputSpec:
    """Return the input of the network of a run; raise TrainingFailed for an unknown one."""
    network = build(config.backbone, config.input_px)
    return input_spec(network, config.input_px)


def draw_split(folder: Path, config: TrainConfig, log: Callable[[str], None]) -> str:
    """Return split.csv of a new split, with the shares and the seed of a run.

    Raise as `read_training_data`.
    """
    spec = network_input(config)
    request = _split_request(config, None)
    data = read_training_data(folder, spec, request, log)
    return data.split_csv


def input_spec(network: nn.Module, size_px: int) -> InputSpec:
    """Return the input a timm network was pretrained with, at `size_px`."""
    facts: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    mean = tuple(facts["mean"])
    std = tuple(facts["std"])
    interpolation = facts["interpolation"]
    return InputSpec(size_px, interpolation, mean, std, symmetric=True)


def _read_data(
    folder: Path,
    spec: InputSpec,
    config: TrainConfig,
    fabric: Fabric,
) -> TrainingData:
    """Read the images of the run with the split, subset and folds of its settings."""
    fold_plan = None
    # `read_teacher` checks that both are the same model where both are given.
    followed = config.split_of or config.teacher
    if followed:
        split = find_split(followed)
        fold_plan = FoldPlan(split, config.folds, config.fold)
    request = _split_request(config, fold_plan)
    # The first process fills the pixel cache, and the others read it.
    with fabric.rank_zero_first():
        return read_training_data(folder, spec, request, fabric.print)


def _split_request(config: TrainConfig, fold_plan: FoldPlan | None) -> SplitRequest:
    """Return the split of a run: a new one without a `fold_plan`."""
    subset = None
    if config.subset:
        subset = read_subset(config.subset)
    return SplitRequest(
        seed=config.seed,
        validation=config.validation,
        test=config.test,
        leave_out=config.leave_out,
        subset=subset,
        fold_plan=fold_plan,
    )


def _plan_batches(data: TrainingData, config: TrainConfig, fabric: Fabric) -> BatchPlan:
    """Return the batches of this process."""
    return BatchPlan(
        data.rows("train"),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        side_px=config.side_px,
        epoch_images=data.epoch_images,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )


def _set_up_optimizer(
    network: nn.Module,
    config: TrainConfig,
    fabric: Fabric,
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return the network as Fabric wraps it, and its optimizer.

    Biases and norms do not decay; earlier blocks learn more slowly (Bao et al., BEiT, ICLR 2022).
    """
    groups = param_groups_layer_decay(network, config.weight_decay, layer_decay=config.layer_decay)
    optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
    model, wrapped_optimizer = fabric.setup(network, optimizer)
    return model, wrapped_optimizer


def _open_run(
    run: Run,
    data: TrainingData,
    plan: BatchPlan,
    fabric: Fabric,
    *,
    resume: bool,
) -> None:
    """Load the checkpoint if the run is resumed, and open the files of the run."""
    if resume:
        plan.first_step = run.restore()
        fabric.print(f"Resumed at step {plan.first_step:,} of {plan.steps:,}")
    # Only the first process writes; the others have the same weights after every step.
    if fabric.global_rank == 0:
        run.begin(data, plan)


def _prepare_loss(
    teacher: Teacher | None,
    data: TrainingData,
    config: TrainConfig,
    fabric: Fabric,
) -> tuple[Tensor, SoftTargets | None]:
    """Return the logit adjustment, (8,) float32, and the soft targets, on the device of the run."""
    log_frequency = _log_frequency(data)
    adjustment = fabric.to_device(config.logit_adjustment * log_frequency)
    if teacher is None:
        return adjustment, None
    soft_targets = match_targets(teacher, data, log_frequency, config)
    return adjustment, soft_targets.to(fabric.device)


def _log_frequency(data: TrainingData) -> Tensor:
    """Return the log frequency of each class in training: (8,) float32."""
    train_rows = data.rows("train")
    train_labels = data.labels[train_rows]
    counts = np.bincount(train_labels, minlength=len(CODES))
    # No count is 0: a split without images of a class is rejected when it is read.
    shares = counts / len(train_rows)
    frequency = torch.tensor(shares)
    log_frequency = frequency.log()
    return log_frequency.float()
