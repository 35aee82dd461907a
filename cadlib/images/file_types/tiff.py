"""Check that a TIFF holds one image, in a form that is read right, with no damaged strip.

libtiff reads the pixels. Pillow's own reader for uncompressed TIFF mixes up 16-bit samples in separate planes, and it
does not look at the lengths of the strips. libtiff stops once a strip has given enough bytes, so what it cannot
notice is checked here: the checksum of deflate, strips that give too many bytes, and the warnings of its JPEG decoder.
"""

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import ExifTags, Image, TiffImagePlugin

from cadlib.images.file_types.jpeg import decode_jpeg, read_header
from cadlib.images.file_types.kinds import contradictory, damaged, foreign, several, unsupported
from cadlib.images.file_types.lzw import unpacked_length

# Process-wide, and the documented switch for it: see above.
TiffImagePlugin.READ_LIBTIFF = True

Tags = TiffImagePlugin.ImageFileDirectory_v2

MOST_PAGES = 1000
"""Directories that are walked through before a file is refused."""

_Tag = ExifTags.Base
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTE_COUNTS = 322, 323, 324, 325
_SUBFILE_TYPE, _INK_SET, _SAMPLE_FORMAT, _EXTRA_SAMPLES, _SUB_IFDS, _DNG_VERSION = (
    255,
    332,
    339,
    338,
    330,
    50706,
)
_NONE, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 7, 8, 32946, 32773
_COMPRESSIONS = {
    _NONE: "none",
    _LZW: "LZW",
    _JPEG: "JPEG",
    _DEFLATE: "deflate",
    _OLD_DEFLATE: "deflate",
    _PACKBITS: "PackBits",
}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_SAMPLES = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_RAW_PHOTOMETRICS = (32803, 34892)  # a colour filter array, and raw data that were made linear
_BITS = {
    _WHITE_IS_ZERO: (1, 2, 4, 8, 16),
    _BLACK_IS_ZERO: (1, 2, 4, 8, 12, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _CMYK: (8, 16),
    _YCBCR: (8,),
}
_SENTINEL = b"\x13\xa7\x5c\xe1\x08\xbf\x64\xd2"


@dataclass(frozen=True)
class TiffForm:
    """How a TIFF stores its samples: the statements on which reading them depends."""

    byte_order: str
    photometric: int
    bits: int
    samples: int
    extra_samples: tuple[int, ...]
    planar: bool
    compression: int
    predictor: int
    width_px: int
    height_px: int


@dataclass(frozen=True)
class _Strip:
    """A strip or tile: its packed bytes, the bytes that the image needs of it, and those of its full height."""

    packed: bytes
    needed: int
    full: int


def check_tiff(data: bytes, name: str) -> int:
    """Return the number of the page that holds the image; raise ImageRejected for what cannot be read right."""
    if data.startswith(b"MM\0+"):
        raise unsupported(name, "a big-endian BigTIFF image")
    number = main_page(data, name)
    check_page(data, number, name)
    return number


def check_page(data: bytes, page: int, name: str) -> None:
    """Raise ImageRejected where a page is in a form that is not known to be read right."""
    tags = _pages(data, name)[page]
    _check_form(_read_form(tags, name), tags, name)


def check_strips(data: bytes, page: int, name: str) -> None:
    """Raise ImageRejected where a strip or tile of a page is damaged."""
    tags = _pages(data, name)[page]
    form = _read_form(tags, name)
    for strip in _strips(data, tags, form, name):
        _check_strip(strip, tags, form, name)


def eight_bit_palette(image: Image.Image) -> bytes | None:
    """Return the palette (RGB, RGB, …) of a TIFF whose entries use 8 of their 16 bits, None where they use all."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode != "P":
        return None
    entries = image.tag_v2[TiffImagePlugin.COLORMAP]
    if max(entries) > 255:
        return None
    third = len(entries) // 3
    colours = zip(entries[:third], entries[third : 2 * third], entries[2 * third :], strict=True)
    return bytes(value for colour in colours for value in colour)


def _pages(data: bytes, name: str) -> list[Tags]:
    """Return the directories of a TIFF in their order."""
    file = BytesIO(data)
    pages: list[Tags] = []
    visited: set[int] = set()
    try:
        first = Tags(data[: 16 if data[2:3] == b"+" else 8])
        at: int = first.next
        while at and at not in visited and len(pages) <= MOST_PAGES:
            visited.add(at)
            pages.append(_directory(file, data, at))
            at = pages[-1].next
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        raise damaged(name, "TIFF") from error
    if not pages:
        raise damaged(name, "TIFF")
    return pages


def _directory(file: BytesIO, data: bytes, at: int) -> Tags:
    tags = Tags(data[: 16 if data[2:3] == b"+" else 8])
    if at >= len(data):
        raise ValueError("a directory behind the end of the file")
    file.seek(at)
    tags.load(file)
    return tags


def main_page(data: bytes, name: str) -> int:
    """Return the number of the one page that is no smaller copy of another; raise ImageRejected where there is none."""
    pages = _pages(data, name)
    if any(
        _DNG_VERSION in tags or tags.get(_Tag.PhotometricInterpretation) in _RAW_PHOTOMETRICS
        for tags in pages
    ):
        raise foreign(name, "a camera's raw file")
    whole = [number for number, tags in enumerate(pages) if not _is_reduced(tags)]
    if not whole:
        raise foreign(name, "a camera's raw file")
    if len(whole) > 1:
        raise several(name, len(whole))
    main = pages[whole[0]]
    for other in [*pages, *_sub_pages(data, main)]:
        if _area(other) > _area(main):
            raise foreign(name, "a TIFF that shows a smaller copy of its image first")
    return whole[0]


def _is_reduced(tags: Tags) -> bool:
    """Return whether a page says that it is a copy of another at a lower resolution (TIFF 6.0, tags 254 and 255)."""
    return bool(int(tags.get(_Tag.NewSubfileType, 0)) & 1) or tags.get(_SUBFILE_TYPE) == 2


def _sub_pages(data: bytes, tags: Tags) -> list[Tags]:
    places = tags.get(_SUB_IFDS, ())
    file = BytesIO(data)
    pages = []
    for at in places if isinstance(places, tuple) else (places,):
        try:
            pages.append(_directory(file, data, at))
        except Exception:  # noqa: BLE001, S112 - a copy that cannot be read does not hurt the image
            continue
    return pages


def _area(tags: Tags) -> int:
    width_px, height_px = tags.get(_Tag.ImageWidth, 0), tags.get(_Tag.ImageLength, 0)
    return int(width_px) * int(height_px)


def _read_form(tags: Tags, name: str) -> TiffForm:
    """Return the form of a page; raise ImageRejected where a statement is missing or contradicts another."""
    try:
        photometric = tags.get(_Tag.PhotometricInterpretation)
        if photometric is None:
            raise unsupported(name, "a TIFF image that does not say what its values mean")
        samples = int(tags.get(_Tag.SamplesPerPixel, 1))
        bits = set(tags.get(_Tag.BitsPerSample, (1,)))
        if len(bits) != 1:
            raise unsupported(name, "a TIFF image whose channels differ in depth")
        formats = set(tags.get(_SAMPLE_FORMAT, (1,)))
        if formats != {1}:
            raise unsupported(name, "a TIFF image of signed or fractional values")
        return TiffForm(
            byte_order="little" if tags.prefix == b"II" else "big",
            photometric=int(photometric),
            bits=int(bits.pop()),
            samples=samples,
            extra_samples=tuple(tags.get(_EXTRA_SAMPLES, ())),
            planar=tags.get(_Tag.PlanarConfiguration, 1) == 2 and samples > 1,
            compression=int(tags.get(_Tag.Compression, 1)),
            predictor=int(tags.get(_Tag.Predictor, 1)),
            width_px=int(tags[_Tag.ImageWidth]),
            height_px=int(tags[_Tag.ImageLength]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged(name, "TIFF") from error


def _check_form(form: TiffForm, tags: Tags, name: str) -> None:
    """Refuse each form that is not known to be read right; the tests hold all others against another reader."""
    if form.compression not in _COMPRESSIONS:
        raise unsupported(
            name,
            "a TIFF image in a rare compression (read are none, LZW, deflate, PackBits and JPEG)",
        )
    if form.photometric not in _SAMPLES or form.bits not in _BITS[form.photometric]:
        raise unsupported(name, f"a TIFF image in a rare form ({form.bits} bits a channel)")
    if form.samples != _SAMPLES[form.photometric] + len(form.extra_samples):
        raise unsupported(name, "a TIFF image with channels that it does not describe")
    if not _is_extra_supported(form):
        raise unsupported(name, "a TIFF image with a rare arrangement of extra channels")
    if form.byte_order == "big" and (form.photometric, form.bits) in (
        (_WHITE_IS_ZERO, 16),
        (_BLACK_IS_ZERO, 12),
    ):
        raise unsupported(name, "a big-endian TIFF image in a rare grey form")
    if tags.get(_Tag.FillOrder, 1) != 1 or tags.get(_INK_SET, 1) != 1:
        raise unsupported(name, "a TIFF image with a rare order of bits or inks")
    predicts = form.compression in (_LZW, _DEFLATE, _OLD_DEFLATE) and form.bits in (8, 16)
    if form.predictor != 1 and not (form.predictor == 2 and predicts):
        raise unsupported(name, "a TIFF image with a rare predictor")
    is_jpeg = form.compression == _JPEG
    if is_jpeg and (
        form.photometric not in (_BLACK_IS_ZERO, _RGB, _YCBCR) or form.bits != 8 or form.planar
    ):
        raise unsupported(name, "a TIFF image with a rare form of JPEG compression")
    if form.photometric == _YCBCR and not is_jpeg:
        raise unsupported(name, "a TIFF image of luminance and chroma without JPEG compression")


def _is_extra_supported(form: TiffForm) -> bool:
    extra = form.extra_samples
    if not extra:
        return True
    if form.photometric in (_WHITE_IS_ZERO, _PALETTE, _YCBCR) or form.compression == _JPEG:
        return False
    if form.photometric == _BLACK_IS_ZERO:
        return len(extra) == 1 and form.bits == 8 and not form.planar
    if form.photometric == _CMYK:
        return form.bits == 8 and len(extra) <= 2 and set(extra) == {0} and not form.planar
    if form.planar:
        return extra == (2,)
    return len(extra) == 1 or (form.bits == 8 and len(extra) <= 3 and set(extra[1:]) == {0})


def _strips(data: bytes, tags: Tags, form: TiffForm, name: str) -> Iterator[_Strip]:
    """Walk over the strips or tiles; raise ImageRejected where one lies outside the file or is too short."""
    try:
        tiled = _TILE_OFFSETS in tags
        offsets = _integers(tags[_TILE_OFFSETS if tiled else _Tag.StripOffsets])
        counts = _integers(tags[_TILE_BYTE_COUNTS if tiled else _Tag.StripByteCounts])
        width_px, height_px = form.width_px, int(tags.get(_Tag.RowsPerStrip, form.height_px))
        if tiled:
            width_px, height_px = int(tags[_TILE_WIDTH]), int(tags[_TILE_LENGTH])
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(name, "TIFF") from error
    if min(width_px, height_px) < 1:
        raise damaged(name, "TIFF")
    height_px = height_px if tiled else min(height_px, form.height_px)
    across, down = math.ceil(form.width_px / width_px), math.ceil(form.height_px / height_px)
    planes = form.samples if form.planar else 1
    if len(offsets) != across * down * planes or len(counts) != len(offsets):
        raise damaged(name, "TIFF")
    row_bytes = math.ceil(width_px * form.bits * (1 if form.planar else form.samples) / 8)
    for number, (start, length) in enumerate(zip(offsets, counts, strict=True)):
        rows = height_px if tiled else min(height_px, form.height_px - number % down * height_px)
        packed = data[start : start + length]
        if len(packed) != length or not length:
            raise damaged(name, "TIFF")
        yield _Strip(packed, rows * row_bytes, height_px * row_bytes)


def _integers(value: Any) -> Sequence[int]:
    return [int(item) for item in value] if isinstance(value, tuple) else [int(value)]


def _check_strip(strip: _Strip, tags: Tags, form: TiffForm, name: str) -> None:
    if form.compression == _NONE:
        intact = len(strip.packed) >= strip.needed
    elif form.compression == _JPEG:
        _check_jpeg(strip, tags, form, name)
        intact = True
    elif form.compression in (_DEFLATE, _OLD_DEFLATE):
        intact = _inflates(strip)
    elif form.compression == _LZW:
        if strip.packed[0] == 0 and strip.packed[1:2] == b"\1":
            raise unsupported(name, "a TIFF image in the LZW compression of before TIFF 6.0")
        intact = unpacked_length(strip.packed) in (strip.needed, strip.full)
    else:
        intact = _unpacks_to(strip.packed, strip.needed) or _unpacks_to(strip.packed, strip.full)
    if not intact:
        raise damaged(name, "TIFF")


def _inflates(strip: _Strip) -> bool:
    """Return whether a strip unfolds to its needed length and matches its checksum."""
    inflate = zlib.decompressobj()
    length, rest = 0, strip.packed
    try:
        while not inflate.eof:
            piece = inflate.decompress(rest, 1 << 20)
            rest = inflate.unconsumed_tail
            length += len(piece)
            if length > strip.full or not (piece or rest or inflate.eof):
                return False
    except zlib.error:
        return False
    return length >= strip.needed


def _unpacks_to(packed: bytes, length: int) -> bool:
    """Return whether PackBits gives just this many bytes.

    libtiff unpacks it, as one row of grey values, with eight bytes behind it that must come out last.
    """
    strip = packed + bytes([len(_SENTINEL) - 1]) + _SENTINEL
    tags = {
        _Tag.ImageWidth: length + len(_SENTINEL),
        _Tag.ImageLength: 1,
        _Tag.BitsPerSample: 8,
        _Tag.Compression: _PACKBITS,
        _Tag.PhotometricInterpretation: _BLACK_IS_ZERO,
        _Tag.StripOffsets: 8 + 2 + 12 * 8 + 4,
        _Tag.RowsPerStrip: 1,
        _Tag.StripByteCounts: len(strip),
    }
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    file = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + strip
    try:
        with Image.open(BytesIO(file), formats=("TIFF",)) as image:
            return bool(image.tobytes().endswith(_SENTINEL))
    except (OSError, Image.DecompressionBombError):
        return False


def _check_jpeg(strip: _Strip, tags: Tags, form: TiffForm, name: str) -> None:
    """Refuse a JPEG strip of which its decoder warns; the tables of all strips stand in a tag of their own.

    libtiff takes the colours for what the TIFF header says and does not look at the marks of the JPEG.
    """
    tables = bytes(tags.get(TiffImagePlugin.JPEGTABLES, b""))
    whole = tables[:-2] + strip.packed[2:] if tables else strip.packed
    header = read_header(whole, name, "TIFF")
    if len(header.components) != form.samples:
        raise contradictory(name, "its header and its JPEG data differ in the number of channels")
    if form.samples == 3 and header.is_ycbcr is (form.photometric == _RGB):
        raise contradictory(
            name, "its header and its JPEG data state the colours in different ways"
        )
    decode_jpeg(whole, (header.width_px, header.height_px), name, "TIFF")
