"""Finds the colour space that a file states, as an ICC profile.

Files state it by an ICC profile or in another way. A statement is used if it is unambiguous. If it
is incomplete, unusual or contradicts another one, the image is read as sRGB, with a note.
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
_SRGB_PRIMARIES: tuple[float, ...] = sum(SRGB, ())
_SRGB_WHITE_AND_PRIMARIES: tuple[float, ...] = D65 + _SRGB_PRIMARIES
# ITU-T H.273, table 2. All of these have the white D65.
_CICP_PRIMARIES = {1: SRGB, 9: BT2020, 12: DISPLAY_P3}
# ITU-T H.273, table 3.
_CICP_LINEAR = 8
_CICP_SRGB = 13
_CICP_PQ = 16
_CICP_HLG = 18
_CICP_GAMMAS = {4: 2.2, 5: 2.8}
_EXIF_COLOUR_SPACE = 0xA001
_EXIF_SRGB = 1
# This value is in no standard, but it has no other meaning.
_EXIF_ADOBE_RGB = 2
_INTEROPERABILITY_INDEX = 1
_PRIMARY_CHROMATICITIES = 319
_ICC_HEADER_BYTES = 128
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


@dataclass(frozen=True)
class Colours:
    """The colours that a file states.

    `icc` is an ICC profile, or None for sRGB. `notes` describe statements that could not be used.
    `origin` completes "The colours were converted to sRGB …".
    """

    icc: bytes | None
    origin: str = "by the colour profile of the file"
    notes: tuple[str, ...] = ()


def stated_colours(
    image: Image.Image,
    data: bytes | None,
    name: str,
) -> Colours:
    """Return the colours that an opened image states.

    `data` are the bytes of its file, or None for an image without a file. Raise ImageRejected for
    colours of high dynamic range.
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
    # Pillow stores no bytes if a part of the profile is missing.
    if "icc_profile" in image.info:
        note = "The colour profile of the file is incomplete and was ignored."
        return _as_srgb(note)
    tags = getattr(image, "tag_v2", {})
    primaries = tags.get(_PRIMARY_CHROMATICITIES)
    if primaries is not None and not _near(tuple(primaries), _SRGB_PRIMARIES):
        return _as_srgb(NOT_CONVERTED)
    return _exif_colours(image, data)


def _as_srgb(note: str) -> Colours:
    """Return sRGB, with a note on a statement that could not be used."""
    return Colours(None, notes=(note,))


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
    linear_part = values / 12.92
    power_part = ((values + 0.055) / 1.055) ** 2.4
    curve: NDArray[np.float64] = np.where(
        values <= 0.04045,
        linear_part,
        power_part,
    )
    return curve


def rgb_profile(
    white: Sequence[float],
    primaries: Sequence[Sequence[float]],
    curve: Curve,
) -> bytes:
    """Return an ICC profile (version 2) of an RGB space.

    `white` and `primaries` are chromaticities (x, y). All channels have the same curve. Raise
    ValueError if no such space exists.
    """
    columns = _primaries_to_d50(white, primaries)
    # The primaries are adapted, so the white is that of the profile's own space.
    white_entry = _xyz_entry(_D50_XYZ)
    entries: dict[bytes, bytes] = {b"wtpt": white_entry}
    letters = (b"r", b"g", b"b")
    for letter, column in zip(letters, columns.T, strict=True):
        primary = letter + b"XYZ"
        tone_curve = letter + b"TRC"
        entries[primary] = _xyz_entry(column)
        entries[tone_curve] = _curve_entry(curve)
    return _pack_profile(entries)


def _pack_profile(entries: dict[bytes, bytes]) -> bytes:
    """Return an ICC profile with these tags: a header, a table of tags and their entries."""
    body = b""
    table = struct.pack(">I", len(entries))
    body_at = _ICC_HEADER_BYTES + 4 + 12 * len(entries)
    for tag, entry in entries.items():
        entry_at = body_at + len(body)
        table += tag + struct.pack(">II", entry_at, len(entry))
        # Each entry is padded to a multiple of 4 bytes.
        padding = bytes(-len(entry) % 4)
        body += entry + padding
    header = struct.pack(
        ">I4sI4s4s4s12s4s",
        body_at + len(body),
        b"",
        0x02400000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        b"",
        b"acsp",
    )
    header = header.ljust(68, b"\0")
    header += b"".join(_fixed_point(value) for value in _D50_XYZ)
    header = header.ljust(_ICC_HEADER_BYTES, b"\0")
    return header + table + body


def _png_colours(image: Image.Image, data: bytes, icc: bytes | None, name: str) -> Colours | None:
    """Return the colours that the chunks of a PNG state, by the precedence of PNG 4.3.

    Return None if a profile or only EXIF data may state them.
    """
    has_profile = bool(icc)
    cicp = None
    for chunk in png_chunks(data):
        if chunk.kind == b"cICP":
            cicp = bytes(chunk.data)
        elif chunk.kind == b"iCCP":
            has_profile = True
    if cicp is not None:
        return _cicp_colours(cicp, name)
    if has_profile:
        return None
    if "srgb" in image.info:
        return Colours(None)
    gamma = image.info.get("gamma")
    chromaticity = image.info.get("chromaticity")
    if gamma is None and chromaticity is None:
        return None
    if chromaticity is None:
        chromaticity = _SRGB_WHITE_AND_PRIMARIES
    return _measured_colours(gamma, chromaticity)


def _measured_colours(gamma: float | None, chromaticity: Sequence[float]) -> Colours:
    """Return the colour space of a gAMA and a cHRM chunk.

    `gamma` is that of the encoding, or None without gAMA.
    """
    has_srgb_primaries = _near(chromaticity, _SRGB_WHITE_AND_PRIMARIES)
    # Writers of sRGB add 1/2.2 for older readers (PNG 11.3.2.5).
    srgb_gamma = 1 / 2.2
    has_srgb_gamma = gamma is None or abs(gamma - srgb_gamma) < 0.001
    if has_srgb_primaries and has_srgb_gamma:
        return Colours(None)
    if gamma is None or not 0.1 <= gamma <= 10:
        return _as_srgb(NOT_CONVERTED)
    white = chromaticity[:2]
    try:
        primaries = np.reshape(chromaticity[2:], (3, 2))
        # A profile decodes, so it has the inverse of the encoding's gamma.
        decoding_gamma = 1 / gamma
        profile = rgb_profile(
            white,
            primaries.tolist(),
            decoding_gamma,
        )
    except ValueError:
        return _as_srgb(NOT_CONVERTED)
    return Colours(profile, "by the gamma and the primary colours that the file states")


def _cicp_colours(data: bytes, name: str) -> Colours:
    """Return the colour space of a cICP chunk (PNG 11.3.2.6, by the numbers of ITU-T H.273)."""
    if len(data) != 4:
        return _as_srgb(NOT_CONVERTED)
    primaries, transfer, matrix, full_range = data
    if transfer in (_CICP_PQ, _CICP_HLG):
        raise unsupported(name, "a PNG image of high dynamic range (PQ or HLG)")
    if matrix != 0 or full_range != 1:
        raise unsupported(
            name, "a PNG image with the narrow range or the luminance and chroma of video"
        )
    if (primaries, transfer) == (1, _CICP_SRGB):
        return Colours(None)
    curves: dict[int, Curve] = {
        _CICP_SRGB: srgb_curve(),
        _CICP_LINEAR: 1.0,
        **_CICP_GAMMAS,
    }
    if primaries not in _CICP_PRIMARIES or transfer not in curves:
        return _as_srgb(NOT_CONVERTED)
    profile = rgb_profile(D65, _CICP_PRIMARIES[primaries], curves[transfer])
    return Colours(profile, "by the code of its colour space")


def _exif_colours(image: Image.Image, data: bytes | None) -> Colours:
    """Return the colours that the camera recorded.

    Adobe RGB is "uncalibrated" with the interoperability rule R03 (DCF 2.0).
    """
    space, rule = _exif_colour_space(image, data)
    has_adobe_rule = rule == "R03"
    is_srgb = space == _EXIF_SRGB
    is_other_space = space is not None and not is_srgb
    is_adobe_space = space == _EXIF_ADOBE_RGB
    is_uncalibrated_adobe = has_adobe_rule and is_other_space
    if is_adobe_space or is_uncalibrated_adobe:
        profile = adobe_rgb()
        return Colours(profile, "from Adobe RGB, as the camera had recorded")
    if has_adobe_rule and is_srgb:
        return _as_srgb(CONTRADICTORY)
    if has_adobe_rule or is_other_space:
        return _as_srgb(NOT_SRGB)
    return Colours(None)


def _exif_colour_space(image: Image.Image, data: bytes | None) -> tuple[object, str]:
    """Return the colour space and the interoperability rule of the EXIF data.

    Return (None, "") if there are none, or if they are damaged.
    """
    is_tiff = image.format == "TIFF"
    is_tiff_file = is_tiff and data is not None
    if "exif" not in image.info and not is_tiff_file:
        return None, ""
    try:
        if not is_tiff:
            return _read_colour_space(image.getexif())
        # A loaded TIFF has closed its file, but the EXIF directory has to be read from it.
        with Image.open(BytesIO(data or b""), formats=("TIFF",)) as unread:
            unread.seek(image.tell())
            return _read_colour_space(unread.getexif())
    except (SyntaxError, ValueError, TypeError, LookupError, OverflowError, OSError, struct.error):
        return None, ""


def _read_colour_space(exif: Image.Exif) -> tuple[object, str]:
    """Return the colour space and the interoperability rule."""
    exif_tags = exif.get_ifd(ExifTags.IFD.Exif)
    space = exif_tags.get(_EXIF_COLOUR_SPACE)
    interop_tags = exif.get_ifd(ExifTags.IFD.Interop)
    rule = str(interop_tags.get(_INTEROPERABILITY_INDEX, ""))
    return space, rule.rstrip("\0 ")


def _near(values: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether chromaticities are equal apart from rounding."""
    if len(values) != len(others):
        return False
    numbers = np.array(values, float)
    return bool(np.allclose(numbers, others, atol=0.003))


def _primaries_to_d50(
    white: Sequence[float],
    primaries: Sequence[Sequence[float]],
) -> NDArray[np.float64]:
    """Return the XYZ of the primaries as columns, (3, 3), adapted to D50.

    The adaptation is Bradford's method (ICC.1, annex E). Raise ValueError for chromaticities that
    describe no RGB space.
    """
    points = np.array([white, *primaries], float)
    luminance = points[:, 1]
    least_luminance = luminance.min()
    is_finite = np.isfinite(points).all()
    if not is_finite or least_luminance <= 0:
        raise ValueError("a chromaticity without luminance")
    white_xyz, unscaled = _unscaled_xyz(points)
    determinant = np.linalg.det(unscaled)
    if abs(determinant) < 1e-6:
        raise ValueError("primaries on one line")
    # The primaries together give the white.
    weights = np.linalg.solve(unscaled, white_xyz)
    scaled = unscaled * weights
    adapted = _adapted_to_d50(scaled, white_xyz)
    largest = np.abs(adapted).max()
    # The comparison is false for NaN, too.
    if not largest < 4:
        raise ValueError("primaries without a white between them")
    return adapted


def _adapted_to_d50(
    columns: NDArray[np.float64],
    white_xyz: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return XYZ, as columns, adapted from a white to D50 by Bradford's method."""
    d50_response = _BRADFORD @ _D50_XYZ
    white_response = _BRADFORD @ white_xyz
    scale = d50_response / white_response
    responses = _BRADFORD @ columns
    scaled = scale[:, None] * responses
    to_xyz = np.linalg.inv(_BRADFORD)
    adapted: NDArray[np.float64] = to_xyz @ scaled
    return adapted


def _unscaled_xyz(
    points: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the XYZ of white, (3,), and of the primaries as columns, (3, 3), with Y = 1.

    `points` are the chromaticities (x, y) of white and the primaries, (4, 2).
    """
    x = points[:, 0]
    y = points[:, 1]
    z = 1 - points.sum(axis=1)
    xyz = np.column_stack([x / y, np.ones(4), z / y])
    return xyz[0], xyz[1:].T


def _xyz_entry(values: NDArray[np.float64]) -> bytes:
    numbers = b"".join(_fixed_point(value) for value in values)
    start = b"XYZ " + bytes(4)
    return start + numbers


def _curve_entry(curve: Curve) -> bytes:
    start = b"curv" + bytes(4)
    if isinstance(curve, np.ndarray):
        values = np.rint(curve * 65535).astype(">u2")
        count = struct.pack(">I", len(values))
        return start + count + values.tobytes()
    # A single value is a gamma with 8 bits behind the point.
    gamma = round(curve * 256)
    return start + struct.pack(">IH", 1, gamma)


def _fixed_point(value: float) -> bytes:
    """Return a number with 16 bits behind the point."""
    scaled = value * 65536
    nearest = round(scaled)
    return struct.pack(">i", nearest)
