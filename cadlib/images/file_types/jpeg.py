"""Decode JPEG data and refuse it wherever the decoder warned.

libjpeg goes on after damage and fills the rest with what it can make of it; Pillow drops its warnings. TurboJPEG, by
way of simplejpeg, gives the same pixels and reports them. What a decoder cannot notice is a changed bit that leaves
all code words in step, such as one in the value of a coefficient or in a quantization table.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from cadlib.images.file_types.kinds import damaged, unsupported

BASELINE = 0xC0
PROGRESSIVE = 0xC2
LOSSLESS = 0xC3
"""How the frame is coded: the second byte of its marker (ITU-T T.81, table B.1)."""

UNCHECKED = "Damage to this file cannot be detected: its colours have an unusual resolution."
PLAIN_INKS = (
    "The file does not state how its inks are stored; they were read as plain ones, 0 for no ink."
)

_DECODED = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA}  # the processes that libjpeg-turbo has
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # DHT, JPG and DAC lie between the frames
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}
_SOI = b"\xff\xd8"
_SOS, _EOI, _APP0, _ADOBE, _JPEG_LS = 0xDA, 0xD9, 0xE0, 0xEE, 0xF7
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # TEM, RST and SOI

# A marker in entropy-coded data: neither a stuffed zero nor a restart marker nor a fill byte.
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_HARMLESS = (
    "extraneous bytes before marker",
    "unknown JFIF revision",
    "Invalid SOS parameters for sequential",
)
# TurboJPEG names these samplings only; of every other it says one of the two texts.
_NOT_NAMED = "Could not determine subsampling"
_NOT_DECODED = (
    "Unsupported JPEG",
    "DNL not supported",
    "not implemented",
    "Maximum supported image dimension",
)
_MENDED_AT_MOST = 4
_PIXEL_FORMATS = {1: "GRAY", 3: "RGB", 4: "CMYK"}

Allocate = Callable[[tuple[int, ...]], NDArray[np.uint8]]
"""Makes an array of a shape."""


def new_array(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an array of this shape in new memory."""
    return np.empty(shape, np.uint8)


@dataclass(frozen=True)
class Component:
    """One colour component of a frame: its identifier and its sampling factors."""

    identifier: int
    horizontal: int
    vertical: int


@dataclass(frozen=True)
class JpegHeader:
    """What a JPEG states of its image before the first scan.

    `process` is the second byte of the frame's marker. `adobe_transform` is None without an Adobe marker.
    """

    process: int
    precision_bits: int
    width_px: int
    height_px: int
    components: tuple[Component, ...]
    jfif: bool
    adobe_transform: int | None

    @property
    def subsampled(self) -> bool:
        """Return whether the components differ in resolution."""
        factors = {(component.horizontal, component.vertical) for component in self.components}
        return len(factors) > 1

    @property
    def is_ycbcr(self) -> bool | None:
        """Return whether three components are luminance and chroma, None where nothing in the JPEG says so.

        libjpeg goes by the same marks in this order. RGB is never subsampled, for its channels count alike.
        """
        if len(self.components) != 3:
            return False
        if self.jfif:
            return True
        if self.adobe_transform is not None:
            return self.adobe_transform != 0
        if self.identifiers == b"RGB":
            return False
        return True if self.subsampled else None

    @property
    def identifiers(self) -> bytes:
        """Return the identifiers of the components in their order."""
        return bytes(component.identifier for component in self.components)


@dataclass(frozen=True)
class _Segment:
    """A marker and the bytes that belong to it: data[start:end], from the 0xFF of the marker on."""

    marker: int
    start: int
    end: int


def read_header(data: bytes, name: str, kind: str = "JPEG") -> JpegHeader:
    """Read the header of a JPEG; raise ImageRejected where it is damaged or of a kind that is not supported."""
    jfif, adobe_transform = False, None
    header: JpegHeader | None = None
    for segment in _segments(data):
        payload = data[segment.start + 4 : segment.end]
        if segment.marker == _APP0 and payload.startswith(b"JFIF\0"):
            jfif = True
        elif segment.marker == _ADOBE and payload.startswith(b"Adobe") and len(payload) >= 12:
            adobe_transform = payload[11]
        elif segment.marker == _JPEG_LS:
            raise unsupported(name, f"a {kind} image with JPEG-LS compression")
        elif segment.marker in _FRAMES:
            header = _read_frame(segment.marker, payload, name, kind)
        elif segment.marker == _SOS:
            break
    else:
        raise damaged(name, kind)
    if header is None:
        raise damaged(name, kind)
    return replace(header, jfif=jfif, adobe_transform=adobe_transform)


def decode_jpeg(
    data: bytes,
    size: tuple[int, int],
    name: str,
    kind: str = "JPEG",
    allocate: Allocate = new_array,
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decode a JPEG at `size` (width, height), its own or a half, quarter or eighth of it.

    Return uint8 of shape (H, W) for grey, (H, W, 3) for RGB or (H, W, 4) for CMYK with 255 for full ink, and notes.
    `allocate` makes the array of RGB pixels, for a caller who wants them in memory of its own.
    Raise ImageRejected where the decoder reports damage, and for what is not supported.
    """
    header = read_header(data, name, kind)
    _check_scans(data, header, name, kind)
    notes = []
    pixels = _decode_strictly(data, header, size, name, kind, allocate)
    if pixels is None:
        notes.append(UNCHECKED)
        pixels = _decode_by_pillow(data, size, name, kind)
    if pixels.shape[1::-1] != size:
        raise damaged(name, kind)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    # Adobe stores inks inverted. Without its marker libjpeg assumes plain inks, and so does ITU-T T.872.
    if len(header.components) == 4:
        if header.adobe_transform is None:
            notes.append(PLAIN_INKS)
        else:
            pixels = 255 - pixels
    return pixels, tuple(notes)


def with_plain_rgb(data: bytes) -> bytes:
    """Return a JPEG whose three components the decoder gives as they are stored, without a colour transform."""
    marker = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)
    parts = [_SOI, marker]
    at = len(_SOI)
    for segment in _segments(data):
        if segment.marker in (_APP0, _ADOBE):  # either would be believed first
            parts.append(data[at : segment.start])
            at = segment.end
        elif segment.marker == _SOS:
            break
    return b"".join([*parts, data[at:]])


def _decode_strictly(
    data: bytes, header: JpegHeader, size: tuple[int, int], name: str, kind: str, allocate: Allocate
) -> NDArray[np.uint8] | None:
    """Decode with every warning as an error; return None where TurboJPEG does not know the sampling."""
    pixel_format = _PIXEL_FORMATS[len(header.components)]
    place = allocate((size[1], size[0], 3)) if pixel_format == "RGB" else None
    for _ in range(_MENDED_AT_MOST):
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                data, pixel_format, min_width=size[0], min_height=size[1], buffer=place, strict=True
            )
        except KeyError:  # simplejpeg has no name for 4:4:1
            return None
        except ValueError as error:
            warning = str(error)
        else:
            return pixels
        if _NOT_NAMED in warning:
            return None
        if any(text in warning for text in _NOT_DECODED):
            raise unsupported(name, f"a {kind} image of a kind that the decoder does not know")
        mended = _without_harmless(data, header, warning)
        if mended is None:
            break
        data = mended
    raise damaged(name, kind)


def _decode_by_pillow(
    data: bytes, size: tuple[int, int], name: str, kind: str
) -> NDArray[np.uint8]:
    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            image.draft(None, size)
            pixels = np.asarray(image)
    except Exception as error:  # Pillow's decoders raise many kinds on damaged bytes
        raise damaged(name, kind) from error
    return (
        255 - pixels if pixels.ndim == 3 and pixels.shape[2] == 4 else pixels
    )  # Pillow inverts all CMYK


def _read_frame(process: int, payload: bytes, name: str, kind: str) -> JpegHeader:
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise damaged(name, kind)
    precision_bits, height_px, width_px, count = struct.unpack(">BHHB", payload[:6])
    if process not in _DECODED:
        raise unsupported(
            name, f"a {kind} image with hierarchical or arithmetic-coded lossless compression"
        )
    if precision_bits != 8:
        raise unsupported(name, f"a {kind} image of {precision_bits} bits a channel")
    if height_px == 0:
        raise unsupported(name, f"a {kind} image that states its height behind its pixels")
    if count not in _PIXEL_FORMATS:
        raise unsupported(name, f"a {kind} image of {count} colour components")
    components = []
    for at in range(6, 6 + 3 * count, 3):
        identifier, factors = payload[at], payload[at + 1]
        components.append(Component(identifier, factors >> 4, factors & 15))
    return JpegHeader(process, precision_bits, width_px, height_px, tuple(components), False, None)


def _segments(data: bytes) -> Iterator[_Segment]:
    """Walk over the segments up to the end of the image; bytes between them are skipped as libjpeg does."""
    at = len(_SOI)
    while True:
        match = _SCAN_END.search(data, at)
        if match is None:
            return
        start, marker = match.start(), data[match.start() + 1]
        if marker in _WITHOUT_LENGTH:
            at = start + 2
            continue
        if marker == _EOI:
            yield _Segment(marker, start, start + 2)
            return
        if start + 4 > len(data):
            return
        length = struct.unpack(">H", data[start + 2 : start + 4])[0]
        end = start + 2 + length
        if length < 2 or end > len(data):
            return
        yield _Segment(marker, start, end)
        at = end


def _check_scans(data: bytes, header: JpegHeader, name: str, kind: str) -> None:
    """Refuse a JPEG in which a component has no scan: libjpeg fills it with grey and does not warn."""
    missing = set(header.identifiers)
    for segment in _segments(data):
        if segment.marker == _SOS:
            payload = data[segment.start + 4 : segment.end]
            missing -= set(payload[1 : 1 + 2 * payload[0] : 2]) if payload else set()
        if not missing:
            return
    raise damaged(name, kind)


def _without_harmless(data: bytes, header: JpegHeader, warning: str) -> bytes | None:
    """Return the JPEG without the cause of a warning that leaves all pixels right, None for any other warning.

    Harmless are zero bytes between the end of a segment or scan and the next marker, an unknown revision of JFIF, and
    spectral parameters in a sequential scan, which its decoder does not use.
    """
    if not any(text in warning for text in _HARMLESS):
        return None
    if match := _EXTRANEOUS.search(warning):
        return _without_padding(data, int(match[1]), int(match[2], 16))
    mended = bytearray(data)
    for segment in _segments(data):
        if segment.marker == _APP0 and data.startswith(b"JFIF\0", segment.start + 4):
            mended[segment.start + 9] = 1
        if segment.marker == _SOS and header.process in _SEQUENTIAL:
            mended[segment.end - 3 : segment.end] = bytes((0, 63, 0))
    return None if mended == data else bytes(mended)


def _without_padding(data: bytes, count: int, marker: int) -> bytes | None:
    """Return the JPEG without `count` zero bytes before a marker, None where other bytes stand there."""
    for segment in _segments(data):
        before = data[max(segment.start - count, 0) : segment.start]
        if segment.marker == marker and count and before == bytes(count):
            return data[: segment.start - count] + data[segment.start :]
    return None
