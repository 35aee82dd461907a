"""Each form of TIFF is read as tifffile wrote it, or refused as not supported."""

import struct
import zlib
from io import BytesIO
from itertools import product

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from cadlib.errors import ImageRejected
from cadlib.images import read_image
from cadlib.images.file_types import lzw

HEIGHT_PX = 70
WIDTH_PX = 90
FORMATS = {3: "<H", 4: "<I"}  # TIFF's SHORT and LONG
COMPRESSIONS = (None, "lzw", "zlib", "packbits")


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    y, x = np.mgrid[:HEIGHT_PX, :WIDTH_PX]
    grain = np.random.default_rng(0).integers(0, 4, (HEIGHT_PX, WIDTH_PX))
    pixels = np.stack([x * 2, y * 3 + grain, 40 + (x // 30) * 60 + (y // 35) * 20], axis=-1).astype(
        np.uint8
    )
    pixels.flags.writeable = False
    return pixels


def tiff_of(values: NDArray[np.generic], **options: object) -> bytes:
    """Return a TIFF of tifffile."""
    buffer = BytesIO()
    tifffile.imwrite(buffer, values, metadata=None, **options)
    return buffer.getvalue()


def at_depth(values: NDArray[np.uint8], bits: int) -> NDArray[np.integer]:
    return values.astype(np.uint16) * 257 if bits == 16 else values


def in_planes(values: NDArray[np.generic], planar: str) -> NDArray[np.generic]:
    return values if planar == "contig" else np.ascontiguousarray(values.transpose(2, 0, 1))


def outcome(file: bytes, expected: NDArray[np.uint8], tolerance: int = 0) -> str:
    """Return "right", "not supported", or the reason why a file was refused."""
    try:
        image = read_image(file)
    except ImageRejected as error:
        return "not supported" if "not supported here" in str(error) else str(error)
    difference = np.abs(image.pixels.astype(int) - expected).max()
    return "right" if difference <= tolerance else f"differs by {difference}"


EXTRA_SAMPLES = {"rgb and alpha": ["unassalpha"], "rgb and another": ["unspecified"]}


def with_last_channel(rgb: NDArray[np.uint8], channels: str) -> NDArray[np.uint8]:
    """Return pixels with an opaque fourth channel, or with no black where they are CMYK."""
    if channels == "rgb":
        return rgb
    last = np.full((HEIGHT_PX, WIDTH_PX), 0 if channels == "cmyk" else 255, np.uint8)
    return np.dstack([rgb, last])


def forms_of(compression: str | None) -> list[dict[str, object]]:
    """Return the options of all byte orders, predictors, tiles and strips that go together."""
    predictors = (False, True) if compression in ("lzw", "zlib") else (False,)
    layouts = (
        {"tile": None, "rowsperstrip": None},
        {"tile": None, "rowsperstrip": 7},
        {"tile": (32, 48), "rowsperstrip": None},
    )
    return [
        {"byteorder": order, "bigtiff": big, "predictor": predictor, **layout}
        for order, big, predictor, layout in product("<>", (False, True), predictors, layouts)
    ]


@pytest.mark.parametrize(
    ("bits", "planar", "compression"), list(product((8, 16), ("contig", "separate"), COMPRESSIONS))
)
@pytest.mark.parametrize("channels", ["rgb", "rgb and alpha", "rgb and another", "cmyk"])
def test_colour_is_read_right_in_every_form(
    rgb: NDArray[np.uint8], bits: int, planar: str, compression: str | None, channels: str
) -> None:
    values = with_last_channel(rgb, channels)
    expected = 255 - rgb if channels == "cmyk" else rgb
    photometric = "separated" if channels == "cmyk" else "rgb"
    tolerance = 2 if channels == "cmyk" else 0
    unknown_plane = planar == "separate" and channels == "rgb and another"
    for form in forms_of(compression):
        file = tiff_of(
            in_planes(at_depth(values, bits), planar),
            photometric=photometric,
            planarconfig=planar,
            compression=compression,
            extrasamples=EXTRA_SAMPLES.get(channels),
            **form,
        )
        big_and_big_endian = form["bigtiff"] and form["byteorder"] == ">"
        refused = big_and_big_endian or unknown_plane
        expected_outcome = "not supported" if refused else "right"
        assert outcome(file, expected, tolerance) == expected_outcome, form


@pytest.mark.parametrize(("bits", "compression"), list(product((8, 16), COMPRESSIONS)))
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_grey_is_read_right_in_every_form(
    rgb: NDArray[np.uint8], bits: int, compression: str | None, photometric: str
) -> None:
    grey = rgb[..., 0]
    expected = np.repeat(
        (grey if photometric == "minisblack" else 255 - grey)[..., None], 3, axis=2
    )
    for order, big, predictor, tile in product(
        "<>", (False, True), (False, True), (None, (32, 48))
    ):
        if predictor and compression not in ("lzw", "zlib"):
            continue
        file = tiff_of(
            at_depth(grey, bits),
            photometric=photometric,
            compression=compression,
            byteorder=order,
            bigtiff=big,
            predictor=predictor,
            tile=tile,
        )
        refused = order == ">" and (big or (bits == 16 and photometric == "miniswhite"))
        form = f"{order} big={big} predictor={predictor} tile={tile}"
        assert (form, outcome(file, expected)) == (form, "not supported" if refused else "right")


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", "<>")
def test_a_palette_is_read_right(
    rgb: NDArray[np.uint8], compression: str | None, order: str
) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (3, 256))
    file = tiff_of(
        rgb[..., 0],
        photometric="palette",
        colormap=(colours * 257).astype(np.uint16),
        compression=compression,
        byteorder=order,
    )
    assert outcome(file, colours.T[rgb[..., 0]].astype(np.uint8)) == "right"


def test_a_palette_of_8_bits_in_16_is_read_with_a_note(rgb: NDArray[np.uint8]) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (3, 256))
    image = read_image(
        tiff_of(rgb[..., 0], photometric="palette", colormap=colours.astype(np.uint16))
    )
    assert np.array_equal(image.pixels, colours.T[rgb[..., 0]])
    assert "8 of its 16 bits" in image.notes[0]


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("order", "<>")
def test_black_and_white_is_read_right(
    rgb: NDArray[np.uint8], photometric: str, order: str
) -> None:
    bright = rgb[..., 0] > 90
    is_white = bright if photometric == "minisblack" else ~bright
    expected = np.repeat(np.where(is_white, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    assert outcome(tiff_of(bright, photometric=photometric, byteorder=order), expected) == "right"


@pytest.mark.parametrize(
    "dtype",
    [
        np.int8,
        np.int16,
        np.int32,
        np.uint32,
        np.uint64,
        np.float16,
        np.float32,
        np.float64,
        np.complex64,
    ],
)
@pytest.mark.parametrize("photometric", ["minisblack", "rgb"])
@pytest.mark.parametrize("order", "<>")
def test_other_sample_formats_are_not_supported(
    rgb: NDArray[np.uint8], dtype: type[np.generic], photometric: str, order: str
) -> None:
    values = (rgb if photometric == "rgb" else rgb[..., 0]).astype(dtype)
    assert (
        outcome(tiff_of(values, photometric=photometric, byteorder=order), rgb) == "not supported"
    )


@pytest.mark.parametrize("compression", ["zstd", "lzma", "webp", "jpeg2000", "jpegxl"])
def test_rare_compressions_are_not_supported(rgb: NDArray[np.uint8], compression: str) -> None:
    assert outcome(tiff_of(rgb, photometric="rgb", compression=compression), rgb) == "not supported"


@pytest.mark.parametrize("photometric", ["cielab", "ycbcr", "icclab", "logluv"])
def test_rare_colours_are_not_supported(rgb: NDArray[np.uint8], photometric: str) -> None:
    assert outcome(tiff_of(rgb, photometric=photometric), rgb) == "not supported"


@pytest.fixture(scope="module")
def smooth() -> NDArray[np.uint8]:
    pixels = np.array(Image.radial_gradient("L").resize((96, 80)).convert("RGB"))
    pixels[..., 0] //= 2
    return pixels


@pytest.mark.parametrize(
    "options", [{"subsampling": (1, 1)}, {"subsampling": (2, 2)}, {"subsampling": (2, 1)}], ids=str
)
@pytest.mark.parametrize("layout", [{"rowsperstrip": 16}, {"tile": (32, 48)}], ids=str)
def test_jpeg_strips_are_read_as_tifffile_does(
    smooth: NDArray[np.uint8], options: dict[str, object], layout: dict[str, object]
) -> None:
    file = tiff_of(
        smooth,
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 95},
        **layout,
        **options,
    )
    assert outcome(file, tifffile.imread(BytesIO(file)), tolerance=4) == "right"


def test_jpeg_strips_without_a_colour_transform_are_read(smooth: NDArray[np.uint8]) -> None:
    plain = {"level": 95, "outcolorspace": "rgb"}
    file = tiff_of(smooth, photometric="rgb", compression="jpeg", compressionargs=plain)
    assert outcome(file, smooth, tolerance=4) == "right"


def test_jpeg_strips_whose_colours_contradict_the_header_are_refused(
    smooth: NDArray[np.uint8],
) -> None:
    file = tiff_of(smooth, photometric="rgb", compression="jpeg", compressionargs={"level": 95})
    ycbcr = struct.pack("<HHII", 262, 3, 1, 6)
    rgb = struct.pack("<HHII", 262, 3, 1, 2)
    assert ycbcr in file
    with pytest.raises(ImageRejected, match="contradict"):
        read_image(file.replace(ycbcr, rgb))


# Damage


def changed(file: bytes, compression: str | None, kind: str) -> bytes:
    """Return a TIFF with damage in its second strip."""
    with tifffile.TiffFile(BytesIO(file)) as tiff:
        page = tiff.pages[0]
        start = page.dataoffsets[1]
        length = page.databytecounts[1]
        counts = page.tags["StripByteCounts"]
    damaged = bytearray(file)
    if kind == "zeroed":
        damaged[start + length // 3 : start + 2 * length // 3] = bytes(
            2 * length // 3 - length // 3
        )
    elif kind == "cut off":
        return file[: start + length - 3]
    else:
        code = FORMATS[counts.dtype]
        struct.pack_into(code, damaged, counts.valueoffset + struct.calcsize(code), length // 2)
    return bytes(damaged)


@pytest.mark.parametrize("compression", [*COMPRESSIONS, "jpeg"])
@pytest.mark.parametrize("kind", ["zeroed", "cut off", "too short by its own count"])
def test_rejects_a_damaged_strip(
    rgb: NDArray[np.uint8], compression: str | None, kind: str
) -> None:
    if compression is None and kind == "zeroed":
        pytest.skip("bytes without compression have no structure that zeros could break")
    file = tiff_of(rgb, photometric="rgb", compression=compression, rowsperstrip=16)
    damaged = changed(file, compression, kind)
    assert "incomplete or damaged" in outcome(damaged, rgb)


def test_rejects_a_strip_with_a_wrong_checksum(rgb: NDArray[np.uint8]) -> None:
    file = tiff_of(rgb, photometric="rgb", compression="zlib")
    checksum = struct.pack(">I", zlib.adler32(rgb.tobytes()))
    assert checksum in file
    assert "incomplete or damaged" in outcome(file.replace(checksum, bytes(4)), rgb)


@pytest.mark.parametrize("compression", ["lzw", "packbits"])
def test_rejects_a_strip_that_gives_a_byte_too_many(
    rgb: NDArray[np.uint8], compression: str
) -> None:
    longer = tiff_of(
        np.append(rgb.reshape(-1), np.uint8(7))[None],
        photometric="minisblack",
        compression=compression,
    )
    strip = strip_of(longer)
    intact = tiff_of(rgb, photometric="rgb", compression=compression)
    own = strip_of(intact)
    assert outcome(with_strip(intact, own), rgb) == "right"
    assert "incomplete or damaged" in outcome(with_strip(intact, strip), rgb)


def strip_of(file: bytes) -> bytes:
    with tifffile.TiffFile(BytesIO(file)) as tiff:
        page = tiff.pages[0]
        start = page.dataoffsets[0]
        length = page.databytecounts[0]
    return file[start : start + length]


def with_strip(file: bytes, strip: bytes) -> bytes:
    """Return a TIFF of one strip with another strip at its end."""
    with tifffile.TiffFile(BytesIO(file)) as tiff:
        offset = tiff.pages[0].tags["StripOffsets"]
        count = tiff.pages[0].tags["StripByteCounts"]
    changed = bytearray(file)
    for tag, value in ((offset, len(file)), (count, len(strip))):
        struct.pack_into(FORMATS[tag.dtype], changed, tag.valueoffset, value)
    return bytes(changed) + strip


@pytest.mark.parametrize("length", [1, 254, 255, 256, 5000, 40_000])
@pytest.mark.parametrize("values", [2, 256])
def test_measures_the_unpacked_size_of_lzw(length: int, values: int) -> None:
    data = np.random.default_rng(length).integers(0, values, (1, length), dtype=np.uint8)
    packed = strip_of(tiff_of(data, photometric="minisblack", compression="lzw"))
    assert lzw.unpacked_length(packed) == length


def test_lzw_of_a_code_before_its_entry_has_no_length() -> None:
    clear = 256
    later = 300
    end = 257
    bits = "".join(f"{code:09b}" for code in (clear, 65, later, end)).ljust(40, "0")
    assert lzw.unpacked_length(int(bits, 2).to_bytes(5, "big")) is None


# Pages


def test_a_second_page_that_is_its_own_thumbnail_is_no_second_image(rgb: NDArray[np.uint8]) -> None:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(rgb, photometric="rgb", metadata=None)
        tiff.write(
            np.ascontiguousarray(255 - rgb[::2, ::2]),
            photometric="rgb",
            subfiletype=1,
            metadata=None,
        )
    assert outcome(buffer.getvalue(), rgb) == "right"


def test_a_thumbnail_before_its_image_is_passed_over(rgb: NDArray[np.uint8]) -> None:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(
            np.ascontiguousarray(255 - rgb[::2, ::2]),
            photometric="rgb",
            subfiletype=1,
            metadata=None,
        )
        tiff.write(rgb, photometric="rgb", metadata=None)
    assert outcome(buffer.getvalue(), rgb) == "right"


def test_smaller_copies_in_sub_directories_do_not_count(rgb: NDArray[np.uint8]) -> None:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(rgb, photometric="rgb", subifds=1, metadata=None)
        tiff.write(
            np.ascontiguousarray(rgb[::2, ::2]), photometric="rgb", subfiletype=1, metadata=None
        )
    assert outcome(buffer.getvalue(), rgb) == "right"


def test_refuses_a_page_with_a_larger_copy_of_itself(rgb: NDArray[np.uint8]) -> None:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(np.ascontiguousarray(rgb[:, :-10]), photometric="rgb", subifds=1, metadata=None)
        tiff.write(rgb, photometric="rgb", metadata=None)
    with pytest.raises(ImageRejected, match="shows a smaller copy"):
        read_image(buffer.getvalue())


def test_two_full_pages_are_two_images(rgb: NDArray[np.uint8]) -> None:
    buffer = BytesIO()
    with tifffile.TiffWriter(buffer) as tiff:
        tiff.write(rgb, photometric="rgb", metadata=None)
        tiff.write(np.ascontiguousarray(rgb[::2, ::2]), photometric="rgb", metadata=None)
    with pytest.raises(ImageRejected, match="contains 2 images"):
        read_image(buffer.getvalue())
