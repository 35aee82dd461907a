import csv
import hashlib
import math
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from cadlib.errors import ImageRejected
from cadlib.images import (
    MAX_FILE_BYTES,
    MAX_PIXELS,
    MIN_SIDE_PX,
    SUPPORTED_SUFFIXES,
    LesionImage,
    read_image,
)
from cadlib.images import regular_files as files
from tests.encoded_images import asymmetric_picture, encoded

HEIGHT_PX = 70
WIDTH_PX = 90
LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": {"lossless": True}}


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    return asymmetric_picture(HEIGHT_PX, WIDTH_PX)


@pytest.fixture(scope="module")
def jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return encoded(rgb, "JPEG", quality=95)


def png(
    values: NDArray[np.integer],
    bits: int,
    before_data: bytes = b"",
    size: tuple[int, int] | None = None,
) -> bytes:
    """Return a PNG written by the letter: Pillow writes neither 16-bit colour nor a false size."""
    channels = 1 if values.ndim == 2 else values.shape[2]
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    width_px, height_px = size or (values.shape[1], values.shape[0])
    rows = values.astype(">u2" if bits == 16 else "u1").reshape(len(values), -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width_px, height_px, bits, colour_type, 0, 0, 0)
    chunks = (
        png_chunk(b"IHDR", header)
        + before_data
        + png_chunk(b"IDAT", packed)
        + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(
    values: NDArray[np.integer], photometric: int, extra_tags: dict[int, int] | None = None
) -> bytes:
    """Return an uncompressed little-endian TIFF of 8 or 16 bits, as TIFF 6.0 section 3 lays it out."""
    samples = 1 if values.ndim == 2 else values.shape[2]
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    bits = values.dtype.itemsize * 8
    tags = {
        256: (4, values.shape[1]), 257: (4, values.shape[0]), 258: (3, bits), 259: (3, 1),
        262: (3, photometric), 273: (4, 8), 277: (3, samples), 278: (4, values.shape[0]), 279: (4, len(data)),
    }  # fmt: skip
    tags |= {tag: (4, value) for tag, value in (extra_tags or {}).items()}
    directory_at = 8 + len(data)
    return struct.pack("<2sHI", b"II", 42, directory_at) + data + tiff_directory(tags, directory_at)


def tiff_directory(tags: dict[int, tuple[int, int]], directory_at: int) -> bytes:
    """Return the directory of a TIFF; `tags` are tag -> (type, value)."""
    bits = tags[258][1]
    samples = tags[277][1]
    bits_at = directory_at + 2 + 12 * len(tags) + 4
    directory = struct.pack("<H", len(tags))
    for tag, (kind, value) in sorted(tags.items()):
        if tag == 258 and samples > 1:
            directory += struct.pack("<HHII", tag, kind, samples, bits_at)
        else:
            directory += struct.pack("<HHII", tag, kind, 1, value)
    return directory + struct.pack("<I", 0) + struct.pack(f"<{samples}H", *[bits] * samples)


def with_orientation(kind: str, picture: NDArray[np.uint8], orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(picture, kind, exif=exif, **LOSSLESS[kind])


def icc_profile(space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return an ICC version 2 profile, as ICC.1:2001-04 lays it out."""
    table = b""
    body = b""
    at = 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    illuminant = b"".join(fixed(v) for v in (0.9642, 1.0, 0.8249))
    device = b"mntr" if space == b"RGB " else b"prtr"
    header = struct.pack(
        ">I4sI4s4s4s12s4s4sI4s4s8sI12s4s", at + len(body), b"", 0x02400000, device,
        space, connection, b"\0" * 12, b"acsp", b"", 0, b"", b"", b"", 0, illuminant, b"",
    )  # fmt: skip
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


# The primaries of Display P3 and sRGB as XYZ under D50: the columns of their ICC profiles.
P3_TO_XYZ = np.array(
    [[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]]
)
SRGB_TO_XYZ = np.array(
    [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]
)


@pytest.fixture(scope="module")
def display_p3() -> bytes:
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.2 * 256))
    tags = {b"wtpt": b"XYZ " + bytes(4) + b"".join(fixed(v) for v in (0.9642, 1.0, 0.8249))}
    for name, column in zip((b"r", b"g", b"b"), P3_TO_XYZ.T, strict=True):
        tags[name + b"XYZ"] = b"XYZ " + bytes(4) + b"".join(fixed(v) for v in column)
        tags[name + b"TRC"] = curve
    return icc_profile(b"RGB ", b"XYZ ", tags)


@pytest.fixture(scope="module")
def cmyk_to_lab() -> bytes:
    """A press whose black ink darkens and whose other inks are all without effect."""
    ramp = bytes(range(256))
    lightness = [255, 0] * 8  # the last ink, black, varies fastest
    nodes = b"".join(bytes((value, 128, 128)) for value in lightness)
    identity = b"".join(fixed(v) for v in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = (
        b"mft1"
        + bytes(4)
        + struct.pack(">BBBB", 4, 3, 2, 0)
        + identity
        + ramp * 4
        + nodes
        + ramp * 3
    )
    return icc_profile(b"CMYK", b"Lab ", {b"A2B0": table})


def srgb_of_p3(p3: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return the sRGB values (0 to 255) of a Display P3 colour of gamma 2.2, clipped to the gamut."""
    linear = np.linalg.solve(SRGB_TO_XYZ, P3_TO_XYZ @ (np.array(p3) / 255) ** 2.2).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


# What is read


def test_reads_a_jpeg_as_pillow_decodes_it(jpeg: bytes) -> None:
    image = read_image(jpeg)
    assert np.array_equal(image.pixels, np.asarray(Image.open(BytesIO(jpeg))))
    assert (image.format, image.notes) == ("JPEG", ())
    assert (image.width_px, image.height_px) == (WIDTH_PX, HEIGHT_PX)


READ_SIZES = {
    (6000, 4000): (1500, 1000),
    (4001, 3003): (2001, 1502),
    (4003, 3001): (2002, 1501),
    (2399, 2399): None,
    (9600, 640): None,
    (1600, 9600): (800, 4800),
    (2400, 1800): (1200, 900),
}
"""Width and height of a file to those that are read, None where it is not reduced."""


@pytest.mark.parametrize(("size", "read"), READ_SIZES.items())
def test_a_large_jpeg_is_read_at_a_fraction_of_its_size(
    size: tuple[int, int], read: tuple[int, int] | None
) -> None:
    ramp = np.linspace(0, 255, size[0]).astype(np.uint8)
    picture = np.broadcast_to(ramp[None, :, None], (size[1], size[0], 3))
    image = read_image(encoded(np.ascontiguousarray(picture), "JPEG", quality=95))
    assert (image.width_px, image.height_px) == (read or size)
    assert image.reduced == (size if read else None)
    assert image.file_px == size
    assert [f"{size[0]} × {size[1]}" in note for note in image.notes] == [True] * bool(read)
    expected = np.linspace(0, 255, image.width_px)
    assert np.abs(image.pixels.mean(axis=(0, 2)) - expected).max() < 3


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_rotated_large_jpeg_has_its_upright_size(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = read_image(encoded(Image.new("RGB", (2600, 1700), "tan"), "JPEG", exif=exif))
    upright = (1700, 2600) if orientation in (6, 8) else (2600, 1700)
    assert image.reduced == upright
    assert (image.width_px * 2, image.height_px * 2) == upright


def test_a_large_jpeg_that_is_cut_short_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1700, 2600, 3), dtype=np.uint8)
    with pytest.raises(ImageRejected, match="incomplete"):
        read_image(encoded(noise, "JPEG")[:-100_000])


def test_a_large_lossless_picture_is_read_whole() -> None:
    image = read_image(encoded(Image.new("RGB", (2600, 1700), "tan"), "PNG"))
    assert (image.width_px, image.height_px, image.reduced) == (2600, 1700, None)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_reads_each_lossless_format_pixel_for_pixel(rgb: NDArray[np.uint8], kind: str) -> None:
    image = read_image(encoded(rgb, kind, **LOSSLESS[kind]))
    assert np.array_equal(image.pixels, rgb)
    assert image.format == {"WEBP": "WebP"}.get(kind, kind)


def test_pixels_are_contiguous_read_only_uint8(jpeg: bytes) -> None:
    pixels = read_image(jpeg).pixels
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 0


def test_the_hash_is_that_of_the_files_bytes(jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lesion.jpg"
    path.write_bytes(jpeg)
    assert (
        read_image(path).sha256 == read_image(str(path)).sha256 == hashlib.sha256(jpeg).hexdigest()
    )


def test_the_content_decides_and_not_the_name(rgb: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "lesion.jpg"
    path.write_bytes(encoded(rgb, "PNG"))
    assert read_image(path).format == "PNG"


def test_reads_a_pillow_image_and_leaves_it_as_it_was(rgb: NDArray[np.uint8]) -> None:
    source = Image.fromarray(rgb)
    source.getexif()[ExifTags.Base.Orientation] = 6
    image = read_image(source)
    assert image.format == "PIL"
    assert np.array_equal(image.pixels, np.rot90(rgb, -1))
    assert np.array_equal(np.asarray(source), rgb)
    assert source.getexif()[ExifTags.Base.Orientation] == 6


def test_the_hash_of_a_pillow_image_depends_on_its_shape() -> None:
    grey = {
        read_image(Image.new("RGB", size, "grey")).sha256
        for size in ((64, 128), (128, 64), (64, 128))
    }
    assert len(grey) == 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_turns_every_exif_orientation_upright(
    rgb: NDArray[np.uint8], kind: str, orientation: int
) -> None:
    # The camera's rows and columns, after TIFF 6.0's table of "visual" row 0 and column 0.
    stored = {
        1: rgb, 2: rgb[:, ::-1], 3: rgb[::-1, ::-1], 4: rgb[::-1], 5: rgb.swapaxes(0, 1),
        6: np.rot90(rgb), 7: rgb[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(rgb, -1),
    }[orientation]  # fmt: skip
    image = read_image(with_orientation(kind, np.ascontiguousarray(stored), orientation))
    assert np.array_equal(image.pixels, rgb)
    assert image.notes == (
        () if orientation == 1 else ("The image was rotated according to the camera data.",)
    )


def test_turns_a_jpeg_upright(rgb: NDArray[np.uint8], jpeg: bytes) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned = read_image(encoded(rgb, "JPEG", quality=95, exif=exif))
    assert np.array_equal(turned.pixels, np.rot90(read_image(jpeg).pixels, -1))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_damaged_exif_does_not_spoil_the_picture(rgb: NDArray[np.uint8], kind: str) -> None:
    options = LOSSLESS.get(kind, {})
    image = read_image(encoded(rgb, kind, exif=b"Exif\0\0" + b"XX*\0" + bytes(20), **options))
    assert np.array_equal(image.pixels, read_image(encoded(rgb, kind, **options)).pixels)


def test_an_orientation_that_is_infinite_does_not_spoil_the_picture(rgb: NDArray[np.uint8]) -> None:
    exif = b"II*\0\x08\0\0\0" + struct.pack("<HHHIfI", 1, 0x0112, 11, 1, math.inf, 0)
    buffer = BytesIO()
    Image.fromarray(rgb).save(buffer, "PNG", exif=b"Exif\0\0" + exif)
    image = read_image(buffer.getvalue())
    assert np.array_equal(image.pixels, rgb)
    assert "damaged" in image.notes[0]


def test_damaged_exif_is_noted_where_it_shows(rgb: NDArray[np.uint8]) -> None:
    image = read_image(encoded(rgb, "WEBP", exif=b"Exif\0\0" + b"XX*\0" + bytes(20)))
    assert image.notes[0].startswith("The camera's orientation data is damaged")


def test_nothing_of_exif_or_gps_is_left(rgb: NDArray[np.uint8]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Jane Patient"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    image = read_image(encoded(rgb, "JPEG", exif=exif, comment=b"Jane Patient"))
    assert set(vars(image)) == {
        "pixels",
        "sha256",
        "format",
        "notes",
        "reduced",
        "facts",
        "red_blue_swapped",
    }
    assert not image.facts.known
    assert type(image.pixels) is np.ndarray
    assert image.notes == ()


# Colour


def test_greyscale_becomes_three_equal_channels(rgb: NDArray[np.uint8]) -> None:
    image = read_image(encoded(rgb[..., 0], "PNG"))
    assert np.array_equal(image.pixels, np.repeat(rgb[..., :1], 3, axis=2))
    assert "greyscale" in image.notes[0]


def test_one_bit_becomes_black_and_white(rgb: NDArray[np.uint8]) -> None:
    black = rgb[..., 0] < 90
    image = read_image(encoded(Image.fromarray(~black), "PNG"))
    assert np.array_equal(image.pixels[..., 0], np.where(black, 0, 255))


def test_a_palette_becomes_its_colours(rgb: NDArray[np.uint8]) -> None:
    palette_image = Image.fromarray(rgb).quantize(16)
    assert np.array_equal(
        read_image(encoded(palette_image, "PNG")).pixels, np.asarray(palette_image.convert("RGB"))
    )


def test_a_transparent_palette_colour_is_laid_on_white() -> None:
    picture = Image.new("P", (80, 80))
    picture.putpalette([200, 0, 0, 0, 0, 200])
    picture.paste(1, (0, 0, 40, 80))
    image = read_image(encoded(picture, "PNG", transparency=1))
    assert image.pixels[0, 0].tolist() == [255, 255, 255]
    assert image.pixels[0, 79].tolist() == [200, 0, 0]
    assert image.notes == ("Transparent parts were filled with white.",)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_half_transparent_is_half_white(kind: str) -> None:
    picture = np.full((80, 80, 4), (200, 100, 0, 255), np.uint8)
    picture[:40, :, 3] = 128
    image = read_image(encoded(picture, kind, **LOSSLESS[kind]))
    assert np.abs(image.pixels[0, 0].astype(int) - [227, 177, 127]).max() <= 1
    assert image.pixels[79, 0].tolist() == [200, 100, 0]


def test_grey_with_transparency_is_noted_as_grey() -> None:
    image = read_image(Image.new("LA", (80, 80), (100, 0)))
    assert image.pixels.min() == 255
    assert image.notes == (
        "The image is greyscale; it has no colour.",
        "Transparent parts were filled with white.",
    )


def test_an_opaque_alpha_channel_is_dropped_without_a_word(rgb: NDArray[np.uint8]) -> None:
    opaque = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    image = read_image(encoded(opaque, "PNG"))
    assert np.array_equal(image.pixels, rgb)
    assert image.notes == ()


@pytest.fixture(scope="module")
def deep() -> NDArray[np.uint16]:
    """Every 16-bit level from black to white, in three channels that run against each other."""
    ramp = np.linspace(0, 65535, 80 * 80).astype(np.uint16).reshape(80, 80)
    return np.dstack([ramp, ramp[::-1], ramp.T])


@pytest.mark.parametrize("writer", ["PNG", "TIFF", "Pillow's TIFF", "Pillow's big-endian TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(deep: NDArray[np.uint16], writer: str) -> None:
    grey = deep[..., 0]
    source = {
        "PNG": lambda: png(grey, 16),
        "TIFF": lambda: tiff(grey, photometric=1),
        "Pillow's TIFF": lambda: encoded(Image.fromarray(grey), "TIFF", compression="tiff_lzw"),
        "Pillow's big-endian TIFF": lambda: encoded(Image.fromarray(grey.astype(">u2")), "TIFF"),
    }[writer]()
    image = read_image(source)
    assert np.array_equal(image.pixels, np.repeat((grey >> 8)[..., None], 3, axis=2))
    assert image.notes[0] == "The image was reduced from 16 to 8 bits a channel."


def test_16_bit_grey_from_white_to_black_is_inverted(
    deep: NDArray[np.uint16],
) -> None:
    image = read_image(tiff(deep[..., 0], photometric=0))
    assert np.array_equal(image.pixels[..., 0], 255 - (deep[..., 0] >> 8))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_colour_is_scaled_and_not_clipped(deep: NDArray[np.uint16], kind: str) -> None:
    image = read_image(png(deep, 16) if kind == "PNG" else tiff(deep, photometric=2))
    assert np.array_equal(image.pixels, deep >> 8)
    assert image.notes == ("The image was reduced from 16 to 8 bits a channel.",)


def test_12_bit_grey_is_scaled_to_its_own_white() -> None:
    packed = np.tile(
        np.array([0xFF, 0xF8, 0x00], np.uint8), (80, 40)
    )  # pairs of 0xFFF and 0x800, TIFF 6.0
    image = read_image(tiff(packed, photometric=1, extra_tags={256: 80, 258: 12}))
    assert image.pixels[0, :2, 0].tolist() == [255, 128]
    assert image.notes[0] == "The image was reduced from 12 to 8 bits a channel."


def test_16_bit_pillow_image_is_scaled_and_not_clipped(deep: NDArray[np.uint16]) -> None:
    assert np.array_equal(
        read_image(Image.fromarray(deep[..., 0])).pixels[..., 0], deep[..., 0] >> 8
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_16_bit_colour_becomes_white(channels: int) -> None:
    values = np.full((80, 80, channels), 20_000, np.uint16)
    values[:40] = 30_001
    mark = png_chunk(b"tRNS", struct.pack(f">{channels}H", *[30_001] * channels))
    pixels = read_image(png(values.squeeze(), 16, before_data=mark)).pixels
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[79, 0].tolist() == [20_000 >> 8] * 3


def test_refuses_colours_without_a_known_scale(rgb: NDArray[np.uint8]) -> None:
    with pytest.raises(ImageRejected, match="greyscale, RGB or CMYK"):
        read_image(encoded(Image.fromarray(rgb[..., 0].astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_without_a_profile_gives_the_inks_their_plain_colours(kind: str) -> None:
    # Pillow writes CMYK JPEG as Adobe does, inverted: read without that in mind, this green would be magenta.
    picture = Image.new("CMYK", (80, 80), (255, 0, 255, 0))
    image = read_image(encoded(picture, kind))
    assert np.abs(image.pixels[40, 40].astype(int) - [0, 255, 0]).max() <= 3
    assert "approximate" in image.notes[0]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_embedded_profile(cmyk_to_lab: bytes, kind: str) -> None:
    picture = Image.new("CMYK", (80, 80), (255, 0, 255, 0))
    picture.paste((0, 0, 0, 255), (0, 40, 80, 80))
    image = read_image(
        encoded(
            picture, kind, icc_profile=cmyk_to_lab, **({"quality": 95} if kind == "JPEG" else {})
        )
    )
    assert (
        image.pixels[10, 40].min() >= 250
    )  # by this profile cyan and yellow leave the paper white
    assert image.pixels[70, 40].max() <= 5
    assert image.notes == ("The colours were converted to sRGB by the colour profile of the file.",)


@pytest.mark.parametrize("colour", [(200, 120, 100), (90, 60, 50), (255, 255, 255), (255, 0, 0)])
def test_display_p3_becomes_srgb(display_p3: bytes, colour: tuple[int, int, int]) -> None:
    image = read_image(encoded(Image.new("RGB", (80, 80), colour), "PNG", icc_profile=display_p3))
    assert np.abs(image.pixels[0, 0] - srgb_of_p3(colour)).max() <= 2
    assert "converted to sRGB" in image.notes[0]


def test_an_srgb_profile_changes_nothing(rgb: NDArray[np.uint8]) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = read_image(encoded(rgb, "PNG", icc_profile=srgb))
    assert np.array_equal(image.pixels, rgb)
    assert image.notes == ()


@pytest.mark.parametrize("profile", ["nonsense", "for another kind of picture"])
def test_a_profile_that_does_not_fit_is_left_aside_with_a_note(
    rgb: NDArray[np.uint8], cmyk_to_lab: bytes, profile: str
) -> None:
    icc = b"no profile at all" if profile == "nonsense" else cmyk_to_lab
    image = read_image(encoded(rgb, "PNG", icc_profile=icc))
    assert np.array_equal(image.pixels, rgb)
    assert image.notes == (
        "The colour profile of the file does not fit the image and was ignored.",
    )


# Several pictures in one file


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_refuses_several_pictures_and_counts_them(rgb: NDArray[np.uint8], kind: str) -> None:
    more_frames = [Image.fromarray(255 - rgb), Image.fromarray(rgb[::-1])]
    with pytest.raises(ImageRejected, match="contains 3 images"):
        read_image(encoded(rgb, kind, save_all=True, append_images=more_frames))


def test_a_phones_mpo_is_read_as_its_first_picture(rgb: NDArray[np.uint8], jpeg: bytes) -> None:
    mpo = encoded(rgb, "MPO", save_all=True, append_images=[Image.fromarray(255 - rgb)], quality=95)
    assert Image.open(BytesIO(mpo)).format == "MPO"
    image = read_image(mpo)
    assert image.format == "JPEG"
    assert np.array_equal(image.pixels, read_image(jpeg).pixels)


# What is refused


def test_rejects_empty_bytes() -> None:
    with pytest.raises(ImageRejected, match=r"This file is empty \(0 bytes\)"):
        read_image(b"")


@pytest.mark.parametrize("kind", ["JPEG", *LOSSLESS])
def test_rejects_a_truncated_file(rgb: NDArray[np.uint8], kind: str) -> None:
    file = encoded(rgb, kind)
    with pytest.raises(ImageRejected, match="incomplete or damaged"):
        read_image(file[: len(file) // 2])


def test_rejects_a_truncated_pillow_image(jpeg: bytes) -> None:
    with pytest.raises(ImageRejected, match=r"This image .* incomplete or damaged"):
        read_image(Image.open(BytesIO(jpeg[: len(jpeg) // 2])))


def test_a_renamed_pdf_is_named_a_pdf(tmp_path: Path) -> None:
    path = tmp_path / "lesion.jpg"
    path.write_bytes(b"%PDF-1.7\n1 0 obj")
    with pytest.raises(
        ImageRejected, match=r"^lesion\.jpg is a PDF document\. Expected a JPEG, PNG"
    ):
        read_image(path)


@pytest.mark.parametrize(
    ("head", "description"),
    [
        (b"GIF89a" + bytes(20), "a GIF image"),
        (bytes(4) + b"ftypheic" + bytes(20), "a HEIC image"),
        (bytes(4) + b"ftypmif1" + bytes(20), "a HEIC image"),
        (bytes(4) + b"ftypavif" + bytes(20), "an AVIF image"),
        (bytes(4) + b"ftypisom" + bytes(20), "a video"),
        (bytes(128) + b"DICM" + bytes(20), "a DICOM file"),
        (b"II*\0\x10\0\0\0CR\x02\0", "a camera's raw file"),
        (b"PK\x03\x04" + bytes(20), "a ZIP archive"),
        (b"<html><body>Sign in</body>", "a web page"),
        (b"image,diagnosis\n", "in an unknown format"),
    ],
)
def test_names_the_format_of_an_unsupported_file(head: bytes, description: str) -> None:
    with pytest.raises(ImageRejected, match=f"This file is {description}"):
        read_image(head)


@pytest.mark.parametrize("tags", [{254: 1}, {50706: 0x00000401}])
def test_refuses_a_raw_file_that_shows_only_its_preview(
    rgb: NDArray[np.uint8], tags: dict[int, int]
) -> None:
    with pytest.raises(ImageRejected, match="a camera's raw file"):
        read_image(tiff(rgb, photometric=2, extra_tags=tags))


@pytest.mark.parametrize("size", [(10, 10), (MIN_SIDE_PX - 1, 500), (500, MIN_SIDE_PX - 1)])
def test_rejects_a_picture_that_is_too_small(size: tuple[int, int]) -> None:
    with pytest.raises(
        ImageRejected, match=f"{size[0]} × {size[1]} px. Expected at least {MIN_SIDE_PX} px"
    ):
        read_image(encoded(Image.new("RGB", size), "PNG"))


def test_the_smallest_side_is_still_read() -> None:
    assert read_image(Image.new("RGB", (MIN_SIDE_PX, MIN_SIDE_PX))).height_px == MIN_SIDE_PX


@pytest.mark.parametrize("size", [(8000, 6250), (12_000, 10_000), (60_000, 60_000)])
def test_refuses_a_bomb_by_its_header_alone(size: tuple[int, int]) -> None:
    with pytest.raises(ImageRejected, match="40 megapixels"):
        read_image(png(np.zeros((1, 1, 3), np.uint8), 8, size=size))


def test_refuses_a_pillow_image_that_is_too_large() -> None:
    with pytest.raises(ImageRejected, match="40 megapixels"):
        read_image(Image.new("1", (MAX_PIXELS // 1000 + 1, 1000)))


def test_reads_a_24_megapixel_photograph() -> None:
    image = read_image(encoded(Image.new("RGB", (6000, 4000), (180, 120, 100)), "JPEG"))
    assert image.file_px == (6000, 4000)


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageRejected, match=r"^lesion\.jpg was not found") as caught:
        read_image(tmp_path / "lesion.jpg")
    assert tmp_path.name not in str(caught.value)


def test_a_folder_is_no_picture(tmp_path: Path) -> None:
    folder = tmp_path / "monday"
    folder.mkdir()
    with pytest.raises(ImageRejected, match=r"^monday is a folder"):
        read_image(folder)


def test_a_device_is_no_picture() -> None:
    with pytest.raises(ImageRejected, match="null is a device"):
        read_image(os.devnull)


def test_reports_a_file_without_read_permission(
    jpeg: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lesion.jpg"
    path.write_bytes(jpeg)

    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "open", refuse)  # root, who may run the tests, is never forbidden
    with pytest.raises(
        ImageRejected, match=r"^lesion\.jpg cannot be read: permission denied"
    ) as caught:
        read_image(path)
    assert tmp_path.name not in str(caught.value)


def test_an_enormous_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "slide.tif"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(ImageRejected, match=r"^slide\.tif has 512 MB"):
        read_image(path)


@pytest.mark.parametrize(
    "name", ["", "no\0such.jpg", "x" * 5000 + ".jpg", "lone\udcffbyte.jpg", "bell\a.jpg"]
)
def test_a_strange_path_is_refused_in_printable_words(name: str) -> None:
    with pytest.raises(ImageRejected) as caught:
        read_image(name)
    assert str(caught.value).isprintable()


def test_anything_else_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(
        TypeError, match="Expected `source` to be a path, bytes or a PIL image but got ndarray"
    ):
        read_image(np.zeros((80, 80, 3), np.uint8))  # type: ignore[arg-type]


# Invariants

SMALL = Image.radial_gradient("L").resize((72, 66)).convert("RGB")
FILES = [encoded(SMALL, kind) for kind in ("JPEG", *LOSSLESS)] + [
    encoded(SMALL, "TIFF", compression="tiff_lzw"),
    encoded(SMALL.convert("P"), "PNG", transparency=3),
    with_orientation("TIFF", np.asarray(SMALL), 6),
    with_orientation("WEBP", np.asarray(SMALL), 6),
]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_bytes_give_a_picture_or_a_sentence_and_nothing_else(data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from(FILES)))
    near = st.integers(0, min(len(file), 400) - 1) | st.integers(0, len(file) - 1)
    for at, value in data.draw(st.lists(st.tuples(near, st.integers(0, 255)), max_size=6)):
        file[at] = value
    outcome = picture_or_sentence(
        bytes(file[: data.draw(st.just(len(file)) | st.integers(0, len(file)))])
    )
    if isinstance(outcome, str):
        assert outcome.startswith("This file ")
    else:
        assert_is_a_picture(outcome)


def picture_or_sentence(file: bytes) -> LesionImage | str:
    try:
        return read_image(file)
    except ImageRejected as error:
        return str(error)


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(
        [
            "1",
            "L",
            "LA",
            "La",
            "P",
            "PA",
            "RGB",
            "RGBA",
            "RGBa",
            "RGBX",
            "CMYK",
            "YCbCr",
            "HSV",
            "I;16",
        ]
    ),
    width_px=st.integers(64, 200),
    height_px=st.integers(64, 200),
    orientation=st.integers(0, 9),
)
def test_every_mode_and_shape_becomes_rgb(
    mode: str, width_px: int, height_px: int, orientation: int
) -> None:
    source = Image.new(mode, (width_px, height_px))
    source.getexif()[ExifTags.Base.Orientation] = orientation
    image = read_image(source)
    assert_is_a_picture(image)
    swapped = orientation in (5, 6, 7, 8)
    assert image.pixels.shape == ((width_px, height_px, 3) if swapped else (height_px, width_px, 3))


def assert_is_a_picture(image: LesionImage) -> None:
    assert image.pixels.dtype == np.uint8
    assert image.pixels.ndim == 3
    assert image.pixels.shape[2] == 3
    assert min(image.height_px, image.width_px) >= MIN_SIDE_PX
    assert image.pixels.flags.c_contiguous
    assert not image.pixels.flags.writeable
    assert len(image.sha256) == 64


def test_many_threads_read_the_same_pixels_as_one(
    rgb: NDArray[np.uint8], display_p3: bytes
) -> None:
    file = encoded(rgb, "PNG", icc_profile=display_p3)
    alone = read_image(file).pixels
    with ThreadPoolExecutor(8) as pool:
        assert all(
            np.array_equal(image.pixels, alone) for image in pool.map(read_image, [file] * 64)
        )


# Real photographs


def test_reads_every_real_upload_in_its_own_size(data_dir: Path) -> None:
    with (data_dir / "uploads" / "labels.csv").open(newline="") as file:
        expected = {
            row["image"]: (int(row["width_px"]), int(row["height_px"]))
            for row in csv.DictReader(file)
        }
    files = [path for path in (data_dir / "uploads").iterdir() if path.suffix in SUPPORTED_SUFFIXES]
    images = {path.stem: read_image(path) for path in files}
    assert {name: image.file_px for name, image in images.items()} == expected
    assert {image.reduced for image in images.values()} > {None}
    assert len(images) == 16
    assert all(image.pixels.std() > 5 for image in images.values())
