"""Builds small files that ask for far more work or memory than an image needs. None is kept on disk."""

import struct
import zlib

import numpy as np
from PIL import Image, ImageCms

from tests.encoded_images import encoded

SIDE_PX = 80


def picture(width_px: int = SIDE_PX, height_px: int = SIDE_PX) -> Image.Image:
    return Image.radial_gradient("L").resize((width_px, height_px)).convert("RGB")


# JPEG


def segment(code: int, data: bytes) -> bytes:
    return b"\xff" + bytes([code]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(*segments: bytes) -> bytes:
    """Return a JPEG with these bytes behind its start."""
    file = encoded(picture(), "JPEG")
    return file[:2] + b"".join(segments) + file[2:]


def jpeg_of_scans(count: int, side_px: int = 4000) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    flat = Image.new("RGB", (side_px, side_px), (180, 120, 100))
    file = encoded(flat, "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    tables = file.rindex(b"\xff\xc4", 0, last)
    scan = file[tables:-2]
    return file[:-2] + scan * (count - file.count(b"\xff\xda")) + b"\xff\xd9"


# PNG


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(before: bytes = b"", after: bytes = b"") -> bytes:
    """Return a PNG with these chunks before and after its pixels."""
    file = encoded(picture(), "PNG")
    pixels = file.index(b"IDAT") - 4
    end = file.rindex(b"IEND") - 4
    return file[:pixels] + before + file[pixels:end] + after + file[end:]


def unfolding(count: int, damaged: bool = False) -> bytes:
    """Return `count` zero bytes as a zlib stream, whose checksum may be wrong."""
    packed = zlib.compress(bytes(count), 9)
    return packed[:-4] + b"\0\0\0\0" if damaged else packed


def png_in_chunks(chunk_bytes: int) -> bytes:
    """Return a PNG whose pixels come in chunks of so many bytes."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    file = encoded(Image.fromarray(noise), "PNG", compress_level=0)
    at = file.index(b"IDAT")
    packed = b""
    while file[at : at + 4] == b"IDAT":
        (length,) = struct.unpack_from(">I", file, at - 4)
        packed += file[at + 4 : at + 4 + length]
        at += 12 + length
    parts = (packed[start : start + chunk_bytes] for start in range(0, len(packed), chunk_bytes))
    return file[:33] + b"".join(chunk(b"IDAT", part) for part in parts) + chunk(b"IEND", b"")


# TIFF


USUAL_TAGS = {
    256: (4, 1, SIDE_PX),
    257: (4, 1, SIDE_PX),
    258: (3, 1, 8),
    259: (3, 1, 1),
    262: (3, 1, 1),
    273: (4, 1, 8),
    277: (3, 1, 1),
    278: (4, 1, SIDE_PX),
    279: (4, 1, SIDE_PX * SIDE_PX),
}
"""Tag of a TIFF to type, count and value: one strip of grey pixels, behind the header."""


def tiff(
    tags: dict[int, tuple[int, int, int]] | None = None,
    next_directories: int = 0,
    loop: bool = False,
    tail: bytes = b"",
    repeat: int = 1,
) -> bytes:
    """Return a TIFF of 80 × 80 grey pixels; `tags` are tag -> (type, count, value or offset)."""
    pixels = bytes(SIDE_PX * SIDE_PX)
    values = USUAL_TAGS | (tags or {})
    entries = [(tag, *value) for tag, value in sorted(values.items())] * repeat
    first_at = 8 + len(pixels)
    directory_bytes = 2 + 12 * len(entries) + 4
    following_at = first_at + directory_bytes
    next_at = following_at if next_directories else 0
    if loop:
        next_at = first_at
    out = struct.pack("<2sHI", b"II", 42, first_at) + pixels
    out += struct.pack("<H", len(entries))
    out += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    out += struct.pack("<I", next_at)
    return out + chain_of_directories(next_directories, following_at) + tail


def chain_of_directories(count: int, start_at: int) -> bytes:
    """Return TIFF directories of one entry each, from an offset on, each with the next one's place."""
    out = b""
    for number in range(count):
        next_at = start_at + 18 * (number + 1)
        last = number == count - 1
        out += struct.pack("<HHHIII", 1, 256, 4, 1, SIDE_PX, 0 if last else next_at)
    return out


# BMP


def bmp_of_runs(width_px: int, height_px: int, runs: bytes, depth: int = 8) -> bytes:
    """Return a run-length encoded BMP."""
    palette = bytes(4 * 2**depth)
    at = 54 + len(palette)
    compression = {8: 1, 4: 2}[depth]
    info = struct.pack(
        "<IiiHHIIiiII", 40, width_px, height_px, 1, depth, compression, len(runs), 0, 0, 2**depth, 0
    )
    return struct.pack("<2sIHHI", b"BM", at + len(runs), 0, 0, at) + info + palette + runs


# WebP


def webp_with(*chunks: bytes) -> bytes:
    """Return an extended WebP with these chunks behind its image."""
    file = encoded(picture(), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")
    body = file[12:] + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def riff_chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


# Colour profiles


def large_profile(size: int, number: int = 0) -> bytes:
    """Return a valid profile that moves colours, padded to a size."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = srgb.replace(b"rXYZ", b"tmpX").replace(b"bXYZ", b"rXYZ").replace(b"tmpX", b"bXYZ")
    padded = swapped + struct.pack("<I", number) + bytes(size - len(swapped) - 4)
    return struct.pack(">I", len(padded)) + padded[4:]


# DICOM


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Return an element in explicit little-endian."""
    value += b"\0" * (len(value) % 2)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        return struct.pack("<HH2sHI", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def us(group: int, number: int, value: int) -> bytes:
    return element(group, number, b"US", struct.pack("<H", value))


EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
JPEG = "1.2.840.10008.1.2.4.50"
JPEG_2000 = "1.2.840.10008.1.2.4.90"


def dicom(
    body: bytes, syntax: str = EXPLICIT, before: bytes = b"", width_px: int = SIDE_PX, height_px: int = SIDE_PX,
    samples: int = 3, after: bytes = b"",
) -> bytes:  # fmt: skip
    """Return a DICOM file of 8 bits; `body` is its pixel element, `before` precedes the size."""
    meta = element(2, 0x10, b"UI", syntax.encode())
    photometric = b"RGB" if samples == 3 else b"MONOCHROME2"
    dataset = element(8, 0x16, b"UI", b"1.2.840.10008.5.1.4.1.1.77.1.7")
    dataset += element(8, 0x60, b"CS", b"DMS")
    dataset += before
    dataset += us(0x28, 2, samples)
    dataset += element(0x28, 4, b"CS", photometric)
    # Planar configuration, rows, columns, bits allocated, bits stored, high bit, unsigned numbers.
    for tag, value in (
        (6, 0),
        (0x10, height_px),
        (0x11, width_px),
        (0x100, 8),
        (0x101, 8),
        (0x102, 7),
        (0x103, 0),
    ):
        dataset += us(0x28, tag, value)
    dataset += body + after
    if syntax == DEFLATED:
        dataset = zlib.compress(dataset, level=9, wbits=-15)
    length = element(2, 0, b"UL", struct.pack("<I", len(meta)))
    return bytes(128) + b"DICM" + length + meta + dataset


def native(count: int) -> bytes:
    """Return uncompressed pixels, all zero."""
    return element(0x7FE0, 0x10, b"OW", bytes(count))


def item(data: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data


def fragments(*parts: bytes, offsets: bytes = b"") -> bytes:
    """Return encapsulated pixels."""
    head = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    return (
        head + item(offsets) + b"".join(map(item, parts)) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )


def rle_frame(*segments: bytes) -> bytes:
    """Return an RLE frame of these segments (PS3.5, annex G)."""
    offsets = []
    at = 64
    for part in segments:
        offsets.append(at)
        at += len(part)
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(
        segments
    )


def nested_sequences(depth: int) -> bytes:
    """Return sequences of undefined length inside each other."""
    begin = struct.pack("<HH2sHI", 8, 0x2218, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    return begin * depth + end * depth


def jpeg_2000(
    tile_px: int = 0, layers: int = 0, width_px: int = SIDE_PX, height_px: int = SIDE_PX
) -> bytes:
    """Return a bare JPEG 2000, with another size of tile or number of layers in its header."""
    file = encoded(picture(width_px, height_px), "JPEG2000", no_jp2=True)
    data = bytearray(file)
    if tile_px:
        struct.pack_into(">II", data, 24, tile_px, tile_px)
    if layers:
        struct.pack_into(">H", data, data.index(b"\xff\x52") + 6, layers)
    return bytes(data)
