"""Decode and resize once: the images of a table as one array on disk, at a model's input size.

The array is what `preprocess.to_pixels` returns for each row, so training reads exactly what prediction
reads. It is memory-mapped: a large data set needs disk, not memory.
"""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cadlib.cache import cache_dir
from cadlib.dataset import Progress
from cadlib.errors import DatasetInvalid
from cadlib.images import read_image
from cadlib.preprocess import InputSpec, to_pixels


def cached_pixels(
    table: pd.DataFrame, spec: InputSpec, progress: Progress | None = None
) -> "np.memmap[Any, np.dtype[np.uint8]]":
    """Return the images of a table's `path` column as a read-only memory map, (N, S, S, 3) uint8 RGB.

    Made on the first call, found again as long as paths, sizes and times of change are the same. Raise
    ImageRejected for a file that cannot be read and DatasetInvalid when the disk has no room.
    """
    shape = (len(table), spec.size_px, spec.size_px, 3)
    path = cache_dir() / "pixels" / f"{_fingerprint(table['path'], spec)}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.part")
        try:
            _fill(aside, shape, table["path"].tolist(), spec, progress)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    array: np.memmap[Any, np.dtype[np.uint8]] = np.load(path, mmap_mode="r")
    return array


def _fingerprint(paths: pd.Series, spec: InputSpec) -> str:
    digest = hashlib.sha256(repr((spec.size_px, spec.interpolation)).encode())
    for path in paths:
        status = os.stat(path)
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _fill(path: Path, shape: tuple[int, ...], sources: list[str], spec: InputSpec, progress: Progress | None) -> None:
    needed, free = int(np.prod(shape)), shutil.disk_usage(path.parent).free
    # Writing through a memory map to a full disk kills the process: ask for the room first.
    if needed + (64 << 20) > free:
        raise DatasetInvalid(
            f"Expected {needed / 1e9:.1f} GB of free disk for the pixels of {shape[0]:,} images in "
            f"{path.parent} but {free / 1e9:.1f} GB are free; make room or point CADLIB_CACHE elsewhere."
        )
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)

    def place(index: int) -> None:
        array[index] = to_pixels(read_image(sources[index]), spec)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(place, range(len(sources))), start=1):
            if progress is not None:
                progress(done, len(sources))
    array.flush()
