"""A DICOM file -> its one picture in 8 bits, and what its header says of the patient: age, sex and site.

pydicom reads the header, and of it only the elements named here: name, numbers and UIDs are passed over unread. Its
decoders do the pixels: Pillow for JPEG (lossless JPEG of 8 bits too), OpenJPEG for JPEG 2000, pylibjpeg-rle for RLE.
Left out are those that a damaged file can break: GDCM aborts the whole process, CharLS (JPEG-LS) never ends.
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
from cadlib.images.dicom.frames import apply_palette, decode_frame
from cadlib.images.dicom.patient_facts import FACT_KEYWORDS, facts_of
from cadlib.images.file_types.kinds import EXPECTED, damaged
from cadlib.images.file_types.work_limits import ElementLimit, check_offset_table
from cadlib.images.patient import PatientFacts

# What pydicom says of a header quotes it, and a name must not reach a log.
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
"""Transfer syntax -> what it is decoded as, once inflated or known to be a JPEG of 8 bits, and by which plugin."""
CHANNELS = {
    **dict.fromkeys(("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"), 1),
    **dict.fromkeys(("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"), 3),
}
"""Photometric interpretation -> samples a pixel."""
PHOTOGRAPHS = ("", "DMS", "ES", "GM", "OT", "XC")
"""Modalities that a photograph of skin can have: unsaid, dermoscopy, endoscopy, microscopy, other, external camera."""
MAX_HEADER_BYTES = 512 * 1024 * 1024
"""The most that the pixels of a deflated file may take."""

_KEYWORDS = (
    *(
        "SOPClassUID",
        "Modality",
        "BurnedInAnnotation",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "Rows",
        "Columns",
    ),
    *(
        "NumberOfFrames",
        "PlanarConfiguration",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
    ),
    *(
        "RescaleIntercept",
        "RescaleSlope",
        "ModalityLUTSequence",
        "WindowCenter",
        "WindowWidth",
        "VOILUTFunction",
    ),
    *(
        "VOILUTSequence",
        "ICCProfile",
        "ColorSpace",
        "RedPaletteColorLookupTableDescriptor",
        "RedPaletteColorLookupTableData",
    ),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData", "PixelData"),
    *FACT_KEYWORDS,
)
_TAGS: list[Any] = [tag_for_keyword(keyword) for keyword in _KEYWORDS]
# They hold a few numbers or words; tables, profiles and pixels are longer.
_SHORT_TAGS = frozenset(
    int(tag)
    for keyword, tag in zip(_KEYWORDS, _TAGS, strict=True)
    if not keyword.endswith(("Sequence", "TableData", "Profile", "PixelData"))
)
_COLOUR_SPACES = {"ADOBERGB": adobe_rgb, "DISPLAYP3": display_p3}  # DICOM PS3.3, C.11.15.1.2
_PREAMBLE_BYTES = 132
_PIXEL_GROUP = 0x7FE0


class DicomFile:
    """An opened file whose header is known to describe one picture that can be decoded, by its size apart.

    `size` is (width, height) in px, `facts` what the header says of age, sex and site.
    """

    def __init__(self, file: BinaryIO, name: str, pixels: bool = True) -> None:
        """Read the header, and the still packed pixels on request; raise ImageRejected for what is no such picture."""
        self._name = name
        with _damage_told(name):
            self._header = _read(file, name, pixels)
            _check_form(self._header, name)
            self.size = (int(self._header.Columns), int(self._header.Rows))
            self.facts: PatientFacts = facts_of(self._header)

    def picture(self) -> tuple[Image.Image, tuple[str, ...]]:
        """Decode the pixels; return a picture of mode L or RGB with its colour profile, and notes on it."""
        header = self._header
        notes: list[str] = []
        with _damage_told(self._name), np.errstate(all="ignore"):
            photometric = header.PhotometricInterpretation
            _, plugin = SYNTAXES[header.file_meta.TransferSyntaxUID]
            if header.file_meta.TransferSyntaxUID.is_encapsulated:
                check_offset_table(header.PixelData, self._name)
            frame = decode_frame(header, plugin, self._name)
            notes.extend(frame.notes)
            bits = frame.bits
            if photometric == "PALETTE COLOR":
                palette = apply_palette(frame.values, header, self._name)
                values = palette.values
                notes.extend(palette.notes)
            elif CHANNELS[photometric] == 1:
                header.BitsStored = bits
                values = _grey(frame.values, header)
                if "WindowCenter" in header or "VOILUTSequence" in header:
                    notes.append(
                        "The grey values were read through the window that the file names."
                    )
            else:
                values = (frame.values >> max(bits - 8, 0)).astype(np.uint8)
            if bits > 8:
                notes.append(f"The picture was reduced from {bits} to 8 bits a channel.")
            image = Image.fromarray(values)
            space = str(header.get("ColorSpace") or "").strip()
            if "ICCProfile" in header:
                image.info["icc_profile"] = bytes(header.ICCProfile)
            elif space in _COLOUR_SPACES:
                image.info["icc_profile"] = _COLOUR_SPACES[space]()
            elif space not in ("", "SRGB"):
                notes.append(NOT_CONVERTED)
            return image, (*_warnings(header), *notes)


@contextmanager
def _damage_told(name: str) -> Iterator[None]:
    try:
        yield
    except ImageRejected:
        raise
    except Exception:  # noqa: BLE001 - pydicom and its decoders raise many kinds, and their texts quote the header
        raise damaged(name, "DICOM") from None


def _read(file: BinaryIO, name: str, pixels: bool) -> Dataset:
    """Return the elements of _KEYWORDS, without the pixels unless they are asked for."""
    file.seek(_PREAMBLE_BYTES)
    meta_limit = ElementLimit(name, _SHORT_TAGS, lambda tag: tag >> 16 != 2)
    meta = FileMetaDataset(read_dataset(file, False, True, stop_when=meta_limit))
    syntax = uid.UID(str(meta.get("TransferSyntaxUID", "")))
    if syntax not in SYNTAXES:
        how = syntax.name if syntax.name != syntax else "in a way that it does not name"
        raise ImageRejected(
            f"{name} is a DICOM file that stores its picture as {how}, which is not supported here. Expected no "
            "compression, RLE, JPEG or JPEG 2000; export the picture in one of these, or as PNG."
        )
    if syntax.is_deflated:
        file = BytesIO(inflate(file.read(), name, pixels, MAX_HEADER_BYTES))
    header = read_dataset(
        file,
        syntax.is_implicit_VR,
        syntax.is_little_endian,
        stop_when=ElementLimit(
            name, _SHORT_TAGS, lambda tag: not pixels and tag >> 16 >= _PIXEL_GROUP
        ),
        specific_tags=_TAGS,
    )
    header.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    header.file_meta = meta
    meta.TransferSyntaxUID, _ = SYNTAXES[syntax]
    return header


def _check_form(header: Dataset, name: str) -> None:
    """Refuse what holds no picture, several, or one whose numbers are of another kind."""
    if "Rows" not in header or "Columns" not in header:
        kind = header.SOPClassUID  # a file cut short has not even that
        what = f"of the kind {kind.name}" if kind.name != kind else "without a picture"
        raise ImageRejected(
            f"{name} is a DICOM file {what}. {EXPECTED}; choose the file that holds the picture."
        )
    if (frames := int(header.get("NumberOfFrames") or 1)) > 1:
        raise ImageRejected(
            f"{name} holds {frames} pictures (DICOM frames). Expected one; export the one you mean."
        )
    photometric, bits = str(header.PhotometricInterpretation), int(header.BitsAllocated)
    colour = CHANNELS.get(photometric) == 3
    syntax, samples = header.file_meta.TransferSyntaxUID, int(header.get("SamplesPerPixel", 1))
    too_deep = bits not in (8, 16) or (bits > 8 and syntax == uid.JPEGBaseline8Bit)
    if (
        too_deep
        or samples != CHANNELS.get(photometric)
        or (colour and header.PixelRepresentation != 0)
    ):
        raise ImageRejected(
            f"{name} is a DICOM file whose pixels are stored in a form that is not supported here ({bits} bits, "
            f"{samples} a pixel). Expected grey, palette, RGB or YBR of 8 or 16 bits, in JPEG 8; "
            "export the picture as PNG or JPEG."
        )


def _warnings(header: Dataset) -> Iterator[str]:
    """Say what a header tells of its picture that a reader should know; its texts themselves are not repeated."""
    if str(header.get("Modality") or "").strip() not in PHOTOGRAPHS:
        yield "By its header the file is no photograph of skin (its modality is another)."
    if header.get("BurnedInAnnotation") == "YES":
        yield "By its header the file has text burned into the picture, which may name the patient."


def _grey(stored: NDArray[Any], header: Dataset) -> NDArray[np.uint8]:
    """Return grey values of 8 bits, 0 black, through rescale and window (DICOM PS3.3, C.11.1 and C.11.2)."""
    values = apply_voi_lut(apply_modality_lut(stored, header), header).astype(np.float32)
    low, high = _grey_range(header)
    if not (low < high and np.isfinite(values).all()):
        raise ValueError("a rescale or window without range")
    values -= low
    values *= 255 / (high - low)
    grey: NDArray[np.uint8] = np.rint(values.clip(0, 255)).astype(np.uint8)
    return 255 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey


def _grey_range(header: Dataset) -> tuple[float, float]:
    """Return black and white: the ends of the table that was applied last, else of what can be stored, rescaled."""
    for keyword in ("VOILUTSequence", "ModalityLUTSequence"):
        if header.get(keyword):
            return 0, 2 ** int(header[keyword].value[0].LUTDescriptor[2]) - 1
    bits, signed = int(header.BitsStored), int(header.PixelRepresentation)
    ends = np.array([-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - signed) - 1])
    low, high = sorted(apply_modality_lut(ends, header).tolist())
    return low, high
