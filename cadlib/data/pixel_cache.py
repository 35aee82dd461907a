"""Decodes and resizes images once, and stores them as one array.

The array has the input size of a model. A row is the result of `preprocess.to_pixels`, so training
reads exactly the same pixels as prediction. Rows are read one by one and never mapped into memory:
pages of a mapped file count as memory of every process that has touched them, and half a million
images of 176 px are 46 GB.
"""

import errno
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
from cadlib.files.cache import Cache, CacheEntry, file_facts
from cadlib.images import read_image
from cadlib.images.preprocess import REDUCING_GAP, InputSpec, to_pixels
from cadlib.progress import Progress, no_progress
from cadlib.thread_pool import map_ahead

_PIXELS = Cache("pixels", ".npy")


@dataclass(frozen=True)
class Pixels:
    """Images in a .npy file, (N, S, S, 3) uint8 RGB; `pixels[rows]` reads those rows into memory.

    It holds no open file and no pixels, so passing it to another process is cheap.
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
        """Return the first bytes of the file (NumPy's format, version 1.0)."""
        buffer = io.BytesIO()
        facts = {"descr": "|u1", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(buffer, facts)
        return buffer.getvalue()

    def __getitem__(self, rows: int | slice | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Read the image of a row, (S, S, 3), or of several rows, (n, S, S, 3).

        Raise IndexError for a row outside the array and DatasetInvalid for a file that ends too
        early.
        """
        if isinstance(rows, slice):
            bounds = rows.indices(len(self))
            return self._read(range(*bounds))
        numbers = np.atleast_1d(rows).tolist()
        images = self._read(numbers)
        return images if np.ndim(rows) else images[0]

    def batches(self, size: int = 32) -> Iterator[NDArray[np.uint8]]:
        """Yield all images, `size` at a time, (n, S, S, 3)."""
        return (self[first : first + size] for first in range(0, len(self), size))

    def _read(self, rows: list[int] | range) -> NDArray[np.uint8]:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        start = len(self.header)
        # Indexing a range counts negative rows from the end, and raises IndexError.
        numbers = range(len(self))
        with self.path.open("rb", buffering=0) as file:
            for image, row in zip(images, rows, strict=True):
                file.seek(start + numbers[row] * self.row_bytes)
                n_bytes = file.readinto(image.data)
                if n_bytes != self.row_bytes:
                    raise DatasetInvalid(
                        f"Expected the pixels of {len(self):,} images in {self.path} "
                        f"but it ends before row {row}; delete the file; it is made again."
                    )
        return images


@dataclass(frozen=True)
class DecodedPixels(Pixels):
    """The same images without a file of pixels: slower, because each read decodes the sources."""

    sources: tuple[str, ...]
    spec: InputSpec

    def _read(self, rows: list[int] | range) -> NDArray[np.uint8]:
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        sources = [self.sources[row] for row in rows]
        # One image is not worth a pool of threads.
        if len(rows) == 1:
            decoded: Iterator[NDArray[np.uint8]] = map(self._decode, sources)
        else:
            decoded = map_ahead(self._decode, sources)
        for image, pixels in zip(images, decoded, strict=True):
            image[:] = pixels
        return images

    def _decode(self, source: str) -> NDArray[np.uint8]:
        return to_pixels(read_image(source), self.spec)


def cached_pixels(
    table: pd.DataFrame,
    spec: InputSpec,
    progress: Progress = no_progress,
) -> Pixels:
    """Return the images of a table's `path` column at the input size of a model.

    They are decoded, cropped and resized on the first call, and read from the cache as long as
    paths, sizes and modification times are the same. After an interruption the next call continues
    with the images that are left. Where the cache cannot be written, images are decoded each time
    they are read. Raise ImageRejected for an unreadable file; without a cache this happens when the
    image is read.
    """
    entry = _entry(table, spec)
    pixels = _pixels(entry, table, spec)
    if entry.exists():
        return pixels
    sources = table["path"].tolist()

    def make(path: Path) -> None:
        _make(path, pixels, sources, spec, progress)

    # A temporary folder is often in memory, and too small for pixels.
    if entry.make(make, elsewhere=False):
        return pixels
    return DecodedPixels(pixels.path, pixels.shape, tuple(table["path"]), spec)


def _make(
    path: Path,
    pixels: Pixels,
    sources: list[str],
    spec: InputSpec,
    progress: Progress,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part")
    try:
        _fill(aside, pixels, sources, spec, progress)
    except ImageRejected:
        # Once the file is repaired or left out, the cache has another name.
        aside.unlink(missing_ok=True)
        raise
    # Another process may have been faster.
    if aside.exists() or not path.exists():
        aside.replace(path)


def find_pixels(table: pd.DataFrame, spec: InputSpec) -> Pixels | None:
    """Return the pixels if they are in the cache, else None; None too if a file is missing."""
    try:
        entry = _entry(table, spec)
    except OSError:
        return None
    if not entry.exists():
        return None
    return _pixels(entry, table, spec)


def _pixels(entry: CacheEntry, table: pd.DataFrame, spec: InputSpec) -> Pixels:
    shape = (len(table), spec.size_px, spec.size_px, 3)
    return Pixels(entry.path, shape)


def _entry(table: pd.DataFrame, spec: InputSpec) -> CacheEntry:
    """Return the entry of the images of a table; raise OSError if a file is missing."""
    files = [file_facts(path) for path in table["path"]]
    return _PIXELS.entry(spec.size_px, spec.interpolation, REDUCING_GAP, *files)


def _fill(
    path: Path,
    pixels: Pixels,
    sources: list[str],
    spec: InputSpec,
    progress: Progress,
) -> None:
    """Append the missing rows; rows are in order, so the size of the file is their number.

    Nothing is truncated: a second process that fills the same file writes the same bytes to the
    same places. Raise OSError where the disk is too full.
    """
    header = pixels.header
    size = path.stat().st_size if path.exists() else 0
    pixel_bytes = max(size - len(header), 0)
    # A row that an interrupted run wrote in part is written again.
    done = pixel_bytes // pixels.row_bytes
    done_bytes = done * pixels.row_bytes
    missing_bytes = pixels.nbytes - done_bytes
    _check_room(path.parent, missing_bytes)

    def decode(source: str) -> NDArray[np.uint8]:
        return to_pixels(read_image(source), spec)

    # "r+b" needs a file, and keeps the rows that are in it.
    path.touch()
    with path.open("r+b") as file:
        file.write(header)
        file.seek(len(header) + done_bytes)
        decoded = map_ahead(decode, sources[done:])
        for count, image in enumerate(decoded, start=done + 1):
            file.write(image.tobytes())
            progress("caching pixels", count, len(sources))
        # The rename that follows must not be on disk before the pixels.
        file.flush()
        os.fsync(file.fileno())


def _check_room(folder: Path, needed: int) -> None:
    """Raise OSError unless `needed` bytes and 64 MiB more are free."""
    free = shutil.disk_usage(folder).free
    if needed + (64 << 20) > free:
        needed_gb = needed / 1e9
        free_gb = free / 1e9
        room = f"the pixels of the images need {needed_gb:.1f} GB and {free_gb:.1f} GB are free"
        raise OSError(errno.ENOSPC, room)
