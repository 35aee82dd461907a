"""Refuses files whose structure requires more work than an image needs.

Only the structure is checked, before anything is decoded, which takes far less time than decoding.
Each limit is many times what cameras, scanners and image programs write. `pool` stops a file that
passes here and still takes too long.
"""

import re
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from cadlib.errors import ImageRejected

MAX_JPEG_SEGMENTS = 2_000
"""Segments before the image. A phone's depth map takes about 130, a usual file has 10 to 20."""
MAX_JPEG_METADATA_SEGMENTS = 64
"""Segments of EXIF or of Photoshop: Pillow joins or parses each. Large ones take 2 or 3."""
MAX_JPEG_SKIPPED_BYTES = 64 * 1024
"""Bytes between segments, which Pillow reads one by one. Usual files have none."""
MAX_JPEG_SCANS = 100
"""Scans of a progressive JPEG, each through the whole image. Encoders write 6 to 20."""
MAX_PNG_DATA_CHUNKS = 100_000
"""Chunks of pixels. The largest image has 40,000 chunks of 8 KB, the smallest that are usual."""
MAX_PNG_OTHER_CHUNKS = 10_000
"""Other chunks. Usual files have fewer than 50."""
MAX_PNG_TEXT_CHUNKS = 200
"""Chunks of compressed text or colour profiles, which may unpack to 1 MB each. Usual files have
fewer than 20."""
MAX_TIFF_DIRECTORIES = 1_000
"""Directories, one for each page. A file with several pages is refused in any case."""
MAX_TIFF_TAGS = 1_000
"""Tags in one directory. Cameras write fewer than 200."""
MAX_TIFF_ALL_TAGS = 50_000
"""Tags in all directories."""
MAX_TIFF_STRIPS = 100_000
"""Strips or tiles. An image of 40 megapixels in tiles of 64 pixels has 10,000."""
MAX_TIFF_VALUES = 200_000
"""Values of a tag of the TIFF standard. The largest, a 16-bit colour map, has 196,608."""
MAX_BMP_RUNS_BYTES = 4 * 1024 * 1024
"""Bytes of a run-length encoded BMP. Pillow decodes it in Python: 2 million runs take 2 s."""
MAX_BMP_RUNS_PIXELS = 10_000_000
"""Pixels of a run-length encoded BMP. The encoding is for drawings of up to 256 colours."""
MAX_WEBP_CHUNKS = 10_000
"""Chunks of a WebP file. A still image has fewer than 10."""
MAX_DICOM_ITEMS = 20_000
"""Items of sequences and fragments of pixels. A file with one image has fewer than 100."""
MAX_DICOM_ELEMENTS = 20_000
"""Elements of a header. A usual one has 100 to 500."""
MAX_DICOM_VALUE_BYTES = 64 * 1024
"""Bytes of an element that holds a few numbers or words."""
MAX_J2K_TILES = 10_000
"""Tiles of JPEG 2000. An image of 40 megapixels in tiles of 64 pixels has 10,000."""
MAX_J2K_LAYERS = 1_000
"""Quality layers of JPEG 2000. Encoders write 1 to 20."""

_TEM = 0x01
_SOI = 0xD8
_EOI = 0xD9
_SOS = 0xDA
_APP1 = 0xE1
_APP13 = 0xED
_JPEG_SCAN = re.compile(rb"\xff\xda")
_JPEG_WITHOUT_LENGTH = {_TEM, _SOI, _EOI, *range(0xD0, 0xD8)}
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
# Data behind the image, such as a video, look like the start of a scan once in 64 KB.
_BYTES_A_CHANCE_SCAN = 16 * 1024

_PNG_TEXT = {b"zTXt", b"iTXt", b"iCCP"}
_PNG_DATA = {b"IDAT", b"fdAT"}

_TIFF_STRIP_TAGS = {273, 279, 324, 325}
_TIFF_STANDARD_TAGS = range(700)
_BIG_TIFF = 43

_BMP_RUN_LENGTH = (1, 2)

_DICOM_ITEM = re.compile(rb"\xfe\xff\x00\xe0")
_DICOM_ITEM_BIG_ENDIAN = re.compile(rb"\xff\xfe\xe0\x00")
_DICOM_BIG_ENDIAN = b"1.2.840.10008.1.2.2\0"
_DICOM_META_BYTES = 4096
_OFFSET_TABLE_BYTES = 64 * 1024

_J2K_START = b"\xff\x4f\xff\x51"
_J2K_COD = 0x52
_J2K_SOT = 0x90


def check_work(data: bytes, kind: str, name: str) -> None:
    """Raise ImageRejected for a file whose structure exceeds the limits.

    `kind` is the result of `kind_of`, or "JPEG2000". `data` may be truncated, because this function
    does not check for damage.
    """
    check = _CHECKS.get(kind)
    if check is None:
        return
    try:
        check(data, name)
    except (struct.error, IndexError):
        # The data are truncated, and the decoder will report that.
        return


def check_jpeg(data: bytes, name: str) -> None:
    """Raise ImageRejected for a JPEG with too many segments, skipped bytes or scans."""
    counts: dict[str, int] = {}
    components = 0
    is_progressive = False
    for code, at in _jpeg_segments(data, name):
        is_exif = code == _APP1 and data.startswith(b"Exif", at + 2)
        if is_exif:
            _count(counts, "EXIF segments", MAX_JPEG_METADATA_SEGMENTS, name)
        elif code == _APP13:
            _count(
                counts,
                "Photoshop segments",
                MAX_JPEG_METADATA_SEGMENTS,
                name,
            )
        elif code in _JPEG_FRAMES:
            components = data[at + 7]
            is_progressive = code in _JPEG_PROGRESSIVE
        elif code == _SOS:
            # A sequential JPEG has one scan, or one for each component.
            has_several_scans = is_progressive or data[at + 2] < components
            if has_several_scans:
                _check_jpeg_scans(data, name)


def _check_jpeg_scans(data: bytes, name: str) -> None:
    chance_scans = len(data) // _BYTES_A_CHANCE_SCAN
    limit = MAX_JPEG_SCANS + chance_scans
    has_too_many = _more_than(limit, _JPEG_SCAN, data)
    if has_too_many:
        raise _too_many(name, "scans", MAX_JPEG_SCANS)


def _jpeg_segments(data: bytes, name: str) -> Iterator[tuple[int, int]]:
    """Yield the code of each marker up to the first scan, and the position of its length."""
    at = 2
    skipped = 0
    segments = 0
    while True:
        marker = data.find(b"\xff", at)
        if marker < 0:
            code = 0
            skipped += len(data) - at
        else:
            code = data[marker + 1]
            skipped += marker - at
        # A stuffed zero or a fill byte is no marker.
        is_marker = code not in (0, 0xFF)
        if not is_marker:
            skipped += 1
        if skipped > MAX_JPEG_SKIPPED_BYTES:
            raise _too_many(name, "bytes between segments", MAX_JPEG_SKIPPED_BYTES)
        if marker < 0:
            return
        if not is_marker:
            at = marker + 1
            continue
        segments += 1
        if segments > MAX_JPEG_SEGMENTS:
            raise _too_many(name, "segments before the image", MAX_JPEG_SEGMENTS)
        at = marker + 2
        yield code, at
        if code == _SOS:
            return
        if code not in _JPEG_WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")


def check_png(data: bytes, name: str) -> None:
    """Raise ImageRejected for a PNG with too many chunks."""
    counts: dict[str, int] = {}
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _PNG_DATA:
            _count(counts, "chunks of pixels", MAX_PNG_DATA_CHUNKS, name)
        else:
            _count(counts, "chunks", MAX_PNG_OTHER_CHUNKS, name)
        if kind in _PNG_TEXT:
            _count(counts, "compressed texts and profiles", MAX_PNG_TEXT_CHUNKS, name)
        if kind == b"IEND":
            return
        at += 12 + length


class _TiffForm(NamedTuple):
    """The formats of numbers in a TIFF, for `struct` without the byte order."""

    offset: str
    first_offset_at: int
    number_of_tags: str
    entry: str


_TIFF_FORM = _TiffForm("I", 4, "H", "HHI4x")
_BIG_TIFF_FORM = _TiffForm("Q", 8, "Q", "HHQ8x")


def check_tiff(data: bytes, name: str) -> None:
    """Raise ImageRejected for a TIFF with too many directories, tags, strips or values."""
    order = ">" if data.startswith(b"MM") else "<"
    (version,) = struct.unpack_from(order + "H", data, 2)
    form = _TIFF_FORM
    if version == _BIG_TIFF:
        form = _BIG_TIFF_FORM
    offset = struct.Struct(order + form.offset)
    (directory,) = offset.unpack_from(data, form.first_offset_at)
    _check_tiff_directories(data, directory, order, form, name)


def _check_tiff_directories(
    data: bytes,
    directory: int,
    order: str,
    form: _TiffForm,
    name: str,
) -> None:
    offset = struct.Struct(order + form.offset)
    number_of_tags = struct.Struct(order + form.number_of_tags)
    entry = struct.Struct(order + form.entry)
    visited: set[int] = set()
    all_tags = 0
    # A file may chain its directories in a circle.
    while directory and directory not in visited:
        visited.add(directory)
        if len(visited) > MAX_TIFF_DIRECTORIES:
            raise _too_many(name, "directories", MAX_TIFF_DIRECTORIES)
        (tags,) = number_of_tags.unpack_from(data, directory)
        all_tags += tags
        if tags > MAX_TIFF_TAGS:
            raise _too_many(name, "tags in a directory", MAX_TIFF_TAGS)
        if all_tags > MAX_TIFF_ALL_TAGS:
            raise _too_many(name, "tags", MAX_TIFF_ALL_TAGS)
        at = directory + number_of_tags.size
        for _ in range(tags):
            _check_tiff_tag(entry, data, at, name)
            at += entry.size
        (directory,) = offset.unpack_from(data, at)


def _check_tiff_tag(entry: struct.Struct, data: bytes, at: int, name: str) -> None:
    tag, _, count = entry.unpack_from(data, at)
    if tag in _TIFF_STRIP_TAGS and count > MAX_TIFF_STRIPS:
        raise _too_many(name, "strips or tiles", MAX_TIFF_STRIPS)
    if tag in _TIFF_STANDARD_TAGS and count > MAX_TIFF_VALUES:
        raise _too_many(name, f"values of tag {tag}", MAX_TIFF_VALUES)


def check_bmp(data: bytes, name: str) -> None:
    """Raise ImageRejected for a run-length encoded BMP that is too large to decode in Python."""
    header_bytes, width_px, height_px = struct.unpack_from("<Iii", data, 14)
    # The header of OS/2 1 has no compression.
    if header_bytes < 40:
        return
    (compression,) = struct.unpack_from("<I", data, 30)
    if compression not in _BMP_RUN_LENGTH:
        return
    pixels = abs(width_px * height_px)
    n_bytes = len(data)
    if n_bytes > MAX_BMP_RUNS_BYTES or pixels > MAX_BMP_RUNS_PIXELS:
        raise ImageRejected(
            f"{name} is a run-length encoded BMP of {n_bytes / 2**20:.1f} MB "
            f"and {width_px} × {abs(height_px)} pixels. "
            f"Expected at most {MAX_BMP_RUNS_BYTES // 2**20} MB "
            f"and {MAX_BMP_RUNS_PIXELS // 10**6} megapixels in this encoding. "
            "Export it as PNG or JPEG."
        )


def check_webp(data: bytes, name: str) -> None:
    """Raise ImageRejected for a WebP with too many chunks."""
    counts: dict[str, int] = {}
    at = 12
    while at + 8 <= len(data):
        _count(counts, "chunks", MAX_WEBP_CHUNKS, name)
        (length,) = struct.unpack_from("<I", data, at + 4)
        # Chunks of odd length are padded with one byte.
        padding = length % 2
        at += 8 + length + padding


def check_dicom(data: bytes, name: str) -> None:
    """Raise ImageRejected for a DICOM file with too many items; a deflated one must be inflated."""
    meta = data[:_DICOM_META_BYTES]
    item = _DICOM_ITEM
    if _DICOM_BIG_ENDIAN in meta:
        item = _DICOM_ITEM_BIG_ENDIAN
    if _more_than(MAX_DICOM_ITEMS, item, data):
        raise _too_many(name, "items or fragments", MAX_DICOM_ITEMS)


def check_offset_table(packed: bytes, name: str) -> None:
    """Raise ImageRejected for encapsulated pixels whose table of frames is too long.

    There is only one frame.
    """
    (length,) = struct.unpack_from("<I", packed, 4)
    if length > _OFFSET_TABLE_BYTES:
        raise _too_many(
            name,
            "bytes in the table of frames",
            _OFFSET_TABLE_BYTES,
        )


class ElementLimit:
    """Counts the elements of a DICOM header while pydicom reads it: `stop_when` of read_dataset."""

    def __init__(
        self,
        name: str,
        short_tags: frozenset[int],
        stop: Callable[[int], bool],
    ) -> None:
        """Refuse long values of `short_tags`, and end at the first tag for which `stop` is true."""
        self._name = name
        self._short_tags = short_tags
        self._stop = stop
        self._count = 0

    def __call__(self, tag: int, _vr: str | None, length: int) -> bool:
        """Return whether to end before this element; raise ImageRejected at a limit."""
        self._count += 1
        if self._count > MAX_DICOM_ELEMENTS:
            raise _too_many(
                self._name,
                "elements in its header",
                MAX_DICOM_ELEMENTS,
            )
        if tag in self._short_tags and length > MAX_DICOM_VALUE_BYTES:
            raise _too_many(
                self._name,
                "bytes in one element",
                MAX_DICOM_VALUE_BYTES,
            )
        return self._stop(tag)


def check_jpeg_2000(data: bytes, name: str) -> None:
    """Raise ImageRejected for a JPEG 2000 with too many tiles or layers.

    Source: ISO 15444-1, A.5 and A.6.
    """
    at = data.find(_J2K_START)
    if at < 0:
        return
    (length,) = struct.unpack_from(">H", data, at + 4)
    right, bottom, _, _, width, height, left, top = struct.unpack_from(
        ">8I",
        data,
        at + 8,
    )
    if width == 0 or height == 0:
        return
    # Rounded up: the last tile may reach beyond the image.
    across = -((left - right) // width)
    down = -((top - bottom) // height)
    if across * down > MAX_J2K_TILES:
        raise _too_many(name, "tiles", MAX_J2K_TILES)
    _check_j2k_layers(data, at + 4 + length, name)


def _check_j2k_layers(data: bytes, at: int, name: str) -> None:
    """Check the number of layers in the markers from `at` to the first tile."""
    while data[at] == 0xFF:
        code = data[at + 1]
        if code == _J2K_SOT:
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        if code == _J2K_COD:
            (layers,) = struct.unpack_from(">H", data, at + 6)
            if layers > MAX_J2K_LAYERS:
                raise _too_many(name, "quality layers", MAX_J2K_LAYERS)
        # A shorter length is invalid, and would never reach the end.
        at += 2 + max(length, 2)


_CHECKS: dict[str, Callable[[bytes, str], None]] = {
    "JPEG": check_jpeg,
    "PNG": check_png,
    "TIFF": check_tiff,
    "BMP": check_bmp,
    "WEBP": check_webp,
    "DICOM": check_dicom,
    "JPEG2000": check_jpeg_2000,
}


def _more_than(limit: int, pattern: re.Pattern[bytes], data: bytes) -> bool:
    """Return whether a pattern occurs more than `limit` times."""
    # `re` finds it three times as fast as bytes.count.
    matches = pattern.finditer(data)
    first_beyond_limit = next(islice(matches, limit, None), None)
    return first_beyond_limit is not None


def _count(counts: dict[str, int], what: str, limit: int, name: str) -> None:
    """Count one more item of a kind; raise ImageRejected beyond the limit."""
    count = counts.get(what, 0) + 1
    counts[what] = count
    if count > limit:
        raise _too_many(name, what, limit)


def _too_many(name: str, what: str, limit: int) -> ImageRejected:
    return ImageRejected(
        f"{name} has more than {limit:,} {what}. "
        "Expected at most that, far more than cameras and image programs write. "
        "Export it again as JPEG or PNG."
    )
