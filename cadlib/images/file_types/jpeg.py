"""Decodes JPEG data and refuses files about which the decoder warns.

libjpeg continues after damage and fills the rest with a guess, and Pillow drops its warnings.
TurboJPEG, which simplejpeg calls, gives the same pixels and reports the warnings. A decoder cannot
notice a changed bit that leaves all code words in step, such as a bit in the value of a coefficient
or in a quantization table.
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

LOSSLESS = 0xC3
"""Process of a lossless frame: the second byte of its marker (ITU-T T.81, table B.1)."""

UNCHECKED = "Damage to this file cannot be detected: its colours have an unusual resolution."
PLAIN_INKS = (
    "The file does not state how its inks are stored; they were read as plain ones, 0 for no ink."
)

# The processes that libjpeg-turbo supports.
_DECODED = {0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA}
# The codes of DHT, JPG and DAC lie between those of the frames.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}
_PROGRESSIVE = {0xC2, 0xCA}
_COEFFICIENTS = 64
"""Coefficients of a block: its mean, and 63 of detail."""
_NOT_SENT = 16
"""More bits than a coefficient has."""
_SOI = b"\xff\xd8"
_SOS = 0xDA
_EOI = 0xD9
_APP0 = 0xE0
_ADOBE = 0xEE
_JPEG_LS = 0xF7
# TEM, RST and SOI.
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}

# A marker in entropy-coded data: neither a stuffed zero nor a restart marker nor a fill byte.
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_HARMLESS = (
    "extraneous bytes before marker",
    "unknown JFIF revision",
    "Invalid SOS parameters for sequential",
)
# TurboJPEG's error for a sampling that it has no name for.
_NOT_NAMED = "Could not determine subsampling"
_NOT_DECODED = (
    "Unsupported JPEG",
    "DNL not supported",
    "not implemented",
    "Maximum supported image dimension",
)
# Each attempt may remove the cause of one harmless warning.
_MOST_ATTEMPTS = 4
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
    """The statements of a JPEG about its image before the first scan.

    `process` is the second byte of the frame's marker. `adobe_transform` is None without an Adobe
    marker.
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
        factors = set()
        for component in self.components:
            pair = (component.horizontal, component.vertical)
            factors.add(pair)
        return len(factors) > 1

    @property
    def is_ycbcr(self) -> bool | None:
        """Return whether three components are luminance and chroma.

        Return None if the JPEG does not state it. libjpeg checks the same marks in this order. RGB
        is never subsampled, because its channels are equally important.
        """
        if len(self.components) != 3:
            return False
        if self.jfif:
            return True
        if self.adobe_transform is not None:
            return self.adobe_transform != 0
        if self.identifiers == b"RGB":
            return False
        if self.subsampled:
            return True
        return None

    @property
    def identifiers(self) -> bytes:
        """Return the identifiers of the components in order."""
        return bytes(component.identifier for component in self.components)


@dataclass(frozen=True)
class _Segment:
    """A marker and its bytes: data[start:end], including the two bytes of the marker."""

    marker: int
    start: int
    end: int


def read_header(data: bytes, name: str, kind: str = "JPEG") -> JpegHeader:
    """Read the header of a JPEG; raise ImageRejected for a damaged or unsupported one."""
    jfif = False
    adobe_transform = None
    header: JpegHeader | None = None
    for segment in _segments(data):
        marker = segment.marker
        payload = data[segment.start + 4 : segment.end]
        if marker == _APP0 and payload.startswith(b"JFIF\0"):
            jfif = True
        elif marker == _ADOBE and payload.startswith(b"Adobe"):
            # libjpeg ignores an Adobe marker that is too short.
            if len(payload) >= 12:
                adobe_transform = payload[11]
        elif marker == _JPEG_LS:
            raise unsupported(name, f"a {kind} image with JPEG-LS compression")
        elif marker in _FRAMES:
            header = _read_frame(marker, payload, name, kind)
        elif marker == _SOS:
            break
    else:
        # There is no scan.
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

    Return the pixels and notes. The pixels are uint8 of shape (H, W) for grey, (H, W, 3) for RGB or
    (H, W, 4) for CMYK with 255 for full ink. `allocate` makes the array of RGB pixels, for a caller
    that needs them in its own memory. Raise ImageRejected if the decoder reports damage or does not
    support the JPEG.
    """
    header = read_header(data, name, kind)
    _check_scans(data, header, name, kind)
    notes = []
    pixels = _decode_strictly(
        data,
        header,
        size,
        name,
        kind,
        allocate,
    )
    if pixels is None:
        notes.append(UNCHECKED)
        pixels = _decode_by_pillow(data, size, name, kind)
    height_px, width_px = pixels.shape[:2]
    if (width_px, height_px) != size:
        raise damaged(name, kind)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    # Adobe stores inks inverted. Without Adobe's marker, libjpeg and ITU-T T.872 assume plain inks.
    if len(header.components) == 4:
        if header.adobe_transform is None:
            notes.append(PLAIN_INKS)
        else:
            pixels = 255 - pixels
    return pixels, tuple(notes)


def with_plain_rgb(data: bytes) -> bytes:
    """Return a JPEG that the decoder decodes without a colour transform of its three components.

    An Adobe marker that states no transform is added.
    """
    length = struct.pack(">H", 14)
    version_flags_transform = struct.pack(">HHHB", 100, 0, 0, 0)
    adobe_segment = b"\xff\xee" + length + b"Adobe" + version_flags_transform
    parts = [_SOI, adobe_segment]
    at = len(_SOI)
    for segment in _segments(data):
        # The decoder would use either of these before the added segment.
        if segment.marker in (_APP0, _ADOBE):
            parts.append(data[at : segment.start])
            at = segment.end
        elif segment.marker == _SOS:
            break
    parts.append(data[at:])
    return b"".join(parts)


def _decode_strictly(
    data: bytes, header: JpegHeader, size: tuple[int, int], name: str, kind: str, allocate: Allocate
) -> NDArray[np.uint8] | None:
    """Decode with every warning as an error.

    Return None if TurboJPEG does not know the sampling.
    """
    width_px, height_px = size
    pixel_format = _PIXEL_FORMATS[len(header.components)]
    place = None
    if pixel_format == "RGB":
        place = allocate((height_px, width_px, 3))
    for _ in range(_MOST_ATTEMPTS):
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                data,
                pixel_format,
                min_width=width_px,
                min_height=height_px,
                buffer=place,
                strict=True,
            )
        except KeyError:
            # simplejpeg has no name for 4:4:1.
            return None
        except ValueError as error:
            warning = str(error)
        else:
            return pixels
        if _NOT_NAMED in warning:
            return None
        if any(text in warning for text in _NOT_DECODED):
            raise unsupported(name, f"a {kind} image of a kind that the decoder does not know")
        corrected = _without_harmless(data, header, warning)
        if corrected is None:
            break
        data = corrected
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
    # Pillow inverts all CMYK.
    is_cmyk = pixels.ndim == 3 and pixels.shape[2] == 4
    if is_cmyk:
        return 255 - pixels
    return pixels


def _read_frame(process: int, payload: bytes, name: str, kind: str) -> JpegHeader:
    if len(payload) < 6:
        raise damaged(name, kind)
    precision_bits, height_px, width_px, count = struct.unpack(">BHHB", payload[:6])
    if len(payload) < 6 + 3 * count:
        raise damaged(name, kind)
    _check_frame(process, precision_bits, height_px, count, name, kind)
    components = []
    for at in range(6, 6 + 3 * count, 3):
        factors = payload[at + 1]
        component = Component(
            identifier=payload[at],
            horizontal=factors >> 4,
            vertical=factors & 15,
        )
        components.append(component)
    return JpegHeader(
        process=process,
        precision_bits=precision_bits,
        width_px=width_px,
        height_px=height_px,
        components=tuple(components),
        jfif=False,
        adobe_transform=None,
    )


def _check_frame(
    process: int, precision_bits: int, height_px: int, count: int, name: str, kind: str
) -> None:
    """Raise ImageRejected for a frame in a form that is not supported."""
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


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield the segments up to the end of the image; skip bytes between them as libjpeg does."""
    at = len(_SOI)
    while True:
        match = _SCAN_END.search(data, at)
        if match is None:
            return
        start = match.start()
        marker = data[start + 1]
        if marker in _WITHOUT_LENGTH:
            at = start + 2
            continue
        if marker == _EOI:
            yield _Segment(marker, start, start + 2)
            return
        if start + 4 > len(data):
            return
        # The length includes its own two bytes.
        (length,) = struct.unpack_from(">H", data, start + 2)
        end = start + 2 + length
        if length < 2 or end > len(data):
            return
        yield _Segment(marker, start, end)
        at = end


def _check_scans(
    data: bytes,
    header: JpegHeader,
    name: str,
    kind: str,
) -> None:
    """Raise ImageRejected for a JPEG in which a component, or detail of one, has no scan.

    libjpeg fills such a component with grey, or leaves the detail out, and does not warn. A
    progressive JPEG that was cut off between two scans looks like a blurred image.
    """
    # Of each component, how many of the lowest bits of each coefficient are still to come.
    missing_bits = {identifier: [_NOT_SENT] * _COEFFICIENTS for identifier in header.identifiers}
    for segment in _segments(data):
        if segment.marker != _SOS:
            continue
        payload = data[segment.start + 4 : segment.end]
        identifiers = _scan_identifiers(payload)
        first, last, low_bit = _scan_coefficients(payload, header)
        for identifier in identifiers & missing_bits.keys():
            bits = missing_bits[identifier]
            bits[first : last + 1] = [low_bit] * (last + 1 - first)
            # Nothing is missing any more.
            if not any(bits):
                del missing_bits[identifier]
        if not missing_bits:
            return
    raise damaged(name, kind)


def _scan_coefficients(payload: bytes, header: JpegHeader) -> tuple[int, int, int]:
    """Return the first and last coefficient of a scan, and the lowest bit that it sends of them.

    The last three bytes state it (ITU-T T.81, B.2.3). Only a progressive scan uses them: any other
    one has everything.
    """
    everything = (0, _COEFFICIENTS - 1, 0)
    if header.process not in _PROGRESSIVE or len(payload) < 3:
        return everything
    first, last, bits = payload[-3:]
    if not first <= last < _COEFFICIENTS:
        return everything
    return first, last, bits & 0x0F


def _scan_identifiers(payload: bytes) -> set[int]:
    """Return the identifiers of the components in a scan."""
    if not payload:
        return set()
    count = payload[0]
    # Each component has two bytes, and the identifier is the first.
    end = 1 + 2 * count
    identifiers = payload[1:end:2]
    return set(identifiers)


def _without_harmless(data: bytes, header: JpegHeader, warning: str) -> bytes | None:
    """Return the JPEG without the cause of a harmless warning, None for any other warning.

    A harmless cause leaves all pixels right. These are zero bytes between the end of a segment or
    scan and the next marker, an unknown revision of JFIF, and spectral parameters in a sequential
    scan, which its decoder does not use.
    """
    if not any(text in warning for text in _HARMLESS):
        return None
    match = _EXTRANEOUS.search(warning)
    if match:
        count = int(match[1])
        marker = int(match[2], 16)
        return _without_padding(data, count, marker)
    corrected = _with_usual_parameters(data, header)
    if corrected == data:
        return None
    return corrected


def _with_usual_parameters(data: bytes, header: JpegHeader) -> bytes:
    """Return the JPEG with revision 1 of JFIF and the spectral range of sequential scans."""
    corrected = bytearray(data)
    all_coefficients = bytes((0, 63, 0))
    is_sequential = header.process in _SEQUENTIAL
    for segment in _segments(data):
        payload_start = segment.start + 4
        is_app0 = segment.marker == _APP0
        if is_app0 and data.startswith(b"JFIF\0", payload_start):
            corrected[payload_start + 5] = 1
        if is_sequential and segment.marker == _SOS:
            corrected[segment.end - 3 : segment.end] = all_coefficients
    return bytes(corrected)


def _without_padding(data: bytes, count: int, marker: int) -> bytes | None:
    """Return the JPEG without `count` zero bytes before a marker, None if there are other bytes."""
    zeros = bytes(count)
    for segment in _segments(data):
        if segment.marker != marker or not count:
            continue
        padding_start = max(segment.start - count, 0)
        padding = data[padding_start : segment.start]
        if padding == zeros:
            head = data[: segment.start - count]
            return head + data[segment.start :]
    return None
