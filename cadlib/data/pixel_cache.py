"""Decode and resize once: the images of a table as one array on disk, at a model's input size.

A row of the array is what `preprocess.to_pixels` returns, so training reads exactly what prediction reads. The rows
are read one by one and never mapped into memory: pages of a mapped file count as memory of every process that
has touched them, and half a million images of 176 px are 46 GB.
"""

import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cadlib.errors import DatasetInvalid, ImageRejected
from cadlib.files.cache import cache_dir, file_facts, give_up, given_up, is_standing
from cadlib.images import read_image
from cadlib.images.preprocess import REDUCING_GAP, InputSpec, to_pixels
from cadlib.progress import Progress, no_progress
from cadlib.thread_pool import map_ahead


@dataclass(frozen=True)
class Pixels:
    """Images in a .npy file, (N, S, S, 3) uint8 RGB; `pixels[rows]` reads those rows into memory.

    It holds no file open and no pixel, so that handing it to another process costs nothing.
    """

    path: Path
    shape: tuple[int, int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Return the size of one image on disk."""
        return int(np.prod(self.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Return the size of all images on disk."""
        return len(self) * self.row_bytes

    @cached_property
    def header(self) -> bytes:
        """Return how the file begins (NumPy's format, version 1.0)."""
        buffer = io.BytesIO()
        facts = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(buffer, facts)
        return buffer.getvalue()

    def __getitem__(self, rows: int | slice | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Read the image of a row, (S, S, 3), or those of several, (n, S, S, 3).

        Raise IndexError for a row that is not there and DatasetInvalid for a file that ends too early.
        """
        if isinstance(rows, slice):
            return self._read(range(*rows.indices(len(self))))
        images = self._read(np.atleast_1d(rows).tolist())
        return images if np.ndim(rows) else images[0]

    def batches(self, size: int = 32) -> Iterator[NDArray[np.uint8]]:
        """Read all of them, `size` images at a time, (n, S, S, 3)."""
        return (self[first : first + size] for first in range(0, len(self), size))

    def _read(self, rows: list[int] | range) -> NDArray[np.uint8]:
        images, start = np.empty((len(rows), *self.shape[1:]), np.uint8), len(self.header)
        with self.path.open("rb", buffering=0) as file:
            for image, row in zip(images, rows, strict=True):
                file.seek(start + range(len(self))[row] * self.row_bytes)
                if file.readinto(image.data) != self.row_bytes:
                    raise DatasetInvalid(
                        f"Expected the pixels of {len(self):,} images in {self.path} but it ends before row {row}; "
                        "delete the file, it is made anew."
                    )
        return images


@dataclass(frozen=True)
class DecodedPixels(Pixels):
    """The same images where no disk keeps them: decoded from their files each time, which takes longer."""

    sources: tuple[str, ...]
    spec: InputSpec

    def _read(self, rows: list[int] | range) -> NDArray[np.uint8]:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        sources = [self.sources[row] for row in rows]
        decoded = map(self._decode, sources) if len(rows) == 1 else map_ahead(self._decode, sources)
        for image, pixels in zip(images, decoded, strict=True):
            image[:] = pixels
        return images

    def _decode(self, source: str) -> NDArray[np.uint8]:
        return to_pixels(read_image(source), self.spec)


def cached_pixels(table: pd.DataFrame, spec: InputSpec, progress: Progress = no_progress) -> Pixels:
    """Return the images of a table's `path` column, decoded, cropped and resized to the input of a model.

    Made on the first call, found again as long as paths, sizes and times of change are the same. What was made
    before a break is kept, and the next call goes on from there. Where they cannot be kept, they are decoded each time
    they are read. Raise ImageRejected for a file that cannot be read, in that case when it is read.
    """
    pixels = _pixels(table, spec)
    if is_standing(pixels.path):
        return pixels
    if not given_up():
        try:
            _make(pixels, table["path"].tolist(), spec, progress)
        except OSError as error:
            give_up(error)
        else:
            return pixels
    return DecodedPixels(pixels.path, pixels.shape, tuple(table["path"]), spec)


def _make(pixels: Pixels, sources: list[str], spec: InputSpec, progress: Progress) -> None:
    path = pixels.path
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    try:
        _fill(aside, pixels, sources, spec, progress)
    except ImageRejected:
        aside.unlink(missing_ok=True)  # a file that is mended or left out makes another cache
        raise
    if aside.exists() or not path.exists():  # another process may have been the first
        aside.replace(path)


def found_pixels(table: pd.DataFrame, spec: InputSpec) -> Pixels | None:
    """Return the same where it was made before, else None."""
    pixels = _pixels(table, spec)
    return pixels if is_standing(pixels.path) else None


def _pixels(table: pd.DataFrame, spec: InputSpec) -> Pixels:
    path = cache_dir() / "pixels" / f"{_fingerprint(table['path'], spec)}.npy"
    return Pixels(path, (len(table), spec.size_px, spec.size_px, 3))


def _fingerprint(paths: pd.Series, spec: InputSpec) -> str:
    digest = hashlib.sha256(repr((spec.size_px, spec.interpolation, REDUCING_GAP)).encode())
    for path in paths:
        digest.update(file_facts(path))
    return digest.hexdigest()[:32]


def _fill(
    path: Path, pixels: Pixels, sources: list[str], spec: InputSpec, progress: Progress
) -> None:
    """Append the rows that lack; rows stand in order, so the size of the file tells how many there are.

    Nothing is truncated: a second process that fills the same file writes the same bytes to the same places.
    """
    header, size = pixels.header, path.stat().st_size if path.exists() else 0
    done = max(size - len(header), 0) // pixels.row_bytes
    needed, free = pixels.nbytes - done * pixels.row_bytes, shutil.disk_usage(path.parent).free
    if needed + (64 << 20) > free:
        room = (
            f"the pixels of the images need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
        )
        raise OSError(errno.ENOSPC, room)
    path.touch()
    with path.open("r+b") as file:
        file.write(header)
        file.seek(len(header) + done * pixels.row_bytes)
        decoded = map_ahead(lambda source: to_pixels(read_image(source), spec), sources[done:])
        for count, image in enumerate(decoded, start=done + 1):
            file.write(image.tobytes())
            progress("caching pixels", count, len(sources))
        file.flush()
        os.fsync(file.fileno())
