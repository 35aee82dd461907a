"""Files that ask for far more work or memory than an image needs are refused, soon and in a sentence."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cadlib.errors import ImageRejected
from cadlib.images import read_image, read_size
from cadlib.images.decoding import pool
from cadlib.images.decoding.pool import DecoderPool, decoder_pool
from cadlib.images.file_types import work_limits
from tests import hostile_files
from tests.encoded_images import encoded
from tests.hostile_files import (
    chunk,
    dicom,
    element,
    fragments,
    jpeg_with,
    native,
    riff_chunk,
    segment,
    tiff,
)

MEBIBYTE = 2**20
BOUND_S = 20
"""The limit of 5 s, stretched on a busy machine, and the start of a process."""
BOUND_BYTES = 700 * MEBIBYTE
"""Several times less than these files would take without a limit."""

EXIF = segment(0xE1, b"Exif\0\0" + bytes(65_000))
PHOTOSHOP = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\0\1\0\0\0\0\0\0" * 5_000)
COMMENT = segment(0xFE, b"")
TEXT = b"key\0\0" + hostile_files.unfolding(MEBIBYTE - 100)
TEXT_DAMAGED = b"key\0\0" + hostile_files.unfolding(MEBIBYTE - 100, damaged=True)

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG of 3,000 empty scans": (
        lambda: hostile_files.jpeg_of_scans(3_000),
        "more than 100 scans",
    ),
    "JPEG of 1,000 EXIF segments": (lambda: jpeg_with(*[EXIF] * 1_000), "EXIF segments"),
    "JPEG of 500 Photoshop segments": (lambda: jpeg_with(*[PHOTOSHOP] * 500), "Photoshop segments"),
    "JPEG of 100,000 comments": (
        lambda: jpeg_with(*[COMMENT] * 100_000),
        "segments before the image",
    ),
    "JPEG of 32 MB fill bytes": (
        lambda: jpeg_with(b"\xff" * (32 * MEBIBYTE)),
        "bytes between segments",
    ),
    "JPEG of 32 MB junk": (
        lambda: jpeg_with(COMMENT, bytes(32 * MEBIBYTE)),
        "bytes between segments",
    ),
    "PNG of 2,000,000 empty pixel chunks": (
        lambda: hostile_files.png_with(before=chunk(b"IDAT", b"") * 2_000_000),
        "chunks of pixels",
    ),
    "PNG of 2,000,000 chunks before its pixels": (
        lambda: hostile_files.png_with(before=chunk(b"teSt", b"") * 2_000_000),
        "10,000 chunks",
    ),
    "PNG of 2,000,000 chunks behind its pixels": (
        lambda: hostile_files.png_with(after=chunk(b"teSt", b"") * 2_000_000),
        "10,000 chunks",
    ),
    "PNG of 1,000 unfolding texts": (
        lambda: hostile_files.png_with(before=chunk(b"zTXt", TEXT) * 1_000),
        "compressed texts",
    ),
    "PNG of 1,000 unfolding texts with false checksums": (
        lambda: hostile_files.png_with(before=chunk(b"zTXt", TEXT_DAMAGED) * 1_000),
        "compressed texts",
    ),
    "PNG of a text that unfolds to 300 MB": (
        lambda: hostile_files.png_with(
            before=chunk(b"zTXt", b"key\0\0" + hostile_files.unfolding(300 * MEBIBYTE))
        ),
        "more than 1 MB once it is unpacked",
    ),
    "PNG of an international text that unfolds to 300 MB": (
        lambda: hostile_files.png_with(
            before=chunk(b"iTXt", b"key\0\1\0\0\0" + hostile_files.unfolding(300 * MEBIBYTE))
        ),
        "more than 1 MB once it is unpacked",
    ),
    "PNG of a profile that unfolds to 300 MB": (
        lambda: hostile_files.png_with(
            before=chunk(b"iCCP", b"icc\0\0" + hostile_files.unfolding(300 * MEBIBYTE))
        ),
        "more than 1 MB once it is unpacked",
    ),
    "TIFF of 100,000 directories": (
        lambda: tiff(next_directories=100_000),
        "more than 1,000 directories",
    ),
    "TIFF of 60,000 tags": (
        lambda: tiff(dict.fromkeys(range(1000, 61000), (1, 4, 0))),
        "tags in a directory",
    ),
    "TIFF of 5,000,000 strips": (
        lambda: tiff(
            {273: (4, 5_000_000, 7_000), 279: (4, 5_000_000, 7_000)}, tail=bytes(20 * MEBIBYTE)
        ),
        "strips or tiles",
    ),
    "TIFF of 10,000,000 bit depths": (
        lambda: tiff({258: (3, 10_000_000, 7_000)}, tail=bytes(20 * MEBIBYTE)),
        "values of tag 258",
    ),
    "BMP of 20,000,000 runs": (
        lambda: hostile_files.bmp_of_runs(6_000, 6_000, b"\1\7" * 20_000_000),
        "run-length encoded",
    ),
    "BMP of 40 megapixels by empty lines": (
        lambda: hostile_files.bmp_of_runs(6_000, 6_000, b"\0\0" * 6_000),
        "run-length encoded",
    ),
    "WebP of 3,000,000 chunks": (
        lambda: hostile_files.webp_with(riff_chunk(b"JUNK", b"") * 3_000_000),
        "chunks",
    ),
    "deflated DICOM with 600 MB behind its pixels": (
        lambda: dicom(
            native(19_200),
            hostile_files.DEFLATED,
            after=element(0x7FE1, 0x10, b"OB", bytes(600 * MEBIBYTE)),
        ),
        "unpacks to more than",
    ),
    "deflated DICOM with 100 MB before its pixels": (
        lambda: dicom(
            native(19_200),
            hostile_files.DEFLATED,
            before=element(9, 0x10, b"UN", bytes(100 * MEBIBYTE)),
        ),
        "unpacks to more than",
    ),
    "deflated DICOM with 100 MB of pixels": (
        lambda: dicom(native(100 * MEBIBYTE), hostile_files.DEFLATED),
        "unpacks to more than",
    ),
    "deflated DICOM of 60,000 × 60,000 pixels": (
        lambda: dicom(
            native(100 * MEBIBYTE), hostile_files.DEFLATED, width_px=60_000, height_px=60_000
        ),
        "unpacks to more than",
    ),
    "DICOM of 1,000,000 fragments": (
        lambda: dicom(fragments(*[b""] * 1_000_000), hostile_files.JPEG),
        "items or fragments",
    ),
    "DICOM with a table of 32,000,000 frames": (
        lambda: dicom(
            fragments(
                encoded(hostile_files.picture(), "JPEG"),
                offsets=bytes(128 * MEBIBYTE),
            ),
            hostile_files.JPEG,
        ),
        "table of frames",
    ),
    "DICOM of 3,000,000 elements": (
        lambda: dicom(native(19_200), before=element(9, 0x10, b"CS", b"") * 3_000_000),
        "elements in its header",
    ),
    "DICOM of 100,000 nested sequences": (
        lambda: dicom(native(19_200), before=hostile_files.nested_sequences(100_000)),
        "items or fragments",
    ),
    "DICOM of 9,000 nested sequences": (
        lambda: dicom(native(19_200), before=hostile_files.nested_sequences(9_000)),
        "damaged",
    ),
    "DICOM with a JPEG of 3,000 scans": (
        lambda: dicom(
            fragments(hostile_files.jpeg_of_scans(3_000)),
            hostile_files.JPEG,
            width_px=4_000,
            height_px=4_000,
        ),
        "more than 100 scans",
    ),
    "DICOM with a JPEG 2000 of 36,000,000 tiles": (
        lambda: dicom(
            fragments(hostile_files.jpeg_2000(tile_px=1, width_px=6_000, height_px=6_000)),
            hostile_files.JPEG_2000,
            width_px=6_000,
            height_px=6_000,
        ),
        "10,000 tiles",
    ),
    "DICOM with a JPEG 2000 of 65,535 layers": (
        lambda: dicom(fragments(hostile_files.jpeg_2000(layers=65_535)), hostile_files.JPEG_2000),
        "quality layers",
    ),
}


def peak_bytes(pids: list[int]) -> int:
    """Return the peak memory of these processes, in bytes; 0 where the system does not report it."""
    peaks = [0]
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        peaks += [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return max(peaks)


@pytest.fixture
def fresh_decoders():
    """Return new decoders, whose peak of memory is their own."""
    pool.close_decoders()
    yield
    pool.close_decoders()


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.usefixtures("fresh_decoders")
def test_refuses_a_file_that_needs_too_much(kind: str) -> None:
    make, reason = HOSTILE[kind]
    data = make()
    began = time.monotonic()
    with pytest.raises(ImageRejected, match=reason) as refusal:
        read_image(data)
    assert time.monotonic() - began < BOUND_S
    assert str(refusal.value).startswith("This file ")
    assert "Expected" in str(refusal.value)
    assert peak_bytes(decoder_pool(0).worker_pids()) < BOUND_BYTES


@pytest.mark.parametrize(
    "kind", ["JPEG of 100,000 comments", "PNG of 2,000,000 chunks before its pixels"]
)
def test_the_size_of_such_a_file_is_not_looked_for_either(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "lesion"
    path.write_bytes(HOSTILE[kind][0]())
    began = time.monotonic()
    with pytest.raises(ImageRejected, match="Expected at most"):
        read_size(path)
    assert time.monotonic() - began < BOUND_S


def test_decoding_within_the_limits_still_has_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "LIMIT_S", 0.05)
    noise = np.random.default_rng(0).integers(0, 256, (3_000, 3_000, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "PNG", compress_level=1)
    decoders = DecoderPool(10**8, size=1)
    try:
        with pytest.raises(ImageRejected, match=r"took longer than .* to decode and was stopped"):
            decoders.decode(data, "This file", 1_200)
    finally:
        decoders.close()


# Real files are far from the limits


def test_reads_a_progressive_jpeg() -> None:
    data = encoded(hostile_files.picture(), "JPEG", progressive=True)
    assert data.count(b"\xff\xda") > 5
    assert read_image(data).file_px == (80, 80)


def test_reads_a_jpeg_with_a_depth_map_in_its_metadata() -> None:
    extended = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000))
    assert read_image(jpeg_with(*[extended] * 500)).file_px == (80, 80)


def test_reads_a_jpeg_whose_exif_takes_three_segments() -> None:
    assert read_image(jpeg_with(*[segment(0xE1, b"Exif\0\0" + bytes(100))] * 3)).file_px == (80, 80)


def test_reads_a_progressive_jpeg_with_a_video_behind_it() -> None:
    video = np.random.default_rng(0).integers(0, 256, 20 * MEBIBYTE, np.uint8).tobytes()
    assert video.count(b"\xff\xda") > work_limits.MAX_JPEG_SCANS
    assert read_image(
        encoded(hostile_files.picture(), "JPEG", progressive=True) + video
    ).file_px == (80, 80)


def test_reads_a_png_in_small_chunks() -> None:
    assert read_image(hostile_files.png_in_chunks(100)).file_px == (400, 400)


def test_reads_a_png_with_texts() -> None:
    texts = (
        chunk(b"tEXt", b"key\0value") * 100
        + chunk(b"zTXt", b"key\0\0" + hostile_files.unfolding(1_000)) * 50
    )
    assert read_image(hostile_files.png_with(before=texts)).file_px == (80, 80)


def test_reads_a_tiff_whose_only_directory_names_itself_as_the_next() -> None:
    assert read_image(tiff(loop=True)).file_px == (80, 80)


def test_reads_a_tiff_in_strips_of_one_row() -> None:
    data = encoded(hostile_files.picture(64, 5_000), "TIFF", compression="tiff_lzw", strip_size=1)
    assert read_image(data).file_px == (64, 5_000)


def test_the_refusal_of_a_tiff_states_its_number_of_pages() -> None:
    pages = [hostile_files.picture()] * 100
    with pytest.raises(ImageRejected, match="contains 101 images"):
        read_image(encoded(hostile_files.picture(), "TIFF", save_all=True, append_images=pages))


def test_reads_a_bmp_of_runs() -> None:
    image = read_image(hostile_files.bmp_of_runs(100, 80, b"\x64\7\0\0" * 80))
    assert image.file_px == (100, 80)


def test_reads_a_webp_with_unknown_chunks() -> None:
    assert read_image(hostile_files.webp_with(riff_chunk(b"JUNK", b"1") * 50)).file_px == (80, 80)


def test_reads_a_deflated_dicom_larger_than_the_share_of_its_header() -> None:
    data = dicom(native(3_000 * 3_000 * 3), hostile_files.DEFLATED, width_px=3_000, height_px=3_000)
    assert read_image(data).file_px == (3_000, 3_000)


def test_reads_runs_of_one_pixel_in_a_dicom() -> None:
    plane = b"\0\7" * (2_000 * 2_000)
    frame = hostile_files.rle_frame(plane, plane, plane)
    began = time.monotonic()
    image = read_image(dicom(fragments(frame), hostile_files.RLE, width_px=2_000, height_px=2_000))
    assert time.monotonic() - began < BOUND_S
    assert image.pixels.min() == image.pixels.max() == 7


def test_reads_a_tiled_jpeg_2000() -> None:
    buffer = encoded(hostile_files.picture(640, 640), "JPEG2000", no_jp2=True, tile_size=(64, 64))
    image = read_image(
        dicom(fragments(buffer), hostile_files.JPEG_2000, width_px=640, height_px=640)
    )
    assert image.file_px == (640, 640)


def test_reads_real_images_with_a_wide_margin(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every limit has a margin of a factor of ten."""
    for limit in [name for name in vars(work_limits) if name.startswith("MAX_")]:
        monkeypatch.setattr(work_limits, limit, getattr(work_limits, limit) // 10)
    uploads = sorted((data_dir / "uploads").glob("*.jpg"))
    images = sorted((data_dir / "isic2019").rglob("*.jpg"))[::500]
    assert uploads
    for path in [*uploads, *images]:
        work_limits.check_work(path.read_bytes(), "JPEG", path.name)
