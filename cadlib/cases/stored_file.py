"""Defines an image that is ready to be stored."""

from dataclasses import dataclass

from cadlib.images import LesionImage


@dataclass(frozen=True, eq=False)
class StoredFile:
    """An image with its file: `data` is a PNG without metadata, `sha256` its digest."""

    source: LesionImage
    data: bytes
    sha256: str
