"""Untrusted files are decoded by processes that may die."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from cadlib import images
from cadlib.errors import DecoderUnavailable, ImageRejected
from cadlib.images import MAX_PIXELS, read_image, read_size
from cadlib.images.decoding import decode_file, pixel_memory, pool, watchdog
from cadlib.images.decoding.pool import DecoderPool, decoder_pool
from cadlib.images.decoding.protocol import Description, Outcome, Reply, ReplyInvalid
from cadlib.images.patient import PatientFacts
from tests import hostile_files
from tests.encoded_images import encoded

ROOT = Path(__file__).parents[1]
FILE = encoded(hostile_files.picture(), "PNG")

# A decoder that misbehaves on files that begin with a word, as one would that a hostile file has taken over.
MISBEHAVING = """
import ctypes, json, os, signal, socket, subprocess, sys, time
sys.path[:] = json.loads(sys.argv[1])
from cadlib.images.decoding import decode_file, worker
from cadlib.images.decoding.protocol import Outcome, Reply

ABOUT = b'{"format": "PNG", "notes": [], "reduced": null, "facts": [null, null, null]}'
decode_here = decode_file.decode_here
replies = []
write = worker.write_all

def keep_replies(descriptor, *parts):
    replies[:] = [descriptor]
    write(descriptor, *parts)

def misbehave(data, name, enough_px, allocate):
    word = data[:8].strip().decode("latin-1")
    send = lambda *parts: write(replies[0], *parts)
    if word == "SEGV":
        ctypes.string_at(0)
    if word == "ABORT":
        os.abort()
    if word == "KILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "EXIT":
        os._exit(3)
    if word == "SPIN":
        while True:
            pass
    if word == "SLEEP":
        time.sleep(60)
    if word == "STOP":
        os.kill(os.getpid(), signal.SIGSTOP)
    if word == "MEMORY":
        kept = []
        while True:
            kept.append(bytes(2**28))
    if word == "RECURSE":
        misbehave(data, name, enough_px, allocate)
    if word == "BUG":
        raise KeyError("Jane Patient")
    if word == "JUNK":
        send(b"no reply at all" * 100)
        time.sleep(60)
    if word == "HUGE":
        send(Reply(Outcome.IMAGE, False, len(ABOUT), 60_000, 60_000).pack(), ABOUT)
        time.sleep(60)
    if word == "SHORT":
        send(Reply(Outcome.IMAGE, False, len(ABOUT), 1_000, 1_000).pack(), ABOUT, bytes(1_000))
        os._exit(0)
    if word == "STALL":
        send(Reply(Outcome.IMAGE, False, len(ABOUT), 1_000, 1_000).pack(), ABOUT, bytes(1_000))
        time.sleep(60)
    if word == "NOFACTS":
        send(Reply(Outcome.IMAGE, False, 2, 1, 1).pack(), b"{}", bytes(3))
        time.sleep(60)
    if word == "READY":
        send(Reply(Outcome.READY).pack())
        time.sleep(60)
    if word == "PRINT":
        print("Jane Patient", flush=True)
        print("Jane Patient", file=sys.stderr, flush=True)
        os.write(2, b"Jane Patient")
    if word == "NETWORK":
        socket.create_connection(("127.0.0.1", 9))
    if word == "PROCESS":
        subprocess.run([sys.executable, "-c", ""])
    if word == "FILE":
        with open(data[8:].decode(), "wb") as file:
            file.write(b"0")
    if word == "GROW":
        sys.modules["kept"] = bytearray(b"1") * (2**28 + 2**26)
    return decode_here(an_image, name, enough_px, allocate)

an_image = THE_FILE
decode_file.decode_here = misbehave
worker.write_all = keep_replies
worker.main(float(sys.argv[2]), int(sys.argv[3]))
""".replace("THE_FILE", repr(FILE))


def word(name: str, payload: bytes = b"") -> bytes:
    return name.encode().ljust(8) + payload


@pytest.fixture
def decoders() -> Iterator[DecoderPool]:
    """Return one decoder."""
    decoder_pool = DecoderPool(MAX_PIXELS, size=1)
    yield decoder_pool
    decoder_pool.close()


@pytest.fixture
def misbehaving(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderPool]:
    """Return one decoder that misbehaves, and has a second for each file."""
    monkeypatch.setattr(pool, "LIMIT_S", 1.0)
    monkeypatch.setattr(pool, "_CODE", MISBEHAVING)
    decoder_pool = DecoderPool(MAX_PIXELS, size=1)
    yield decoder_pool
    decoder_pool.close()


def no_pixel_memory(_size_bytes: int) -> None:
    """Stand in for a platform where pixels go through the pipe."""


def has_ended(pid: int, within_s: float = 20) -> bool:
    """Return whether a process ends in time. A zombie counts as ended."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if watchdog.process_state(pid) in (None, "Z", "X"):
            return True
        time.sleep(0.05)
    return False


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )


# What comes back


def test_a_decoder_gives_what_this_process_would(decoders: DecoderPool) -> None:
    decoded = decoders.decode(FILE, "This file", 1_200)
    here = decode_file.decode_here(FILE, "This file")
    assert np.array_equal(decoded.pixels, here.pixels)
    assert decoded.description.format == here.format
    assert decoded.pixels.flags.c_contiguous
    assert not decoded.pixels.flags.writeable


def test_pixels_come_through_the_pipe_where_there_is_no_memory(
    decoders: DecoderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_memory, "create", no_pixel_memory)
    decoded = decoders.decode(FILE, "This file", 1_200)
    assert np.array_equal(decoded.pixels, decode_file.decode_here(FILE, "This file").pixels)


def test_a_jpeg_is_decoded_where_the_app_reads_its_pixels() -> None:
    file = encoded(hostile_files.picture(), "JPEG")
    memory = pixel_memory.create(3 * MAX_PIXELS)
    assert memory is not None
    writer = pixel_memory.Writer(os.dup(memory.descriptor))
    decoded = decode_file.decode_here(file, "This file", 1_200, writer.allocate)
    pixels = np.empty((80, 80, 3), np.uint8)
    assert memory.read(pixels)
    memory.close()
    assert np.array_equal(pixels, decoded.pixels)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_turned_jpeg_comes_as_one_that_is_decoded_here(
    decoders: DecoderPool, orientation: int
) -> None:
    picture = Image.effect_noise((90, 70), 80).convert("RGB")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = encoded(picture, "JPEG", exif=exif)
    assert decoders.decode(FILE, "This file", 1_200).pixels.shape == (80, 80, 3)
    assert np.array_equal(
        decoders.decode(file, "turned.jpg", 1_200).pixels,
        decode_file.decode_here(file, "turned.jpg").pixels,
    )


def test_memory_that_holds_too_few_pixels_is_noticed() -> None:
    memory = pixel_memory.create(1_000)
    assert memory is not None
    assert memory.read(np.empty((10, 10, 3), np.uint8))
    assert not memory.read(np.empty((20, 20, 3), np.uint8))
    memory.close()


def test_memory_that_is_closed_twice_closes_no_other_file() -> None:
    memory = pixel_memory.create(1_000)
    assert memory is not None
    descriptor = memory.descriptor
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        memory.close()
        os.dup2(nothing.fileno(), descriptor)  # the number is used again
    memory.close()
    os.close(descriptor)  # an error if it was closed


def test_the_memory_of_a_large_image_is_given_back(decoders: DecoderPool) -> None:
    large = encoded(Image.new("RGB", (3_000, 2_000), (200, 150, 120)), "PNG")
    first = decoders.decode(large, "large.png", 1_200).pixels
    [worker] = decoders._workers
    assert os.fstat(worker._pixel_memory.descriptor).st_blocks == 0
    assert np.array_equal(decoders.decode(large, "large.png", 1_200).pixels, first)
    assert decoders.decode(FILE, "This file", 1_200).pixels.shape == (80, 80, 3)


def test_files_are_decoded_in_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("decoded in this process")

    monkeypatch.setattr(decode_file, "decode_here", refuse)
    monkeypatch.setattr(decode_file, "size_here", refuse)
    monkeypatch.setattr(decode_file, "_open", refuse)
    monkeypatch.setattr(Image, "open", refuse)
    assert read_image(FILE).file_px == (80, 80)


def test_a_refusal_is_that_of_this_process(decoders: DecoderPool) -> None:
    with pytest.raises(ImageRejected) as here:
        decode_file.decode_here(b"%PDF-1.7", "a.pdf")
    with pytest.raises(ImageRejected, match="a PDF document") as apart:
        decoders.decode(b"%PDF-1.7", "a.pdf", 1_200)
    assert str(apart.value) == str(here.value)


def test_an_image_of_40_megapixels_comes_back_whole(decoders: DecoderPool) -> None:
    ramp = np.arange(8_000, dtype=np.uint16).astype(np.uint8)
    picture = Image.fromarray(np.broadcast_to(ramp, (5_000, 8_000)).copy())
    decoded = decoders.decode(encoded(picture, "PNG", compress_level=1), "This file", 1_200)
    assert decoded.pixels.shape == (5_000, 8_000, 3)
    assert (decoded.pixels[4_999, :, 2] == ramp).all()


def test_a_size_behind_a_large_preview_is_read(tmp_path: Path) -> None:
    path = tmp_path / "lesion.jpg"
    path.write_bytes(hostile_files.jpeg_with(*[hostile_files.segment(0xE2, bytes(60_000))] * 10))
    assert path.stat().st_size > images.HEAD_BYTES
    assert read_size(path) == (80, 80)


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "lesion.jpg"
    os.mkfifo(path)
    for read in (read_image, read_size):
        with pytest.raises(ImageRejected, match=r"lesion\.jpg is a device, not a file"):
            read(path)
    assert not images.is_dicom(path)


def test_a_file_that_has_grown_is_read_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lesion.png"
    path.write_bytes(bytes(2_000))
    status = os.stat(path)
    monkeypatch.setattr(images, "MAX_FILE_BYTES", 1_000)
    monkeypatch.setattr(
        images.regular_files.os, "fstat", lambda _: os.stat_result((*status[:6], 10, *status[7:]))
    )
    with pytest.raises(ImageRejected, match="Expected at most"):
        read_image(path)


# A decoder that dies


REASONS = {
    "SEGV": "SIGSEGV",
    "ABORT": "SIGABRT",
    "KILL": "SIGKILL",
    "EXIT": "exit code 3",
    "SPIN": "took longer than 1 s",
    "SLEEP": "took longer than 1 s",
    "STOP": "took longer than 1 s",
    "MEMORY": "needs more memory",
    "RECURSE": "RecursionError",
    "BUG": "KeyError in",
    "JUNK": "broke the process",
    "HUGE": "broke the process",
    "SHORT": "broke the process",
    "STALL": "took longer than 1 s",
    "NOFACTS": "broke the process",
    "READY": "broke the process",
}
"""Fault of a decoder to the reason in the refusal."""


@pytest.mark.parametrize(("cause", "reason"), REASONS.items())
def test_a_decoder_that_fails_is_a_refusal_and_is_replaced(
    cause: str,
    reason: str,
    misbehaving: DecoderPool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if cause in ("SHORT", "STALL"):
        monkeypatch.setattr(pixel_memory, "create", no_pixel_memory)
    misbehaving.decode(word("FINE"), "a.png", 1_200)
    [before] = misbehaving.worker_pids()
    began = time.monotonic()
    with pytest.raises(ImageRejected, match=reason) as refusal:
        misbehaving.decode(word(cause), "a.png", 1_200)
    assert time.monotonic() - began < 15
    assert str(refusal.value).startswith("a.png ")
    assert "Patient" not in str(refusal.value)
    assert misbehaving.decode(word("FINE"), "a.png", 1_200).pixels.shape == (80, 80, 3)
    [after] = misbehaving.worker_pids()
    # The process survives an error of Python.
    if cause not in ("RECURSE", "BUG"):
        assert after != before
        assert has_ended(before)
    assert capfd.readouterr() == ("", "")


def test_nothing_that_a_decoder_prints_reaches_the_log(
    misbehaving: DecoderPool, capfd: pytest.CaptureFixture[str]
) -> None:
    misbehaving.decode(word("PRINT"), "a.png", 1_200)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("forbidden", ["NETWORK", "PROCESS"])
def test_a_decoder_has_no_network_and_no_processes(
    forbidden: str, misbehaving: DecoderPool
) -> None:
    with pytest.raises(ImageRejected, match="PermissionError"):
        misbehaving.decode(word(forbidden), "a.png", 1_200)


def test_a_decoder_writes_no_file(misbehaving: DecoderPool, tmp_path: Path) -> None:
    with pytest.raises(ImageRejected, match="OSError"):
        misbehaving.decode(word("FILE", os.fsencode(tmp_path / "written")), "a.png", 1_200)
    assert (tmp_path / "written").read_bytes() == b""


def test_a_decoder_that_has_grown_is_replaced(misbehaving: DecoderPool) -> None:
    misbehaving.decode(word("FINE"), "a.png", 1_200)
    [before] = misbehaving.worker_pids()
    assert misbehaving.decode(word("GROW"), "a.png", 1_200).pixels.shape == (80, 80, 3)
    misbehaving.decode(word("FINE"), "a.png", 1_200)
    assert misbehaving.worker_pids() != [before]
    assert has_ended(before)


def test_memory_goes_back_after_a_large_image(decoders: DecoderPool) -> None:
    decoders.decode(FILE, "This file", 1_200)
    [before] = decoders.worker_pids()
    large = Image.new("RGB", (8_000, 5_000))
    decoders.decode(encoded(large, "PNG", compress_level=1), "This file", 1_200)
    decoders.decode(FILE, "This file", 1_200)
    [pid] = decoders.worker_pids()
    assert pid == before
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident < 300 * 2**20


def test_a_decoder_that_was_killed_while_idle_costs_no_file(decoders: DecoderPool) -> None:
    decoders.decode(FILE, "This file", 1_200)
    [pid] = decoders.worker_pids()
    os.kill(pid, signal.SIGKILL)
    assert has_ended(pid)
    assert decoders.decode(FILE, "This file", 1_200).pixels.shape == (80, 80, 3)


def test_an_interrupted_wait_leaves_no_old_reply_for_the_next_file(
    misbehaving: DecoderPool,
) -> None:
    misbehaving.decode(word("FINE"), "a.png", 1_200)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(KeyboardInterrupt):
            misbehaving.decode(word("SLEEP"), "a.png", 1_200)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert misbehaving.decode(word("FINE"), "a.png", 1_200).pixels.shape == (80, 80, 3)


# Many threads


def test_many_threads_share_a_few_decoders() -> None:
    sizes = [(64 + number, 70) for number in range(60)]
    files = [encoded(hostile_files.picture(*size), "PNG") for size in sizes]
    decoders = DecoderPool(MAX_PIXELS, size=2)
    try:
        with ThreadPoolExecutor(16) as threads:
            decoded = list(
                threads.map(lambda data: decoders.decode(data, "This file", 1_200), files)
            )
        assert [picture.pixels.shape[1::-1] for picture in decoded] == sizes
        assert len(decoders.worker_pids()) == 2
    finally:
        decoders.close()


def test_threads_whose_decoders_die_do_not_harm_the_others(misbehaving: DecoderPool) -> None:
    def outcome(name: str) -> str:
        try:
            return str(misbehaving.decode(word(name), "a.png", 1_200).pixels.shape)
        except ImageRejected:
            return "refused"

    names = ["FINE", "SEGV", "FINE", "EXIT", "FINE", "JUNK"] * 3
    with ThreadPoolExecutor(6) as threads:
        outcomes = list(threads.map(outcome, names))
    assert outcomes == ["(80, 80, 3)" if name == "FINE" else "refused" for name in names]


# Where no decoder can be started


@pytest.mark.parametrize("executable", ["/no/such/python", "/bin/false", "", None])
def test_without_a_decoder_nothing_is_decoded(
    executable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.sys, "executable", executable)
    monkeypatch.setattr(
        decode_file, "decode_here", lambda *_: pytest.fail("decoded in this process")
    )
    decoders = DecoderPool(MAX_PIXELS, size=1)
    try:
        for _ in range(2):
            with pytest.raises(
                DecoderUnavailable, match="Expected to start a process that decodes images"
            ):
                decoders.decode(FILE, "This file", 1_200)
        assert decoders.worker_pids() == []
    finally:
        decoders.close()


def test_reports_why_a_decoder_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    code = pool._CODE.replace(
        "main(float", "import PIL.Image as i; i.preinit = lambda: 1 / 0\nmain(float"
    )
    monkeypatch.setattr(pool, "_CODE", code)
    decoders = DecoderPool(MAX_PIXELS, size=1)
    try:
        with pytest.raises(DecoderUnavailable, match="ZeroDivisionError"):
            decoders.decode(FILE, "This file", 1_200)
    finally:
        decoders.close()


# Nothing is left behind

READ = """
import os, signal, sys, time
from cadlib.images import read_image
from cadlib.images.decoding.pool import decoder_pool
read_image(bytes.fromhex(sys.argv[1]))
print(*decoder_pool(0).worker_pids(), flush=True)
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("os._exit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_decoders_end_with_the_process_that_started_them(ending: str, code: int) -> None:
    process = run(READ + ending, FILE.hex())
    assert process.returncode == code
    assert process.stderr == ""
    pids = [int(pid) for pid in process.stdout.split()]
    assert pids
    assert all(has_ended(pid) for pid in pids)


def test_a_busy_decoder_ends_after_its_process_was_killed() -> None:
    code = f"""
import os, signal, threading
from cadlib.images.decoding import pool
pool._CODE = {MISBEHAVING!r}
pool._ALARM_S = 2
decoders = pool.DecoderPool(10**8, size=1)
decoders.decode(b"FINE    ", "a.png", 1200)
print(*decoders.worker_pids(), flush=True)
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
decoders.decode(b"SPIN    ", "a.png", 1200)
"""
    process = run(code)
    assert process.returncode == -signal.SIGKILL
    assert has_ended(int(process.stdout))


def test_decoders_hold_no_named_shared_memory() -> None:
    read_image(FILE)
    for pid in (os.getpid(), *decoder_pool(0).worker_pids()):
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        assert not [line for line in maps if "/dev/shm/" in line and "cadlib" in line]


def test_decoders_can_be_closed_and_start_again() -> None:
    read_image(FILE)
    pids = decoder_pool(0).worker_pids()
    pool.close_decoders()
    assert all(has_ended(pid) for pid in pids)
    assert read_image(FILE).file_px == (80, 80)


def test_started_ahead_one_decoder_is_there() -> None:
    pool.close_decoders()
    images.start_decoders()
    images.start_decoders()
    pids = decoder_pool(0).worker_pids()
    assert len(pids) == 1
    read_image(FILE)
    assert decoder_pool(0).worker_pids() == pids


# Forks


def test_a_fork_has_decoders_of_its_own() -> None:
    code = (
        READ
        + """
child = os.fork()
if not child:
    read_image(bytes.fromhex(sys.argv[1]))
    print(*decoder_pool(0).worker_pids(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
read_image(bytes.fromhex(sys.argv[1]))
print(*decoder_pool(0).worker_pids(), flush=True)
"""
    )
    process = run(code, FILE.hex())
    assert (process.returncode, process.stderr) == (0, "")
    before, in_fork, after = process.stdout.split()
    assert before == after != in_fork
    assert has_ended(int(in_fork))
    assert has_ended(int(before))


def test_a_data_loader_reads_images_in_its_own_processes() -> None:
    code = """
import sys
from torch.utils.data import DataLoader
from cadlib.images import read_image

class Files:
    def __len__(self):
        return 4

    def __getitem__(self, row):
        return int(read_image(bytes.fromhex(sys.argv[1])).pixels.sum())

whole = read_image(bytes.fromhex(sys.argv[1])).pixels.sum()
sums = [int(one) for batch in DataLoader(Files(), num_workers=2) for one in batch]
print(sums == [int(whole)] * 4)
"""
    process = run(code, FILE.hex())
    assert process.stdout == "True\n", process.stderr


# A reply is not trusted


def test_a_description_survives_the_way() -> None:
    about = Description(
        "DICOM", ("One.", "Two."), (4_000, 3_000), PatientFacts(45, "female", "head/neck")
    )
    assert Description.from_json(about.to_json()) == about


@pytest.mark.parametrize(
    "changed",
    [
        {"format": "EXE"}, {"format": None}, {"notes": "One."}, {"notes": [1]}, {"notes": [""] * 1_000},
        {"reduced": [1]}, {"reduced": [0, 5]}, {"reduced": ["a", "b"]}, {"reduced": [1.5, 2]},
        {"facts": [45, "female"]}, {"facts": [-1, None, None]}, {"facts": [None, "x", None]}, {"facts": None},
    ],
    ids=str,
)  # fmt: skip
def test_a_description_of_other_values_is_refused(changed: dict[str, object]) -> None:
    values = json.loads(Description("PNG").to_json())
    with pytest.raises(ReplyInvalid):
        Description.from_json(json.dumps(values | changed).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 10_000])
def test_refuses_an_invalid_description(data: bytes) -> None:
    with pytest.raises(ReplyInvalid):
        Description.from_json(data)


def test_control_characters_of_a_decoder_are_not_passed_on() -> None:
    assert Description.from_json(Description("PNG", ("a\x1b[2Jb",)).to_json()).notes == ("a?[2Jb",)


@pytest.mark.parametrize(
    "change",
    [
        lambda head: b"X" + head[1:],
        lambda head: head[:4] + b"\x63" + head[5:],
        lambda head: head[:6] + b"\xff" * 12,
    ],
)
def test_refuses_an_invalid_reply(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ReplyInvalid):
        Reply.unpack(change(Reply(Outcome.IMAGE, False, 10, 5, 5).pack()))
