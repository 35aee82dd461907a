"""Checks that a TIFF holds one supported image with intact strips.

libtiff reads the pixels. Pillow's own reader for uncompressed TIFF mixes up 16-bit samples in
separate planes, and it does not check the lengths of the strips. libtiff stops once a strip has
given enough bytes. This module checks what libtiff cannot notice: the checksum of deflate, strips
that give too many bytes, and the warnings of its JPEG decoder.
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

# Pillow's documented switch to libtiff, for the whole process: see above.
TiffImagePlugin.READ_LIBTIFF = True

Tags = TiffImagePlugin.ImageFileDirectory_v2

MOST_PAGES = 1000
"""Directories that are read before a file is refused."""

_Tag = ExifTags.Base
_SUBFILE_TYPE = 255
_TILE_WIDTH = 322
_TILE_LENGTH = 323
_TILE_OFFSETS = 324
_TILE_BYTE_COUNTS = 325
_SUB_IFDS = 330
_INK_SET = 332
_EXTRA_SAMPLES = 338
_SAMPLE_FORMAT = 339
_DNG_VERSION = 50706
_NONE = 1
_LZW = 5
_JPEG = 7
_DEFLATE = 8
_OLD_DEFLATE = 32946
_PACKBITS = 32773
_COMPRESSIONS = {
    _NONE: "none",
    _LZW: "LZW",
    _JPEG: "JPEG",
    _DEFLATE: "deflate",
    _OLD_DEFLATE: "deflate",
    _PACKBITS: "PackBits",
}
_WHITE_IS_ZERO = 0
_BLACK_IS_ZERO = 1
_RGB = 2
_PALETTE = 3
_CMYK = 5
_YCBCR = 6
_SAMPLES = {
    _WHITE_IS_ZERO: 1,
    _BLACK_IS_ZERO: 1,
    _RGB: 3,
    _PALETTE: 1,
    _CMYK: 4,
    _YCBCR: 3,
}
# A colour filter array, and raw data that were made linear.
_RAW_PHOTOMETRICS = (32803, 34892)
_BITS = {
    _WHITE_IS_ZERO: (1, 2, 4, 8, 16),
    _BLACK_IS_ZERO: (1, 2, 4, 8, 12, 16),
    _RGB: (8, 16),
    _PALETTE: (1, 2, 4, 8),
    _CMYK: (8, 16),
    _YCBCR: (8,),
}
# Photometric interpretation and bits that libtiff does not read correctly from big-endian files.
_NOT_BIG_ENDIAN = ((_WHITE_IS_ZERO, 16), (_BLACK_IS_ZERO, 12))
_PIECE_BYTES = 1 << 20
# These bytes must come out last where a strip of PackBits has the right length.
_SENTINEL = b"\x13\xa7\x5c\xe1\x08\xbf\x64\xd2"


@dataclass(frozen=True)
class TiffForm:
    """The form in which a TIFF stores its samples."""

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
    """A strip or tile.

    `needed` is the number of unpacked bytes that the image needs, `full` that of the full height.
    """

    packed: bytes
    needed: int
    full: int


@dataclass(frozen=True)
class _Layout:
    """The places of the strips or tiles in the file, and the size of one in pixels.

    The size is the stated one, so the last strip or tile may reach beyond the image.
    """

    tiled: bool
    offsets: Sequence[int]
    byte_counts: Sequence[int]
    width_px: int
    height_px: int


def check_tiff(data: bytes, name: str) -> int:
    """Return the number of the page that holds the image.

    Raise ImageRejected for a TIFF that is damaged or not supported.
    """
    if data.startswith(b"MM\0+"):
        raise unsupported(name, "a big-endian BigTIFF image")
    number = main_page(data, name)
    check_page(data, number, name)
    return number


def check_page(data: bytes, page: int, name: str) -> None:
    """Raise ImageRejected for a page in a form that may be read wrongly."""
    pages = _pages(data, name)
    tags = pages[page]
    form = _read_form(tags, name)
    _check_form(form, tags, name)


def check_strips(data: bytes, page: int, name: str) -> None:
    """Raise ImageRejected for a page with a damaged strip or tile."""
    pages = _pages(data, name)
    tags = pages[page]
    form = _read_form(tags, name)
    for strip in _strips(data, tags, form, name):
        _check_strip(strip, tags, form, name)


def eight_bit_palette(image: Image.Image) -> bytes | None:
    """Return the palette (RGB, RGB, …) of a TIFF whose entries use only 8 of their 16 bits.

    Return None if they use all bits or there is no palette.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or image.mode != "P":
        return None
    entries = image.tag_v2[TiffImagePlugin.COLORMAP]
    if max(entries) > 255:
        return None
    third = len(entries) // 3
    reds = entries[:third]
    greens = entries[third : 2 * third]
    blues = entries[2 * third :]
    values: list[int] = []
    for colour in zip(reds, greens, blues, strict=True):
        values.extend(colour)
    return bytes(values)


def _pages(data: bytes, name: str) -> list[Tags]:
    """Return the directories of a TIFF in order."""
    file = BytesIO(data)
    pages: list[Tags] = []
    visited: set[int] = set()
    try:
        start = _empty_tags(data)
        at: int = start.next
        # A file may chain its directories in a circle.
        while at and at not in visited and len(pages) <= MOST_PAGES:
            visited.add(at)
            page = _directory(file, data, at)
            pages.append(page)
            at = page.next
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        raise damaged(name, "TIFF") from error
    if not pages:
        raise damaged(name, "TIFF")
    return pages


def _empty_tags(data: bytes) -> Tags:
    """Return tags with the byte order and the first offset of a TIFF."""
    is_big_tiff = data[2:3] == b"+"
    header_bytes = 16 if is_big_tiff else 8
    return Tags(data[:header_bytes])


def _directory(file: BytesIO, data: bytes, at: int) -> Tags:
    tags = _empty_tags(data)
    if at >= len(data):
        raise ValueError("a directory behind the end of the file")
    file.seek(at)
    tags.load(file)
    return tags


def main_page(data: bytes, name: str) -> int:
    """Return the number of the only page that is not a smaller copy of another.

    Raise ImageRejected if there is no such page, or more than one.
    """
    pages = _pages(data, name)
    if any(_is_raw(tags) for tags in pages):
        raise foreign(name, "a camera's raw file")
    whole = [number for number, tags in enumerate(pages) if not _is_reduced(tags)]
    if not whole:
        raise foreign(name, "a camera's raw file")
    if len(whole) > 1:
        raise several(name, len(whole))
    number = whole[0]
    main = pages[number]
    main_area = _area(main)
    sub_pages = _sub_pages(data, main)
    for other in [*pages, *sub_pages]:
        if _area(other) > main_area:
            raise foreign(
                name,
                "a TIFF that shows a smaller copy of its image first",
            )
    return number


def _is_raw(tags: Tags) -> bool:
    """Return whether a page belongs to a camera's raw file."""
    if _DNG_VERSION in tags:
        return True
    return tags.get(_Tag.PhotometricInterpretation) in _RAW_PHOTOMETRICS


def _is_reduced(tags: Tags) -> bool:
    """Return whether a page states that it is a smaller copy of another.

    Source: TIFF 6.0, tags 254 and 255.
    """
    subfile_bits = int(tags.get(_Tag.NewSubfileType, 0))
    if subfile_bits & 1:
        return True
    return tags.get(_SUBFILE_TYPE) == 2


def _sub_pages(data: bytes, tags: Tags) -> list[Tags]:
    places = tags.get(_SUB_IFDS, ())
    if not isinstance(places, tuple):
        places = (places,)
    file = BytesIO(data)
    pages = []
    for at in places:
        try:
            page = _directory(file, data, at)
        except Exception:  # noqa: BLE001, S112 - an unreadable copy does not affect the image
            continue
        pages.append(page)
    return pages


def _area(tags: Tags) -> int:
    width_px = int(tags.get(_Tag.ImageWidth, 0))
    height_px = int(tags.get(_Tag.ImageLength, 0))
    return width_px * height_px


def _read_form(tags: Tags, name: str) -> TiffForm:
    """Return the form of a page.

    Raise ImageRejected for a statement that is missing or contradicts another.
    """
    try:
        photometric = tags.get(_Tag.PhotometricInterpretation)
        if photometric is None:
            raise unsupported(
                name,
                "a TIFF image that does not say what its values mean",
            )
        samples = int(tags.get(_Tag.SamplesPerPixel, 1))
        bits = _read_bits(tags, name)
        byte_order = "little" if tags.prefix == b"II" else "big"
        has_planes = tags.get(_Tag.PlanarConfiguration, 1) == 2
        return TiffForm(
            byte_order=byte_order,
            photometric=int(photometric),
            bits=bits,
            samples=samples,
            extra_samples=tuple(tags.get(_EXTRA_SAMPLES, ())),
            planar=has_planes and samples > 1,
            compression=int(tags.get(_Tag.Compression, 1)),
            predictor=int(tags.get(_Tag.Predictor, 1)),
            width_px=int(tags[_Tag.ImageWidth]),
            height_px=int(tags[_Tag.ImageLength]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise damaged(name, "TIFF") from error


def _read_bits(tags: Tags, name: str) -> int:
    """Return the bits a sample.

    Raise ImageRejected if the channels differ or the values are not unsigned integers.
    """
    depths = set(tags.get(_Tag.BitsPerSample, (1,)))
    if len(depths) != 1:
        raise unsupported(name, "a TIFF image whose channels differ in depth")
    formats = set(tags.get(_SAMPLE_FORMAT, (1,)))
    # The number 1 stands for unsigned integers.
    if formats != {1}:
        raise unsupported(name, "a TIFF image of signed or fractional values")
    return int(depths.pop())


def _check_form(form: TiffForm, tags: Tags, name: str) -> None:
    """Raise ImageRejected for a form that may be read wrongly.

    The tests compare all other forms with another reader.
    """
    _check_samples(form, name)
    if tags.get(_Tag.FillOrder, 1) != 1 or tags.get(_INK_SET, 1) != 1:
        raise unsupported(
            name,
            "a TIFF image with a rare order of bits or inks",
        )
    _check_compression(form, name)


def _check_samples(form: TiffForm, name: str) -> None:
    """Raise ImageRejected for a rare compression or arrangement of samples."""
    if form.compression not in _COMPRESSIONS:
        raise unsupported(
            name,
            "a TIFF image in a rare compression (read are none, LZW, deflate, PackBits and JPEG)",
        )
    supported_bits = _BITS.get(form.photometric, ())
    if form.bits not in supported_bits:
        raise unsupported(name, f"a TIFF image in a rare form ({form.bits} bits a channel)")
    samples = _SAMPLES[form.photometric] + len(form.extra_samples)
    if form.samples != samples:
        raise unsupported(name, "a TIFF image with channels that it does not describe")
    if not _is_extra_supported(form):
        raise unsupported(
            name,
            "a TIFF image with a rare arrangement of extra channels",
        )
    is_big_endian = form.byte_order == "big"
    if is_big_endian and (form.photometric, form.bits) in _NOT_BIG_ENDIAN:
        raise unsupported(name, "a big-endian TIFF image in a rare grey form")


def _is_extra_supported(form: TiffForm) -> bool:
    """Return whether the channels beside the colours, such as alpha, are read correctly."""
    extra = form.extra_samples
    if not extra:
        return True
    has_colours_alone = form.photometric in (_WHITE_IS_ZERO, _PALETTE, _YCBCR)
    if has_colours_alone or form.compression == _JPEG:
        return False
    is_plain = form.bits == 8 and not form.planar
    if form.photometric == _BLACK_IS_ZERO:
        return is_plain and len(extra) == 1
    if form.photometric == _CMYK:
        # A number of 0 says that a channel has no stated meaning.
        return is_plain and extra in ((0,), (0, 0))
    # A number of 2 says that a channel is an opacity by which the colours are not multiplied.
    if form.planar:
        return extra == (2,)
    are_few = form.bits == 8 and len(extra) <= 3
    are_others_unspecified = set(extra[1:]) == {0}
    return len(extra) == 1 or (are_few and are_others_unspecified)


def _check_compression(form: TiffForm, name: str) -> None:
    """Raise ImageRejected for a rare predictor, or a rare form of JPEG compression."""
    has_predictor = form.compression in (_LZW, _DEFLATE, _OLD_DEFLATE)
    if form.predictor != 1:
        is_supported = form.predictor == 2 and has_predictor and form.bits in (8, 16)
        if not is_supported:
            raise unsupported(name, "a TIFF image with a rare predictor")
    is_jpeg = form.compression == _JPEG
    if is_jpeg:
        has_jpeg_colours = form.photometric in (_BLACK_IS_ZERO, _RGB, _YCBCR)
        if not has_jpeg_colours or form.bits != 8 or form.planar:
            raise unsupported(
                name,
                "a TIFF image with a rare form of JPEG compression",
            )
    if form.photometric == _YCBCR and not is_jpeg:
        raise unsupported(
            name,
            "a TIFF image of luminance and chroma without JPEG compression",
        )


def _strips(
    data: bytes,
    tags: Tags,
    form: TiffForm,
    name: str,
) -> Iterator[_Strip]:
    """Yield the strips or tiles; raise ImageRejected for one that is not inside the file."""
    layout = _read_layout(tags, form, name)
    height_px = layout.height_px
    across = math.ceil(form.width_px / layout.width_px)
    down = math.ceil(form.height_px / height_px)
    planes = form.samples if form.planar else 1
    count = across * down * planes
    # libtiff reads missing strips as black.
    if len(layout.offsets) != count or len(layout.byte_counts) != count:
        raise damaged(name, "TIFF")
    row_bytes = _row_bytes(layout, form)
    full = height_px * row_bytes
    for number in range(count):
        rows = height_px
        # Tiles have their full height, but the last strip ends with the image.
        if not layout.tiled:
            number_in_plane = number % down
            rows = _strip_rows(number_in_plane, height_px, form)
        packed = _packed_bytes(data, layout, number, name)
        yield _Strip(packed, rows * row_bytes, full)


def _packed_bytes(
    data: bytes,
    layout: _Layout,
    number: int,
    name: str,
) -> bytes:
    """Return the bytes of a strip or tile; raise ImageRejected if it is not inside the file."""
    start = layout.offsets[number]
    length = layout.byte_counts[number]
    packed = data[start : start + length]
    if len(packed) != length or not length:
        raise damaged(name, "TIFF")
    return packed


def _strip_rows(number: int, height_px: int, form: TiffForm) -> int:
    """Return the rows of a strip, by its number in its plane."""
    rows_above = number * height_px
    rows_left = form.height_px - rows_above
    return min(height_px, rows_left)


def _row_bytes(layout: _Layout, form: TiffForm) -> int:
    """Return the unpacked bytes of one row of a strip or tile."""
    samples = 1 if form.planar else form.samples
    row_bits = layout.width_px * form.bits * samples
    return math.ceil(row_bits / 8)


def _read_layout(tags: Tags, form: TiffForm, name: str) -> _Layout:
    """Return the layout of a page; raise ImageRejected for missing or impossible statements."""
    tiled = _TILE_OFFSETS in tags
    try:
        rows_per_strip = int(tags.get(_Tag.RowsPerStrip, form.height_px))
        if tiled:
            offsets = _integers(tags[_TILE_OFFSETS])
            byte_counts = _integers(tags[_TILE_BYTE_COUNTS])
            width_px = int(tags[_TILE_WIDTH])
            height_px = int(tags[_TILE_LENGTH])
        else:
            offsets = _integers(tags[_Tag.StripOffsets])
            byte_counts = _integers(tags[_Tag.StripByteCounts])
            width_px = form.width_px
            height_px = rows_per_strip
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(name, "TIFF") from error
    if min(width_px, height_px) < 1:
        raise damaged(name, "TIFF")
    # Many writers state more rows than the image has, for a single strip.
    if not tiled:
        height_px = min(height_px, form.height_px)
    return _Layout(
        tiled=tiled,
        offsets=offsets,
        byte_counts=byte_counts,
        width_px=width_px,
        height_px=height_px,
    )


def _integers(value: Any) -> Sequence[int]:
    if isinstance(value, tuple):
        return [int(item) for item in value]
    return [int(value)]


def _check_strip(
    strip: _Strip,
    tags: Tags,
    form: TiffForm,
    name: str,
) -> None:
    if form.compression == _NONE:
        intact = len(strip.packed) >= strip.needed
    elif form.compression == _JPEG:
        _check_jpeg(strip, tags, form, name)
        intact = True
    elif form.compression in (_DEFLATE, _OLD_DEFLATE):
        intact = _inflates(strip)
    elif form.compression == _LZW:
        # Before TIFF 6.0 the bits of a code were in the other order.
        is_old_lzw = strip.packed.startswith(b"\0\1")
        if is_old_lzw:
            raise unsupported(name, "a TIFF image in the LZW compression of before TIFF 6.0")
        length = unpacked_length(strip.packed)
        intact = length in (strip.needed, strip.full)
    else:
        intact = _unpacks_to(strip.packed, strip.needed)
        if not intact:
            intact = _unpacks_to(strip.packed, strip.full)
    if not intact:
        raise damaged(name, "TIFF")


def _inflates(strip: _Strip) -> bool:
    """Return whether a strip unpacks to its needed length and matches its checksum."""
    inflate = zlib.decompressobj()
    length = 0
    rest = strip.packed
    try:
        while not inflate.eof:
            piece = inflate.decompress(rest, _PIECE_BYTES)
            rest = inflate.unconsumed_tail
            length += len(piece)
            if length > strip.full:
                return False
            is_cut_short = not piece and not rest and not inflate.eof
            if is_cut_short:
                return False
    except zlib.error:
        return False
    return length >= strip.needed


def _unpacks_to(packed: bytes, length: int) -> bool:
    """Return whether PackBits data unpack to exactly `length` bytes.

    libtiff unpacks them as one row of grey values. Eight bytes are added that must come out last.
    """
    # PackBits writes single bytes behind their number less 1.
    run_head = bytes([len(_SENTINEL) - 1])
    strip = packed + run_head + _SENTINEL
    file = _grey_row(strip, length + len(_SENTINEL))
    try:
        with Image.open(BytesIO(file), formats=("TIFF",)) as image:
            unpacked = image.tobytes()
    except (OSError, Image.DecompressionBombError):
        return False
    return unpacked.endswith(_SENTINEL)


def _grey_row(strip: bytes, width_px: int) -> bytes:
    """Return a TIFF of one row of grey values with a strip of PackBits."""
    tags = {
        _Tag.ImageWidth: width_px,
        _Tag.ImageLength: 1,
        _Tag.BitsPerSample: 8,
        _Tag.Compression: _PACKBITS,
        _Tag.PhotometricInterpretation: _BLACK_IS_ZERO,
        # The strip follows the header and the directory: a count, eight tags and the next offset.
        _Tag.StripOffsets: 8 + 2 + 12 * 8 + 4,
        _Tag.RowsPerStrip: 1,
        _Tag.StripByteCounts: len(strip),
    }
    # Type 4 is a number of 32 bits, and each tag has one.
    entries = []
    for tag, value in tags.items():
        entry = struct.pack("<HHII", tag, 4, 1, value)
        entries.append(entry)
    start = b"II*\0" + struct.pack("<IH", 8, len(tags))
    no_other_directory = bytes(4)
    return b"".join([start, *entries, no_other_directory, strip])


def _check_jpeg(
    strip: _Strip,
    tags: Tags,
    form: TiffForm,
    name: str,
) -> None:
    """Raise ImageRejected for a JPEG strip about which its decoder warns.

    libtiff reads the colours as the TIFF header states them, and ignores the marks of the JPEG. So
    the two must not contradict each other.
    """
    # The tables of all strips are in a tag of their own.
    tables = bytes(tags.get(TiffImagePlugin.JPEGTABLES, b""))
    whole = strip.packed
    if tables:
        # Without the end marker of the tables and the start marker of the strip.
        whole = tables[:-2] + strip.packed[2:]
    header = read_header(whole, name, "TIFF")
    if len(header.components) != form.samples:
        raise contradictory(name, "its header and its JPEG data differ in the number of channels")
    if form.samples == 3:
        is_rgb = form.photometric == _RGB
        # `is_ycbcr` is None if the JPEG does not state its colours.
        if header.is_ycbcr is is_rgb:
            raise contradictory(
                name, "its header and its JPEG data state the colours in different ways"
            )
    size = (header.width_px, header.height_px)
    decode_jpeg(whole, size, name, "TIFF")
