"""JPEG files are read as Pillow decodes them, and refused wherever the decoder warned."""

import base64
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from cadlib.errors import ImageRejected
from cadlib.images import read_image
from cadlib.images.file_types import jpeg
from cadlib.images.synthetic import render_lesion

EOI = b"\xff\xd9"
ARITHMETIC = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCN"
    "l4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/yQAR"
    "CABCAEgDASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwDSWcofwtLLFQcbRzXAxsCzA8Bf3ZJJuHwWUXgT/wDk7ZvxGc9XmME7"
    "7G96UUqTxj+F2Ku29nBJ5ovVXSPX+M0YvNKRNNFwRK6SOsKnf4kINiWjIKM+rMZ2UurS+9SoL2Ni1CZOSDwmjRKMeajlw9FOr/ZVx6ckrUP5"
    "VHAyFdKo7JUH+cf0uMQEyhxu8Yyk/O3nl7DkZOPLVCA40mLVs9GgnNjzz1U4N8VQWxscGsGrKi4NMKXq/XcsbomY0MZs4Df/2Q=="
)
"""A radial gradient, 72 × 66 pixels, that jpegtran -arithmetic of libjpeg-turbo 2.1.5 wrote."""


@pytest.fixture(scope="module")
def lesion() -> Image.Image:
    return Image.fromarray(render_lesion("MEL", 1, 300)).crop((0, 30, 297, 270))


def encoded(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", **{"quality": 90} | options)
    return buffer.getvalue()


def decoded_by_pillow(file: bytes, fraction: int = 1) -> NDArray[np.uint8]:
    with Image.open(BytesIO(file)) as image:
        image.draft(None, (image.width // fraction, image.height // fraction))
        return np.asarray(image)


def scan_start(file: bytes) -> int:
    at = file.index(b"\xff\xda")
    return at + 2 + int.from_bytes(file[at + 2 : at + 4], "big")


def is_refused_as_damaged(file: bytes) -> bool:
    try:
        read_image(file)
    except ImageRejected as error:
        return "incomplete or damaged" in str(error)
    return False


# The same pixels as before


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"restart_marker_blocks": 3}, {"optimize": True}],
    ids=str,
)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("fraction", [1, 2, 4])
def test_pixels_are_those_of_pillow(
    lesion: Image.Image, options: dict[str, object], subsampling: str, mode: str, fraction: int
) -> None:
    file = encoded(lesion.convert(mode), subsampling=subsampling, **options)
    expected = decoded_by_pillow(file, fraction)
    size = expected.shape[1::-1]
    pixels, notes = jpeg.decode_jpeg(file, size, "lesion.jpg")
    assert np.array_equal(pixels, expected)
    assert notes == ()


def test_pixels_of_real_photographs_are_those_of_pillow(data_dir: Path) -> None:
    for path in sorted((data_dir / "uploads").glob("*.jpg")):
        file = path.read_bytes()
        for fraction in (1, 2, 8):
            expected = decoded_by_pillow(file, fraction)
            pixels, notes = jpeg.decode_jpeg(file, expected.shape[1::-1], path.name)
            assert np.array_equal(pixels, expected)
            assert notes == ()


def test_rgb_without_a_colour_transform_is_read(lesion: Image.Image) -> None:
    file = encoded(lesion, keep_rgb=True)
    assert np.array_equal(read_image(file).pixels, decoded_by_pillow(file))


def test_arithmetic_coding_is_read() -> None:
    image = read_image(ARITHMETIC)
    assert np.array_equal(image.pixels, decoded_by_pillow(ARITHMETIC))


def test_damaged_arithmetic_coding_is_refused() -> None:
    assert is_refused_as_damaged(ARITHMETIC[:-60])


# Damage


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1))
def test_rejects_a_file_cut_off_anywhere(share: float) -> None:
    file = encoded(Image.fromarray(render_lesion("NV", 3, 200)))
    assert is_refused_as_damaged(file[: 20 + int(share * (len(file) - 21))])


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), progressive=st.booleans())
def test_rejects_a_file_cut_off_and_ended(share: float, progressive: bool) -> None:
    file = encoded(Image.fromarray(render_lesion("NV", 3, 200)), progressive=progressive)
    start = file.index(b"\xff\xda") + 20
    assert is_refused_as_damaged(file[: start + int(share * (len(file) - start - 8))] + EOI)


def test_rejects_a_progressive_file_cut_off_between_two_scans_and_ended() -> None:
    file = encoded(Image.fromarray(render_lesion("NV", 3, 200)), progressive=True)
    tables = [match.start() for match in re.finditer(b"\xff\xc4|\xff\xda", file)]
    between_scans = tables[3:]
    assert len(between_scans) > 10
    for place in between_scans:
        assert is_refused_as_damaged(file[:place] + EOI)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), options=st.sampled_from([{}, {"restart_marker_blocks": 4}]))
def test_rejects_a_block_of_zeros(share: float, options: dict[str, object]) -> None:
    file = encoded(Image.fromarray(render_lesion("NV", 3, 200)), **options)
    start = scan_start(file)
    at = start + int(share * (len(file) - start - 1030))
    assert is_refused_as_damaged(file[:at] + bytes(1024) + file[at + 1024 :])


@pytest.mark.parametrize("lost", ["marker", "interval"])
def test_rejects_a_lost_restart(lesion: Image.Image, lost: str) -> None:
    file = encoded(lesion, restart_marker_blocks=4)
    first = file.index(b"\xff\xd2")
    second = file.index(b"\xff\xd3")
    damaged = file[:first] + file[first + 2 :] if lost == "marker" else file[:first] + file[second:]
    assert is_refused_as_damaged(damaged)


def test_rejects_a_file_without_its_end(lesion: Image.Image) -> None:
    file = encoded(lesion)
    assert file.endswith(EOI)
    assert is_refused_as_damaged(file[:-2])


def test_a_large_damaged_file_is_refused_at_a_fraction(lesion: Image.Image) -> None:
    file = bytearray(encoded(lesion.resize((3000, 2400)), quality=95))
    middle = len(file) // 2
    file[middle : middle + 4096] = bytes(4096)
    assert is_refused_as_damaged(bytes(file))


def test_rejects_a_component_without_a_scan(lesion: Image.Image) -> None:
    grey = encoded(lesion.convert("L"))
    at = grey.index(b"\xff\xc0")
    frame = grey[at + 4 : at + 9] + bytes((3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0))
    damaged = (
        grey[:at] + b"\xff\xc0" + (2 + len(frame)).to_bytes(2, "big") + frame + grey[at + 13 :]
    )
    assert decoded_by_pillow(damaged).shape == (240, 297, 3)  # Pillow takes the other two for grey
    assert is_refused_as_damaged(damaged)


@pytest.mark.parametrize("at", ["header", "scan"])
def test_rejects_bytes_that_belong_to_nothing(lesion: Image.Image, at: str) -> None:
    file = encoded(lesion)
    place = file.index(b"\xff\xc4") if at == "header" else len(file) - 2
    assert is_refused_as_damaged(file[:place] + b"lost data" + file[place:])


# Harmless


def variants(file: bytes) -> dict[str, bytes]:
    tables = file.index(b"\xff\xc4")
    scan = file.index(b"\xff\xda")
    end = scan_start(file)
    jfif = bytearray(file)
    jfif[11] = 3
    return {
        "bytes behind the image": file + b"a thumbnail, a sound or a depth map",
        "zeros behind the image": file + bytes(5000),
        "zeros before a table": file[:tables] + bytes(7) + file[tables:],
        "zeros at the end of the scan": file[:-2] + bytes(100) + EOI,
        "zeros in both places": file[:tables] + bytes(7) + file[tables:-2] + bytes(3) + EOI,
        "fill bytes before a marker": file[:scan] + b"\xff\xff\xff" + file[scan:],
        "a later revision of JFIF": bytes(jfif),
        "spectral parameters of a progressive scan": file[: end - 3]
        + bytes((0, 0, 0))
        + file[end:],
        "a comment": file[:2] + b"\xff\xfe\0\x06abcd" + file[2:],
    }


@pytest.mark.parametrize("name", list(variants(encoded(Image.new("RGB", (64, 64))))))
def test_defects_without_effect_on_pixels_are_accepted(lesion: Image.Image, name: str) -> None:
    file = encoded(lesion)
    assert np.array_equal(read_image(variants(file)[name]).pixels, decoded_by_pillow(file))


# Not supported


@pytest.mark.parametrize(
    ("offset", "value", "feature"),
    [
        (4, 12, "12 bits a channel"),
        (9, 2, "2 colour components"),
        (1, 0xC5, "hierarchical"),
        (1, 0xCB, "lossless"),
        (1, 0xF7, "JPEG-LS"),
    ],
)
def test_a_complete_file_of_a_rare_kind_is_not_reported_as_damaged(
    lesion: Image.Image, offset: int, value: int, feature: str
) -> None:
    file = bytearray(encoded(lesion))
    file[file.index(b"\xff\xc0") + offset] = value
    with pytest.raises(ImageRejected, match=f"{feature}.*not supported here"):
        read_image(bytes(file))


def test_a_height_behind_the_pixels_is_not_supported(lesion: Image.Image) -> None:
    file = bytearray(encoded(lesion))
    at = file.index(b"\xff\xc0") + 5
    file[at : at + 2] = bytes(2)
    with pytest.raises(
        ImageRejected, match=r"states its height behind its pixels.*not supported here"
    ):
        read_image(bytes(file))


def test_a_sampling_whose_damage_cannot_be_detected_is_noted(lesion: Image.Image) -> None:
    file = encoded(lesion.convert("CMYK"), subsampling="4:2:0")
    image = read_image(file)
    assert np.array_equal(image.pixels, np.asarray(Image.open(BytesIO(file)).convert("RGB")))
    assert image.notes[0] == jpeg.UNCHECKED


# Inks


def without_adobe(file: bytes) -> bytes:
    at = file.index(b"\xff\xee")
    return file[:at] + file[at + 2 + int.from_bytes(file[at + 2 : at + 4], "big") :]


def test_inks_without_adobes_marker_are_plain() -> None:
    stored = (255, 0, 255, 0)  # cyan and yellow in full: green
    inverted = Image.new(
        "CMYK", (80, 80), tuple(255 - ink for ink in stored)
    )  # Pillow stores the complement
    file = encoded(inverted, subsampling="4:4:4")
    image = read_image(without_adobe(file))
    assert np.abs(image.pixels[40, 40].astype(int) - [0, 255, 0]).max() <= 3
    assert image.notes[0] == jpeg.PLAIN_INKS


def test_inks_with_adobes_marker_are_inverted() -> None:
    file = encoded(Image.new("CMYK", (80, 80), (255, 0, 255, 0)), subsampling="4:4:4")
    image = read_image(file)
    assert np.abs(image.pixels[40, 40].astype(int) - [0, 255, 0]).max() <= 3
    assert jpeg.PLAIN_INKS not in image.notes


def test_inks_as_luminance_and_chroma_are_read(lesion: Image.Image) -> None:
    file = bytearray(encoded(lesion.convert("CMYK"), subsampling="4:4:4"))
    transform_at = file.index(b"Adobe") + 11
    assert file[transform_at] == 0
    file[transform_at] = 2  # YCCK
    expected = np.asarray(Image.open(BytesIO(file)).convert("RGB"))
    assert np.array_equal(read_image(bytes(file)).pixels, expected)
