"""Measures the cost of decoding images in another process, against decoding in this one.

    python benchmarks/isolation.py [--rounds N] [FILE ...]

Both read the same bytes in the same run, in turns, and compute the digest of the file. Without
files, two drawn JPEG files are read, of 600 × 450 px and of 24 megapixels. The difference is the
median of the differences of each round, so that other work on the machine counts for both. `many`
reads each file 40 times with four threads, as a folder is read. It prints a table and, as its last
line, one JSON object.
"""

import argparse
import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from assess import jpeg

from cadlib.images import LesionImage, read_image
from cadlib.images.decoding.decode_file import decode_here

THREADS = 4
MANY = 40


def decode_in_this_process(data: bytes) -> tuple[LesionImage, str]:
    """Return the image and its digest like `read_image`, without another process."""
    return decode_here(data, "This file"), hashlib.sha256(data).hexdigest()


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    return 1000 * seconds


def read_many(read: Callable[[bytes], object], data: bytes) -> None:
    """Read a file many times in a few threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(read, [data] * MANY):
            pass


def measure(data: bytes, rounds: int) -> dict[str, float]:
    """Return the medians for one file."""
    read_image(data)
    here: list[float] = []
    apart: list[float] = []
    differences: list[float] = []
    for _ in range(rounds):
        here_ms = milliseconds(lambda: decode_in_this_process(data))
        apart_ms = milliseconds(lambda: read_image(data))
        here.append(here_ms)
        apart.append(apart_ms)
        differences.append(apart_ms - here_ms)
    median_here_ms = statistics.median(here)
    median_apart_ms = statistics.median(apart)
    return {
        "here_ms": median_here_ms,
        "apart_ms": median_apart_ms,
        "cost_ms": statistics.median(differences),
        "ratio": median_apart_ms / median_here_ms,
        "many_ratio": many_ratio(data),
    }


def many_ratio(data: bytes) -> float:
    """Return how much longer many reads take in other processes, as a ratio of medians."""
    here = []
    apart = []
    for _ in range(3):
        here_ms = milliseconds(lambda: read_many(decode_in_this_process, data))
        here.append(here_ms)
        apart_ms = milliseconds(lambda: read_many(read_image, data))
        apart.append(apart_ms)
    median_here_ms = statistics.median(here)
    median_apart_ms = statistics.median(apart)
    return median_apart_ms / median_here_ms


def read_sources(files: list[Path]) -> dict[str, bytes]:
    """Return the content of files by name, or of two drawn ones where there is none."""
    if not files:
        return {
            "600 x 450": jpeg("MEL", 0, 600, 450),
            "24 megapixels": jpeg("MEL", 0, 6000, 4000),
        }
    sources = {}
    for path in files:
        sources[path.name] = path.read_bytes()
    return sources


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary_line)
    parser.add_argument(
        "--rounds",
        type=int,
        default=40,
        help="times each file is read (default: 40)",
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
    )
    return parser.parse_args()


def print_row(name: str, metrics: dict[str, float]) -> None:
    """Print the medians of a file as a row of the table."""
    line = f"{name:<24}"
    times = ("here_ms", "apart_ms", "cost_ms")
    for key in times:
        line += f"{metrics[key]:6.2f} ms"
    ratios = ("ratio", "many_ratio")
    for key in ratios:
        line += f"{metrics[key]:7.2f}"
    print(line)


def main() -> None:
    """Measure and print."""
    options = read_options()
    sources = read_sources(options.files)
    results = {}
    for name, data in sources.items():
        results[name] = measure(data, options.rounds)
    times = f"{'here':>9}{'apart':>9}{'cost':>9}"
    print(f"{'file':<24}{times}{'ratio':>7}{'many':>7}")
    rounded = {}
    for name, metrics in results.items():
        print_row(name, metrics)
        rounded[name] = {key: round(value, 2) for key, value in metrics.items()}
    print(json.dumps(rounded))


if __name__ == "__main__":
    main()
