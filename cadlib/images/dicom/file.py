"""Reads a DICOM file's image in 8 bits and the patient's facts.

pydicom reads only the elements of the header that are listed here; names, numbers and UIDs of the
patient are not read. The facts are age, sex and site. The decoders of pydicom decode the pixels:
Pillow for JPEG (also lossless JPEG of 8 bits), OpenJPEG for JPEG 2000, pylibjpeg-rle for RLE.
Decoders that a damaged file can break are not used: GDCM aborts the whole process, and CharLS
(JPEG-LS) may never end.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, config, uid
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

from cadlib.errors import ImageRejected
from cadlib.images.colour.stated import NOT_CONVERTED, adobe_rgb, display_p3
from cadlib.images.dicom.deflated import inflate
from cadlib.images.dicom.frames import Frame, apply_palette, decode_frame
from cadlib.images.dicom.patient_facts import FACT_KEYWORDS, facts_of
from cadlib.images.file_types.kinds import EXPECTED, damaged
from cadlib.images.file_types.work_limits import ElementLimit, check_offset_table
from cadlib.images.patient import PatientFacts

# The messages of pydicom quote the header, and a patient's name must not reach a log.
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module="pydicom")

SYNTAXES: dict[str, tuple[uid.UID, str]] = {
    uid.ImplicitVRLittleEndian: (uid.ImplicitVRLittleEndian, ""),
    uid.ExplicitVRLittleEndian: (uid.ExplicitVRLittleEndian, ""),
    uid.ExplicitVRBigEndian: (uid.ExplicitVRBigEndian, ""),
    uid.DeflatedExplicitVRLittleEndian: (uid.ExplicitVRLittleEndian, ""),
    uid.RLELossless: (uid.RLELossless, "pylibjpeg"),
    uid.JPEGBaseline8Bit: (uid.JPEGBaseline8Bit, "pillow"),
    uid.JPEGExtended12Bit: (uid.JPEGBaseline8Bit, "pillow"),
    uid.JPEGLossless: (uid.JPEGBaseline8Bit, "pillow"),
    uid.JPEGLosslessSV1: (uid.JPEGBaseline8Bit, "pillow"),
    uid.JPEG2000Lossless: (uid.JPEG2000Lossless, "pylibjpeg"),
    uid.JPEG2000: (uid.JPEG2000, "pylibjpeg"),
}
"""Transfer syntax -> the syntax that it is decoded as, and the plugin.

Deflated files are inflated before, and a JPEG is known to have 8 bits.
"""
CHANNELS = {
    "MONOCHROME1": 1,
    "MONOCHROME2": 1,
    "PALETTE COLOR": 1,
    "RGB": 3,
    "YBR_FULL": 3,
    "YBR_FULL_422": 3,
    "YBR_ICT": 3,
    "YBR_RCT": 3,
}
"""Photometric interpretation -> samples a pixel."""
PHOTOGRAPHS = ("", "DMS", "ES", "GM", "OT", "XC")
"""Modalities that a photograph of skin can have.

These are: not stated, dermoscopy, endoscopy, microscopy, other, external camera.
"""
MAX_HEADER_BYTES = 512 * 1024 * 1024
"""The most bytes that the pixels of a deflated file may take."""

_KEYWORDS = (
    "SOPClassUID",
    "Modality",
    "BurnedInAnnotation",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "ICCProfile",
    "ColorSpace",
    "RedPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableData",
    "PixelData",
    *FACT_KEYWORDS,
)
_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _KEYWORDS]
# All other elements hold a few numbers or words.
_LONG_ENDINGS = ("Sequence", "TableData", "Profile", "PixelData")
_SHORT_TAGS = frozenset(
    int(tag)
    for keyword, tag in zip(_KEYWORDS, _TAGS, strict=True)
    if not keyword.endswith(_LONG_ENDINGS)
)
# DICOM PS3.3, C.11.15.1.2.
_COLOUR_SPACES = {"ADOBERGB": adobe_rgb, "DISPLAYP3": display_p3}
_PREAMBLE_BYTES = 132
_META_GROUP = 0x0002
_PIXEL_GROUP = 0x7FE0


class DicomFile:
    """An opened file whose header describes one image that can be decoded.

    Only the size is not checked yet. `size` is (width, height) in px. `facts` are the age, sex and
    site that the header states.
    """

    def __init__(
        self,
        file: BinaryIO,
        name: str,
        pixels: bool = True,
    ) -> None:
        """Read the header, and the packed pixels on request.

        Raise ImageRejected for a file without such an image.
        """
        self._name = name
        with _report_damage(name):
            header = _read(file, name, pixels)
            self._header = header
            _check_form(header, name)
            self.size = (int(header.Columns), int(header.Rows))
            self.facts: PatientFacts = facts_of(header)

    def image(self) -> tuple[Image.Image, tuple[str, ...]]:
        """Decode the pixels; return an image of mode L or RGB with its profile, and notes."""
        header = self._header
        # A damaged rescale or window may overflow; the range of the values is checked afterwards.
        with _report_damage(self._name), np.errstate(all="ignore"):
            syntax = header.file_meta.TransferSyntaxUID
            _, plugin = SYNTAXES[syntax]
            if syntax.is_encapsulated:
                check_offset_table(header.PixelData, self._name)
            # Decoding may correct the header, so its photometric interpretation is read before.
            photometric = header.PhotometricInterpretation
            frame = decode_frame(header, plugin, self._name)
            shown = _to_eight_bits(frame, photometric, header, self._name)
            notes = [*frame.notes, *shown.notes]
            image = Image.fromarray(shown.values)
            notes.extend(_attach_profile(image, header))
            return image, (*_warnings(header), *notes)


@contextmanager
def _report_damage(name: str) -> Iterator[None]:
    """Turn each error of pydicom and its decoders into ImageRejected."""
    try:
        yield
    except ImageRejected:
        raise
    # They raise many kinds, and their texts quote the header.
    except Exception:  # noqa: BLE001
        raise damaged(name, "DICOM") from None


def _to_eight_bits(
    frame: Frame,
    photometric: str,
    header: Dataset,
    name: str,
) -> Frame:
    """Return the grey or RGB values of a frame in 8 bits, and notes on the conversion."""
    bits = frame.bits
    notes: list[str] = []
    if photometric == "PALETTE COLOR":
        palette = apply_palette(frame.values, header, name)
        values = palette.values
        notes.extend(palette.notes)
    elif CHANNELS[photometric] == 1:
        header.BitsStored = bits
        values = _grey(frame.values, header)
        if "WindowCenter" in header or "VOILUTSequence" in header:
            notes.append("The grey values were read through the window that the file names.")
    else:
        extra_bits = max(bits - 8, 0)
        high_bits = frame.values >> extra_bits
        values = high_bits.astype(np.uint8)
    if bits > 8:
        notes.append(f"The image was reduced from {bits} to 8 bits a channel.")
    return Frame(values, 8, tuple(notes))


def _attach_profile(image: Image.Image, header: Dataset) -> list[str]:
    """Attach the colour profile that a header states to its image; return notes."""
    stated = header.get("ColorSpace") or ""
    colour_space = str(stated).strip()
    if "ICCProfile" in header:
        # The profile is exact; the colour space is only a name.
        profile = bytes(header.ICCProfile)
        image.info["icc_profile"] = profile
    elif colour_space in _COLOUR_SPACES:
        make_profile = _COLOUR_SPACES[colour_space]
        profile = make_profile()
        image.info["icc_profile"] = profile
    elif colour_space not in ("", "SRGB"):
        return [NOT_CONVERTED]
    return []


def _read(file: BinaryIO, name: str, pixels: bool) -> Dataset:
    """Return the elements of _KEYWORDS, with the pixels only on request."""
    file.seek(_PREAMBLE_BYTES)
    meta_limit = ElementLimit(name, _SHORT_TAGS, lambda tag: tag >> 16 != _META_GROUP)
    meta_elements = read_dataset(
        file,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=meta_limit,
    )
    meta = FileMetaDataset(meta_elements)
    syntax = uid.UID(str(meta.get("TransferSyntaxUID", "")))
    if syntax not in SYNTAXES:
        raise _unsupported_syntax(syntax, name)
    if syntax.is_deflated:
        inflated = inflate(file.read(), name, pixels, MAX_HEADER_BYTES)
        file = BytesIO(inflated)
    limit = ElementLimit(name, _SHORT_TAGS, lambda tag: not pixels and tag >> 16 >= _PIXEL_GROUP)
    header = read_dataset(
        file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=limit,
        specific_tags=_TAGS,
    )
    header.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    header.file_meta = meta
    meta.TransferSyntaxUID, _ = SYNTAXES[syntax]
    return header


def _unsupported_syntax(syntax: uid.UID, name: str) -> ImageRejected:
    # The name of an unknown UID is the UID itself.
    is_registered = syntax.name != syntax
    how = syntax.name if is_registered else "in a way that it does not name"
    return ImageRejected(
        f"{name} is a DICOM file that stores its image as {how}, "
        "which is not supported here. "
        "Expected no compression, RLE, JPEG or JPEG 2000. "
        "Export the image in one of these, or as PNG."
    )


def _check_form(header: Dataset, name: str) -> None:
    """Raise ImageRejected for a file without an image, with several, or of unsupported numbers."""
    if "Rows" not in header or "Columns" not in header:
        # A truncated file has no class either.
        kind = header.SOPClassUID
        is_registered = kind.name != kind
        what = "without an image"
        if is_registered:
            what = f"of the kind {kind.name}"
        raise ImageRejected(
            f"{name} is a DICOM file {what}. {EXPECTED}. Select the file that contains the image."
        )
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ImageRejected(
            f"{name} contains {frames} images (DICOM frames). Expected one. "
            "Export the image you need."
        )
    photometric = str(header.PhotometricInterpretation)
    channels = CHANNELS.get(photometric)
    bits = int(header.BitsAllocated)
    samples = int(header.get("SamplesPerPixel", 1))
    is_jpeg = header.file_meta.TransferSyntaxUID == uid.JPEGBaseline8Bit
    supported_bits = (8,) if is_jpeg else (8, 16)
    # Only grey values may be signed, as rescaled ones are.
    has_signed_colours = channels == 3 and header.PixelRepresentation != 0
    if bits not in supported_bits or samples != channels or has_signed_colours:
        raise ImageRejected(
            f"{name} is a DICOM file with an unsupported pixel format "
            f"({bits} bits, {samples} samples per pixel). "
            "Expected grey, palette, RGB or YBR of 8 or 16 bits, in JPEG 8. "
            "Export the image as PNG or JPEG."
        )


def _warnings(header: Dataset) -> Iterator[str]:
    """Yield warnings about the image that its header gives reason for; do not quote the header."""
    stated = header.get("Modality") or ""
    modality = str(stated).strip()
    if modality not in PHOTOGRAPHS:
        yield "According to its header, the file is not a photograph of skin (other modality)."
    if header.get("BurnedInAnnotation") == "YES":
        yield (
            "According to its header, the image contains burned-in text, "
            "which may name the patient."
        )


def _grey(stored: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """Return grey values of 8 bits, 0 black, after rescale and window.

    Source: DICOM PS3.3, C.11.1 and C.11.2.
    """
    # No intermediate value has a name here, because each is as large as the image.
    values = apply_voi_lut(apply_modality_lut(stored, header), header).astype(np.float32)
    low, high = _grey_range(header)
    if not (low < high and np.isfinite(values).all()):
        raise ValueError("a rescale or window without range")
    values -= low
    values *= 255 / (high - low)
    grey: NDArray[np.uint8] = np.rint(values.clip(0, 255)).astype(np.uint8)
    if header.PhotometricInterpretation == "MONOCHROME1":
        return 255 - grey
    return grey


def _grey_range(header: Dataset) -> tuple[float, float]:
    """Return black and white.

    These are the ends of the table that was applied last. Without a table, they are the ends of the
    stored range, rescaled.
    """
    for keyword in ("VOILUTSequence", "ModalityLUTSequence"):
        if header.get(keyword):
            table = header[keyword].value[0]
            table_bits = int(table.LUTDescriptor[2])
            return 0, 2**table_bits - 1
    bits = int(header.BitsStored)
    signed = int(header.PixelRepresentation)
    lowest = -(2 ** (bits - 1)) if signed else 0
    highest = 2 ** (bits - signed) - 1
    ends = np.array([lowest, highest])
    rescaled = apply_modality_lut(ends, header)
    # A negative slope exchanges the ends.
    low, high = sorted(rescaled.tolist())
    return low, high
