"""Decodes untrusted files, as a process of its own.

It reads requests from its standard input until that ends, which it does when the app ends, and writes
replies to its standard output. It limits itself before it reads the first file.
"""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import Any, BinaryIO

from PIL import Image, ImageCms, TiffImagePlugin, WebPImagePlugin  # noqa: F401 - loaded before any file

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
"""What decoding may take beside the code itself.

The largest image that is read, 40 megapixels, took 1.2 GB in the worst form tried, a DICOM file of
16-bit grey with a window. A TIFF file of 512 MB may take more.
"""
GROWN_BYTES = 256 * 1024 * 1024
"""A worker that keeps more than this after a file is replaced."""

_MAX_OPEN_FILES = 64
_OOM_SCORE = "800"  # of 1000: where memory runs out, Linux ends this process before the app
_FORBIDDEN = (
    *("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system"),
    *("os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.", "pty.", "urllib."),
)


def main(alarm_s: float, pixel_descriptor: int = pixel_memory.NONE) -> None:
    """Serve requests until the input ends. After `alarm_s` seconds in one request the process ends.

    Pixels are written to the memory of `pixel_descriptor`, or after the reply where there is none.
    """
    pixel_writer = (
        None if pixel_descriptor == pixel_memory.NONE else pixel_memory.Writer(pixel_descriptor)
    )
    allocate = new_array if pixel_writer is None else pixel_writer.allocate
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    _close_standard_streams()
    try:
        Image.preinit()
        _limit_itself()
    except Exception as error:  # noqa: BLE001 - the app reports it and goes on without images
        _reply(replies, Outcome.FAILED, f"{type(error).__name__}: {error}")
        return
    most_bytes = _resident_bytes() + GROWN_BYTES
    _reply(replies, Outcome.READY)
    with suppress(BrokenPipeError):  # the app ended meanwhile
        while head := requests.read(REQUEST_BYTES):
            request = Request.unpack(head)
            name = requests.read(request.name_bytes).decode("utf-8", "replace")
            data = requests.read(request.data_bytes)
            if len(data) < request.data_bytes:
                return
            _set_alarm(alarm_s)
            outcome, text, pixels = _work(request, name, data, allocate)
            _set_alarm(0)  # a reply may wait for a busy app, and fails where the app is gone
            del data
            own_bytes = pixels.nbytes if outcome == Outcome.IMAGE else 0
            retire = outcome == Outcome.OUT_OF_MEMORY or _has_grown(most_bytes + own_bytes)
            if pixel_writer and outcome == Outcome.IMAGE:
                pixel_writer.write(pixels)
            _reply(replies, outcome, text, pixels, retire, with_pixels=pixel_writer is None)
            pixels = None


def _has_grown(most_bytes: int) -> bool:
    """Return whether this process keeps more memory than it should after a file."""
    if _resident_bytes() <= most_bytes:
        return False
    gc.collect()  # a large image may be part of a circle
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
        return (
            Outcome.FAILED,
            _place(error),
            None,
        )  # without its text: that may quote the file's header


def _result(
    request: Request, name: str, data: bytes, allocate: Allocate
) -> tuple[Outcome, str | bytes, Any]:
    if request.work == Work.LOAD_DICOM:
        from cadlib.images.dicom import file as dicom  # noqa: PLC0415, F401 - it is wanted now

        return Outcome.READY, "", None
    if request.work == Work.SIZE:
        return Outcome.SIZE, "", decode_file.size_here(data, name)
    image = decode_file.decode_here(data, name, request.enough_px, allocate)
    description = Description(image.format, image.notes, image.reduced, image.facts)
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
    words = text if isinstance(text, bytes) else text.encode("utf-8", "replace")[:MAX_TEXT_BYTES]
    width_px, height_px = 0, 0
    if outcome == Outcome.SIZE:
        width_px, height_px = result
    elif outcome == Outcome.IMAGE:
        height_px, width_px = result.shape[:2]
    head = Reply(outcome, retire, len(words), width_px, height_px).pack() + words
    pixels = memoryview(result).cast("B") if outcome == Outcome.IMAGE and with_pixels else b""
    write_all(replies.fileno(), head, pixels)


def _ran_out_of_memory(error: BaseException | None) -> bool:
    """Return whether a MemoryError led to an error: it was caught as damage of the file."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _place(error: BaseException) -> str:
    """Return kind and place of an error."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = (
        ""
        if place is None
        else f" in {os.path.basename(place.tb_frame.f_code.co_filename)}:{place.tb_lineno}"
    )  # noqa: PTH119
    return f"{type(error).__name__}{where}"


def _close_standard_streams() -> None:
    """Let nothing that a library prints reach the replies or a log: it may quote the file's header."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


def _limit_itself() -> None:
    """Limit memory and files, and forbid network and processes, where the platform can."""
    sys.dont_write_bytecode = True
    sys.addaudithook(_refuse)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
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
    if virtual_bytes := _virtual_bytes():
        limits[resource.RLIMIT_AS] = virtual_bytes + MAX_MEMORY_BYTES
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (least, least))


def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
    if event.startswith(_FORBIDDEN):
        raise PermissionError(event)


def _set_alarm(seconds: float) -> None:
    """End this process after so many seconds, even if the app that would do it is gone."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _resident_bytes() -> int:
    return _memory_pages(1)


def _virtual_bytes() -> int:
    return _memory_pages(0)


def _memory_pages(column: int) -> int:
    """Return a column of /proc/self/statm in bytes, 0 where there is no such file (proc(5))."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            return int(file.read().split()[column]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
