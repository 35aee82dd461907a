"""Keeps the processes that decode untrusted files.

A hostile file can occupy a core, fill the memory or crash its decoder. So another process, which
may die, gets the bytes of a file and returns pixels. The processes are started with `subprocess`,
because a fork of a process with threads can hang, and `multiprocessing` would run the caller's main
module again.
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
"""The longest time for one file.

A photograph of 24 megapixels takes 0.1 s, a DICOM file of 40 megapixels 3 s.
"""
START_LIMIT_S = 60.0
"""The longest time to start a process or to import pydicom: the disk may be slow."""
MAX_WORKERS = 8
"""The most processes. Each takes about 45 MB."""

# With a usual pipe of 64 KB the two processes have to wait for each other more often.
_PIPE_BYTES = 2**20
# The watchdog acts before this alarm, unless the app has ended.
_ALARM_S = STARVED_FACTOR * LIMIT_S + 2
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
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc returns memory after each image and requests it again, which takes a quarter of the
    # time. So it keeps up to 128 MB, and returns blocks of 12 MB or more at once (mallopt(3)),
    # because Pillow divides large images into blocks of 16 MB.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TOP_PAD_": str(4 * _MEBIBYTE),
    "MALLOC_TRIM_THRESHOLD_": str(128 * _MEBIBYTE),
    "MALLOC_MMAP_THRESHOLD_": str(12 * _MEBIBYTE),
}


class Decoded(NamedTuple):
    """An image from a decoder.

    `pixels` are (H, W, 3) uint8, read-only. `sha256` is that of the file.
    """

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
    """A worker ended, was ended or sent an invalid reply. `expired` means that it took too long."""

    def __init__(self, expired: bool) -> None:
        self.expired = expired


class _Worker:
    """One process, its two pipes and the memory for its pixels.

    One thread at a time may use it.
    """

    def __init__(self, watchdog: Watchdog, max_pixels: int) -> None:
        """Start the process without waiting; raise DecoderUnavailable if that fails."""
        self._watchdog = watchdog
        self._max_pixels = max_pixels
        self._ready = False
        self._knows_dicom = False
        memory_bytes = 3 * max_pixels
        self._pixel_memory = pixel_memory.create(memory_bytes)
        descriptor = pixel_memory.NONE
        if self._pixel_memory is not None:
            descriptor = self._pixel_memory.descriptor
        try:
            self.process = _start_process(descriptor)
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
        """Send a file and return the answer; raise _BrokeOff if there is none.

        Raise DecoderUnavailable for a process that never became ready.
        """
        self._wait_until_ready()
        if not self._knows_dicom and kind_of(data) == DICOM:
            # The import of pydicom takes longer than most files, so the time of the file does not
            # include it.
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
            reason = text.decode("utf-8", "replace")
            raise _unavailable(printable(reason))
        self._ready = True

    def _exchange(
        self,
        work: Work,
        data: bytes,
        name: str,
        enough_px: int,
        limit_s: float,
    ) -> _Answer:
        sha256 = ""
        description = None
        with self._within(limit_s):
            self._send(work, data, name, enough_px)
            if work == Work.DECODE:
                # The worker decodes at the same time.
                sha256 = hashlib.sha256(data).hexdigest()
            reply, text = self._receive_head()
            if reply.outcome != _EXPECTED[work] and reply.outcome not in _REFUSALS:
                raise ReplyInvalid
            if reply.outcome == Outcome.IMAGE:
                description = Description.from_json(text)
        # The work is done, so a worker that waits for this process to read is not late.
        with self._within(limit_s):
            pixels = self._receive_pixels(reply)
        return _Answer(reply, text, pixels, description, sha256)

    @contextmanager
    def _within(self, limit_s: float) -> Iterator[None]:
        """End the process if the block takes longer; raise _BrokeOff then, and without a reply."""
        process = self.process
        with self._watchdog.watch(process.pid, process.kill, limit_s) as task:
            try:
                yield
            except (OSError, EOFError, ReplyInvalid) as error:
                raise _BrokeOff(task.expired) from error
        # The limit may have expired when the block ended.
        if task.expired:
            raise _BrokeOff(expired=True)

    def _send(self, work: Work, data: bytes, name: str, enough_px: int) -> None:
        encoded_name = name.encode("utf-8", "replace")
        request = Request(
            work=work,
            enough_px=enough_px,
            name_bytes=len(encoded_name),
            data_bytes=len(data),
        )
        head = request.pack() + encoded_name
        write_all(self._requests.fileno(), head, data)

    def _receive_head(self) -> tuple[Reply, bytes]:
        """Read the start of a reply, and its text."""
        start = self._read(REPLY_BYTES)
        reply = Reply.unpack(start)
        text = self._read(reply.text_bytes)
        return reply, text

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
        """Close the process's input, so that it ends by itself; kill it after `wait_s` seconds."""
        self._close()
        try:
            self.process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self.end()

    def abandon(self) -> None:
        """Forget the process in a fork, because it belongs to the parent."""
        self._close()
        # Without a return code its destructor warns.
        self.process.returncode = 0

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
        """Start no process yet. `max_pixels` is the largest image that a worker may send."""
        self.size = size or min(_cores(), MAX_WORKERS)
        self._max_pixels = max_pixels
        self._watchdog = Watchdog()
        self._changed = Condition()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._starting = 0

    def start(self) -> None:
        """Start one worker, if there is none, so that the first file need not wait for it.

        Return at once. If no worker can be started, the first file raises the error.
        """
        with self._changed:
            if self._workers or self._starting:
                return
            self._starting += 1
        with suppress(DecoderUnavailable):
            self._give_back(self._start_worker())

    def decode(self, data: bytes, name: str, enough_px: int) -> Decoded:
        """Decode a file; raise ImageRejected if it cannot be decoded within the limits."""
        answer = self._ask(Work.DECODE, data, name, enough_px)
        # The worker has checked the kind of the reply, so both are set.
        pixels = cast(NDArray[np.uint8], answer.pixels)
        description = cast(Description, answer.description)
        return Decoded(pixels, answer.sha256, description)

    def image_size(self, data: bytes, name: str) -> tuple[int, int]:
        """Return (width, height) in px of a file's upright image; raise ImageRejected."""
        answer = self._ask(Work.SIZE, data, name)
        reply = answer.reply
        return reply.width_px, reply.height_px

    def worker_pids(self) -> list[int]:
        """Return the ids of the processes."""
        pids = []
        with self._changed:
            for worker in self._workers:
                pid = worker.process.pid
                pids.append(pid)
        return pids

    def close(self) -> None:
        """End all workers."""
        with self._changed:
            workers = list(self._workers)
            idle = list(self._idle)
            self._workers.clear()
            self._idle.clear()
        for worker in workers:
            if worker in idle:
                worker.leave(_LEAVE_S)
            else:
                worker.end()

    def abandon(self) -> None:
        """Forget all workers in a fork. It has no other thread, so no lock is taken."""
        for worker in self._workers:
            worker.abandon()

    def _ask(self, work: Work, data: bytes, name: str, enough_px: int = 0) -> _Answer:
        worker = self._take()
        try:
            answer = worker.ask(work, data, name, enough_px)
        except _BrokeOff as broken:
            self._discard(worker)
            raise _rejection(name, broken, worker.process.returncode) from None
        # Also for Ctrl-C: a later reply to this file would be read as the reply to the next one.
        except BaseException:
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
                    # The memory of the last one used is still in the processor's cache.
                    worker = self._idle.pop()
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
            # The pool may have been closed meanwhile.
            if worker in self._workers:
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
    """Return the pool of this process. A fork gets its own pool."""
    global _pool  # noqa: PLW0603 - one for each process
    with _lock:
        if _pool is None:
            _pool = DecoderPool(max_pixels)
        return _pool


@atexit.register
def close_decoders() -> None:
    """End the workers of this process. The next file starts new ones."""
    global _pool  # noqa: PLW0603 - one for each process
    with _lock:
        pool = _pool
        _pool = None
    if pool is not None:
        pool.close()


def _forget_decoders() -> None:
    global _lock, _pool  # noqa: PLW0603
    # Another thread may have held the old lock when this process was forked.
    _lock = Lock()
    pool = _pool
    _pool = None
    if pool is not None:
        pool.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_decoders)


def _raise_refusal(answer: _Answer, name: str) -> None:
    """Raise ImageRejected if a worker could not decode a file but did not end."""
    outcome = answer.reply.outcome
    if outcome == Outcome.OUT_OF_MEMORY:
        raise ImageRejected(
            f"{name} needs more memory to decode than an image of its kind should. "
            "Expected an image that decodes within 3 GB; export it again as JPEG or PNG."
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
            f"{name} took longer than {LIMIT_S:.0f} s to decode and was stopped. "
            "Expected an image that decodes in that time; export it again as JPEG or PNG."
        )
    # `subprocess` gives the number of a signal as a negative code.
    if code < 0:
        return _crashed(name, f"signal {_signal_name(-code)}")
    return _crashed(name, f"exit code {code}")


def _crashed(name: str, how: str) -> ImageRejected:
    return ImageRejected(
        f"{name} broke the process that decoded it ({how}). "
        "Expected an undamaged image; copy or export it again."
    )


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return str(number)


def _unavailable(reason: str) -> DecoderUnavailable:
    return DecoderUnavailable(
        f"Expected to start a process that decodes images, but it failed: {reason}. "
        "Images are never decoded without one. "
        "Check the limits on processes and memory, and that Python can be started."
    )


def _start_process(descriptor: int) -> subprocess.Popen[bytes]:
    """Start a worker that inherits the descriptor of its pixel memory, if there is one."""
    inherited = []
    if descriptor != pixel_memory.NONE:
        inherited.append(descriptor)
    module_folders = json.dumps(_module_folders())
    arguments = [module_folders, str(_ALARM_S), str(descriptor)]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-B", "-c", _CODE, *arguments],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=inherited,
        env=os.environ | _ENVIRONMENT,
        # Ctrl-C is for the app, which ends its workers itself.
        start_new_session=True,
    )


def _module_folders() -> list[str]:
    """Return the search path of this process, so that a worker imports the same modules."""
    path = Path(__file__)
    module = path.resolve()
    # Four levels up: the folder that has the package.
    own_folder = str(module.parents[3])
    folders = [own_folder]
    for folder in sys.path:
        # An empty entry stands for the working folder.
        if folder and folder != folders[0]:
            folders.append(folder)
    return folders


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _widen(pipe: FileIO) -> None:
    """Let a pipe hold more, if the platform can."""
    try:
        # Only Linux has it.
        from fcntl import F_SETPIPE_SZ, fcntl  # noqa: PLC0415
    except ImportError:
        return
    # The user's share may be used up.
    with suppress(OSError):
        fcntl(pipe, F_SETPIPE_SZ, _PIPE_BYTES)
