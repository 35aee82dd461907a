"""Images a second: a batch of files against the same files one by one, on the same model in the same run.

    python benchmarks/predict.py [IMAGES]

Prints a table and, as its last line, one JSON object of ratios.
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from PIL import Image

from cadlib import Model
from cadlib.synthetic import render_lesion
from cadlib.taxonomy import CODES

ROUNDS = 3


def jpegs(count: int) -> list[bytes]:
    """Draw lesions and return them as JPEG files of 600 × 450 px."""
    files = []
    for index in range(count):
        picture = Image.fromarray(render_lesion(CODES[index % 8], index, 600)).crop((0, 75, 600, 525))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def images_per_second(work: Callable[[], object], count: int) -> float:
    """Run once to warm up, then return the best of ROUNDS."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return count / min(seconds)


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    torch.set_num_threads(os.cpu_count() or 1)
    model, files = Model.load("isic2019"), jpegs(count)
    single = images_per_second(lambda: [model.predict(file) for file in files], count)
    batch = images_per_second(lambda: model.predict_batch(files), count)
    print(f"{count} JPEG files of 600 × 450 px, {torch.get_num_threads()} threads, {model.record.model_id}")
    print(f"one by one   {single:7.1f} images/s")
    print(f"as a batch   {batch:7.1f} images/s")
    print(json.dumps({"batch_over_single": round(batch / single, 2)}))


if __name__ == "__main__":
    main()
