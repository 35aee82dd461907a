"""Decodes untrusted files as a separate process.

The process reads requests from its standard input until that ends, which happens when the app ends.
It writes replies to its standard output. It limits itself before it reads the first file.
"""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import Any, BinaryIO

# These modules must be loaded before any file is read.
from PIL import Image, ImageCms, TiffImagePlugin, WebPImagePlugin  # noqa: F401

from cadlib.errors import ImageRejected
from cadlib.images.decoding import decode_file, pixel_memory
from cadlib.images.decoding.protocol import (
    MAX_TEXT_BYTES,
    REQUEST_BYTES,
    Description,
    Outcome,
    Reply,
    Request,
    Work,
    write_all,
)
from cadlib.images.file_types.jpeg import Allocate, new_array

MAX_MEMORY_BYTES = 3 * 1024**3
"""The most memory for decoding, in addition to the code itself.

The largest image that is read, 40 megapixels, took 1.2 GB in the worst form tried, a DICOM file of
16-bit grey with a window. A TIFF file of 512 MB may take more.
"""
GROWN_BYTES = 256 * 1024 * 1024
"""A worker that has grown by more than this after a file is replaced."""

_MAX_OPEN_FILES = 64
# Of 1000. If memory runs out, Linux ends this process before the app.
_OOM_SCORE = "800"
_OOM_SCORE_FILE = "/proc/self/oom_score_adj"
# The start of audit events that decoding does not need.
_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.truncate",
    "shutil.",
    "pty.",
    "urllib.",
)


def main(alarm_s: float, pixel_descriptor: int = pixel_memory.NONE) -> None:
    """Serve requests until the input ends. After `alarm_s` seconds in one request the process ends.

    Pixels are written to the memory of `pixel_descriptor`, or after the reply if there is none.
    """
    pixel_writer = None
    if pixel_descriptor != pixel_memory.NONE:
        pixel_writer = pixel_memory.Writer(pixel_descriptor)
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    _close_standard_streams()
    try:
        Image.preinit()
        _limit_itself()
    except Exception as error:  # noqa: BLE001 - the app reports it and continues without images
        _reply(replies, Outcome.FAILED, f"{type(error).__name__}: {error}")
        return
    start_bytes = _resident_bytes()
    most_bytes = start_bytes + GROWN_BYTES
    _reply(replies, Outcome.READY)
    # The pipe breaks when the app ends.
    with suppress(BrokenPipeError):
        _serve(requests, replies, pixel_writer, alarm_s, most_bytes)


def _serve(
    requests: BinaryIO,
    replies: BinaryIO,
    pixel_writer: pixel_memory.Writer | None,
    alarm_s: float,
    most_bytes: int,
) -> None:
    """Reply to requests until the input ends."""
    allocate = new_array if pixel_writer is None else pixel_writer.allocate
    while True:
        head = requests.read(REQUEST_BYTES)
        if not head:
            return
        request = Request.unpack(head)
        name = requests.read(request.name_bytes).decode("utf-8", "replace")
        data = requests.read(request.data_bytes)
        if len(data) < request.data_bytes:
            return
        _set_alarm(alarm_s)
        outcome, text, pixels = _work(request, name, data, allocate)
        # A reply may wait for a busy app, and fails if the app has ended.
        _set_alarm(0)
        # Only memory that remains in use counts as growth.
        del data
        own_bytes = pixels.nbytes if outcome == Outcome.IMAGE else 0
        ran_out = outcome == Outcome.OUT_OF_MEMORY
        retire = ran_out or _has_grown(most_bytes + own_bytes)
        if pixel_writer and outcome == Outcome.IMAGE:
            pixel_writer.write(pixels)
        _reply(
            replies,
            outcome,
            text,
            pixels,
            retire,
            with_pixels=pixel_writer is None,
        )
        # The next file is decoded without this image in memory.
        pixels = None


def _has_grown(most_bytes: int) -> bool:
    """Return whether this process uses more memory than it should after a file."""
    if _resident_bytes() <= most_bytes:
        return False
    # A large image may be part of a reference cycle.
    gc.collect()
    return _resident_bytes() > most_bytes


def _work(
    request: Request, name: str, data: bytes, allocate: Allocate
) -> tuple[Outcome, str | bytes, Any]:
    """Return the outcome, the text or JSON of the reply, and the pixels or the size of an image."""
    try:
        return _result(request, name, data, allocate)
    except Exception as error:  # noqa: BLE001 - all of them go to the app as a reply
        if _ran_out_of_memory(error):
            return Outcome.OUT_OF_MEMORY, "", None
        if isinstance(error, ImageRejected):
            return Outcome.REJECTED, str(error), None
        # Without the text of the error, which may quote the file's header.
        return Outcome.FAILED, _place(error), None


def _result(
    request: Request,
    name: str,
    data: bytes,
    allocate: Allocate,
) -> tuple[Outcome, str | bytes, Any]:
    if request.work == Work.LOAD_DICOM:
        # The import is the task itself.
        from cadlib.images.dicom import file as dicom  # noqa: PLC0415, F401

        return Outcome.READY, "", None
    if request.work == Work.SIZE:
        return Outcome.SIZE, "", decode_file.size_here(data, name)
    image = decode_file.decode_here(data, name, request.enough_px, allocate)
    description = Description(
        image.format,
        image.notes,
        image.reduced,
        image.facts,
    )
    return Outcome.IMAGE, description.to_json(), image.pixels


def _reply(
    replies: BinaryIO,
    outcome: Outcome,
    text: str | bytes = b"",
    result: Any = None,
    retire: bool = False,
    *,
    with_pixels: bool = True,
) -> None:
    """Write a reply. `result` is an image's pixels, its (width, height) in px, or None."""
    if isinstance(text, str):
        text = text.encode("utf-8", "replace")[:MAX_TEXT_BYTES]
    width_px = 0
    height_px = 0
    pixels: bytes | memoryview = b""
    if outcome == Outcome.SIZE:
        width_px, height_px = result
    elif outcome == Outcome.IMAGE:
        height_px, width_px = result.shape[:2]
        if with_pixels:
            pixels = memoryview(result).cast("B")
    reply = Reply(outcome, retire, len(text), width_px, height_px)
    head = reply.pack() + text
    write_all(replies.fileno(), head, pixels)


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Return whether a MemoryError caused an error, because it may be reported as damage."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(error: BaseException) -> str:
    """Return kind and place of an error."""
    kind = type(error).__name__
    place = error.__traceback__
    if place is None:
        return kind
    while place.tb_next is not None:
        place = place.tb_next
    code = place.tb_frame.f_code
    file = os.path.basename(code.co_filename)  # noqa: PTH119
    return f"{kind} in {file}:{place.tb_lineno}"


def _close_standard_streams() -> None:
    """Discard all output of libraries, which may quote the file's header."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    standard_streams = (0, 1, 2)
    for number in standard_streams:
        os.dup2(nowhere, number)
    os.close(nowhere)


def _limit_itself() -> None:
    """Limit memory and files, and forbid network and processes, if the platform can."""
    sys.dont_write_bytecode = True
    sys.addaudithook(_refuse)
    with suppress(OSError), open(_OOM_SCORE_FILE, "w", encoding="ascii") as file:  # noqa: PTH123
        file.write(_OOM_SCORE)
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ImportError:
        return
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _MAX_OPEN_FILES,
    }
    virtual_bytes = _virtual_bytes()
    # It is 0 if the system does not report it.
    if virtual_bytes:
        limits[resource.RLIMIT_AS] = virtual_bytes + MAX_MEMORY_BYTES
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))


def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
    """Raise PermissionError for forbidden audit events."""
    if event.startswith(_FORBIDDEN):
        raise PermissionError(event)


def _set_alarm(seconds: float) -> None:
    """End this process after so many seconds, even if the app has ended."""
    # Windows has no such timer.
    if not hasattr(signal, "setitimer"):
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _resident_bytes() -> int:
    return _memory_pages(1)


def _virtual_bytes() -> int:
    return _memory_pages(0)


def _memory_pages(column: int) -> int:
    """Return a column of /proc/self/statm in bytes, 0 if there is no such file (proc(5))."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            columns = file.read().split()
    except OSError:
        return 0
    pages = int(columns[column])
    return pages * os.sysconf("SC_PAGE_SIZE")
