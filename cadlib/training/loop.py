"""Trains a network on an ISIC data set.

One loop serves a CPU, one GPU or several: Lightning Fabric chooses device, precision and processes.
Everything random in a step is a function of (seed, step), so a resumed run ends with the same
result.
"""

import ctypes
import math
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm import tqdm

from cadlib.data.subsets import read_subset
from cadlib.errors import TrainingFailed
from cadlib.images.preprocess import InputSpec, to_array
from cadlib.model import weights
from cadlib.model.record import SPLIT_FILE, find_model, read_record
from cadlib.network.backbones import (
    arrays_of,
    build,
    check_side,
    load_arrays,
    load_pretrained,
    saliency_layer,
)
from cadlib.taxonomy import CODES
from cadlib.training.augment import mix
from cadlib.training.config import TrainConfig
from cadlib.training.data import BatchPlan, Crops, FoldPlan, TrainingData, read_training_data
from cadlib.training.run import CHECKPOINT_FILE, Run

MAX_SOCKET_PATH_BYTES = 103
"""The longest address of a Unix socket on macOS, without its final zero; Linux allows 107."""
SOCKET_NAME = "/pymp-abcdefgh/listener-abcdefgh"
"""What Python adds to the temporary folder for the sockets of worker processes."""
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
    order.
    """

    config: TrainConfig
    network: nn.Module
    spec: InputSpec
    data: TrainingData
    validation_logits: NDArray[np.float32]
    seconds: float
    git_commit: str


def train(
    folder: Path, run_dir: Path, config: TrainConfig, *, resume: bool = False
) -> Trained | None:
    """Train on a folder of ISIC layout with checkpoints in `run_dir`.

    Return None on every process but the first. Raise DatasetInvalid, SubsetInvalid or
    TrainingFailed when the run cannot start or continue. Raise Stopped after Ctrl-C, when a
    checkpoint to resume from has been written.
    """
    check_temporary_folder(config.workers)
    fabric = _launch(config)
    network, spec = _prepare_network(config, config.pretrained and not resume, fabric.print)

    # data
    if resume:
        Run.check(run_dir / CHECKPOINT_FILE, config.recipe())
    # The first process fills the pixel cache, and the others read it.
    with fabric.rank_zero_first():
        data = _read_data(folder, spec, config, fabric.print)
    plan = _plan_batches(data, config, fabric)

    # optimizer, average, checkpoint
    # Biases and norms do not decay; earlier blocks learn more slowly (Bao et al., BEiT, ICLR 2022).
    groups = param_groups_layer_decay(network, config.weight_decay, layer_decay=config.layer_decay)
    model, optimizer = fabric.setup(network, torch.optim.AdamW(groups, lr=config.learning_rate))
    average = ModelEmaV3(network, decay=config.ema_decay, use_warmup=True)
    checkpoint = run_dir / CHECKPOINT_FILE
    run = Run(checkpoint, config, data.split_sha256, network, average.module, optimizer)
    if resume:
        plan.first_step = run.restore()
        fabric.print(f"Resumed at step {plan.first_step:,} of {plan.steps:,}")
    if fabric.global_rank == 0:
        run.begin(data, plan)

    with closing(run):
        fit(fabric, config, model, average, optimizer, data, spec, plan, run)
    part(fabric)
    if fabric.global_rank > 0:
        return None
    return _finished(config, average.module, spec, data, run)


def _read_data(
    folder: Path, spec: InputSpec, config: TrainConfig, log: Callable[[str], None]
) -> TrainingData:
    """Read the images of the run with the split, subset and folds of its settings."""
    shares = (config.validation, config.test)
    subset = read_subset(config.subset) if config.subset else None
    fold_plan = None
    if config.split_of:
        split_folder = find_model(config.split_of)
        read_record(split_folder)  # raises ModelInvalid where its split.csv was changed
        fold_plan = FoldPlan(split_folder / SPLIT_FILE, config.folds, config.fold)
    return read_training_data(
        folder, spec, config.seed, shares, log, config.leave_out, subset, fold_plan
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


def _finished(
    config: TrainConfig, average: nn.Module, spec: InputSpec, data: TrainingData, run: Run
) -> Trained:
    """Round the averaged weights as they will be stored, and predict the validation images."""
    stored = weights.pack(arrays_of(average))
    load_arrays(average, weights.unpack(stored))
    logits = predict_logits(average, data, spec)
    commits = " then ".join(run.commits)
    return Trained(config, average.cpu(), spec, data, logits, run.seconds(), commits)


def check_temporary_folder(workers: int) -> None:
    """Raise TrainingFailed where the temporary folder's path is too long for the workers' sockets.

    Batches come through Unix sockets in that folder. Where their address is too long, Python loses
    the batch and the training waits for it without end.
    """
    folder = tempfile.gettempdir()
    longest = MAX_SOCKET_PATH_BYTES - len(SOCKET_NAME)
    uses_sockets = workers and os.name == "posix"
    if uses_sockets and len(os.fsencode(folder)) > longest:
        raise TrainingFailed(
            f"Expected the path of the temporary folder to have at most {longest} bytes, "
            f"but found {folder}. Set TMPDIR to a shorter one, or train with --workers 0."
        )


def _launch(config: TrainConfig) -> Fabric:
    """Start every process of the run, including this one."""
    try:
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy=config.strategy,
            precision=config.precision,  # type: ignore[arg-type]
        )
    except (ValueError, RuntimeError) as error:
        raise TrainingFailed(
            f"Training cannot start on this machine with these settings: {error}"
        ) from error
    fabric.launch()
    keep_freed_memory()
    return fabric


def _prepare_network(
    config: TrainConfig, pretrained: bool, log: Callable[[str], None]
) -> tuple[nn.Module, InputSpec]:
    """Build the network and load its first weights.

    Raise before any work for a network that could not be trained or explained.
    """
    torch.manual_seed(config.seed)
    network = build(
        config.backbone,
        config.input_px,
        drop_rate=config.drop_rate,
        drop_path_rate=config.drop_path_rate,
        patch_drop_rate=config.patch_drop_rate,
    ).to(memory_format=torch.channels_last)
    for epoch in range(config.epochs):
        check_side(network, config.side_px(epoch))
    spec = input_spec(network, config.input_px)
    saliency_layer(network)
    if pretrained:
        source = load_pretrained(network, config.backbone, config.input_px)
        log(f"Pretrained weights from {source}")
    return network, spec


def fit(
    fabric: Fabric,
    config: TrainConfig,
    model: nn.Module,
    average: ModelEmaV3,
    optimizer: torch.optim.Optimizer,
    data: TrainingData,
    spec: InputSpec,
    plan: BatchPlan,
    run: Run,
) -> None:
    """Take every step of the plan, in place.

    Report each epoch on the validation images, and save the state from time to time.
    """
    adjustment = fabric.to_device(_logit_adjustment(data, config.logit_adjustment))
    loop = _Loop(fabric, config, model, average, optimizer, data, spec, run, adjustment)
    loader = _loader(fabric, config, data, plan)
    note_every = min(NOTE_STEPS, plan.steps_per_epoch)
    losses: list[Tensor] = []
    bar = tqdm(
        total=plan.steps, initial=plan.first_step, unit="step", disable=fabric.global_rank > 0
    )
    with StopRequest() as stop, bar:
        model.train()
        for step, (pixels, labels) in enumerate(loader, start=plan.first_step):
            learning_rate = config.learning_rate_at(step, plan.steps)
            losses.append(_take_step(loop, step, learning_rate, pixels, labels))
            recent_loss = torch.stack(losses[-_SHOWN_LOSS_STEPS:]).mean()
            bar.set_postfix(loss=f"{recent_loss:.3f}", refresh=False)
            bar.update()

            stopping = stop.requested
            if fabric.world_size > 1:
                # All processes stop after the same step: the first one decides.
                stopping = fabric.broadcast(stopping)
            epoch, step_in_epoch = divmod(step + 1, plan.steps_per_epoch)
            epoch_ends = step_in_epoch == 0
            if fabric.global_rank == 0:
                if step_in_epoch % note_every == 0:
                    run.note(step + 1, losses, learning_rate)
                if epoch_ends and epoch % config.validate_every == 0:
                    _report_epoch(loop, epoch, losses)
                    losses.clear()
                if epoch_ends or stopping or run.is_due():
                    run.save(step + 1)
            if stopping:
                # The first process may still be writing, and ends when another process ends.
                fabric.barrier()
                raise Stopped(
                    f"Stopped after step {step + 1:,} of {plan.steps:,}; go on with --resume."
                )


@dataclass(frozen=True, eq=False)
class _Loop:
    """The objects that every step uses; `adjustment` (8,) is added to the logits in the loss."""

    fabric: Fabric
    config: TrainConfig
    model: nn.Module
    average: ModelEmaV3
    optimizer: torch.optim.Optimizer
    data: TrainingData
    spec: InputSpec
    run: Run
    adjustment: Tensor


def _loader(
    fabric: Fabric, config: TrainConfig, data: TrainingData, plan: BatchPlan
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Return the loader of the plan's batches."""
    loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
        Crops(data, config.least_crop),
        batch_sampler=plan,
        num_workers=config.workers,
        worker_init_fn=_ignore_interrupt,
    )
    # The plan already divides each batch among the processes.
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)  # type: ignore[return-value]


def _take_step(
    loop: _Loop, step: int, learning_rate: float, pixels: Tensor, labels: Tensor
) -> Tensor:
    """Train on one batch, update the averaged weights, and return the loss, without gradient."""
    fabric = loop.fabric
    config = loop.config
    # What is random in a step depends on the seed, the step and the process alone.
    torch.manual_seed(config.seed + step * fabric.world_size + fabric.global_rank)
    for group in loop.optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
    normalised = normalise(pixels, loop.spec)
    inputs, shares = mix(normalised, labels, len(CODES), config.mixup_alpha)
    # Menon et al., Long-tail learning via logit adjustment (ICLR 2021)
    loss = functional.cross_entropy(loop.model(inputs) + loop.adjustment, shares)
    loop.optimizer.zero_grad()
    fabric.backward(loss)
    loop.optimizer.step()
    loop.average.update(loop.run.network, step=step)
    return loss.detach()


def _logit_adjustment(data: TrainingData, weight: float) -> Tensor:
    """Return `weight` times the log frequency of each class in training: (8,) float32."""
    train_rows = data.rows("train")
    train_labels = data.labels[train_rows]
    counts = np.bincount(train_labels, minlength=len(CODES))
    frequency = torch.tensor(counts / len(train_rows))
    return weight * frequency.log().float()


def _report_epoch(loop: _Loop, epoch: int, losses: list[Tensor]) -> None:
    """Predict the validation images with the averaged network, and report the epoch's figures."""
    data = loop.data
    with loop.fabric.autocast():
        logits = predict_logits(loop.average.module, data, loop.spec)
    truth = torch.from_numpy(data.labels[data.rows("validation")])
    adjusted = torch.from_numpy(logits) + loop.adjustment.cpu()
    validation_loss = functional.cross_entropy(adjusted, truth).item()
    mean_loss = torch.stack(losses).mean().item()
    loop.run.report(epoch, mean_loss, validation_loss, logits, data)


def part(fabric: Fabric) -> None:
    """Leave the other processes in order.

    A process that just ends may abort, and the launcher then ends the first process too.
    """
    fabric.barrier()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def keep_freed_memory() -> None:
    """Let the C library keep freed memory.

    Otherwise the system provides each page of a large tensor again at every step.
    """
    with suppress(OSError, AttributeError):  # no glibc, no mallopt
        libc = ctypes.CDLL("libc.so.6")
        # M_MMAP_MAX: no mapping of its own for a large block
        libc.mallopt(-4, 0)
        # M_TRIM_THRESHOLD: nothing goes back to the kernel
        libc.mallopt(-1, 2**31 - 1)


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed; a checkpoint is written and the run can be resumed."""


class StopRequest:
    """Turn the first Ctrl-C (or SIGTERM) into a request that the loop follows after its step.

    The second one interrupts at once.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._handlers_before = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers_before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def _ignore_interrupt(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def input_spec(network: nn.Module, size_px: int) -> InputSpec:
    """Return the input a timm network was pretrained with, at `size_px`."""
    facts: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    mean = tuple(facts["mean"])
    std = tuple(facts["std"])
    return InputSpec(size_px, facts["interpolation"], mean, std)


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Turn (N, 3, s, s) uint8 into the network's float32 input, on the device of the pixels."""
    mean = _per_channel(spec.mean, pixels)
    std = _per_channel(spec.std, pixels)
    normalised = (pixels / 255 - mean) / std
    return normalised.contiguous(memory_format=torch.channels_last)


def _per_channel(values: tuple[float, ...], pixels: Tensor) -> Tensor:
    """Return a float32 tensor (1, 3, 1, 1) on the device of the pixels."""
    return pixels.new_tensor(values, dtype=torch.float32).view(1, 3, 1, 1)


@torch.inference_mode()
def predict_logits(
    network: nn.Module, data: TrainingData, spec: InputSpec, batch_size: int = 64
) -> NDArray[np.float32]:
    """Return the (n, 8) float32 logits of the validation images, like a finished model."""
    network.eval()
    device = next(network.parameters()).device
    rows = data.rows("validation")
    n_batches = math.ceil(len(rows) / batch_size)
    batches = np.array_split(rows, n_batches)
    outputs = []
    for batch in batches:
        inputs = torch.from_numpy(to_array(data.pixels[batch], spec))
        output = network(inputs.to(device))
        outputs.append(output.cpu())
    logits: NDArray[np.float32] = torch.cat(outputs).float().numpy()
    return logits
