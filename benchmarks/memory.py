"""Peak memory from files to batches, step by step as `train` takes them, on images generated for this.

    python benchmarks/memory.py [--images N] [--size PX] [--input PX] [--batches N] [--folder DIR]

Every image is a JPEG file of its own, no two alike: a smooth random pattern, so that its perceptual hash is near no
other; two in a row are of one lesion. Peak RSS is the greatest sum over this process and its workers, so that what they
share counts more than once. With --folder the images and caches stay there, and a second call takes up what a first
one began. Reads /proc: Linux alone. Prints a table and, as its last line, one JSON object.
"""

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader

from cadlib.data import splits
from cadlib.data.dataset import open_dataset
from cadlib.data.pixel_cache import cached_pixels
from cadlib.images.patient import SITES
from cadlib.images.preprocess import InputSpec
from cadlib.taxonomy import CODES
from cadlib.training.config import TrainConfig
from cadlib.training.data import BatchPlan, Crops, TrainingData

SECONDS_BETWEEN_LOOKS = 0.1
SET = "ISIC_2019_Training"


class Memory:
    """Watches the resident memory of this process and its children, and keeps the peak and seconds of each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float, float]] = []
        self._peak = 0
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens inside and print its line."""
        self._peak, began = resident_bytes(), time.perf_counter()
        yield
        peak_mb = max(self._peak, resident_bytes()) / 2**20
        self.steps.append((name, time.perf_counter() - began, peak_mb))
        print(f"{name:<28}{self.steps[-1][1]:9.1f} s{peak_mb:9.0f} MB", flush=True)

    def _watch(self) -> None:
        while True:
            self._peak = max(self._peak, resident_bytes())
            time.sleep(SECONDS_BETWEEN_LOOKS)


def resident_bytes() -> int:
    """Return the resident memory of this process and its children."""
    children = (path.read_text().split() for path in Path("/proc/self/task").glob("*/children"))
    total = 0
    for pid in ("self", *(pid for listed in children for pid in listed)):
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf(
                "SC_PAGE_SIZE"
            )
        except (FileNotFoundError, ProcessLookupError):
            continue  # a child that has just ended
    return total


def generate(folder: Path, images: int, size_px: int) -> None:
    """Write a data set of ISIC layout, unless it stands there whole."""
    stamp = folder / f"{images} of {size_px} px"
    if stamp.exists():
        return
    inputs = folder / f"{SET}_Input"
    inputs.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool() as pool:
        starts = range(0, images, 1000)
        for _ in pool.imap_unordered(partial(_draw, inputs, size_px, images), starts):
            pass
    with (folder / f"{SET}_GroundTruth.csv").open("w") as truth:
        truth.write(f"image,{','.join(CODES)},UNK\n")
        for number in range(images):
            cells = ",".join("1.0" if number // 2 % 8 == place else "0.0" for place in range(9))
            truth.write(f"{_name(number)},{cells}\n")
    with (folder / f"{SET}_Metadata.csv").open("w") as facts:
        facts.write("image,age_approx,anatom_site_general,lesion_id,sex\n")
        for number in range(images):
            site, sex = SITES[number % len(SITES)], ("female", "male")[number % 2]
            facts.write(
                f"{_name(number)},{20 + number % 14 * 5}.0,{site},HAM_{number // 2:07},{sex}\n"
            )
    stamp.touch()


def _draw(inputs: Path, size_px: int, images: int, start: int) -> None:
    for number in range(start, min(start + 1000, images)):
        knots = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(knots).resize((size_px, size_px), Image.Resampling.BICUBIC)
        picture.save(inputs / f"{_name(number)}.jpg", quality=85)


def _name(number: int) -> str:
    return f"ISIC_{number:07}"


def walk(folder: Path, input_px: int, most_batches: int | None, memory: Memory) -> dict[str, int]:
    """Take every step of `train` up to its batches; return how many images, lesions and batches there were."""
    spec = InputSpec(input_px, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config = TrainConfig()
    with memory.step("table"):
        dataset = open_dataset(folder, verify=False)
    table = dataset.table
    with memory.step("perceptual hashes"):
        hashes = splits.perceptual_hashes(table)
    with memory.step("lesion groups"):
        groups = splits.lesion_groups(table, hashes)
    with memory.step("split"):
        parts = splits.split(table, groups, config.seed, config.validation, config.test)
        text = splits.split_csv(table, groups, parts)
    with memory.step("pixels"):
        pixels = cached_pixels(table, spec)
    labels = table["diagnosis"].map(CODES.index).to_numpy(np.int64)
    data = TrainingData(dataset.name, table, pixels, labels, groups, parts, text)
    with memory.step("validation images"):
        rows = data.rows("validation")
        for batch in np.array_split(rows, len(rows) // 64 + 1):
            data.pixels[batch].sum()
    plan = BatchPlan(
        data.rows("train"),
        batch_size=config.batch_size,
        epochs=1,
        seed=config.seed,
        side_px=lambda _: input_px,
    )
    with memory.step(f"one epoch, {config.workers} workers"):
        loader = DataLoader(Crops(data), batch_sampler=plan, num_workers=config.workers)
        batches = sum(1 for _ in islice(loader, most_batches))
    return {
        "images": len(table),
        "lesions": int(groups.nunique()),
        "batches": batches,
        "cache_bytes": pixels.nbytes,
    }


def main() -> None:
    """Generate, measure and print."""
    flags = argparse.ArgumentParser(description="peak memory from files to batches")
    flags.add_argument("--images", type=int, default=500_000)
    flags.add_argument("--size", type=int, default=64, help="side of the generated JPEG files, px")
    flags.add_argument("--input", type=int, default=64, help="side of the cached pixels, px")
    flags.add_argument(
        "--batches", type=int, help="end the epoch after so many (default: none is left out)"
    )
    flags.add_argument("--folder", type=Path, help="keep images and caches there")
    options = flags.parse_args()
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        os.environ["CADLIB_CACHE"] = str(folder / "cache")
        generate(folder, options.images, options.size)
        print(
            f"{options.images:,} generated JPEG files of {options.size} × {options.size} px, no two alike, cached at "
            f"{options.input} × {options.input} px"
        )
        memory = Memory()
        with memory.step("start"):
            pass
        counts = walk(folder, options.input, options.batches, memory)
        cache = f"{counts['cache_bytes'] / 1e9:.1f} GB"
        print(
            f"{counts['lesions']:,} lesions, {counts['batches']:,} batches, pixels {cache} on disk"
        )
    print(json.dumps({**counts, "peak_rss_mb": round(max(peak for _, _, peak in memory.steps))}))


if __name__ == "__main__":
    main()
