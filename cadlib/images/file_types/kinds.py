"""Recognises image formats by first bytes, and words the refusals of files."""

from cadlib.errors import ImageRejected

EXPECTED = "Expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image"
DICOM = "DICOM"
SIGNATURES = (
    # Before TIFF: the 128 bytes in front may be a TIFF, without a header that is read here.
    (128, b"DICM", DICOM),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    # Canon's CR2 is a TIFF that shows only its preview.
    (8, b"CR\x02", "a camera's raw file"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"MM\0+", "TIFF"),
    (8, b"WEBP", "WEBP"),
    (0, b"BM", "BMP"),
    (0, b"\2\0\0\0UL\4\0", "a DICOM file without a preamble"),
    (0, b"\x08\0\5\0", "a DICOM file without a preamble"),
    (0, b"%PDF", "a PDF document"),
    (0, b"GIF8", "a GIF image"),
    (4, b"ftypavi", "an AVIF image"),
    (4, b"ftyphe", "a HEIC image"),
    (4, b"ftypmif1", "a HEIC image"),
    (4, b"ftypmsf1", "a HEIC image"),
    (4, b"ftyp", "a video"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"<svg", "a web page or drawing"),
    (0, b"<!DO", "a web page or drawing"),
    (0, b"<htm", "a web page or drawing"),
    (0, b"<?xml", "a web page or drawing"),
)
"""Offset, first bytes there, and Pillow's name of the format or a description of the file."""
FORMATS = {
    "JPEG": "JPEG",
    # The MPO of a phone is a JPEG with previews or depth behind the photograph.
    "MPO": "JPEG",
    "PNG": "PNG",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "WEBP": "WebP",
}
"""Pillow's name -> name in this package."""


def kind_of(data: bytes) -> str:
    """Return Pillow's name of an image format, or a description of another kind of file.

    Return "" for an unknown file.
    """
    for at, signature, kind in SIGNATURES:
        if data.startswith(signature, at):
            return kind
    return ""


def foreign(name: str, what: str) -> ImageRejected:
    """Return the error for a file of another kind."""
    return ImageRejected(f"{name} is {what}. {EXPECTED}. Export the image in one of these formats.")


def damaged(name: str, kind: str) -> ImageRejected:
    """Return the error for a file with a valid start that is incomplete or damaged."""
    return ImageRejected(
        f"{name} starts as a {kind} image, but it is incomplete or damaged. "
        "Expected a complete image. Copy or export it again."
    )


def unsupported(name: str, what: str) -> ImageRejected:
    """Return the error for an intact file of a known format in a form that is not supported."""
    return ImageRejected(
        f"{name} is {what}, which is not supported here. "
        "Expected greyscale, RGB or CMYK of 8 or 16 bits a channel. "
        "Export the image as PNG or JPEG."
    )


def several(name: str, count: int) -> ImageRejected:
    """Return the error for a file with several images."""
    return ImageRejected(
        f"{name} contains {count} images (animation or several pages). "
        "Expected one. Export the image you need."
    )


def contradictory(name: str, what: str) -> ImageRejected:
    """Return the error for a file with two statements that cannot both be true."""
    return ImageRejected(
        f"{name} contradicts itself: {what}. Expected a header that describes its pixels. "
        "Export the image again, as PNG or JPEG."
    )
