"""Colours that a file states without an ICC profile are converted to sRGB, or a note says that they were not."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from cadlib.errors import ImageRejected
from cadlib.images import read_image
from cadlib.images.colour.stated import (
    ADOBE_RGB,
    ADOBE_RGB_GAMMA,
    BT2020,
    CONTRADICTORY,
    D65,
    DISPLAY_P3,
    NOT_CONVERTED,
    NOT_SRGB,
    SRGB,
    Curve,
    adobe_rgb,
    rgb_profile,
    srgb_curve,
)

COLOURS = [
    (200, 120, 100),
    (90, 60, 50),
    (180, 140, 130),
    (255, 255, 255),
    (0, 0, 0),
    (128, 128, 128),
]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(colour: tuple[int, ...], *chunks: bytes, mode: str = "RGB", **options: object) -> bytes:
    buffer = BytesIO()
    Image.new(mode, (80, 80), colour if mode == "RGB" else colour[0]).save(buffer, "PNG", **options)
    file = buffer.getvalue()
    return file[:33] + b"".join(chunks) + file[33:]


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))


def chrm(primaries: tuple[tuple[float, float], ...]) -> bytes:
    values = [round(value * 100_000) for point in (D65, *primaries) for value in point]
    return chunk(b"cHRM", struct.pack(">8I", *values))


def in_srgb(
    colour: tuple[int, ...], primaries: tuple[tuple[float, float], ...], gamma: float
) -> list[float]:
    """Return the sRGB values (0 to 255) of a colour of another space of white D65, clipped."""

    def to_xyz(points: tuple[tuple[float, float], ...]) -> np.ndarray:
        columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in points]).T
        white = (D65[0] / D65[1], 1, (1 - sum(D65)) / D65[1])
        return columns * np.linalg.solve(columns, white)

    linear = np.linalg.solve(
        to_xyz(SRGB), to_xyz(primaries) @ (np.array(colour) / 255) ** gamma
    ).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return list(255 * encoded)


def assert_reads_as(file: bytes, expected: list[float], tolerance: float = 2) -> None:
    image = read_image(file)
    assert np.abs(image.pixels[0, 0] - np.array(expected)).max() <= tolerance
    assert image.notes[0].startswith("The colours were converted to sRGB ")


def assert_reads_as_it_stands(file: bytes, colour: tuple[int, ...], *notes: str) -> None:
    image = read_image(file)
    assert image.pixels[0, 0].tolist() == list(colour)
    assert image.notes == notes


# PNG


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.5])
def test_the_gamma_of_a_png_is_used(colour: tuple[int, ...], gamma: float) -> None:
    assert_reads_as(png(colour, gama(1 / gamma)), in_srgb(colour, SRGB, gamma))


def test_the_gamma_of_a_grey_png_is_used() -> None:
    image = read_image(png((60,), gama(1.0), mode="L"))
    assert np.abs(image.pixels[0, 0] - np.array(in_srgb((60, 60, 60), SRGB, 1.0))).max() <= 2


@pytest.mark.parametrize("colour", COLOURS)
def test_gamma_and_primaries_of_a_png_are_used(colour: tuple[int, ...]) -> None:
    file = png(colour, gama(1 / ADOBE_RGB_GAMMA), chrm(ADOBE_RGB))
    assert_reads_as(file, in_srgb(colour, ADOBE_RGB, ADOBE_RGB_GAMMA))


@pytest.mark.parametrize(
    "chunks",
    [
        (gama(0.45455),), (gama(0.45455), chrm(SRGB)), (chrm(SRGB),), (chunk(b"sRGB", b"\0"), gama(0.45455)),
        (chunk(b"sRGB", b"\0"), gama(1.0)), (chunk(b"cICP", bytes((1, 13, 0, 1))), gama(1.0)),
    ],
    ids=["gamma", "gamma and primaries", "primaries", "sRGB", "sRGB before gamma", "cICP before gamma"],
)  # fmt: skip
def test_a_png_in_srgb_is_read_unchanged(chunks: tuple[bytes, ...]) -> None:
    assert_reads_as_it_stands(png((200, 120, 100), *chunks), (200, 120, 100))


@pytest.mark.parametrize(
    "chunks",
    [
        (chrm(ADOBE_RGB),), (gama(0),), (gama(0.00001), chrm(SRGB)), (gama(0.5), chunk(b"cHRM", bytes(32))),
        (chunk(b"cICP", bytes((2, 2, 0, 1))),), (chunk(b"cICP", bytes((1, 1, 0, 1))),), (chunk(b"cICP", b"\1"),),
    ],
    ids=["primaries alone", "gamma of 0", "absurd gamma", "no primaries", "unspecified", "camera curve", "too short"],
)  # fmt: skip
def test_notes_incomplete_colour_data_of_a_png(chunks: tuple[bytes, ...]) -> None:
    assert_reads_as_it_stands(png((200, 120, 100), *chunks), (200, 120, 100), NOT_CONVERTED)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("code", "primaries"), [(9, BT2020), (12, DISPLAY_P3), (1, SRGB)])
def test_the_colour_code_of_a_png_is_used(
    colour: tuple[int, ...], code: int, primaries: tuple[tuple[float, float], ...]
) -> None:
    file = png(colour, chunk(b"cICP", bytes((code, 4, 0, 1))))
    assert_reads_as(file, in_srgb(colour, primaries, 2.2))


@pytest.mark.parametrize(
    "colour_code", [(9, 16, 0, 1), (9, 18, 0, 1), (1, 13, 0, 0), (1, 13, 1, 1)]
)
def test_high_dynamic_range_and_video_are_not_supported(colour_code: tuple[int, ...]) -> None:
    with pytest.raises(ImageRejected, match="not supported here"):
        read_image(png((200, 120, 100), chunk(b"cICP", bytes(colour_code))))


def test_a_profile_comes_before_gamma() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert_reads_as_it_stands(png((200, 120, 100), gama(1.0), icc_profile=srgb), (200, 120, 100))


# EXIF


def tiff_directory(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Return a directory of a TIFF; an entry is its tag, type, count and value."""
    packed = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + bytes(4)


def main_directory(n_bytes: int, exif_at: int, depths_at: int) -> bytes:
    """Return the directory of an RGB image of 80 × 80 pixels behind the header."""
    numbers = {
        256: 80, 257: 80, 259: 1, 262: 2, 273: 8, 277: 3, 278: 80, 279: n_bytes, 0x8769: exif_at,
    }  # fmt: skip
    entries = [(tag, 4, 1, struct.pack("<I", number)) for tag, number in numbers.items()]
    entries.append((258, 3, 3, struct.pack("<I", depths_at)))
    return tiff_directory(*sorted(entries))


def tiff_with_exif(space: int | None, rule: str | None, colour: tuple[int, ...]) -> bytes:
    """Return a TIFF with the directories of EXIF and of interoperability, which Pillow does not write."""
    pixels = bytes(colour) * 80 * 80
    interop_at = 8 + len(pixels)
    interop = tiff_directory((1, 2, 4, (rule or "R98").encode() + b"\0"))
    exif_at = interop_at + len(interop)
    exif = tiff_directory(
        (0xA001, 3, 1, struct.pack("<HH", space or 1, 0)),
        (0xA005, 4, 1, struct.pack("<I", interop_at)),
    )
    main_at = exif_at + len(exif)
    depths_at = main_at + 2 + 12 * 10 + 4
    main = main_directory(len(pixels), exif_at, depths_at)
    depths = struct.pack("<3H", 8, 8, 8)
    return b"II*\0" + struct.pack("<I", main_at) + pixels + interop + exif + main + depths


def with_exif(
    kind: str, space: int | None, rule: str | None, colour: tuple[int, ...], **options: object
) -> bytes:
    if kind == "TIFF":
        return tiff_with_exif(space, rule, colour)
    exif = Image.Exif()
    exif[0x010F] = "a camera"  # Pillow writes no EXIF without an element of its first directory
    if space is not None:
        exif.get_ifd(0x8769)[0xA001] = space
    if rule is not None:
        exif.get_ifd(0x8769)[0xA005] = {1: rule, 2: b"0100"}
    buffer = BytesIO()
    lossless = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        kind, {}
    )
    Image.new("RGB", (80, 80), colour).save(
        buffer, kind, exif=exif.tobytes(), **lossless, **options
    )
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(("space", "rule"), [(0xFFFF, "R03"), (2, None)])
def test_adobe_rgb_of_a_camera_is_converted(
    kind: str, colour: tuple[int, ...], space: int, rule: str | None
) -> None:
    file = with_exif(kind, space, rule, colour)
    assert_reads_as(file, in_srgb(colour, ADOBE_RGB, ADOBE_RGB_GAMMA), tolerance=3)
    assert "Adobe RGB" in read_image(file).notes[0]


@pytest.mark.parametrize(
    ("space", "rule", "notes"),
    [
        (1, None, ()), (1, "R98", ()), (None, None, ()), (0xFFFF, None, (NOT_SRGB,)), (0xFFFF, "R98", (NOT_SRGB,)),
        (1, "R03", (CONTRADICTORY,)), (None, "R03", (NOT_SRGB,)), (0xFFFD, None, (NOT_SRGB,)),
    ],
)  # fmt: skip
def test_notes_incomplete_colour_data_of_a_camera(
    space: int | None, rule: str | None, notes: tuple[str, ...]
) -> None:
    assert_reads_as_it_stands(
        with_exif("PNG", space, rule, (200, 120, 100)), (200, 120, 100), *notes
    )


def test_a_profile_precedes_the_colour_space_of_the_camera() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file = with_exif("PNG", 0xFFFF, "R03", (200, 120, 100), icc_profile=srgb)
    assert_reads_as_it_stands(file, (200, 120, 100))


# Profiles


@pytest.mark.parametrize("curve", [2.2, srgb_curve()], ids=["gamma", "table"])
def test_a_profile_of_srgb_moves_no_colour(curve: Curve) -> None:
    file = png((200, 120, 100), icc_profile=rgb_profile(D65, SRGB, curve))
    assert np.abs(read_image(file).pixels[0, 0].astype(int) - [200, 120, 100]).max() <= 1


def test_a_profile_is_one_that_littlecms_knows() -> None:
    profile = ImageCms.ImageCmsProfile(BytesIO(adobe_rgb())).profile
    assert (profile.xcolor_space, profile.connection_space) == ("RGB ", "XYZ ")


@pytest.mark.parametrize(
    "primaries",
    [
        ((0.3, 0.3),) * 3,
        ((0.6, 0.0), (0.3, 0.6), (0.1, 0.1)),
        ((float("nan"), 0.3), (0.3, 0.6), (0.1, 0.1)),
    ],
)
def test_impossible_primaries_are_rejected(primaries: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValueError, match=r"chromaticity|primaries"):
        rgb_profile(D65, primaries, 2.2)
