"""Keeps the processes that decode untrusted files.

A hostile file can hold a core, fill the memory or crash its decoder. So the bytes of a file go to a
process that may die, and pixels come back. The processes are started with `subprocess`: a fork of a
process with threads can hang, and `multiprocessing` would run the caller's main module again.
"""

import atexit
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from signal import Signals
from threading import Condition, Lock
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cadlib.errors import DecoderUnavailable, ImageRejected
from cadlib.images.decoding import pixel_memory
from cadlib.images.decoding.protocol import (
    REPLY_BYTES,
    Description,
    Outcome,
    Reply,
    ReplyInvalid,
    Request,
    Work,
    printable,
    write_all,
)
from cadlib.images.decoding.watchdog import STARVED_FACTOR, Watchdog
from cadlib.images.file_types.kinds import DICOM, kind_of

LIMIT_S = 5.0
"""The longest time for one file. A photograph of 24 megapixels takes 0.1 s, DICOM of 40 megapixels 3 s."""
START_LIMIT_S = 60.0
"""The longest time to start a process or to import pydicom: the disk may be slow."""
MAX_WORKERS = 8
"""The most processes. Each takes about 45 MB."""

_PIPE_BYTES = 2**20  # a usual pipe of 64 KB makes the two processes take more turns
_ALARM_S = STARVED_FACTOR * LIMIT_S + 2  # the watchdog comes first, unless the app is gone
_LEAVE_S = 1.0
_CODE = """
import json, os, sys
sys.path[:] = json.loads(sys.argv[1])
from cadlib.images.decoding.worker import main
main(float(sys.argv[2]), int(sys.argv[3]))
os._exit(0)  # what Python does at its end takes as long as a file
"""
_MEBIBYTE = 2**20
_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # glibc gives memory back after each image and asks for it again, which takes a quarter of the time.
    # So it keeps up to 128 MB, and gives back blocks of 12 MB or more at once (mallopt(3)): Pillow
    # divides large images into blocks of 16 MB.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TOP_PAD_": str(4 * _MEBIBYTE),
    "MALLOC_TRIM_THRESHOLD_": str(128 * _MEBIBYTE),
    "MALLOC_MMAP_THRESHOLD_": str(12 * _MEBIBYTE),
}


class Decoded(NamedTuple):
    """An image from a decoder: (H, W, 3) uint8, read-only; the SHA-256 of its file; its description."""

    pixels: NDArray[np.uint8]
    sha256: str
    description: Description


class _Answer(NamedTuple):
    """A checked reply. Only an image has pixels and a description."""

    reply: Reply
    text: bytes
    pixels: NDArray[np.uint8] | None
    description: Description | None
    sha256: str


_EXPECTED = {Work.DECODE: Outcome.IMAGE, Work.SIZE: Outcome.SIZE, Work.LOAD_DICOM: Outcome.READY}
_REFUSALS = (Outcome.REJECTED, Outcome.OUT_OF_MEMORY, Outcome.FAILED)


class _BrokeOff(Exception):
    """A worker ended, was ended or sent nonsense. `expired` says that it took too long."""

    def __init__(self, expired: bool) -> None:
        self.expired = expired


class _Worker:
    """One process, its two pipes and the memory it writes pixels to. One thread at a time may use it."""

    def __init__(self, watchdog: Watchdog, max_pixels: int) -> None:
        """Start the process without waiting; raise DecoderUnavailable where that fails."""
        self._watchdog = watchdog
        self._max_pixels = max_pixels
        self._ready = False
        self._knows_dicom = False
        self._pixel_memory = pixel_memory.create(3 * max_pixels)
        descriptor = (
            pixel_memory.NONE if self._pixel_memory is None else self._pixel_memory.descriptor
        )
        inherited = () if self._pixel_memory is None else (descriptor,)
        arguments = [json.dumps(_module_folders()), str(_ALARM_S), str(descriptor)]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", _CODE, *arguments],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=inherited,
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,  # Ctrl-C is for the app, which ends its workers itself
            )
        except (OSError, ValueError, TypeError) as error:
            self._close_pixel_memory()
            raise _unavailable(str(error)) from error
        self._requests = cast(FileIO, self.process.stdin)
        self._replies = cast(FileIO, self.process.stdout)
        for pipe in (self._requests, self._replies):
            _widen(pipe)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, work: Work, data: bytes, name: str, enough_px: int = 0) -> _Answer:
        """Hand a file over and return the answer; raise _BrokeOff where none comes.

        Raise DecoderUnavailable for a process that never became ready.
        """
        self._wait_until_ready()
        if not self._knows_dicom and kind_of(data) == DICOM:
            # The import of pydicom takes longer than most files, so it does not count as time of one.
            self._exchange(Work.LOAD_DICOM, b"", "", 0, START_LIMIT_S)
            self._knows_dicom = True
        return self._exchange(work, data, name, enough_px, LIMIT_S)

    def _wait_until_ready(self) -> None:
        if self._ready:
            return
        try:
            with self._watchdog.watch(self.process.pid, self.process.kill, START_LIMIT_S):
                reply, text = self._receive_head()
        except (OSError, EOFError, ReplyInvalid) as error:
            self.end()
            raise _unavailable(f"it ended with code {self.process.returncode}") from error
        if reply.outcome != Outcome.READY:
            raise _unavailable(printable(text.decode("utf-8", "replace")))
        self._ready = True

    def _exchange(
        self, work: Work, data: bytes, name: str, enough_px: int, limit_s: float
    ) -> _Answer:
        with self._within(limit_s):
            self._send(work, data, name, enough_px)
            # The worker decodes meanwhile.
            sha256 = hashlib.sha256(data).hexdigest() if work == Work.DECODE else ""
            reply, text = self._receive_head()
            if reply.outcome not in (_EXPECTED[work], *_REFUSALS):
                raise ReplyInvalid
            description = Description.from_json(text) if reply.outcome == Outcome.IMAGE else None
        # The work is done. A worker that waits for this process to read is not late.
        with self._within(limit_s):
            pixels = self._receive_pixels(reply)
        return _Answer(reply, text, pixels, description, sha256)

    @contextmanager
    def _within(self, limit_s: float) -> Iterator[None]:
        """End the process where the block takes longer; raise _BrokeOff then, and for a reply that is none."""
        with self._watchdog.watch(self.process.pid, self.process.kill, limit_s) as task:
            try:
                yield
            except (OSError, EOFError, ReplyInvalid) as error:
                raise _BrokeOff(task.expired) from error
        if task.expired:  # at the same moment
            raise _BrokeOff(expired=True)

    def _send(self, work: Work, data: bytes, name: str, enough_px: int) -> None:
        title = name.encode("utf-8", "replace")
        head = Request(work, enough_px, len(title), len(data)).pack()
        write_all(self._requests.fileno(), head + title, data)

    def _receive_head(self) -> tuple[Reply, bytes]:
        reply = Reply.unpack(self._read(REPLY_BYTES))
        return reply, self._read(reply.text_bytes)

    def _receive_pixels(self, reply: Reply) -> NDArray[np.uint8] | None:
        if reply.outcome != Outcome.IMAGE:
            return None
        if not 0 < reply.width_px * reply.height_px <= self._max_pixels:
            raise ReplyInvalid
        pixels = np.empty((reply.height_px, reply.width_px, 3), np.uint8)
        if self._pixel_memory is None:
            self._read_into(pixels.data.cast("B"))
        elif not self._pixel_memory.read(pixels):
            raise ReplyInvalid
        pixels.flags.writeable = False
        return pixels

    def _read(self, count: int) -> bytes:
        data = bytearray(count)
        self._read_into(memoryview(data))
        return bytes(data)

    def _read_into(self, place: memoryview) -> None:
        while place:
            count = self._replies.readinto(place)
            if not count:
                raise EOFError
            place = place[count:]

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self._close()
        self.process.wait()

    def leave(self, wait_s: float = 0) -> None:
        """Let the process end by itself, as it does when its input ends; kill it after `wait_s` seconds."""
        self._close()
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.end()

    def abandon(self) -> None:
        """Forget the process in a fork: it belongs to the parent."""
        self._close()
        self.process.returncode = 0  # else its destructor warns

    def _close(self) -> None:
        for pipe in (self._requests, self._replies):
            with suppress(OSError):
                pipe.close()
        self._close_pixel_memory()

    def _close_pixel_memory(self) -> None:
        if self._pixel_memory is not None:
            self._pixel_memory.close()


class DecoderPool:
    """A few worker processes, started when they are needed, and shared by all threads."""

    def __init__(self, max_pixels: int, size: int | None = None) -> None:
        """Start nothing yet. `max_pixels` is the largest image that a worker may send."""
        self.size = size or min(_cores(), MAX_WORKERS)
        self._max_pixels = max_pixels
        self._watchdog = Watchdog()
        self._changed = Condition()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._starting = 0

    def start(self) -> None:
        """Start one worker, if there is none, and return at once; the first file need not wait for it.

        Where none can be started, the first file says so.
        """
        with self._changed:
            if self._workers or self._starting:
                return
            self._starting += 1
        with suppress(DecoderUnavailable):
            self._give_back(self._start_worker())

    def decode(self, data: bytes, name: str, enough_px: int) -> Decoded:
        """Decode a file; raise ImageRejected for one that cannot be decoded within the limits."""
        answer = self._ask(Work.DECODE, data, name, enough_px)
        # The kind of the reply was checked when it came.
        pixels = cast(NDArray[np.uint8], answer.pixels)
        return Decoded(pixels, answer.sha256, cast(Description, answer.description))

    def image_size(self, data: bytes, name: str) -> tuple[int, int]:
        """Return (width, height) in px of a file's image turned upright; raise ImageRejected."""
        reply = self._ask(Work.SIZE, data, name).reply
        return reply.width_px, reply.height_px

    def worker_pids(self) -> list[int]:
        """Return the ids of the processes."""
        with self._changed:
            return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        """End all workers."""
        with self._changed:
            workers, idle = list(self._workers), list(self._idle)
            self._workers.clear()
            self._idle.clear()
        for worker in workers:
            if worker in idle:
                worker.leave(_LEAVE_S)
            else:
                worker.end()

    def abandon(self) -> None:
        """Forget all workers in a fork. No other thread is left there, so no lock is taken."""
        for worker in self._workers:
            worker.abandon()

    def _ask(self, work: Work, data: bytes, name: str, enough_px: int = 0) -> _Answer:
        worker = self._take()
        try:
            answer = worker.ask(work, data, name, enough_px)
        except _BrokeOff as broken:
            self._discard(worker)
            raise _rejection(name, broken, worker.process.returncode) from None
        except (
            BaseException
        ):  # also Ctrl-C: a reply may still come, and would be taken for the next one
            self._discard(worker)
            raise
        if answer.reply.retire:
            self._discard(worker)
        else:
            self._give_back(worker)
        _raise_refusal(answer, name)
        return answer

    def _take(self) -> _Worker:
        """Return an idle worker or a new one, or wait for one."""
        with self._changed:
            while True:
                if self._idle:
                    worker = self._idle.pop()  # the last one used: its memory is in the cache
                    if worker.alive:
                        return worker
                    self._workers.discard(worker)
                    worker.end()
                elif len(self._workers) + self._starting < self.size:
                    self._starting += 1
                    break
                else:
                    self._changed.wait()
        return self._start_worker()

    def _start_worker(self) -> _Worker:
        try:
            worker = _Worker(self._watchdog, self._max_pixels)
        except BaseException:
            with self._changed:
                self._starting -= 1
                self._changed.notify()
            raise
        with self._changed:
            self._starting -= 1
            self._workers.add(worker)
        return worker

    def _give_back(self, worker: _Worker) -> None:
        with self._changed:
            if worker in self._workers:  # else the pool was closed meanwhile
                self._idle.append(worker)
            self._changed.notify()

    def _discard(self, worker: _Worker) -> None:
        worker.end()
        with self._changed:
            self._workers.discard(worker)
            self._changed.notify()


_lock = Lock()
_pool: DecoderPool | None = None


def decoder_pool(max_pixels: int) -> DecoderPool:
    """Return the pool of this process. A fork gets one of its own."""
    global _pool  # noqa: PLW0603 - one for each process
    with _lock:
        if _pool is None:
            _pool = DecoderPool(max_pixels)
        return _pool


@atexit.register
def close_decoders() -> None:
    """End the workers of this process. The next file starts new ones."""
    global _pool
    with _lock:
        pool, _pool = _pool, None
    if pool is not None:
        pool.close()


def _forget_decoders() -> None:
    global _lock, _pool  # noqa: PLW0603
    _lock = Lock()  # another thread may have held it when this process was forked
    pool, _pool = _pool, None
    if pool is not None:
        pool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_decoders)


def _raise_refusal(answer: _Answer, name: str) -> None:
    """Raise ImageRejected where a worker could not decode a file but lives on."""
    outcome = answer.reply.outcome
    if outcome == Outcome.OUT_OF_MEMORY:
        raise ImageRejected(
            f"{name} needs more memory to decode than an image of its kind should. Expected an image that "
            "decodes within 3 GB; export it again as JPEG or PNG."
        )
    if outcome not in _REFUSALS:
        return
    text = printable(answer.text.decode("utf-8", "replace"))
    if outcome == Outcome.REJECTED:
        raise ImageRejected(text)
    raise _crashed(name, text)


def _rejection(name: str, broken: _BrokeOff, code: int) -> ImageRejected:
    if broken.expired:
        return ImageRejected(
            f"{name} took longer than {LIMIT_S:.0f} s to decode and was stopped. Expected an image that decodes "
            "in that time; export it again as JPEG or PNG."
        )
    return _crashed(name, f"signal {_signal_name(-code)}" if code < 0 else f"exit code {code}")


def _crashed(name: str, how: str) -> ImageRejected:
    return ImageRejected(
        f"{name} broke the process that decoded it ({how}). Expected an undamaged image; copy or export it again."
    )


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return str(number)


def _unavailable(reason: str) -> DecoderUnavailable:
    return DecoderUnavailable(
        f"Expected to start a process that decodes images, but it failed: {reason}. Images are never decoded "
        "without one. Check the limits on processes and memory, and that Python can be started."
    )


def _module_folders() -> list[str]:
    """Return where this process finds its modules, so that a worker finds the same."""
    own = str(Path(__file__).resolve().parents[3])
    return [own, *(folder for folder in sys.path if folder and folder != own)]


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _widen(pipe: FileIO) -> None:
    """Let a pipe hold more, where the platform can."""
    try:
        from fcntl import F_SETPIPE_SZ, fcntl  # noqa: PLC0415 - Linux has it
    except ImportError:
        return
    with suppress(OSError):  # the user's share may be used up
        fcntl(pipe, F_SETPIPE_SZ, _PIPE_BYTES)
