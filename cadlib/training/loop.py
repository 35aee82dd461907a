"""Train a network on an ISIC data set.

One loop for a CPU, one GPU or several: device, precision and processes are Lightning Fabric's. Everything
random in a step is a function of (seed, step), so a run that was stopped goes on to the same result.
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
"""The longest address of a Unix socket on macOS, without its final zero; Linux takes 107."""
SOCKET_NAME = "/pymp-abcdefgh/listener-abcdefgh"
"""What Python adds to the temporary folder for the sockets of worker processes."""
NOTE_STEPS = 50
"""Steps from one point of the curves of loss, learning rate and speed to the next; an epoch ends with a point too."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished run: the averaged network, its input, its data, and its (n, 8) logits on validation.

    `git_commit` is that of the code that trained: of every sitting, in order, where a resumed run had several.
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
    """Train on a folder of ISIC layout with checkpoints in `run_dir`; None on every process but the first.

    Raise DatasetInvalid, SubsetInvalid or TrainingFailed when the run cannot start or go on, and Stopped after
    Ctrl-C, when a checkpoint to resume from has been written.
    """
    check_temporary_folder(config.workers)
    fabric = _launch(config)
    network, spec = _prepare_network(config, config.pretrained and not resume, fabric.print)

    # data
    if resume:
        Run.check(run_dir / CHECKPOINT_FILE, config.recipe())
    with fabric.rank_zero_first():
        shares = (config.validation, config.test)
        subset = read_subset(config.subset) if config.subset else None
        fold_plan = None
        if config.split_of:
            split_folder = find_model(config.split_of)
            read_record(split_folder)  # raises ModelInvalid where its split.csv was changed
            fold_plan = FoldPlan(split_folder / SPLIT_FILE, config.folds, config.fold)
        data = read_training_data(
            folder, spec, config.seed, shares, fabric.print, config.leave_out, subset, fold_plan
        )
    plan = BatchPlan(
        data.rows("train"),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=config.seed,
        side_px=config.side_px,
        epoch_images=data.epoch_images,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )

    # optimizer, average, checkpoint
    # Biases and norms do not decay; earlier blocks learn more slowly (Bao et al., BEiT, ICLR 2022).
    groups = param_groups_layer_decay(network, config.weight_decay, layer_decay=config.layer_decay)
    model, optimizer = fabric.setup(network, torch.optim.AdamW(groups, lr=config.learning_rate))
    average = ModelEmaV3(network, decay=config.ema_decay, use_warmup=True)
    run = Run(
        run_dir / CHECKPOINT_FILE, config, data.split_sha256, network, average.module, optimizer
    )
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
    load_arrays(
        average.module, weights.unpack(weights.pack(arrays_of(average.module)))
    )  # as it will be stored
    logits = predict_logits(average.module, data, spec)
    return Trained(
        config, average.module.cpu(), spec, data, logits, run.seconds(), " then ".join(run.commits)
    )


def check_temporary_folder(workers: int) -> None:
    """Raise TrainingFailed where the path of the temporary folder is too long for the sockets of the workers.

    Batches come through Unix sockets in that folder. Where their address is too long, Python loses the batch and
    the training waits for it without end.
    """
    folder = tempfile.gettempdir()
    longest = MAX_SOCKET_PATH_BYTES - len(SOCKET_NAME)
    if workers and os.name == "posix" and len(os.fsencode(folder)) > longest:
        raise TrainingFailed(
            f"Expected the path of the temporary folder to have at most {longest} bytes, but found {folder}. "
            "Set TMPDIR to a shorter one, or train with --workers 0."
        )


def _launch(config: TrainConfig) -> Fabric:
    """Start every process of the run, this one included."""
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
    config: TrainConfig, pretrained: bool, say: Callable[[str], None]
) -> tuple[nn.Module, InputSpec]:
    """Build the network, refuse before any work what could not be trained or explained, and load its first weights."""
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
        say(f"Pretrained weights from {load_pretrained(network, config.backbone, config.input_px)}")
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
    """Take every step of the plan, in place; report each epoch on validation, save the state as time passes."""
    loader = fabric.setup_dataloaders(
        DataLoader(
            Crops(data, config.least_crop),
            batch_sampler=plan,
            num_workers=config.workers,
            worker_init_fn=_ignore_interrupt,
        ),
        use_distributed_sampler=False,
    )
    frequency = np.bincount(data.labels[data.rows("train")], minlength=len(CODES)) / len(
        data.rows("train")
    )
    adjustment = fabric.to_device(config.logit_adjustment * torch.tensor(frequency).log().float())
    truth = torch.from_numpy(data.labels[data.rows("validation")])
    note_every = min(NOTE_STEPS, plan.steps_per_epoch)
    losses: list[Tensor] = []
    bar = tqdm(
        total=plan.steps, initial=plan.first_step, unit="step", disable=fabric.global_rank > 0
    )
    with StopRequest() as stop, bar:
        model.train()
        for step, (pixels, labels) in enumerate(loader, start=plan.first_step):
            torch.manual_seed(config.seed + step * fabric.world_size + fabric.global_rank)
            learning_rate = config.learning_rate_at(step, plan.steps)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["lr_scale"]
            inputs, shares = mix(normalise(pixels, spec), labels, len(CODES), config.mixup_alpha)
            # Menon et al., Long-tail learning via logit adjustment (ICLR 2021)
            loss = functional.cross_entropy(model(inputs) + adjustment, shares)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
            average.update(run.network, step=step)
            losses.append(loss.detach())
            bar.set_postfix(loss=f"{torch.stack(losses[-50:]).mean():.3f}", refresh=False)
            bar.update()

            stopping = (
                stop.requested if fabric.world_size == 1 else fabric.broadcast(stop.requested)
            )
            epoch, after = divmod(step + 1, plan.steps_per_epoch)
            if fabric.global_rank == 0:
                if after % note_every == 0:
                    run.note(step + 1, losses, learning_rate)
                if after == 0 and epoch % config.validate_every == 0:
                    with fabric.autocast():
                        seen = predict_logits(average.module, data, spec)
                    seen_loss = functional.cross_entropy(
                        torch.from_numpy(seen) + adjustment.cpu(), truth
                    ).item()
                    run.report(epoch, torch.stack(losses).mean().item(), seen_loss, seen, data)
                    losses.clear()
                if after == 0 or stopping or run.is_due():
                    run.save(step + 1)
            if stopping:
                fabric.barrier()  # the first process may still be writing, and ends when another does
                raise Stopped(
                    f"Stopped after step {step + 1:,} of {plan.steps:,}; go on with --resume."
                )


def part(fabric: Fabric) -> None:
    """Leave the other processes in order: one that just ends may abort, and the launcher then ends the first too."""
    fabric.barrier()
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def keep_freed_memory() -> None:
    """Let the C library keep what is freed; else the system hands out each page of a large tensor anew every step."""
    with suppress(OSError, AttributeError):  # no glibc, no mallopt
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no mapping of its own for a large block
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: nothing goes back to the kernel


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed; the checkpoint stands and the run can be resumed."""


class StopRequest:
    """Turn the first Ctrl-C (or SIGTERM) into a request that the loop answers after its step; the second is hard."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
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
    return InputSpec(size_px, facts["interpolation"], tuple(facts["mean"]), tuple(facts["std"]))


def normalise(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Turn (N, 3, s, s) uint8 into the float32 input of the network, on the device the pixels are on."""
    mean = pixels.new_tensor(spec.mean, dtype=torch.float32).view(1, 3, 1, 1)
    std = pixels.new_tensor(spec.std, dtype=torch.float32).view(1, 3, 1, 1)
    return ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def predict_logits(
    network: nn.Module, data: TrainingData, spec: InputSpec, batch_size: int = 64
) -> NDArray[np.float32]:
    """Return the logits (n, 8) float32 of the validation images, as a finished model computes them."""
    network.eval()
    device = next(network.parameters()).device
    rows = data.rows("validation")
    batches = np.array_split(rows, math.ceil(len(rows) / batch_size))
    outputs = [
        network(torch.from_numpy(to_array(data.pixels[batch], spec)).to(device)).cpu()
        for batch in batches
    ]
    logits: NDArray[np.float32] = torch.cat(outputs).float().numpy()
    return logits
