"""PNG, BMP and WebP files that are not whole are refused, and whole ones of every form are read."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from cadlib.errors import ImageRejected
from cadlib.images import read_image
from tests.encoded_images import asymmetric_picture, encoded

WIDTH_PX = 91
HEIGHT_PX = 70
PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    return asymmetric_picture(HEIGHT_PX, WIDTH_PX)


def refusal(file: bytes) -> str:
    with pytest.raises(ImageRejected) as error:
        read_image(file)
    return str(error.value)


# PNG


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(packed: bytes, interlaced: bool = False) -> bytes:
    header = struct.pack(">IIBBBBB", WIDTH_PX, HEIGHT_PX, 8, 2, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def rows_of(pixels: NDArray[np.uint8]) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


@settings(max_examples=80, deadline=None)
@given(share=st.floats(0, 1), bit=st.integers(0, 7))
def test_rejects_a_png_with_one_bit_changed(share: float, bit: int) -> None:
    file = bytearray(encoded(Image.radial_gradient("L").convert("RGB"), "PNG"))
    file[min(8 + int(share * (len(file) - 8)), len(file) - 1)] ^= 1 << bit
    with pytest.raises(ImageRejected):
        read_image(bytes(file))


def test_rejects_a_png_without_its_end(rgb: NDArray[np.uint8]) -> None:
    assert "incomplete or damaged" in refusal(encoded(rgb, "PNG")[:-12])


def test_rejects_a_wrong_checksum_of_a_part_without_pixels(rgb: NDArray[np.uint8]) -> None:
    file = png_of(zlib.compress(rows_of(rgb)))
    text = chunk(b"tEXt", b"Title\0lesion")
    assert np.array_equal(read_image(file[:33] + text + file[33:]).pixels, rgb)
    assert "incomplete or damaged" in refusal(
        file[:33] + text[:-1] + bytes([text[-1] ^ 1]) + file[33:]
    )


@pytest.mark.parametrize("lost_bytes", [1, 4, 5, 500])
def test_rejects_packed_pixels_that_end_early(rgb: NDArray[np.uint8], lost_bytes: int) -> None:
    assert "incomplete or damaged" in refusal(png_of(zlib.compress(rows_of(rgb))[:-lost_bytes]))


def test_rejects_packed_pixels_with_a_wrong_checksum(rgb: NDArray[np.uint8]) -> None:
    packed = zlib.compress(rows_of(rgb))
    assert "incomplete or damaged" in refusal(png_of(packed[:-1] + bytes([packed[-1] ^ 1])))


def test_rejects_a_row_too_few(rgb: NDArray[np.uint8]) -> None:
    assert "incomplete or damaged" in refusal(png_of(zlib.compress(rows_of(rgb[:-1]))))


def test_reads_an_interlaced_png(rgb: NDArray[np.uint8]) -> None:
    rows = b"".join(rows_of(rgb[top::down, left::right]) for left, top, right, down in PASSES)
    assert np.array_equal(read_image(png_of(zlib.compress(rows), interlaced=True)).pixels, rgb)
    assert "incomplete or damaged" in refusal(png_of(zlib.compress(rows[:-9]), interlaced=True))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_reads_a_whole_png_of_every_kind(mode: str) -> None:
    image = Image.radial_gradient("L").resize((WIDTH_PX, HEIGHT_PX))
    assert read_image(encoded(image.convert(mode), "PNG")).width_px == WIDTH_PX


def test_bytes_behind_a_png_are_no_damage(rgb: NDArray[np.uint8]) -> None:
    assert np.array_equal(read_image(encoded(rgb, "PNG") + b"more").pixels, rgb)


@pytest.mark.parametrize("kind", [b"CgBI", b"ABCD"])
def test_a_png_with_a_critical_part_of_its_own_is_not_supported(
    rgb: NDArray[np.uint8], kind: bytes
) -> None:
    file = encoded(rgb, "PNG")
    at = 8 if kind == b"CgBI" else 33
    assert "not supported here" in refusal(file[:at] + chunk(kind, bytes(4)) + file[at:])


# BMP


def bmp(header: bytes, palette: bytes, data: bytes) -> bytes:
    offset = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + header + palette + data


def bmp_header(
    bits: int, compression: int, masks: tuple[int, ...] = (), size_px: int = 80
) -> bytes:
    """Return a header of version 4, or of version 3 without masks."""
    length = 108 if masks else 40
    fields = struct.pack(
        "<IiiHHIIiiII", length, size_px, size_px, 1, bits, compression, 0, 0, 0, 0, 0
    )
    return (fields + struct.pack(f"<{len(masks)}I", *masks)).ljust(length, b"\0")


GREY_PALETTE = b"".join(bytes((level, level // 2, 0, 0)) for level in range(256))


def runs(*, rows: int = 80, last: bytes = b"\0\1") -> bytes:
    """Return RLE8 data: each row is a run of 70 pixels of index 9 and 10 pixels one by one."""
    row = bytes((70, 9)) + b"\0\x0a" + bytes(range(10)) + b"\0\0"
    return row * (rows - 1) + row[:-2] + last


@pytest.mark.parametrize("last", [b"\0\1", b"\0\0\0\1", b""])
def test_reads_a_bmp_of_runs(last: bytes) -> None:
    pixels = read_image(bmp(bmp_header(8, 1), GREY_PALETTE, runs(last=last))).pixels
    assert pixels[0, 0].tolist() == [0, 4, 9]
    assert pixels[79, 79].tolist() == [0, 4, 9]
    assert pixels[5, 3].tolist() == pixels[5, 0].tolist()


@pytest.mark.parametrize(
    "data",
    [
        runs(rows=79),
        runs()[:-20],
        runs()[:700],
        runs()[:600] + b"\0\1",
        b"\0\2\5\5" + runs(),
        b"\5\1\0\0" + runs(),
    ],
    ids=["a row too few", "cut off", "cut in the middle", "ended early", "a jump", "a short row"],
)
def test_rejects_a_bmp_whose_runs_leave_pixels_out(data: bytes) -> None:
    assert "incomplete or damaged" in refusal(bmp(bmp_header(8, 1), GREY_PALETTE, data))


@pytest.mark.parametrize("lost_bytes", [1, 200])
def test_rejects_a_bmp_shorter_than_its_header_says(
    rgb: NDArray[np.uint8], lost_bytes: int
) -> None:
    assert "incomplete or damaged" in refusal(encoded(rgb, "BMP")[:-lost_bytes])


MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def test_a_bmp_whose_alpha_is_0_everywhere_is_opaque() -> None:
    data = np.tile(np.array([30, 60, 200, 0], np.uint8), 80 * 80).tobytes()
    image = read_image(bmp(bmp_header(32, 3, MASKS), b"", data))
    assert (image.pixels == [200, 60, 30]).all()
    assert "alpha channel of the file is empty" in image.notes[0]


def test_a_bmp_with_some_alpha_is_laid_on_white() -> None:
    values = np.tile(np.array([30, 60, 200, 0], np.uint8), (80, 80, 1))
    values[:40, :, 3] = 255
    image = read_image(bmp(bmp_header(32, 3, MASKS), b"", values.tobytes()))
    assert image.pixels[79, 0].tolist() == [200, 60, 30]
    assert image.pixels[0, 0].tolist() == [255, 255, 255]


def test_a_fourth_byte_without_a_mask_is_no_alpha() -> None:
    data = np.tile(np.array([30, 60, 200, 0], np.uint8), 80 * 80).tobytes()
    image = read_image(bmp(bmp_header(32, 0), b"", data))
    assert (image.pixels == [200, 60, 30]).all()
    assert image.notes == ()


@pytest.mark.parametrize(
    ("masks", "value"),
    [
        ((0xF800, 0x7E0, 0x1F, 0), 0b10000_100000_00111),
        ((0x7C00, 0x3E0, 0x1F, 0), 0b10000_10000_00111),
    ],
)
def test_a_bmp_of_16_bits_a_pixel_is_read(masks: tuple[int, ...], value: int) -> None:
    data = np.full(80 * 80, value, "<u2").tobytes()
    pixels = read_image(bmp(bmp_header(16, 3, masks), b"", data)).pixels
    assert np.abs(pixels[0, 0].astype(int) - [131, 130, 57]).max() <= 2


@pytest.mark.parametrize(
    ("bits", "compression", "masks"),
    [(32, 3, (0x3FF00000, 0xFFC00, 0x3FF, 0)), (24, 4, ()), (32, 5, ()), (2, 0, ())],
)
def test_a_rare_bmp_is_not_supported(bits: int, compression: int, masks: tuple[int, ...]) -> None:
    assert "not supported here" in refusal(
        bmp(bmp_header(bits, compression, masks), b"", bytes(80 * 80 * 4))
    )


def test_the_colour_profile_inside_a_bmp_is_used() -> None:
    swapped = (
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"rXYZ", b"tmpX")
    )
    profile = swapped.replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")  # its red is blue
    data = np.tile(np.array([30, 60, 200], np.uint8), 80 * 80).tobytes()
    fields = struct.pack("<IiiHHIIiiII", 124, 80, 80, 1, 24, 0, 0, 0, 0, 0, 0)
    header = bytearray(fields.ljust(124, b"\0"))
    struct.pack_into("<4s", header, 56, b"DEBM")
    struct.pack_into("<II", header, 112, 124 + len(data), len(profile))
    image = read_image(bmp(bytes(header), b"", data) + profile)
    assert np.abs(image.pixels[0, 0].astype(int) - [30, 60, 200]).max() <= 2
    assert image.notes == ("The colours were converted to sRGB by the colour profile of the file.",)


# WebP


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_rejects_a_webp_cut_short(rgb: NDArray[np.uint8], lossless: bool, share: float) -> None:
    file = encoded(Image.fromarray(rgb), "WEBP", lossless=lossless)
    assert "incomplete or damaged" in refusal(file[: int(share * len(file))])


def test_bytes_behind_a_webp_are_no_damage(rgb: NDArray[np.uint8]) -> None:
    assert np.array_equal(read_image(encoded(rgb, "WEBP", lossless=True) + b"more!").pixels, rgb)


def test_rejects_a_webp_whose_parts_do_not_fit(rgb: NDArray[np.uint8]) -> None:
    file = bytearray(encoded(rgb, "WEBP", lossless=True))
    assert file[12:16] == b"VP8L"
    struct.pack_into("<I", file, 16, len(file))
    assert "damaged" in refusal(bytes(file))
