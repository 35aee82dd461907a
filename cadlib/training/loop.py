"""Trains a network on an ISIC data set.

One loop serves a CPU, one GPU or several: Lightning Fabric chooses device, precision and processes.
Everything random in a step is a function of (seed, step), so a resumed run ends with the same
result.
"""

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from cadlib.images.preprocess import InputSpec, to_array
from cadlib.model import weights
from cadlib.network.backbones import arrays_of, load_arrays
from cadlib.taxonomy import CODES
from cadlib.training.augment import mix
from cadlib.training.config import TrainConfig
from cadlib.training.data import Crops, TrainingData
from cadlib.training.distillation import SoftTargets
from cadlib.training.processes import (
    Stopped,
    StopRequest,
    check_temporary_folder,
    ignore_interrupt,
    launch,
    part,
)
from cadlib.training.setup import Setup, set_up

NOTE_STEPS = 50
"""Steps between two points of the curves of loss, learning rate and speed.

The end of an epoch has a point too.
"""
_SHOWN_LOSS_STEPS = 50
"""Steps whose mean loss the progress bar shows."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished run: the averaged network, its input, its data, and its (n, 8) validation logits.

    `git_commit` is that of the code that trained. A resumed run lists the commit of each part, in
    order. `soft_targets` are those of its teacher, if it had one.
    """

    config: TrainConfig
    network: nn.Module
    spec: InputSpec
    data: TrainingData
    validation_logits: NDArray[np.float32]
    seconds: float
    git_commit: str
    soft_targets: SoftTargets | None = None


def train(
    folder: Path,
    run_dir: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
) -> Trained | None:
    """Train on a folder of ISIC layout with checkpoints in `run_dir`.

    Return None on every process but the first. Raise DatasetInvalid, SubsetInvalid or
    TrainingFailed when the run cannot start or continue. Raise Stopped after Ctrl-C, when a
    checkpoint to resume from has been written.
    """
    check_temporary_folder(config.workers)
    fabric = launch(config)
    setup = set_up(folder, run_dir, config, fabric, resume=resume)
    with closing(setup.run):
        fit(setup)
    part(fabric)
    # Every process has the same weights; one of them is enough for the result.
    if fabric.global_rank > 0:
        return None
    return _finish(setup)


def fit(setup: Setup) -> None:
    """Take every step of the plan, in place.

    Report each epoch on the validation images, and save the state from time to time. Raise Stopped
    after Ctrl-C.
    """
    plan = setup.plan
    # The losses since the last report of an epoch.
    losses: list[Tensor] = []
    batches = _load_batches(setup)
    with StopRequest() as stop, _progress_bar(setup) as bar:
        setup.model.train()
        for step, (pixels, labels, rows) in enumerate(batches, start=plan.first_step):
            # The rate follows from the step alone, so a checkpoint need not store it.
            learning_rate = setup.config.learning_rate_at(step, plan.steps)
            loss = _take_step(
                setup,
                step,
                learning_rate,
                pixels,
                labels,
                rows,
            )
            losses.append(loss)
            _show_loss(bar, losses)

            # Asked once a step, so that the checkpoint and the message are of the same step.
            stopping = _must_stop(setup.fabric, stop)
            if setup.fabric.global_rank == 0:
                _write_progress(
                    setup,
                    step + 1,
                    learning_rate,
                    losses,
                    stopping=stopping,
                )
            if stopping:
                # The first process may still be writing, and ends when another process ends.
                setup.fabric.barrier()
                raise Stopped(
                    f"Stopped after step {step + 1:,} of {plan.steps:,}; go on with --resume."
                )


def _take_step(
    setup: Setup,
    step: int,
    learning_rate: float,
    pixels: Tensor,
    labels: Tensor,
    rows: Tensor,
) -> Tensor:
    """Train on one batch, update the averaged weights, and return the loss, without gradient.

    `pixels` is (N, 3, s, s) uint8. `labels` and `rows` of the data are (N,) int64.
    """
    # What is random in a step depends on the seed, the step and the process alone.
    _seed_step(setup, step)
    # `lr_scale` is smaller for earlier blocks, if `layer_decay` is below 1.
    for group in setup.optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]

    normalised = normalise(pixels, setup.spec)
    targets = _targets(setup, labels, rows)
    inputs, mixed_targets = mix(normalised, targets, setup.config.mixup_alpha)
    logits = setup.model(inputs)
    loss = _loss(setup, logits, mixed_targets)

    setup.optimizer.zero_grad()
    setup.fabric.backward(loss)
    setup.optimizer.step()
    setup.average.update(setup.network, step=step)
    # With its gradient, each loss in the list would keep the memory of its whole step.
    return loss.detach()


def _targets(setup: Setup, labels: Tensor, rows: Tensor) -> Tensor:
    """Return the share of each class, (N, 8) float32; with a teacher also its soft targets.

    Both lie side by side in (N, 16), so that mixup blends them by the same share.
    """
    of_labels = functional.one_hot(labels, len(CODES))
    shares = of_labels.float()
    if setup.soft_targets is None:
        return shares
    soft_shares = setup.soft_targets.shares(rows)
    return torch.cat([shares, soft_shares], dim=1)


def _loss(setup: Setup, logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of a batch; `targets` are those of `_targets`, mixed or not."""
    n_classes = len(CODES)
    shares = targets[:, :n_classes]
    # Menon et al., Long-tail learning via logit adjustment (ICLR 2021)
    adjusted = logits + setup.adjustment
    label_loss = functional.cross_entropy(adjusted, shares)
    if setup.soft_targets is None:
        return label_loss
    soft_shares = targets[:, n_classes:]
    return setup.soft_targets.add_loss(label_loss, logits, soft_shares)


def _seed_step(setup: Setup, step: int) -> None:
    """Seed dropout and mixup of a step; each process draws its own."""
    fabric = setup.fabric
    number = step * fabric.world_size + fabric.global_rank
    torch.manual_seed(setup.config.seed + number)


def _load_batches(setup: Setup) -> DataLoader[tuple[Tensor, Tensor, Tensor]]:
    """Return the loader of the plan's batches."""
    crops = Crops(setup.data, setup.config.least_crop)
    loader: DataLoader[tuple[Tensor, Tensor, Tensor]] = DataLoader(
        crops,
        batch_sampler=setup.plan,
        num_workers=setup.config.workers,
        worker_init_fn=ignore_interrupt,
    )
    # The plan already divides each batch among the processes.
    return setup.fabric.setup_dataloaders(  # type: ignore[return-value]
        loader, use_distributed_sampler=False
    )


def _progress_bar(setup: Setup) -> "tqdm[object]":
    """Return the bar of the whole run, which only the first process shows."""
    plan = setup.plan
    hidden = setup.fabric.global_rank > 0
    return tqdm(total=plan.steps, initial=plan.first_step, unit="step", disable=hidden)


def _show_loss(bar: "tqdm[object]", losses: list[Tensor]) -> None:
    """Advance the bar by a step, and show the mean of the last losses."""
    recent_losses = losses[-_SHOWN_LOSS_STEPS:]
    mean_loss = torch.stack(recent_losses).mean()
    bar.set_postfix(loss=f"{mean_loss:.3f}", refresh=False)
    bar.update()


def _must_stop(fabric: Fabric, stop: StopRequest) -> bool:
    """Return whether all processes stop after this step: the first one decides."""
    stopping = stop.requested
    # A broadcast waits for every process, so one process alone does without it.
    if fabric.world_size > 1:
        stopping = fabric.broadcast(stopping)
    return stopping


def _write_progress(
    setup: Setup,
    n_steps: int,
    learning_rate: float,
    losses: list[Tensor],
    *,
    stopping: bool,
) -> None:
    """Add to the curves, report the epoch, and save, whatever is due after `n_steps` steps.

    A reported epoch empties `losses`.
    """
    run = setup.run
    epoch, step_in_epoch = divmod(n_steps, setup.plan.steps_per_epoch)
    epoch_ends = step_in_epoch == 0
    # An epoch of few steps still has one point.
    note_every = min(NOTE_STEPS, setup.plan.steps_per_epoch)
    if step_in_epoch % note_every == 0:
        run.note(n_steps, losses, learning_rate)
    if epoch_ends and epoch % setup.config.validate_every == 0:
        _report_epoch(setup, epoch, losses)
        losses.clear()
    # Saved last, so that a resumed run does not report this epoch again.
    if epoch_ends or stopping or run.is_due():
        run.save(n_steps)


def _report_epoch(setup: Setup, epoch: int, losses: list[Tensor]) -> None:
    """Predict the validation images with the averaged network, and report the epoch's metrics."""
    data = setup.data
    with setup.fabric.autocast():
        logits = predict_logits(setup.average.module, data, setup.spec)
    validation_loss = _validation_loss(setup, logits)
    training_loss = torch.stack(losses).mean()
    setup.run.report(
        epoch,
        training_loss.item(),
        validation_loss.item(),
        logits,
        data,
    )


def _validation_loss(setup: Setup, logits: NDArray[np.float32]) -> Tensor:
    """Return the loss of the validation images from their (n, 8) logits.

    It is the same loss as in training, so that both curves can be compared.
    """
    rows = setup.data.rows("validation")
    labels = setup.data.labels[rows]
    truth = torch.from_numpy(labels)
    predicted = torch.from_numpy(logits)
    adjusted = predicted + setup.adjustment.cpu()
    label_loss = functional.cross_entropy(adjusted, truth)
    if setup.soft_targets is None:
        return label_loss
    soft_shares = setup.soft_targets.shares(torch.from_numpy(rows))
    return setup.soft_targets.add_loss(label_loss, predicted, soft_shares.cpu())


@torch.inference_mode()
def predict_logits(
    network: nn.Module,
    data: TrainingData,
    spec: InputSpec,
    batch_size: int = 64,
) -> NDArray[np.float32]:
    """Return the (n, 8) float32 logits of the validation images, like a finished model."""
    # Dropout and stochastic depth are for training only.
    network.eval()
    device = next(network.parameters()).device
    rows = data.rows("validation")
    # Batches of nearly one size, none larger than `batch_size`.
    n_batches = math.ceil(len(rows) / batch_size)
    outputs = []
    for batch in np.array_split(rows, n_batches):
        inputs = torch.from_numpy(to_array(data.pixels[batch], spec))
        output = network(inputs.to(device))
        outputs.append(output.cpu())
    logits: NDArray[np.float32] = torch.cat(outputs).float().numpy()
    return logits


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Turn (N, 3, s, s) uint8 into the network's float32 input, on the device of the pixels."""
    mean = _per_channel(spec.mean, pixels)
    std = _per_channel(spec.std, pixels)
    normalised = (pixels / 255 - mean) / std
    return normalised.contiguous(memory_format=torch.channels_last)


def _per_channel(values: tuple[float, ...], pixels: Tensor) -> Tensor:
    """Return a float32 tensor (1, 3, 1, 1) on the device of the pixels."""
    channels = pixels.new_tensor(values, dtype=torch.float32)
    return channels.view(1, 3, 1, 1)


def _finish(setup: Setup) -> Trained:
    """Round the averaged weights as they will be stored, and predict the validation images."""
    network = setup.average.module
    # The model folder stores rounded weights; its thresholds must be those of these weights.
    stored = weights.pack(arrays_of(network))
    load_arrays(network, weights.unpack(stored))
    logits = predict_logits(network, setup.data, setup.spec)
    return Trained(
        config=setup.config,
        network=network.cpu(),
        spec=setup.spec,
        data=setup.data,
        validation_logits=logits,
        seconds=setup.run.seconds(),
        git_commit=" then ".join(setup.run.commits),
        soft_targets=setup.soft_targets,
    )
