"""Decode the frame of a DICOM file, and compare what it states of itself with the header.

Where both state the colours, the codestream is right, for it is what was encoded, and a note tells of it. Where a
header cannot describe the pixels, the file is refused.
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

from cadlib.images.file_types.jpeg import LOSSLESS, decode_jpeg, read_header, with_plain_rgb
from cadlib.images.file_types.kinds import contradictory, damaged, unsupported
from cadlib.images.file_types.work_limits import check_work

OTHER_COLOURS = "The header and the pixel data state the colours in different ways; they were read as the pixel data say."
OTHER_DEPTH = (
    "The header and the pixel data state different depths; they were read as the pixel data say."
)
FULL_CHROMA = "By its header the colours are at half resolution; they are at full resolution and were read so."
PADDED = "Behind the pixels stand zero bytes that belong to nothing; they were left out."
SMALL_PALETTE = "The colour table of the file uses 8 of its 16 bits; it was read so."
LARGE_PALETTE = "The colour table of the file uses 16 bits where it states 8; it was read so."

_JPEG_START = b"\xff\xd8"
_J2K_START = b"\xff\x4f\xff\x51"
_J2K_COD = 0xFF52
_JPEG_SYNTAXES = (uid.JPEGBaseline8Bit,)  # the others are decoded as this one
_COLOURS = ("Red", "Green", "Blue")


@dataclass(frozen=True)
class Frame:
    """Decoded pixels, (H, W) or (H, W, 3) as RGB, in `bits` a channel, and what was noticed."""

    values: NDArray[Any]
    bits: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _J2kHeader:
    """What a JPEG 2000 codestream states of itself (ITU-T T.800, A.5.1 and A.6.1)."""

    width_px: int
    height_px: int
    components: int
    precision_bits: int
    is_signed: bool
    has_colour_transform: bool


def decode_frame(header: Dataset, plugin: str, name: str) -> Frame:
    """Decode the one frame of a DICOM file by a plugin of pydicom; a JPEG is decoded strictly.

    Raise ImageRejected where header and pixels contradict each other, or the decoder reports damage.
    """
    syntax = header.file_meta.TransferSyntaxUID
    if syntax in _JPEG_SYNTAXES:
        return _decode_jpeg(header, name)
    if syntax in uid.JPEG2000TransferSyntaxes:
        return _decode_j2k(header, plugin, name)
    return _decode_plain(header, plugin, name)


def apply_palette(stored: NDArray[Any], header: Dataset, name: str) -> Frame:
    """Return the colours of a palette image in 8 bits (DICOM PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6).

    Entries of 8 bits may stand in words of 16, and some writers state 16 bits for them.
    """
    if header.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian:
        raise unsupported(name, "a big-endian DICOM image with a colour table")
    if "RedPaletteColorLookupTableData" not in header:
        raise unsupported(name, "a DICOM image whose colour table is packed or missing")
    entries, first, bits = header.RedPaletteColorLookupTableDescriptor
    entries = entries or 1 << 16
    tables = [
        _entries(bytes(header[f"{colour}PaletteColorLookupTableData"].value), entries, name)
        for colour in _COLOURS
    ]
    table = np.stack(tables, axis=-1)
    notes = []
    if table.dtype == np.uint16:
        if table.max() > 255:
            notes += [LARGE_PALETTE] * (bits == 8)
            table >>= 8
        else:
            notes += [SMALL_PALETTE] * (bits == 16)
    index = (stored.astype(np.int64) - int(first)).clip(0, entries - 1)
    return Frame(table.astype(np.uint8)[index], 8, tuple(notes))


def _entries(data: bytes, count: int, name: str) -> NDArray[np.integer]:
    if len(data) >= 2 * count:
        return np.frombuffer(data, "<u2", count).copy()
    if len(data) >= count:
        return np.frombuffer(data, "u1", count).copy()
    raise damaged(name, "DICOM")


def _decode_jpeg(header: Dataset, name: str) -> Frame:
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    if frame.startswith(_J2K_START):
        raise contradictory(name, "its header names JPEG, its pixel data are JPEG 2000")
    check_work(frame, "JPEG", name)
    jpeg = read_header(frame, name, "DICOM")
    samples = int(header.SamplesPerPixel)
    if len(jpeg.components) != samples:
        raise contradictory(name, "its header and its pixel data differ in the number of channels")
    size = (int(header.Columns), int(header.Rows))
    if (jpeg.width_px, jpeg.height_px) != size:
        raise damaged(name, "DICOM")
    notes = [OTHER_DEPTH] if header.BitsStored != jpeg.precision_bits else []
    if samples == 1:
        values, _ = decode_jpeg(frame, size, name, "DICOM")
        return Frame(values, jpeg.precision_bits, tuple(notes))
    header_says_ycbcr = header.PhotometricInterpretation != "RGB"
    # Lossless JPEG has no colour transform of its own, so only the header can tell.
    is_ycbcr = None if jpeg.process == LOSSLESS else jpeg.is_ycbcr
    if is_ycbcr not in (None, header_says_ycbcr):
        notes.append(OTHER_COLOURS)
    values, decoder_notes = decode_jpeg(with_plain_rgb(frame), size, name, "DICOM")
    notes.extend(decoder_notes)
    if header_says_ycbcr if is_ycbcr is None else is_ycbcr:
        values = convert_color_space(values, "YBR_FULL", "RGB")
    return Frame(values, jpeg.precision_bits, tuple(notes))


def _decode_j2k(header: Dataset, plugin: str, name: str) -> Frame:
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    if frame.startswith(_JPEG_START):
        raise contradictory(name, "its header names JPEG 2000, its pixel data are JPEG")
    # The standard wants it bare, and pydicom never comes out of a file around it with a box of length 0.
    frame = frame[max(frame.find(_J2K_START), 0) :]
    header.PixelData = encapsulate([frame])
    check_work(frame, "JPEG2000", name)
    j2k = _read_j2k_header(frame)
    if j2k.components != int(header.SamplesPerPixel):
        raise contradictory(name, "its header and its pixel data differ in the number of channels")
    if (j2k.width_px, j2k.height_px) != (int(header.Columns), int(header.Rows)):
        raise damaged(name, "DICOM")
    if j2k.precision_bits > 16:
        raise unsupported(name, f"a DICOM image of {j2k.precision_bits} bits a channel")
    colour = j2k.components == 3
    if colour and j2k.is_signed:
        raise contradictory(name, "its header states unsigned colours, its pixel data are signed")
    values = _as_array(header, plugin)
    bits = int(header.BitsStored)
    notes = []
    if j2k.precision_bits < bits or (
        j2k.precision_bits > bits and (colour or not _fits(values, header))
    ):
        bits = j2k.precision_bits
        notes.append(OTHER_DEPTH)
    photometric = header.PhotometricInterpretation
    untransformed = (
        "YBR_FULL",
        "YBR_FULL_422",
    )  # by the codestream: luminance and chroma are its components
    stated = untransformed if j2k.has_colour_transform else ("YBR_ICT", "YBR_RCT")
    if colour and photometric in stated:
        notes.append(OTHER_COLOURS)
    elif photometric in untransformed:
        values = _from_ybr(values, bits)
    return Frame(values, bits, tuple(notes))


def _read_j2k_header(codestream: bytes) -> _J2kHeader:
    """Read the markers before the first tile; raise ValueError, struct.error or IndexError where they are damaged."""
    right, bottom, left, top = struct.unpack(">4I", codestream[8:24])
    (components,) = struct.unpack(">H", codestream[40:42])
    depth = codestream[42]
    has_colour_transform = None
    at = 2
    while has_colour_transform is None:
        marker, length = struct.unpack(">HH", codestream[at : at + 4])
        if marker == _J2K_COD:
            has_colour_transform = bool(codestream[at + 8])
        elif marker < 0xFF50 or length < 2 or marker == 0xFF90:  # the first tile begins
            raise ValueError("a codestream without coding style")
        at += 2 + length
    return _J2kHeader(
        right - left,
        bottom - top,
        components,
        (depth & 0x7F) + 1,
        bool(depth >> 7),
        has_colour_transform,
    )


def _decode_plain(header: Dataset, plugin: str, name: str) -> Frame:
    """Decode uncompressed pixels or RLE, of which the header alone tells the form."""
    bits = int(header.BitsStored)
    photometric, samples = header.PhotometricInterpretation, int(header.SamplesPerPixel)
    if not 0 < bits <= header.BitsAllocated or header.get("HighBit", bits - 1) != bits - 1:
        raise unsupported(name, "a DICOM image whose bits are not at the low end of their words")
    if samples == 3 and bits < 8:
        raise unsupported(name, f"a DICOM image of {bits} bits a channel")
    notes = []
    if header.file_meta.TransferSyntaxUID == uid.RLELossless:
        _check_rle(header, name)
    else:
        if samples == 3 and "PlanarConfiguration" not in header:
            raise unsupported(name, "a DICOM image that does not say how its channels are arranged")
        notes += _check_length(header, name)
    values = _as_array(header, plugin)
    if not _fits(values, header):
        raise contradictory(name, f"its header states {bits} bits a channel, its pixels use more")
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        values = _from_ybr(values, bits)
    return Frame(values, bits, tuple(notes))


def _check_length(header: Dataset, name: str) -> list[str]:
    """Compare the length of native pixels with the header, and take away what stands behind them."""
    pixels = int(header.Rows) * int(header.Columns)
    full = pixels * int(header.SamplesPerPixel) * int(header.BitsAllocated) // 8
    needed = full * 2 // 3 if header.PhotometricInterpretation == "YBR_FULL_422" else full
    data = bytes(header.PixelData)
    notes = []
    if needed < full <= len(data) <= full + full % 2:
        header.PhotometricInterpretation = "YBR_FULL"
        notes.append(FULL_CHROMA)
        needed = full
    if len(data) < needed:
        raise damaged(name, "DICOM")
    if len(data) > needed + needed % 2:
        if any(data[needed:]):
            raise contradictory(name, "its pixel data are longer than its header states")
        notes.append(PADDED)
        header.PixelData = data[: needed + needed % 2]
    return notes


def _check_rle(header: Dataset, name: str) -> None:
    """Refuse RLE segments that give too many bytes: pydicom cuts them off, and all behind a damaged one is shifted."""
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    count, *offsets = struct.unpack("<16I", frame[:64])
    ends = [*offsets[1:count], len(frame)]
    needed = int(header.Rows) * int(header.Columns)
    for start, end in zip(offsets[:count], ends, strict=True):
        # A segment of odd length may have been padded before it was packed.
        if not needed <= _rle_length(frame[start:end]) <= needed + needed % 2:
            raise damaged(name, "DICOM")


def _rle_length(segment: bytes) -> int:
    """Return the bytes that an RLE segment unpacks to (DICOM PS3.5, G.3.2)."""
    at = length = 0
    while at < len(segment):
        head = segment[at]
        if head < 128:
            length += min(head + 1, len(segment) - at - 1)
            at += head + 2
        elif head > 128:
            length += 257 - head if at + 1 < len(segment) else 0
            at += 2
        else:
            at += 1
    return length


def _as_array(header: Dataset, plugin: str) -> NDArray[Any]:
    values: NDArray[Any]
    decoder = get_decoder(header.file_meta.TransferSyntaxUID)
    options: dict[str, Any] = {"decoding_plugin": plugin, "correct_unused_bits": False}
    values, _ = decoder.as_array(header, index=0, raw=True, **options)
    return values


def _fits(values: NDArray[Any], header: Dataset) -> bool:
    """Return whether all values lie in the range of BitsStored."""
    bits, signed = int(header.BitsStored), int(header.PixelRepresentation)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    return bool(low <= values.min() and values.max() <= high)


def _from_ybr(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return RGB of luminance and chroma; pydicom converts 8 bits only, so more are reduced before."""
    reduced = (values >> max(bits - 8, 0)).astype(np.uint8)
    rgb: NDArray[Any] = convert_color_space(reduced, "YBR_FULL", "RGB")
    return rgb.astype(values.dtype) << max(bits - 8, 0)
