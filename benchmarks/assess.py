"""How long an answer takes: the whole assessment of a file, against the bare network and against the usual way.

    python benchmarks/assess.py [--rounds N] [--files N]

Ours is `cadlib.assessment.assess` as it stands: bytes to probabilities, quality, decision and heatmap, of a JPEG of 600
× 450 px and of one of 24 megapixels (2.2 bits a pixel; the two large ones among real uploads have 0.9 and 3.1); and a
folder by `Model.predict_batch`, and read and assessed as `python -m cadlib predict` does. The bare pass is ONNX Runtime
on the array the network reads. The usual way is the same network in torch, contiguous and as built, Pillow's decode and
resize, and pytorch-grad-cam for the first diagnosis. The folder's peer decodes all files in as many threads and runs
the network on full batches, one after the other. Two threads everywhere, medians of all rounds, in turns; of the folder
three rounds. Under the large file stands what no assessment of it can fall below, its decoding at a quarter; then what
a page shows late: whether the heatmap may be read, which takes fourteen passes, and the answer over eight views. `cold`
is a process of its own from its start to its first answer, with the memory it then holds. Prints a table and, as its
last line, one JSON object of ratios.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from cadlib import Model
from cadlib.assessment import assess, assess_batch
from cadlib.cli.image_outcomes import BATCH_SIZE as ASSESSED_AT_A_TIME
from cadlib.images import read_image, read_images
from cadlib.images.preprocess import INTERPOLATIONS, to_array, to_pixels
from cadlib.images.synthetic import render_lesion
from cadlib.network.backbones import network_of
from cadlib.saliency.heatmap import activation_map
from cadlib.saliency.test_time_views import stability
from cadlib.saliency.trust import trust
from cadlib.taxonomy import CODES

THREADS = 2
BATCH_SIZE = 32
COLD = """
import sys
sys.path.insert(0, {root!r})
from cadlib.assessment import assess
from cadlib.model.model import Model
assess(Model.load("isic2019", threads={threads}), {file!r})
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("VmRSS")), "torch" in sys.modules)
"""


def jpeg(code: str, seed: int, width_px: int, height_px: int) -> bytes:
    """Draw a lesion and return it as a JPEG file."""
    picture = Image.fromarray(render_lesion(code, seed, 600)).crop((0, 75, 600, 525))
    if width_px != 600:
        noise = np.random.default_rng(seed).normal(
            0, 6, (height_px, width_px, 1)
        )  # a photograph has grain
        large = np.asarray(
            picture.resize((width_px, height_px), Image.Resampling.BICUBIC), np.float32
        )
        picture = Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def the_usual_way(model: Model) -> Callable[[bytes], object]:
    """Return what assesses a file by Pillow, torch and pytorch-grad-cam."""
    network = (
        deepcopy(network_of(model)).to(memory_format=torch.contiguous_format).requires_grad_(True)
    )
    cam, spec = (
        GradCAM(network, [network.get_submodule(model.record.saliency_layer)]),
        model.record.input,
    )
    mean, std = torch.tensor(spec.mean).view(3, 1, 1), torch.tensor(spec.std).view(3, 1, 1)

    def assess_it(data: bytes) -> object:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        square = picture.crop(spec.crop_box(*picture.size))
        small = square.resize((spec.size_px, spec.size_px), INTERPOLATIONS[spec.interpolation])
        inputs = ((torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255 - mean) / std)[None]
        with torch.inference_mode():
            probabilities = (network(inputs) / model.record.temperature.large).softmax(dim=1)
        target = ClassifierOutputTarget(int(probabilities.argmax()))
        return probabilities, cam(input_tensor=inputs.clone(), targets=[target])

    return assess_it


def decoded_at_a_quarter(data: bytes) -> Image.Image:
    """Decode a JPEG at a quarter of its size, as `read_image` does with one of 24 megapixels, and nothing else."""
    picture = Image.open(io.BytesIO(data))
    picture.draft(None, (picture.width // 4, picture.height // 4))
    picture.load()
    return picture


def medians(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run everything once to warm up, then in turns; return the median milliseconds of each."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, do in work.items():
            began = time.perf_counter()
            do()
            if number:
                taken[name].append(1000 * (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=50, help="times each answer is asked for (default: 50)"
    )
    parser.add_argument("--files", type=int, default=500, help="files in the folder (default: 500)")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    model = Model.load("isic2019", threads=THREADS)
    small, large = jpeg("MEL", 0, 600, 450), jpeg("MEL", 0, 6000, 4000)
    inputs = to_array(to_pixels(read_image(small), model.record.input), model.record.input)
    usual = the_usual_way(model)
    found = medians(
        {
            "bare pass": lambda: model.engine.run(inputs),
            "assessment": lambda: assess(model, small),
            "the usual way": lambda: usual(small),
        },
        options.rounds,
    )
    seen = assess(model, small)
    heat = activation_map(model, seen.image, seen.prediction, "MEL")
    late = {
        "24 megapixels": lambda: assess(model, large),
        "its decoding": lambda: decoded_at_a_quarter(large),
        "heatmap's trust": lambda: trust(model, seen.image, heat, "MEL"),
        "eight views": lambda: stability(model, seen.image),
    }
    found |= medians(late, max(options.rounds // 10, 3))

    drawn = [
        jpeg(CODES[index % len(CODES)], index, 600, 450) for index in range(min(options.files, 64))
    ]
    with TemporaryDirectory() as place:
        files = [Path(place, f"{index}.jpg") for index in range(options.files)]
        for index, file in enumerate(files):
            file.write_bytes(drawn[index % len(drawn)])

        def one_after_the_other() -> None:
            with ThreadPoolExecutor(THREADS) as pool:
                pixels = list(
                    pool.map(lambda file: to_pixels(read_image(file), model.record.input), files)
                )
            for start in range(0, len(pixels), BATCH_SIZE):
                model.engine.run(
                    to_array(np.stack(pixels[start : start + BATCH_SIZE]), model.record.input)
                )

        def assess_all() -> None:
            reading = read_images(files)
            while group := list(islice(reading, ASSESSED_AT_A_TIME)):
                assess_batch(model, group)

        folder = medians(
            {
                "ours": lambda: model.predict_batch(files),
                "assessed": assess_all,
                "peer": one_after_the_other,
            },
            3,
        )
        code = COLD.format(
            root=str(Path(__file__).parent.parent), file=str(files[0]), threads=THREADS
        )
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        cold_s = time.perf_counter() - began
    rss_kb, torch_loaded = done.stdout.split()

    print(f"{model.record.model_id}, {model.record.input.size_px} px, {THREADS} threads")
    for name, milliseconds in found.items():
        print(f"{name:<16}{milliseconds:9.2f} ms")
    for name, milliseconds in folder.items():
        print(f"folder, {name:<8}{1000 * options.files / milliseconds:9.1f} images/s")
    print(f"{'cold':<16}{cold_s:9.2f} s, {int(rss_kb) / 1000:.0f} MB, torch loaded: {torch_loaded}")
    print(
        json.dumps(
            {
                "usual_over_ours": round(found["the usual way"] / found["assessment"], 2),
                "ours_over_bare": round(found["assessment"] / found["bare pass"], 2),
                "24_megapixels_over_bare": round(found["24 megapixels"] / found["bare pass"], 2),
                "its_decoding_over_bare": round(found["its decoding"] / found["bare pass"], 2),
                "folder_ours_over_peer": round(folder["peer"] / folder["ours"], 2),
                "folder_assessed_over_peer": round(folder["peer"] / folder["assessed"], 2),
                "cold_s": round(cold_s, 2),
                "cold_mb": round(int(rss_kb) / 1000),
            }
        )
    )


if __name__ == "__main__":
    main()
