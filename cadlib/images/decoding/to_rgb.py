"""An opened picture -> (H, W, 3) uint8 sRGB, upright, and what was done to it."""

import struct
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, TiffImagePlugin

from cadlib.images.colour.stated import Colours, stated_colours
from cadlib.images.colour.transforms import MAX_PROFILE_BYTES, kept_by_digest, too_large_note
from cadlib.images.file_types.jpeg import Allocate, decode_jpeg, new_array
from cadlib.images.file_types.kinds import FORMATS, damaged, unsupported
from cadlib.images.file_types.tiff import eight_bit_palette

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
_PROFILE_MODES = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
_DAMAGED_METADATA = (
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    OSError,
    struct.error,
)


def decode(
    image: Image.Image, name: str, allocate: Allocate = new_array
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the pixels of an opened picture, (H, W, 3) uint8 sRGB upright, and what was done to them.

    `allocate` makes the array for what a JPEG holds; see `decode_jpeg`.
    """
    notes: list[str] = []
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits, white_is_zero = _bits(image), tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    orientation = tags.get(ExifTags.Base.Orientation, 1)
    data = file_bytes(image)
    loaded = _load(image, data, notes, name, allocate)
    turn = _UPRIGHT.get(_orientation(image, notes))
    if turn is not None or orientation in _UPRIGHT:  # Pillow turns a TIFF itself while it loads
        notes.append("The picture was turned upright, as the camera had recorded.")
    colours = stated_colours(image, data, name)
    notes.extend(colours.notes)
    if isinstance(loaded, np.ndarray):
        if (
            image.mode == "RGB" and turn is None and colours.icc is None
        ):  # the usual case, without a copy
            loaded.flags.writeable = False
            return loaded, tuple(notes)
        loaded = Image.fromarray(loaded, image.mode)
    image = loaded
    if bits > 8:
        notes.append(f"The picture was reduced from {bits} to 8 bits a channel.")
        image = _reduce(image, bits, white_is_zero)
    image, alpha = _split_alpha(image)
    image = _to_srgb(image, colours, notes, name)
    if alpha is not None:
        notes.append("Transparent parts were laid on white.")
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    pixels = np.asarray(image if turn is None else image.transpose(turn))
    pixels.flags.writeable = False
    return pixels, tuple(notes)


def file_bytes(image: Image.Image) -> bytes | None:
    """Return the whole file of an image that is not decoded yet, None where there is none."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", ()):
        return None
    at = file.tell()
    file.seek(0)
    data: bytes = file.read()
    file.seek(at)
    return data


def _load(
    image: Image.Image, data: bytes | None, notes: list[str], name: str, allocate: Allocate
) -> Image.Image | NDArray[np.uint8]:
    """Return the image with its pixels, of a JPEG its pixels alone, by a decoder that reports damage."""
    if isinstance(image, JpegImagePlugin.JpegImageFile) and data is not None:
        pixels, decoder_notes = decode_jpeg(data, image.size, name, allocate=allocate)
        notes.extend(decoder_notes)
        return pixels
    try:
        image.load()
    except Exception as error:  # Pillow's decoders raise many kinds on damaged bytes
        raise damaged(name, FORMATS.get(image.format or "", "loaded")) from error
    palette = eight_bit_palette(image)
    if palette is not None:
        notes.append("The colour table of the file uses 8 of its 16 bits; it was read so.")
        image = image.copy()
        image.putpalette(palette)
    # Many programs write an alpha channel into a BMP and leave it empty.
    if (
        image.format == "BMP"
        and image.mode == "RGBA"
        and image.getchannel("A").getextrema() == (0, 0)
    ):
        notes.append("The alpha channel of the file is empty; the image was read as opaque.")
        image = image.convert("RGB")
    return image


def _orientation(image: Image.Image, notes: list[str]) -> int:
    """Return the EXIF orientation of a loaded picture, 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGED_METADATA:
        notes.append(
            "The camera's record of which way is up is damaged; the picture was left as it lies."
        )
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
        return Image.fromarray(
            np.dstack([grey, np.where(values == transparent, 0, 255).astype(np.uint8)])
        )
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


def _to_srgb(image: Image.Image, colours: Colours, notes: list[str], name: str) -> Image.Image:
    """Return an opaque picture as sRGB, through its colour profile where it has one that fits."""
    if image.mode in ("1", "L"):
        notes.append("The picture is greyscale; it holds no colour.")
    if image.mode in ("1", "P", "YCbCr", "RGBX", "HSV"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    if image.mode not in ("L", "RGB", "CMYK"):
        raise unsupported(name, f"an image that stores its colours in the form {image.mode}")
    icc = colours.icc
    if icc and len(icc) > MAX_PROFILE_BYTES:
        notes.append(too_large_note(icc))
        icc = None
    mode, transform = _transform(icc) if icc else ("", None)
    if icc and mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if icc and mode != image.mode:
        notes.append("The colour profile of the file does not fit the picture and was left aside.")
    elif transform is not None:
        notes.append(f"The colours were converted to sRGB {colours.origin}.")
        return transform.apply(image)
    if image.mode == "CMYK":
        notes.append(
            "The colours were converted from CMYK without a colour profile; they are approximate."
        )
    return image if image.mode == "RGB" else image.convert("RGB")


@kept_by_digest
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
