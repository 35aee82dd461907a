"""Times a network on this machine to estimate training times."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cadlib.errors import ImageRejected
from cadlib.images import read_image
from cadlib.network.backbones import build
from cadlib.taxonomy import CODES
from cadlib.training.config import TrainConfig

BATCH_SIZE = 8
REPEATS = 3
"""Passes of which the fastest counts: the others may have waited for another process."""
PARALLEL_SHARE = 0.8
"""Share of each further core that speeds a network up, by rule of thumb; the rest is waiting."""


@dataclass(frozen=True)
class Speed:
    """Seconds an image of a network: one step of training, and one prediction."""

    train_s: float
    predict_s: float


def measure_speed(config: TrainConfig) -> Speed:
    """Time some steps and predictions of a network with random weights, in a few seconds.

    The side of the training crops is the mean of the first and the last. Only the network is timed:
    augmentation runs beside it in other processes. On a CPU the times are those of an otherwise
    idle machine. Raise TrainingFailed for an unknown backbone.
    """
    network = build(config.backbone, config.input_px)
    uses_gpu = config.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if uses_gpu else "cpu")
    network.to(device)
    mean_px = (config.first_px + config.last_px) // 2
    crops = torch.zeros(BATCH_SIZE, 3, mean_px, mean_px, device=device)
    images = torch.zeros(BATCH_SIZE, 3, config.input_px, config.input_px, device=device)
    labels = torch.arange(BATCH_SIZE, device=device) % len(CODES)
    seconds = _gpu_seconds if uses_gpu else _cpu_seconds
    return Speed(
        train_s=seconds(lambda: _step(network.train(), crops, labels)) / BATCH_SIZE,
        predict_s=seconds(lambda: _predict(network.eval(), images)) / BATCH_SIZE,
    )


def measure_reading(paths: Sequence[str]) -> float:
    """Return the seconds that reading an image takes: the fastest of some files.

    It is 0 without a file that can be read.
    """
    seconds = []
    for path in paths:
        start = time.perf_counter()
        with suppress(ImageRejected):
            read_image(path)
            seconds.append(time.perf_counter() - start)
    return min(seconds, default=0.0)


def _step(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    loss = functional.cross_entropy(network(images), labels)
    loss.backward()  # type: ignore[no-untyped-call]
    network.zero_grad()


def _predict(network: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        network(images)


def _gpu_seconds(work: Callable[[], None]) -> float:
    """Return the seconds of some work, with the time that the GPU takes to finish it."""

    def finished() -> None:
        work()
        torch.cuda.synchronize()

    return _fastest(finished, time.perf_counter)


def _cpu_seconds(work: Callable[[], None]) -> float:
    """Return the seconds that some work takes on all cores.

    It is timed on one core by its processor time. On a busy machine the threads of several cores
    wait for each other, and both clocks would show a hundred times as much.
    """
    n_threads = torch.get_num_threads()
    with _one_thread():
        seconds = _fastest(work, time.process_time)
    n_used = 1 + PARALLEL_SHARE * (n_threads - 1)
    return seconds / n_used


@contextmanager
def _one_thread() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _fastest(work: Callable[[], None], clock: Callable[[], float]) -> float:
    """Return the seconds of the fastest of some repetitions, after one to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = clock()
        work()
        end = clock()
        seconds.append(end - start)
    # Other processes can only slow a repetition down, so the fastest is the nearest to the truth.
    return min(seconds)
