"""Stores images under their SHA-256, in a folder or object store.

An image is encoded again as PNG: the pixels stay as they were read, and nothing else of the file
does, no EXIF, place or name.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cadlib.errors import CaseStoreFailed

SUFFIX = ".png"
# Level 6 takes three times as long and saves 3 % of a dermoscopic image.
_COMPRESS_LEVEL = 3


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Return (H, W, 3) uint8 RGB as a PNG file without metadata."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=_COMPRESS_LEVEL)
    return file.getvalue()


def decode(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a file that `encode` wrote, (H, W, 3) uint8 RGB, read-only."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        pixels = np.array(image)
    pixels.setflags(write=False)
    return pixels


class ImageStore:
    """Files by their SHA-256, in a folder or at an address such as `s3://bucket/cases`.

    All methods raise CaseStoreFailed when the place cannot be used.
    """

    def __init__(self, address: str) -> None:
        """Take the address of the store; nothing is read or written yet."""
        self.address = address
        self._place: _Folder | _Remote
        self._place = _Remote(address) if "://" in address else _Folder(Path(address))

    def write(self, data: bytes) -> str:
        """Store a file and return its SHA-256. A file that is there already stays as it is."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has(sha256):
            self._do("write", sha256, data)
        return sha256

    def has(self, sha256: str) -> bool:
        """Return whether a file is there."""
        return bool(self._do("has", sha256))

    def read(self, sha256: str) -> bytes:
        """Return a file; raise CaseStoreFailed if it is missing or was changed."""
        data: bytes = self._do("read", sha256)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CaseStoreFailed(
                f"Expected the image {sha256} in {self.address} as it was stored, but its file was "
                "changed. Restore it from a backup."
            )
        return data

    def remove(self, sha256: str) -> None:
        """Delete a file; one that is not there is no error."""
        self._do("remove", sha256)

    def names(self) -> Iterator[str]:
        """Yield the SHA-256 of each file."""
        for name in self._do("names"):
            if name.endswith(SUFFIX):
                yield name.removesuffix(SUFFIX)

    def _do(self, action: str, *arguments: object) -> Any:
        try:
            return getattr(self._place, action)(*arguments)
        except FileNotFoundError as error:
            raise CaseStoreFailed(
                f"Expected the image {arguments[0]} in {self.address}, but it is missing. "
                "Restore it from a backup."
            ) from error
        # A file system of fsspec may raise errors of its own library.
        except Exception as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CaseStoreFailed(
                f"Expected to {action} images in {self.address}, but {reason}. Nothing was saved. "
                "Check the place and its free space, and try again."
            ) from error


def _name(sha256: str) -> str:
    """Return the place of a file. Folders of 256 parts keep listings short."""
    return f"{sha256[:2]}/{sha256}{SUFFIX}"


class _Folder:
    """A local folder. A file that was written survives a loss of power."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, sha256: str, data: bytes) -> None:
        path = self.folder / _name(sha256)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A file with its name is complete, whenever the process is killed.
        unfinished = path.with_name(f"{uuid4().hex}.part")
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def has(self, sha256: str) -> bool:
        return (self.folder / _name(sha256)).is_file()

    def read(self, sha256: str) -> bytes:
        return (self.folder / _name(sha256)).read_bytes()

    def remove(self, sha256: str) -> None:
        path = self.folder / _name(sha256)
        if path.is_file():
            path.unlink()
            _sync_folder(path.parent)

    def names(self) -> list[str]:
        # Unfinished files of killed processes have another suffix.
        return [path.name for path in self.folder.glob("??/*")]


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    # Windows cannot open a folder, and writes names by itself.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Remote:
    """An address that fsspec opens, such as an object store, which writes a file whole or not."""

    def __init__(self, address: str) -> None:
        # Only a store away from this machine needs it.
        import fsspec  # noqa: PLC0415

        try:
            self.system, self.root = fsspec.core.url_to_fs(address)
        except (ValueError, ImportError) as error:
            raise CaseStoreFailed(
                f"Expected an address of images that fsspec can open, but got {address}: {error}. "
                "Correct it, or install the library that it names."
            ) from error

    def _path(self, sha256: str) -> str:
        return f"{self.root}/{_name(sha256)}"

    def write(self, sha256: str, data: bytes) -> None:
        path = self._path(sha256)
        self.system.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.system.pipe_file(path, data)

    def has(self, sha256: str) -> bool:
        return bool(self.system.exists(self._path(sha256)))

    def read(self, sha256: str) -> bytes:
        data: bytes = self.system.cat_file(self._path(sha256))
        return data

    def remove(self, sha256: str) -> None:
        path = self._path(sha256)
        if self.system.exists(path):
            self.system.rm_file(path)

    def names(self) -> list[str]:
        paths = self.system.glob(f"{self.root}/??/*")
        return [path.rpartition("/")[2] for path in paths]
