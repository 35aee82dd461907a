"""Decodes a DICOM frame and compares it with the header.

If both state the colours in different ways, the codestream is used, because it describes what was
encoded, and a note reports the difference. A file whose header cannot describe its pixels is
refused.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import convert_color_space

from cadlib.images.file_types.jpeg import (
    LOSSLESS,
    JpegHeader,
    decode_jpeg,
    read_header,
    with_plain_rgb,
)
from cadlib.images.file_types.kinds import contradictory, damaged, unsupported
from cadlib.images.file_types.work_limits import check_work

OTHER_COLOURS = (
    "The header and the pixel data state the colours in different ways; "
    "those of the pixel data were used."
)
OTHER_DEPTH = (
    "The header and the pixel data state different depths; that of the pixel data was used."
)
FULL_CHROMA = (
    "According to the header the colours have half the resolution; "
    "they have the full resolution and were read so."
)
PADDED = "There are zero bytes behind the pixels; they were ignored."
SMALL_PALETTE = "The colour table of the file uses 8 of its 16 bits; it was read so."
LARGE_PALETTE = "The colour table of the file uses 16 bits where it states 8; it was read so."

_JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"
_J2K_COD = 0xFF52
_J2K_SOT = 0xFF90
_LOWEST_J2K_MARKER = 0xFF50
# The other syntaxes of JPEG are decoded as this one.
_JPEG_SYNTAXES = (uid.JPEGBaseline8Bit,)
# Luminance and chroma that pydicom does not convert while it decodes.
_UNCONVERTED_YBR = ("YBR_FULL", "YBR_FULL_422")
_COLOURS = ("Red", "Green", "Blue")
_OTHER_CHANNELS = "its header and its pixel data differ in the number of channels"


@dataclass(frozen=True)
class Frame:
    """Decoded pixels, (H, W) or (H, W, 3) as RGB, in `bits` a channel, and notes on them."""

    values: NDArray[Any]
    bits: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _J2kHeader:
    """The header of a JPEG 2000 codestream (ITU-T T.800, A.5.1 and A.6.1)."""

    width_px: int
    height_px: int
    components: int
    precision_bits: int
    is_signed: bool
    has_colour_transform: bool


def decode_frame(header: Dataset, plugin: str, name: str) -> Frame:
    """Decode the only frame of a DICOM file by a plugin of pydicom; decode a JPEG strictly.

    Raise ImageRejected if header and pixels contradict each other, or the decoder reports damage.
    """
    syntax = header.file_meta.TransferSyntaxUID
    if syntax in _JPEG_SYNTAXES:
        return _decode_jpeg(header, name)
    if syntax in uid.JPEG2000TransferSyntaxes:
        return _decode_j2k(header, plugin, name)
    return _decode_plain(header, plugin, name)


def apply_palette(
    stored: NDArray[Any],
    header: Dataset,
    name: str,
) -> Frame:
    """Return the colours of a palette image in 8 bits (DICOM PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6).

    Entries of 8 bits may be stored in words of 16, and some writers state 16 bits for them.
    """
    if header.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian:
        raise unsupported(name, "a big-endian DICOM image with a colour table")
    if "RedPaletteColorLookupTableData" not in header:
        raise unsupported(name, "a DICOM image whose colour table is packed or missing")
    entries, first, bits = header.RedPaletteColorLookupTableDescriptor
    # The standard writes 0 for a full table of 16 bits.
    entries = entries or 1 << 16
    table = _read_palette(header, entries, name)
    notes = []
    if table.dtype == np.uint16:
        # The values decide, because some writers state the wrong number of bits.
        uses_high_byte = table.max() > 255
        if uses_high_byte:
            table >>= 8
        if uses_high_byte and bits == 8:
            notes.append(LARGE_PALETTE)
        if not uses_high_byte and bits == 16:
            notes.append(SMALL_PALETTE)
    colours = table.astype(np.uint8)
    # A value before the first entry or behind the last one has the colour of that entry.
    offset = stored.astype(np.int64) - int(first)
    index = offset.clip(0, entries - 1)
    return Frame(colours[index], 8, tuple(notes))


def _read_palette(
    header: Dataset,
    entries: int,
    name: str,
) -> NDArray[np.integer]:
    """Return the colour table, (entries, 3) uint8 or uint16."""
    columns = []
    for colour in _COLOURS:
        element = header[f"{colour}PaletteColorLookupTableData"]
        column = _entries(bytes(element.value), entries, name)
        columns.append(column)
    return np.stack(columns, axis=-1)


def _entries(data: bytes, count: int, name: str) -> NDArray[np.integer]:
    """Return the entries of one colour, uint8 or uint16."""
    if len(data) >= 2 * count:
        entries = np.frombuffer(data, "<u2", count)
    elif len(data) >= count:
        entries = np.frombuffer(data, "u1", count)
    else:
        raise damaged(name, "DICOM")
    # An array on bytes cannot be changed.
    return entries.copy()


def _size(header: Dataset) -> tuple[int, int]:
    """Return (width, height) of the image in px."""
    return int(header.Columns), int(header.Rows)


def _decode_jpeg(header: Dataset, name: str) -> Frame:
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    if frame.startswith(_J2K_START):
        raise contradictory(name, "its header names JPEG, its pixel data are JPEG 2000")
    check_work(frame, "JPEG", name)
    jpeg = read_header(frame, name, "DICOM")
    samples = int(header.SamplesPerPixel)
    channels = len(jpeg.components)
    if channels != samples:
        raise contradictory(name, _OTHER_CHANNELS)
    size = _size(header)
    jpeg_size = (jpeg.width_px, jpeg.height_px)
    if jpeg_size != size:
        raise damaged(name, "DICOM")
    notes = []
    if header.BitsStored != jpeg.precision_bits:
        notes.append(OTHER_DEPTH)
    if samples == 1:
        values, _ = decode_jpeg(frame, size, name, "DICOM")
    else:
        values, colour_notes = _decode_jpeg_colours(
            frame,
            jpeg,
            header,
            name,
        )
        notes.extend(colour_notes)
    return Frame(
        values,
        jpeg.precision_bits,
        tuple(notes),
    )


def _decode_jpeg_colours(
    frame: bytes,
    jpeg: JpegHeader,
    header: Dataset,
    name: str,
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the RGB values of a JPEG with three components, and notes."""
    header_says_ycbcr = header.PhotometricInterpretation != "RGB"
    # Lossless JPEG has no colour transform of its own, so only the header states the colours.
    jpeg_says_ycbcr = None if jpeg.process == LOSSLESS else jpeg.is_ycbcr
    is_ycbcr = header_says_ycbcr if jpeg_says_ycbcr is None else jpeg_says_ycbcr
    notes = []
    if is_ycbcr != header_says_ycbcr:
        notes.append(OTHER_COLOURS)
    size = (jpeg.width_px, jpeg.height_px)
    values, decoder_notes = decode_jpeg(with_plain_rgb(frame), size, name, "DICOM")
    notes.extend(decoder_notes)
    if is_ycbcr:
        values = convert_color_space(values, "YBR_FULL", "RGB")
    return values, notes


def _decode_j2k(header: Dataset, plugin: str, name: str) -> Frame:
    frame = _bare_codestream(header, name)
    header.PixelData = encapsulate([frame])
    check_work(frame, "JPEG2000", name)
    j2k = _read_j2k_header(frame)
    _check_j2k(j2k, header, name)
    values = _as_array(header, plugin)
    notes = []
    bits = _j2k_bits(j2k, values, header)
    if bits != int(header.BitsStored):
        notes.append(OTHER_DEPTH)
    photometric = header.PhotometricInterpretation
    # In the codestream of these, luminance and chroma are the components themselves.
    contradicting: tuple[str, ...] = ("YBR_ICT", "YBR_RCT")
    if j2k.has_colour_transform:
        contradicting = _UNCONVERTED_YBR
    is_colour = j2k.components == 3
    if is_colour and photometric in contradicting:
        notes.append(OTHER_COLOURS)
    elif photometric in _UNCONVERTED_YBR:
        values = _from_ybr(values, bits)
    return Frame(
        values,
        bits,
        tuple(notes),
    )


def _bare_codestream(header: Dataset, name: str) -> bytes:
    """Return the codestream of JPEG 2000 without a file format around it.

    The standard requires it bare, and pydicom never returns from a file format with a box of length
    0.
    """
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    if frame.startswith(_JPEG_START):
        raise contradictory(name, "its header names JPEG 2000, its pixel data are JPEG")
    start = frame.find(_J2K_START)
    if start == -1:
        return frame
    return frame[start:]


def _check_j2k(j2k: _J2kHeader, header: Dataset, name: str) -> None:
    """Raise ImageRejected for a codestream that the header does not describe."""
    if j2k.components != int(header.SamplesPerPixel):
        raise contradictory(name, _OTHER_CHANNELS)
    if (j2k.width_px, j2k.height_px) != _size(header):
        raise damaged(name, "DICOM")
    if j2k.precision_bits > 16:
        raise unsupported(
            name,
            f"a DICOM image of {j2k.precision_bits} bits a channel",
        )
    if j2k.components == 3 and j2k.is_signed:
        raise contradictory(
            name,
            "its header states unsigned colours, its pixel data are signed",
        )


def _j2k_bits(j2k: _J2kHeader, values: NDArray[Any], header: Dataset) -> int:
    """Return the bits a channel: those of the header if they can describe the decoded values."""
    stored_bits = int(header.BitsStored)
    coded_bits = j2k.precision_bits
    if coded_bits < stored_bits:
        return coded_bits
    if coded_bits > stored_bits:
        # Grey values of fewer bits may be coded with more.
        is_colour = j2k.components == 3
        if is_colour or not _fits(values, header):
            return coded_bits
    return stored_bits


def _read_j2k_header(codestream: bytes) -> _J2kHeader:
    """Read the markers before the first tile.

    Raise ValueError, struct.error or IndexError if they are damaged.
    """
    right, bottom, left, top = struct.unpack(">4I", codestream[8:24])
    (components,) = struct.unpack(">H", codestream[40:42])
    depth = codestream[42]
    has_colour_transform = None
    at = 2
    while has_colour_transform is None:
        marker, length = struct.unpack(">HH", codestream[at : at + 4])
        is_damaged = marker < _LOWEST_J2K_MARKER or length < 2
        if marker == _J2K_COD:
            has_colour_transform = bool(codestream[at + 8])
        elif is_damaged or marker == _J2K_SOT:
            # Damage, or the first tile begins.
            raise ValueError("a codestream without coding style")
        at += 2 + length
    # The highest bit of `depth` is the sign, and the others are one less than the precision.
    less_one = depth & 0x7F
    sign = depth >> 7
    return _J2kHeader(
        width_px=right - left,
        height_px=bottom - top,
        components=components,
        precision_bits=less_one + 1,
        is_signed=bool(sign),
        has_colour_transform=has_colour_transform,
    )


def _decode_plain(header: Dataset, plugin: str, name: str) -> Frame:
    """Decode uncompressed pixels or RLE; only the header describes their form."""
    bits = int(header.BitsStored)
    samples = int(header.SamplesPerPixel)
    fits_word = 0 < bits <= header.BitsAllocated
    lowest_high_bit = bits - 1
    high_bit = header.get("HighBit", lowest_high_bit)
    if not fits_word or high_bit != lowest_high_bit:
        raise unsupported(
            name,
            "a DICOM image whose bits are not at the low end of their words",
        )
    if samples == 3 and bits < 8:
        raise unsupported(name, f"a DICOM image of {bits} bits a channel")
    photometric = header.PhotometricInterpretation
    notes = []
    # The standard prescribes the arrangement of RLE, so it need not be stated.
    if header.file_meta.TransferSyntaxUID == uid.RLELossless:
        _check_rle(header, name)
    else:
        if samples == 3 and "PlanarConfiguration" not in header:
            raise unsupported(name, "a DICOM image that does not say how its channels are arranged")
        length_notes = _check_length(header, name)
        notes.extend(length_notes)
    values = _as_array(header, plugin)
    if not _fits(values, header):
        raise contradictory(
            name,
            f"its header states {bits} bits a channel, its pixels use more",
        )
    if photometric in _UNCONVERTED_YBR:
        values = _from_ybr(values, bits)
    return Frame(values, bits, tuple(notes))


def _check_length(header: Dataset, name: str) -> list[str]:
    """Compare the length of native pixels with the header, and remove zeros behind them.

    Return notes. Raise ImageRejected for too few bytes, or for other bytes behind the pixels.
    """
    full = _pixel_bytes(header)
    needed = full
    if header.PhotometricInterpretation == "YBR_FULL_422":
        # Two pixels share their chroma.
        needed = full * 2 // 3
    data = bytes(header.PixelData)
    notes = []
    # Some writers state half the resolution and store the full one.
    if needed < full <= len(data) <= _even(full):
        header.PhotometricInterpretation = "YBR_FULL"
        notes.append(FULL_CHROMA)
        needed = full
    if len(data) < needed:
        raise damaged(name, "DICOM")
    # Values of odd length are padded with one byte.
    padded = _even(needed)
    if len(data) > padded:
        if any(data[needed:]):
            raise contradictory(name, "its pixel data are longer than its header states")
        notes.append(PADDED)
        header.PixelData = data[:padded]
    return notes


def _pixel_bytes(header: Dataset) -> int:
    """Return the bytes of uncompressed pixels, each with all its samples."""
    width_px, height_px = _size(header)
    pixel_bits = int(header.SamplesPerPixel) * int(header.BitsAllocated)
    return width_px * height_px * pixel_bits // 8


def _even(count: int) -> int:
    """Return the number itself if it is even, otherwise the next one."""
    return count + count % 2


def _check_rle(header: Dataset, name: str) -> None:
    """Raise ImageRejected for RLE segments that unpack to a wrong number of bytes.

    pydicom cuts off additional bytes, and all bytes behind a damaged one are shifted.
    """
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    # The header of RLE: the number of segments, and where each begins.
    count, *offsets = struct.unpack("<16I", frame[:64])
    starts = offsets[:count]
    ends = [*offsets[1:count], len(frame)]
    width_px, height_px = _size(header)
    needed = width_px * height_px
    # A segment of odd length may have been padded before it was packed.
    most = _even(needed)
    for start, end in zip(starts, ends, strict=True):
        segment = frame[start:end]
        length = _rle_length(segment)
        if not needed <= length <= most:
            raise damaged(name, "DICOM")


def _rle_length(segment: bytes) -> int:
    """Return the number of bytes that an RLE segment unpacks to (DICOM PS3.5, G.3.2)."""
    size = len(segment)
    at = 0
    length = 0
    while at < size:
        head = segment[at]
        if head < 128:
            # So many single bytes follow, unless the segment ends before.
            count = head + 1
            length += min(count, size - at - 1)
            at += 1 + count
        elif head > 128:
            # The next byte is repeated.
            if at + 1 < size:
                length += 257 - head
            at += 2
        else:
            # The number 128 does nothing.
            at += 1
    return length


def _as_array(header: Dataset, plugin: str) -> NDArray[Any]:
    """Decode the frame by a plugin of pydicom, without conversion of colours."""
    values: NDArray[Any]
    decoder = get_decoder(header.file_meta.TransferSyntaxUID)
    options: dict[str, Any] = {
        "decoding_plugin": plugin,
        "correct_unused_bits": False,
    }
    values, _ = decoder.as_array(header, index=0, raw=True, **options)
    return values


def _fits(values: NDArray[Any], header: Dataset) -> bool:
    """Return whether all values are in the range of BitsStored."""
    bits = int(header.BitsStored)
    is_signed = int(header.PixelRepresentation)
    if is_signed:
        half = 1 << (bits - 1)
        low = -half
        high = half - 1
    else:
        low = 0
        high = (1 << bits) - 1
    if values.min() < low:
        return False
    return bool(values.max() <= high)


def _from_ybr(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return RGB of luminance and chroma, reduced to 8 significant bits.

    pydicom converts 8 bits only.
    """
    extra_bits = max(bits - 8, 0)
    high_bits = values >> extra_bits
    reduced = high_bits.astype(np.uint8)
    rgb: NDArray[Any] = convert_color_space(reduced, "YBR_FULL", "RGB")
    wide = rgb.astype(values.dtype)
    return wide << extra_bits
