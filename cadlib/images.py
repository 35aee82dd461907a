"""A file, bytes or a Pillow image -> LesionImage: checked, upright, 8-bit sRGB, stripped of identity.

This is the only door for pictures. What a file says about itself is believed only as far as its bytes bear it
out; the camera's and the patient's data (EXIF, GPS, XMP, colour profile) are used here and go no further.
"""

import hashlib
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from cadlib.errors import ImageRejected
from cadlib.readahead import map_ahead

MIN_SIDE_PX = 64
"""The shortest side that can be read; below it a lesion has no structure left to judge."""
MAX_PIXELS = 40_000_000
"""The largest picture that is decoded: above any dermatoscope or phone in full frame, below a bomb."""
MAX_FILE_BYTES = 512 * 1024 * 1024
"""The largest file that is opened: 40 megapixels of 16-bit RGBA without compression, and some room."""
SUPPORTED_SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")

_READERS = 4
_READ_AHEAD = 2 * _READERS  # few, for one may be of 40 megapixels
_EXPECTED = "Expected a JPEG, PNG, TIFF, BMP or WebP picture"
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (8, b"CR\x02", "a camera's raw file"),  # Canon's CR2 is a TIFF that shows only its preview
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    (128, b"DICM", "a DICOM file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"GIF8", "a GIF picture"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphe", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIC picture"),
    (4, b"ftypmsf1", "a HEIC picture"),
    (4, b"ftyp", "a video"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"<svg", "a web page or drawing"),
    (0, b"<!DO", "a web page or drawing"),
    (0, b"<htm", "a web page or drawing"),
    (0, b"<?xml", "a web page or drawing"),
)
_FORMATS = {  # Pillow's name: ours; a phone's MPO is a JPEG with previews or depth behind the photograph
    "JPEG": "JPEG",
    "MPO": "JPEG",
    "PNG": "PNG",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "WEBP": "WebP",
}

# ImageOps.exif_transpose also rewrites the metadata, which fails on tags that some cameras write, and copies.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # of these: width and height change places
_PROFILE_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
_DNG_VERSION = 50706
_DAMAGED_METADATA = (SyntaxError, ValueError, TypeError, LookupError, OverflowError, OSError, struct.error)


@dataclass(frozen=True, eq=False)
class LesionImage:
    """One picture that passed the door.

    `pixels` is (H, W, 3) uint8 sRGB, upright, C-contiguous and read-only. `sha256` is the hexadecimal digest
    of the file's bytes, or of shape and pixels where a Pillow image was given. `format` is "JPEG", "PNG",
    "TIFF", "BMP", "WebP" or "PIL". `notes` says in one sentence each what was done to the picture.
    """

    pixels: NDArray[np.uint8]
    sha256: str
    format: str
    notes: tuple[str, ...] = ()

    @property
    def height_px(self) -> int:
        """Return the height after turning upright."""
        return int(self.pixels.shape[0])

    @property
    def width_px(self) -> int:
        """Return the width after turning upright."""
        return int(self.pixels.shape[1])


def read_image(source: str | os.PathLike[str] | bytes | Image.Image) -> LesionImage:
    """Read one picture, given as a path, a file's bytes or a Pillow image, as upright 8-bit sRGB.

    JPEG, PNG, TIFF, BMP and WebP are told by content; a name is only used in messages. A Pillow image stays
    as it was. Raises ImageRejected, in a sentence for the reader, for anything else.
    """
    if isinstance(source, Image.Image):
        _check_size(source.size, "This picture")
        pixels, notes = _decode(source, "This picture")
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes())
        return LesionImage(pixels, digest.hexdigest(), "PIL", notes)
    if isinstance(source, bytes):
        name, data = "This file", source
    elif isinstance(source, str | os.PathLike):
        path = Path(source)
        name = "".join(c if c.isprintable() else "?" for c in path.name) or "This path"
        data = _read_file(path, name)
    else:
        raise TypeError(f"Expected `source` to be a path, bytes or a PIL image but got {type(source).__name__}.")
    with _open(data, name) as image:
        pixels, notes = _decode(image, name)
        return LesionImage(pixels, hashlib.sha256(data).hexdigest(), _FORMATS[image.format or ""], notes)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) in px of a file's picture turned upright, by its header: a truncated file passes.

    Raises ImageRejected for a file that has no such header, and for a picture too small or too large to read.
    """
    name = Path(path).name
    try:
        with Image.open(path, formats=[kind for kind in _FORMATS if kind != "MPO"]) as image:
            size = image.size
            # Pillow has turned the size of a TIFF already.
            turned = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        raise ImageRejected(f"{name} has no header that can be read. {_EXPECTED}.") from error
    _check_size(size, name)
    return (size[1], size[0]) if turned else size


def read_images(sources: Iterable[str | os.PathLike[str]]) -> Iterator[LesionImage | ImageRejected]:
    """Read files in their order, a few ahead in threads; one that cannot be read comes as its rejection."""
    return map_ahead(_read_or_reject, sources, workers=_READERS, ahead=_READ_AHEAD)


def _read_or_reject(source: str | os.PathLike[str]) -> LesionImage | ImageRejected:
    try:
        return read_image(source)
    except ImageRejected as rejection:
        return rejection


def _read_file(path: Path, name: str) -> bytes:
    """Return the bytes of a regular file."""
    try:
        if path.is_dir():
            raise ImageRejected(f"{name} is a folder. {_EXPECTED}; choose a file inside it.")
        if not path.exists():
            raise ImageRejected(f"{name} was not found. {_EXPECTED}; check the name and the folder.")
        if not path.is_file():
            raise ImageRejected(f"{name} is a device, not a file. {_EXPECTED}.")
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise ImageRejected(
                f"{name} has {size / 2**20:.0f} MB. Expected at most {MAX_FILE_BYTES // 2**20} MB; "
                "export the picture as JPEG."
            )
        return path.read_bytes()
    except PermissionError as error:
        raise ImageRejected(f"{name} may not be read by this user. Ask for the right to read it.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ImageRejected(f"{name} could not be read: {reason}. Check the disk or the network.") from error


def _open(data: bytes, name: str) -> Image.Image:
    """Read the header only; return the still packed picture once kind, count and size are fit to decode."""
    if not data:
        raise ImageRejected(f"{name} is empty (0 bytes). {_EXPECTED}; copy or export the picture again.")
    kind = next((kind for at, sign, kind in _SIGNATURES if data.startswith(sign, at)), "")
    if kind not in _FORMATS:
        raise _foreign(name, kind or "in a format that is not known here")
    try:
        image = Image.open(BytesIO(data), formats=(kind,))
        count = 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageRejected(
            f"{name} is far larger than {MAX_PIXELS // 10**6} megapixels. Expected at most that; "
            "make the picture smaller or cut it to the lesion."
        ) from error
    except Exception as error:  # Pillow's parsers raise many kinds on damaged bytes
        raise _damaged(name, _FORMATS[kind]) from error
    _check_size(image.size, name)
    if count > 1:
        raise ImageRejected(
            f"{name} holds {count} pictures (it is animated or has several pages). Expected one; "
            "export the one you mean."
        )
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        if _DNG_VERSION in tags or tags.get(ExifTags.Base.NewSubfileType, 0) == 1:
            raise _foreign(name, "a camera's raw file")
    return image


def _check_size(size: tuple[int, int], name: str) -> None:
    """Refuse a picture too small to judge or too large to decode."""
    width_px, height_px = size
    if min(size) < MIN_SIDE_PX:
        raise ImageRejected(
            f"{name} is {width_px} × {height_px} pixels. Expected at least {MIN_SIDE_PX} on each side; "
            "use the original picture, not a thumbnail."
        )
    if width_px * height_px > MAX_PIXELS:
        raise ImageRejected(
            f"{name} is {width_px} × {height_px} pixels. Expected at most {MAX_PIXELS // 10**6} megapixels; "
            "make the picture smaller or cut it to the lesion."
        )


def _foreign(name: str, what: str) -> ImageRejected:
    """Return the sentence for a file of another kind."""
    return ImageRejected(f"{name} is {what}. {_EXPECTED}; export the picture as one of these.")


def _damaged(name: str, kind: str) -> ImageRejected:
    """Return the sentence for a file that begins well and does not hold what it promises."""
    return ImageRejected(
        f"{name} begins as a {kind} picture but is incomplete or damaged. Expected a whole picture; "
        "copy or export it again."
    )


def _decode(image: Image.Image, name: str) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the pixels of an opened picture, (H, W, 3) uint8 sRGB upright, and what was done to them."""
    notes: list[str] = []
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits, white_is_zero = _bits(image), tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    orientation = tags.get(ExifTags.Base.Orientation, 1)
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise many kinds on damaged bytes
        raise _damaged(name, _FORMATS.get(image.format or "", "loaded")) from error
    turn = _UPRIGHT.get(_orientation(image, notes))
    if turn is not None or orientation in _UPRIGHT:  # Pillow turns a TIFF itself while it loads
        notes.append("The picture was turned upright, as the camera had recorded.")
    icc = image.info.get("icc_profile")
    if bits > 8:
        notes.append(f"The picture was reduced from {bits} to 8 bits a channel.")
        image = _reduce(image, bits, white_is_zero)
    image, alpha = _split_alpha(image)
    image = _to_srgb(image, icc, notes, name)
    if alpha is not None:
        notes.append("Transparent parts were laid on white.")
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    pixels = np.asarray(image if turn is None else image.transpose(turn))
    pixels.flags.writeable = False
    return pixels, tuple(notes)


def _orientation(image: Image.Image, notes: list[str]) -> int:
    """Return the EXIF orientation of a loaded picture, 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGED_METADATA:
        notes.append("The camera's record of which way is up is damaged; the picture was left as it lies.")
        return 1


def _bits(image: Image.Image) -> int:
    """Return the bits a channel of a picture not yet loaded: Pillow loads 16-bit colour as 8-bit."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))[0])
    packed = "".join(str(tile.args) for tile in getattr(image, "tile", ()))
    return 16 if image.mode.startswith("I;16") or ";16" in packed else 8


def _reduce(image: Image.Image, bits: int, white_is_zero: bool) -> Image.Image:
    """Return a picture of more than 8 bits a channel in 8, by the high byte, as Pillow did for colour.

    Pillow leaves undone: the colour that stands for transparent, and a TIFF that counts from white to black.
    """
    transparent = image.info.get("transparency")
    if not image.mode.startswith("I;16"):
        if isinstance(transparent, tuple):
            image = image.copy()
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        return image
    values = np.asarray(image)
    grey = (values >> (bits - 8)).astype(np.uint8)
    if transparent is not None:
        return Image.fromarray(np.dstack([grey, np.where(values == transparent, 0, 255).astype(np.uint8)]))
    return Image.fromarray(255 - grey if white_is_zero else grey)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the picture without transparency, and its opacity (L) where any of it is not fully opaque."""
    if not image.has_transparency_data:
        return image, None
    image = image.convert("LA") if image.mode == "La" else image
    rgba = image.convert("RGBA")
    opaque = rgba.getchannel("R") if image.mode in ("1", "L", "LA") else rgba.convert("RGB")
    alpha = rgba.getchannel("A")
    return opaque, None if alpha.getextrema() == (255, 255) else alpha


def _to_srgb(image: Image.Image, icc: bytes | None, notes: list[str], name: str) -> Image.Image:
    """Return an opaque picture as sRGB, through its colour profile where it has one that fits."""
    if image.mode in ("1", "L"):
        notes.append("The picture is greyscale; it holds no colour.")
    if image.mode in ("1", "P", "YCbCr", "RGBX", "HSV"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if image.mode not in ("L", "RGB", "CMYK"):
        raise ImageRejected(
            f"{name} stores its colours in the form {image.mode}. Expected greyscale, RGB or CMYK of 8 or "
            "16 bits; export the picture as PNG or JPEG."
        )
    mode, transform = _transform(icc) if icc else ("", None)
    if icc and mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if icc and mode != image.mode:
        notes.append("The colour profile of the file does not fit the picture and was left aside.")
    elif transform is not None:
        notes.append("The colours were converted to sRGB by the colour profile of the file.")
        return transform.apply(image)
    if image.mode == "CMYK":
        notes.append("The colours were converted from CMYK without a colour profile; they are approximate.")
    return image if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=16)
def _transform(icc: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the mode a profile is for, "" where it is unusable, and the way to sRGB, None where it is sRGB.

    A profile counts as sRGB when it moves no colour of a 9 × 9 × 9 grid by more than one step.
    """
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        mode = _PROFILE_MODES.get(profile.profile.xcolor_space.strip(), "")
        if not mode:
            return "", None
        transform = ImageCms.ImageCmsTransform(profile, srgb, mode, "RGB")
    except (OSError, TypeError, ValueError, ImageCms.PyCMSError):
        return "", None
    if mode == "RGB":
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(9, 81, 3)
        moved = np.asarray(transform.apply(Image.fromarray(grid)))
        if np.abs(moved.astype(int) - grid).max() <= 1:
            return mode, None
    return mode, transform
