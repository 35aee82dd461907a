"""Starts, interrupts and ends the processes of a training run."""

import ctypes
import os
import signal
import tempfile
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

from lightning_fabric import Fabric
from torch import distributed

from cadlib.errors import TrainingFailed
from cadlib.training.config import TrainConfig

MAX_SOCKET_PATH_BYTES = 103
"""The longest address of a Unix socket on macOS, without its final zero; Linux allows 107."""
SOCKET_NAME = "/pymp-abcdefgh/listener-abcdefgh"
"""What Python adds to the temporary folder for the sockets of worker processes."""


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


def launch(config: TrainConfig) -> Fabric:
    """Start every process of the run, including this one.

    Raise TrainingFailed where the machine does not have the devices or the precision.
    """
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
            handler_before = signal.signal(number, self._note)
            self._handlers_before[number] = handler_before
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


def ignore_interrupt(_worker: int) -> None:
    """Leave Ctrl-C to the main process; it ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
