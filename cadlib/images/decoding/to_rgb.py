"""Converts an opened image to upright (H, W, 3) uint8 sRGB."""

import struct
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, TiffImagePlugin

from cadlib.images.colour.stated import Colours, stated_colours
from cadlib.images.colour.transforms import MAX_PROFILE_BYTES, cache_by_digest, too_large_note
from cadlib.images.file_types.jpeg import Allocate, decode_jpeg, new_array
from cadlib.images.file_types.kinds import FORMATS, damaged, unsupported
from cadlib.images.file_types.tiff import eight_bit_palette

# Not by ImageOps.exif_transpose: it copies, and it rewrites the metadata, which fails on tags that
# some cameras write.
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


class _StoredForm(NamedTuple):
    """The form of an image in its file. `tiff_orientation` is 1 for other formats."""

    bits: int
    white_is_zero: bool = False
    tiff_orientation: int = 1


def decode(
    image: Image.Image,
    name: str,
    allocate: Allocate = new_array,
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Return the pixels of an opened image, (H, W, 3) uint8 sRGB upright, and notes on the changes.

    `allocate` makes the array for the pixels of a JPEG; see `decode_jpeg`.
    """
    notes: list[str] = []
    # Loading the image may change its form.
    form = _stored_form(image)
    data = file_bytes(image)
    loaded = _load(image, data, notes, name, allocate)
    turn = _turn(image, form, notes)
    colours = stated_colours(image, data, name)
    notes.extend(colours.notes)
    is_finished = image.mode == "RGB" and turn is None and colours.icc is None
    if isinstance(loaded, np.ndarray) and is_finished:
        # The usual case, without a copy.
        return _read_only(loaded), tuple(notes)
    if isinstance(loaded, np.ndarray):
        loaded = Image.fromarray(loaded, image.mode)
    converted = _convert(loaded, form, colours, notes, name)
    if turn is not None:
        converted = converted.transpose(turn)
    return _read_only(np.asarray(converted)), tuple(notes)


def _read_only(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pixels.flags.writeable = False
    return pixels


def _convert(
    image: Image.Image,
    form: _StoredForm,
    colours: Colours,
    notes: list[str],
    name: str,
) -> Image.Image:
    """Return a loaded image as opaque 8-bit sRGB."""
    if form.bits > 8:
        notes.append(f"The image was reduced from {form.bits} to 8 bits a channel.")
        image = _reduce(image, form)
    image, alpha = _split_alpha(image)
    image = _to_srgb(image, colours, notes, name)
    if alpha is None:
        return image
    notes.append("Transparent parts were filled with white.")
    white = Image.new("RGB", image.size, "white")
    return Image.composite(image, white, alpha)


def _stored_form(image: Image.Image) -> _StoredForm:
    """Return the form of an image that is not loaded yet."""
    bits = _bits(image)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return _StoredForm(bits)
    tags = image.tag_v2
    photometric = tags.get(ExifTags.Base.PhotometricInterpretation)
    return _StoredForm(
        bits=bits,
        white_is_zero=photometric == 0,
        tiff_orientation=tags.get(ExifTags.Base.Orientation, 1),
    )


def file_bytes(image: Image.Image) -> bytes | None:
    """Return the whole file of an image that is not decoded yet, or None if there is none."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", ()):
        return None
    at = file.tell()
    file.seek(0)
    data: bytes = file.read()
    file.seek(at)
    return data


def _load(
    image: Image.Image,
    data: bytes | None,
    notes: list[str],
    name: str,
    allocate: Allocate,
) -> Image.Image | NDArray[np.uint8]:
    """Load the pixels by a decoder that reports damage.

    Return the image, or only its pixels for a JPEG.
    """
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
    if _has_empty_alpha(image):
        notes.append("The alpha channel of the file is empty; the image was read as opaque.")
        return image.convert("RGB")
    return image


def _has_empty_alpha(image: Image.Image) -> bool:
    """Return whether a BMP would be invisible: many programs leave its alpha channel empty."""
    if image.format != "BMP" or image.mode != "RGBA":
        return False
    alpha = image.getchannel("A")
    return alpha.getextrema() == (0, 0)


def _turn(image: Image.Image, form: _StoredForm, notes: list[str]) -> Image.Transpose | None:
    """Return the turn that makes a loaded image upright, None if it is upright."""
    turn = _UPRIGHT.get(_orientation(image, notes))
    # Pillow turns a TIFF itself while it loads.
    if turn is not None or form.tiff_orientation in _UPRIGHT:
        notes.append("The image was rotated according to the camera data.")
    return turn


def _orientation(image: Image.Image, notes: list[str]) -> int:
    """Return the EXIF orientation of a loaded image, 1 if it is missing or damaged."""
    try:
        exif = image.getexif()
        return int(exif.get(ExifTags.Base.Orientation, 1))
    except _DAMAGED_METADATA:
        notes.append("The camera's orientation data is damaged; the image was not rotated.")
        return 1


def _bits(image: Image.Image) -> int:
    """Return the bits a channel of an image that is not loaded yet.

    Pillow loads 16-bit colour as 8-bit.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        depths = image.tag_v2.get(ExifTags.Base.BitsPerSample, (8,))
        return int(depths[0])
    if image.mode.startswith("I;16"):
        return 16
    for tile in getattr(image, "tile", ()):
        # The decoder's arguments name the raw mode, such as "RGB;16B".
        if ";16" in str(tile.args):
            return 16
    return 8


def _reduce(image: Image.Image, form: _StoredForm) -> Image.Image:
    """Return an image of more than 8 bits a channel in 8 bits.

    The high byte is used, as Pillow does for colour. Pillow does not handle the transparent colour,
    and a TIFF that counts from white to black.
    """
    transparent = image.info.get("transparency")
    if not image.mode.startswith("I;16"):
        if isinstance(transparent, tuple):
            image = image.copy()
            image.info["transparency"] = tuple(value >> 8 for value in transparent)
        return image
    values = np.asarray(image)
    grey = (values >> (form.bits - 8)).astype(np.uint8)
    if transparent is not None:
        alpha = np.where(values == transparent, 0, 255).astype(np.uint8)
        return Image.fromarray(np.dstack([grey, alpha]))
    if form.white_is_zero:
        grey = 255 - grey
    return Image.fromarray(grey)


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the image without transparency, and its opacity (L), None if it is fully opaque."""
    if not image.has_transparency_data:
        return image, None
    if image.mode == "La":
        image = image.convert("LA")
    is_grey = image.mode in ("1", "L", "LA")
    rgba = image.convert("RGBA")
    # The three channels of a grey image are equal.
    opaque = rgba.getchannel("R") if is_grey else rgba.convert("RGB")
    alpha = rgba.getchannel("A")
    extremes = alpha.getextrema()
    is_fully_opaque = extremes == (255, 255)
    if is_fully_opaque:
        return opaque, None
    return opaque, alpha


def _to_srgb(image: Image.Image, colours: Colours, notes: list[str], name: str) -> Image.Image:
    """Return an opaque image as sRGB, through its colour profile if it has one that fits."""
    image = _to_profile_mode(image, notes, name)
    icc = colours.icc
    # A long profile would take more time than the whole image.
    if icc and len(icc) > MAX_PROFILE_BYTES:
        notes.append(too_large_note(icc))
        icc = None
    if icc:
        mode, transform = _transform(icc)
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if mode != image.mode:
            notes.append("The colour profile of the file does not fit the image and was ignored.")
        elif transform is not None:
            notes.append(f"The colours were converted to sRGB {colours.origin}.")
            return transform.apply(image)
    if image.mode == "CMYK":
        notes.append(
            "The colours were converted from CMYK without a colour profile; they are approximate."
        )
    if image.mode == "RGB":
        return image
    return image.convert("RGB")


def _to_profile_mode(
    image: Image.Image,
    notes: list[str],
    name: str,
) -> Image.Image:
    """Return an image in a mode that a profile can be for: L, RGB or CMYK."""
    if image.mode in ("1", "L"):
        notes.append("The image is greyscale; it has no colour.")
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "YCbCr", "RGBX", "HSV"):
        image = image.convert("RGB")
    if image.mode not in ("L", "RGB", "CMYK"):
        raise unsupported(name, f"an image that stores its colours in the form {image.mode}")
    return image


@cache_by_digest
def _transform(icc: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    """Return the mode of a profile and its transform to sRGB.

    The mode is "" for a profile that cannot be used. The transform is None for sRGB. A profile
    counts as sRGB if it changes no colour of a 9 × 9 × 9 grid by more than one step.
    """
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        colour_space = profile.profile.xcolor_space.strip()
        mode = _PROFILE_MODES.get(colour_space, "")
        if not mode:
            return "", None
        transform = ImageCms.ImageCmsTransform(
            profile,
            srgb,
            mode,
            "RGB",
        )
    except (OSError, TypeError, ValueError, ImageCms.PyCMSError):
        return "", None
    if mode == "RGB" and _is_srgb(transform):
        return mode, None
    return mode, transform


def _is_srgb(transform: ImageCms.ImageCmsTransform) -> bool:
    """Return whether a transform changes no colour of a grid by more than one step."""
    steps = np.linspace(0, 255, 9)
    levels = steps.astype(np.uint8)
    channels = np.meshgrid(levels, levels, levels)
    grid = np.stack(channels, axis=-1)
    # As an image of 9 × 81 pixels.
    grid = grid.reshape(9, 81, 3)
    image = Image.fromarray(grid)
    transformed = np.asarray(transform.apply(image))
    # Integers with a sign: a difference of uint8 would wrap around.
    change = np.abs(transformed.astype(int) - grid)
    return bool(change.max() <= 1)
