"""Find the colour space that a file states, by an ICC profile or in another way, as an ICC profile.

A statement is used where it leaves no choice. Where it is incomplete, unusual or contradicts another, the image is
read as sRGB and a note says so.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from cadlib.images.file_types.bmp import embedded_profile
from cadlib.images.file_types.kinds import unsupported
from cadlib.images.file_types.png import png_chunks

Curve = float | NDArray[np.float64]
"""A gamma, or linear light (0 to 1) at evenly spaced values."""

NOT_SRGB = (
    "The file states that its colours are not sRGB, but not what they are; they were taken as sRGB."
)
NOT_CONVERTED = (
    "The file states its colours in a way that is not supported here; they were taken as sRGB."
)
CONTRADICTORY = (
    "The file states two colour spaces that contradict each other; its colours were taken as sRGB."
)

D65 = (0.3127, 0.3290)
_D50_XYZ = np.array([0.9642, 1.0, 0.8249])
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE_RGB = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
ADOBE_RGB_GAMMA = 563 / 256
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
_CICP_PRIMARIES = {1: SRGB, 9: BT2020, 12: DISPLAY_P3}  # ITU-T H.273, table 2: all of white D65
_CICP_LINEAR, _CICP_SRGB, _CICP_PQ, _CICP_HLG = 8, 13, 16, 18
_CICP_GAMMAS = {4: 2.2, 5: 2.8}  # ITU-T H.273, table 3
_EXIF_COLOUR_SPACE = 0xA001
_EXIF_SRGB, _EXIF_ADOBE_RGB = 1, 2  # the second is in no standard, but has this meaning alone
_PRIMARY_CHROMATICITIES = 319
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


@dataclass(frozen=True)
class Colours:
    """What a file states of its colours: an ICC profile, None for sRGB, and notes on what could not be used.

    `origin` completes "The colours were converted to sRGB …".
    """

    icc: bytes | None
    origin: str = "by the colour profile of the file"
    notes: tuple[str, ...] = ()


def stated_colours(image: Image.Image, data: bytes | None, name: str) -> Colours:
    """Return what an opened image states of its colours; `data` are the bytes of its file, None where it has none.

    Raise ImageRejected for colours of high dynamic range.
    """
    icc = image.info.get("icc_profile")
    if image.format == "PNG" and data is not None:
        colours = _png_colours(image, data, icc, name)
        if colours is not None:
            return colours
    if image.format == "BMP" and data is not None:
        icc = embedded_profile(data)
    if icc:
        return Colours(icc)
    if "icc_profile" in image.info:  # Pillow has found that a part of it is missing
        return Colours(
            None, notes=("The colour profile of the file is incomplete and was left aside.",)
        )
    primaries = getattr(image, "tag_v2", {}).get(_PRIMARY_CHROMATICITIES)
    if primaries is not None and not _near(tuple(primaries), sum(SRGB, ())):
        return Colours(None, notes=(NOT_CONVERTED,))
    return _exif_colours(image, data)


@cache
def adobe_rgb() -> bytes:
    """Return the profile of Adobe RGB (1998)."""
    return rgb_profile(D65, ADOBE_RGB, ADOBE_RGB_GAMMA)


@cache
def display_p3() -> bytes:
    """Return the profile of Display P3."""
    return rgb_profile(D65, DISPLAY_P3, srgb_curve())


def srgb_curve() -> NDArray[np.float64]:
    """Return the linear light of 1,024 evenly spaced sRGB values (IEC 61966-2-1)."""
    values = np.linspace(0, 1, 1024)
    curve: NDArray[np.float64] = np.where(
        values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
    )
    return curve


def rgb_profile(
    white: Sequence[float], primaries: Sequence[Sequence[float]], curve: Curve
) -> bytes:
    """Return an ICC profile (version 2) of an RGB space, by chromaticities (x, y) and one curve for all channels.

    Raise ValueError where no such space exists.
    """
    columns = _primaries_to_d50(white, primaries)
    entries: dict[bytes, bytes] = {b"wtpt": _xyz(_D50_XYZ)}
    for letter, column in zip((b"r", b"g", b"b"), columns.T, strict=True):
        entries[letter + b"XYZ"] = _xyz(column)
        entries[letter + b"TRC"] = _curve(curve)
    body = b""
    table = struct.pack(">I", len(entries))
    at = 128 + 4 + 12 * len(entries)
    for tag, entry in entries.items():
        table += tag + struct.pack(">II", at + len(body), len(entry))
        body += entry + bytes(-len(entry) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", at + len(body), b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"", b"acsp"
    )
    illuminant = b"".join(_fixed(value) for value in _D50_XYZ)
    return header.ljust(68, b"\0") + illuminant + bytes(48) + table + body


def _png_colours(image: Image.Image, data: bytes, icc: bytes | None, name: str) -> Colours | None:
    """Return what the chunks of a PNG state, by the precedence of PNG 4.3; None where only EXIF may."""
    chunks = {
        chunk.kind: bytes(chunk.data)
        for chunk in png_chunks(data)
        if chunk.kind in (b"cICP", b"iCCP")
    }
    if b"cICP" in chunks:
        return _cicp_colours(chunks[b"cICP"], name)
    if icc or b"iCCP" in chunks:
        return None
    if "srgb" in image.info:
        return Colours(None)
    gamma, chromaticity = image.info.get("gamma"), image.info.get("chromaticity")
    if gamma is None and chromaticity is None:
        return None
    usual: tuple[float, ...] = sum((D65, *SRGB), ())
    return _measured_colours(gamma, usual if chromaticity is None else chromaticity)


def _measured_colours(gamma: float | None, chromaticity: Sequence[float]) -> Colours:
    """Return the colour space of a gAMA and a cHRM chunk; the gamma is that of the encoding, None without gAMA."""
    is_srgb = _near(chromaticity, sum((D65, *SRGB), ()))
    # 1/2.2 is what writers of sRGB put beside it for older readers (PNG 11.3.2.5).
    if is_srgb and (gamma is None or abs(gamma - 1 / 2.2) < 0.001):
        return Colours(None)
    if gamma is None or not 0.1 <= gamma <= 10:
        return Colours(None, notes=(NOT_CONVERTED,))
    try:
        profile = rgb_profile(
            chromaticity[:2], np.reshape(chromaticity[2:], (3, 2)).tolist(), 1 / gamma
        )
    except ValueError:
        return Colours(None, notes=(NOT_CONVERTED,))
    return Colours(profile, "by the gamma and the primary colours that the file states")


def _cicp_colours(data: bytes, name: str) -> Colours:
    """Return the colour space of a cICP chunk (PNG 11.3.2.6, by the numbers of ITU-T H.273)."""
    if len(data) != 4:
        return Colours(None, notes=(NOT_CONVERTED,))
    primaries, transfer, matrix, full_range = data
    if transfer in (_CICP_PQ, _CICP_HLG):
        raise unsupported(name, "a PNG image of high dynamic range (PQ or HLG)")
    if matrix != 0 or full_range != 1:
        raise unsupported(
            name, "a PNG image with the narrow range or the luminance and chroma of video"
        )
    if (primaries, transfer) == (1, _CICP_SRGB):
        return Colours(None)
    curves: dict[int, Curve] = {_CICP_SRGB: srgb_curve(), _CICP_LINEAR: 1.0, **_CICP_GAMMAS}
    if primaries not in _CICP_PRIMARIES or transfer not in curves:
        return Colours(None, notes=(NOT_CONVERTED,))
    return Colours(
        rgb_profile(D65, _CICP_PRIMARIES[primaries], curves[transfer]),
        "by the code of its colour space",
    )


def _exif_colours(image: Image.Image, data: bytes | None) -> Colours:
    """Return what the camera recorded: Adobe RGB is "uncalibrated" with the interoperability rule R03 (DCF 2.0)."""
    space, rule = _exif_colour_space(image, data)
    if space == _EXIF_ADOBE_RGB or (rule == "R03" and space not in (None, _EXIF_SRGB)):
        return Colours(adobe_rgb(), "from Adobe RGB, as the camera had recorded")
    if rule == "R03" and space == _EXIF_SRGB:
        return Colours(None, notes=(CONTRADICTORY,))
    if rule == "R03" or space not in (None, _EXIF_SRGB):
        return Colours(None, notes=(NOT_SRGB,))
    return Colours(None)


def _exif_colour_space(image: Image.Image, data: bytes | None) -> tuple[object, str]:
    """Return the colour space and the interoperability rule of the EXIF data, (None, "") where there are none."""
    is_tiff = image.format == "TIFF"
    if "exif" not in image.info and not (is_tiff and data is not None):
        return None, ""
    try:
        if is_tiff:  # a loaded TIFF has closed its file, in which the directory of EXIF stands
            with Image.open(BytesIO(data or b""), formats=("TIFF",)) as unread:
                unread.seek(image.tell())
                exif = unread.getexif()
                return exif.get_ifd(ExifTags.IFD.Exif).get(_EXIF_COLOUR_SPACE), _rule(exif)
        exif = image.getexif()
        return exif.get_ifd(ExifTags.IFD.Exif).get(_EXIF_COLOUR_SPACE), _rule(exif)
    except (SyntaxError, ValueError, TypeError, LookupError, OverflowError, OSError, struct.error):
        return None, ""


def _rule(exif: Image.Exif) -> str:
    return str(exif.get_ifd(ExifTags.IFD.Interop).get(1, "")).rstrip("\0 ")


def _near(values: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether chromaticities are the same but for rounding."""
    return len(values) == len(others) and bool(
        np.allclose(np.array(values, float), others, atol=0.003)
    )


def _primaries_to_d50(
    white: Sequence[float], primaries: Sequence[Sequence[float]]
) -> NDArray[np.float64]:
    """Return the XYZ of the primaries as columns, (3, 3), adapted to D50 by Bradford's method (ICC.1, annex E)."""
    points = np.array([white, *primaries], float)
    if not np.isfinite(points).all() or (points[:, 1] <= 0).any():
        raise ValueError("a chromaticity without luminance")
    xyz = np.column_stack(
        [points[:, 0] / points[:, 1], np.ones(4), (1 - points.sum(axis=1)) / points[:, 1]]
    )
    unscaled = xyz[1:].T
    if abs(np.linalg.det(unscaled)) < 1e-6:
        raise ValueError("primaries on one line")
    columns = unscaled * np.linalg.solve(unscaled, xyz[0])
    scale = (_BRADFORD @ _D50_XYZ) / (_BRADFORD @ xyz[0])
    adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ (
        scale[:, None] * (_BRADFORD @ columns)
    )
    if not (np.isfinite(adapted).all() and np.abs(adapted).max() < 4):
        raise ValueError("primaries without a white between them")
    return adapted


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _curve(curve: Curve) -> bytes:
    if isinstance(curve, np.ndarray):
        entries = np.rint(curve * 65535).astype(">u2")
        return b"curv" + bytes(4) + struct.pack(">I", len(entries)) + entries.tobytes()
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(curve * 256))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))
