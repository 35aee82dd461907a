"""Measures peak memory from files to batches, step by step as `train` takes them.

    python benchmarks/memory.py [--images N] [--size PX] [--input PX] [--batches N] [--folder DIR]

The images are generated. Each is a JPEG file of its own, no two alike: a smooth random pattern, so
that its perceptual hash is near no other. Two in a row are of one lesion. Peak RSS is the greatest
sum over this process and its workers, so shared memory counts more than once. With --folder the
images and caches stay there, and a second call continues with those of the first. It reads /proc,
so it runs on Linux only. It prints a table and, as its last line, one JSON object.
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
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Step:
    """A measured step: its name, how long it took, and the greatest memory in it."""

    name: str
    seconds: float
    peak_mb: float


class Memory:
    """Watches the resident memory of this process and its children, and measures steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._peak = 0
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the code inside, and print its line."""
        self._peak = resident_bytes()
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        peak_mb = max(self._peak, resident_bytes()) / 2**20
        self.steps.append(Step(name, seconds, peak_mb))
        print(f"{name:<28}{seconds:9.1f} s{peak_mb:9.0f} MB", flush=True)

    def _watch(self) -> None:
        while True:
            self._peak = max(self._peak, resident_bytes())
            time.sleep(SECONDS_BETWEEN_LOOKS)


def resident_bytes() -> int:
    """Return the resident memory of this process and its children."""
    processes = ["self"]
    for path in Path("/proc/self/task").glob("*/children"):
        processes += path.read_text().split()
    pages = 0
    for process in processes:
        try:
            statm = Path(f"/proc/{process}/statm").read_text()
        except (FileNotFoundError, ProcessLookupError):
            # This child has just ended.
            continue
        pages += int(statm.split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def generate(folder: Path, images: int, size_px: int) -> None:
    """Write a data set of ISIC layout, unless it is complete already."""
    stamp = folder / f"{images} of {size_px} px"
    if stamp.exists():
        return
    inputs = folder / f"{SET}_Input"
    inputs.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool() as pool:
        starts = range(0, images, 1000)
        for _ in pool.imap_unordered(partial(_draw, inputs, size_px, images), starts):
            pass
    _write_truth(folder / f"{SET}_GroundTruth.csv", images)
    _write_facts(folder / f"{SET}_Metadata.csv", images)
    stamp.touch()


def _write_truth(path: Path, images: int) -> None:
    """Write the diagnosis of each image; the two images of a lesion have the same."""
    with path.open("w") as file:
        file.write(f"image,{','.join(CODES)},UNK\n")
        for number in range(images):
            cells = ["0.0"] * 9
            cells[number // 2 % 8] = "1.0"
            file.write(f"{_name(number)},{','.join(cells)}\n")


def _write_facts(path: Path, images: int) -> None:
    """Write age, site, lesion and sex of each image."""
    with path.open("w") as file:
        file.write("image,age_approx,anatom_site_general,lesion_id,sex\n")
        for number in range(images):
            age_years = 20 + number % 14 * 5
            site = SITES[number % len(SITES)]
            sex = ("female", "male")[number % 2]
            lesion = f"HAM_{number // 2:07}"
            file.write(f"{_name(number)},{age_years}.0,{site},{lesion},{sex}\n")


def _draw(inputs: Path, size_px: int, images: int, start: int) -> None:
    """Draw a thousand images, each from the numbers of its own seed."""
    end = min(start + 1000, images)
    for number in range(start, end):
        rng = np.random.default_rng(number)
        knots = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(knots).resize((size_px, size_px), Image.Resampling.BICUBIC)
        image.save(inputs / f"{_name(number)}.jpg", quality=85)


def _name(number: int) -> str:
    return f"ISIC_{number:07}"


def measure_steps(
    folder: Path, input_px: int, most_batches: int | None, memory: Memory
) -> dict[str, int]:
    """Take every step of `train` up to its batches; return the numbers of images and batches."""
    config = TrainConfig()
    data = measure_preparation(folder, config, input_px, memory)
    n_batches = measure_reads(data, config, input_px, most_batches, memory)
    return {
        "images": len(data.table),
        "lesions": int(data.groups.nunique()),
        "batches": n_batches,
        "cache_bytes": data.pixels.nbytes,
    }


def measure_preparation(
    folder: Path, config: TrainConfig, input_px: int, memory: Memory
) -> TrainingData:
    """Read the data set, split it and decode its images, each as a step."""
    spec = InputSpec(input_px, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), symmetric=True)
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
    return TrainingData(dataset.name, table, pixels, labels, groups, parts, text)


def measure_reads(
    data: TrainingData,
    config: TrainConfig,
    input_px: int,
    most_batches: int | None,
    memory: Memory,
) -> int:
    """Read the validation images and the batches; return how many batches there were."""
    with memory.step("validation images"):
        read_validation_images(data)
    with memory.step(f"one epoch, {config.workers} workers"):
        return read_batches(data, config, input_px, most_batches)


def read_validation_images(data: TrainingData) -> None:
    """Read the pixels of every validation image."""
    rows = data.rows("validation")
    n_batches = len(rows) // 64 + 1
    for batch in np.array_split(rows, n_batches):
        data.pixels[batch].sum()


def read_batches(
    data: TrainingData, config: TrainConfig, input_px: int, most_batches: int | None
) -> int:
    """Read the batches of one epoch, at most `most_batches`, and return how many there were."""
    plan = BatchPlan(
        data.rows("train"),
        batch_size=config.batch_size,
        epochs=1,
        seed=config.seed,
        side_px=lambda _: input_px,
    )
    crops = Crops(data, config.least_crop)
    loader = DataLoader(crops, batch_sampler=plan, num_workers=config.workers)
    return sum(1 for _ in islice(loader, most_batches))


def read_options() -> argparse.Namespace:
    """Read the command line."""
    flags = argparse.ArgumentParser(description="peak memory from files to batches")
    flags.add_argument("--images", type=int, default=500_000)
    flags.add_argument("--size", type=int, default=64, help="side of the generated JPEG files, px")
    flags.add_argument("--input", type=int, default=64, help="side of the cached pixels, px")
    flags.add_argument(
        "--batches", type=int, help="end the epoch after so many (default: none is left out)"
    )
    flags.add_argument("--folder", type=Path, help="keep images and caches there")
    return flags.parse_args()


def main() -> None:
    """Generate, measure and print."""
    options = read_options()
    with TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        os.environ["CADLIB_CACHE"] = str(folder / "cache")
        generate(folder, options.images, options.size)
        print(
            f"{options.images:,} generated JPEG files of {options.size} × {options.size} px, "
            f"no two alike, cached at {options.input} × {options.input} px"
        )
        memory = Memory()
        with memory.step("start"):
            pass
        counts = measure_steps(folder, options.input, options.batches, memory)
        cache = f"{counts['cache_bytes'] / 1e9:.1f} GB"
        numbers = f"{counts['lesions']:,} lesions, {counts['batches']:,} batches"
        print(f"{numbers}, pixels {cache} on disk")
    peak_mb = max(step.peak_mb for step in memory.steps)
    print(json.dumps({**counts, "peak_rss_mb": round(peak_mb)}))


if __name__ == "__main__":
    main()
