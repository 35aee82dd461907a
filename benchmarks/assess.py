"""Measures how long the assessment of a file takes, against the bare network and a common way.

    python benchmarks/assess.py [--rounds N] [--files N]

Measured is `cadlib.assessment.assess`: from bytes to probabilities, quality, decision and saliency
map, for a JPEG of 600 × 450 px and for one of 24 megapixels (2.2 bits a pixel; the two large ones
among real uploads have 0.9 and 3.1). A folder is measured with `Model.predict_batch`, and read and
assessed as `python -m cadlib predict` does.

The bare pass is ONNX Runtime on the array that the network reads. The common way is the same
network in torch, contiguous and as built, with Pillow's decoding and resizing, and pytorch-grad-cam
for the top diagnosis. For the folder it decodes all files in as many threads, and then runs the
network on full batches, one after the other.

Everything uses two threads. Results are medians of all rounds, taken in turns; for the folder of
three rounds. For the large file the table has a lower bound, its decoding at a quarter. Then it has
what a page shows late: whether the saliency map can be interpreted, which takes fourteen passes,
and the result over eight views. `cold` is a new process from its start to its first result, with
the memory that it has then. The last line is one JSON object of ratios.
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
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from cadlib import Model
from cadlib.assessment import assess, assess_batch
from cadlib.cli.image_outcomes import BATCH_SIZE as ASSESSED_AT_A_TIME
from cadlib.images import read_image, read_images
from cadlib.images.preprocess import INTERPOLATIONS, to_array, to_pixels
from cadlib.images.synthetic import render_lesion
from cadlib.images.turns import turned
from cadlib.network.backbones import network_of
from cadlib.saliency.heatmap import activation_map
from cadlib.saliency.test_time_views import stability
from cadlib.saliency.trust import trust
from cadlib.taxonomy import CODES

Pixels = NDArray[np.uint8]
THREADS = 2
BATCH_SIZE = 32
COLD = """
import sys
sys.path.insert(0, {root!r})
from cadlib.assessment import assess
from cadlib.model.model import Model
assess(Model.load("isic2019", threads={threads}), {file!r})
with open("/proc/self/status") as status:
    [line] = [line for line in status if line.startswith("VmRSS")]
print(line.split()[1], "torch" in sys.modules)
"""


def jpeg(
    code: str,
    seed: int,
    width_px: int,
    height_px: int,
) -> bytes:
    """Draw a lesion and return it as a JPEG file."""
    drawn = render_lesion(code, seed, 600)
    square = Image.fromarray(drawn)
    image = square.crop((0, 75, 600, 525))
    if width_px != 600:
        image = _enlarge(image, seed, width_px, height_px)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _enlarge(
    image: Image.Image,
    seed: int,
    width_px: int,
    height_px: int,
) -> Image.Image:
    """Enlarge an image and add the grain of a photograph, which makes its file larger."""
    rng = np.random.default_rng(seed)
    shape = (height_px, width_px, 1)
    noise = rng.normal(0, 6, shape)
    size = (width_px, height_px)
    enlarged = image.resize(size, Image.Resampling.BICUBIC)
    grainy = np.asarray(enlarged, np.float32) + noise
    clipped = np.clip(grainy, 0, 255)
    pixels = clipped.astype(np.uint8)
    return Image.fromarray(pixels)


class CommonWay:
    """Assesses a file with Pillow, torch and pytorch-grad-cam."""

    def __init__(self, model: Model) -> None:
        record = model.record
        spec = record.input
        network = deepcopy(network_of(model))
        network = network.to(memory_format=torch.contiguous_format)
        # Grad-CAM needs gradients.
        network = network.requires_grad_(True)
        layer_name = record.members[0].saliency_layer
        layer = network.get_submodule(layer_name)
        mean = torch.tensor(spec.mean)
        std = torch.tensor(spec.std)
        self._network = network
        self._cam = GradCAM(network, [layer])
        self._spec = spec
        self._mean = mean.view(3, 1, 1)
        self._std = std.view(3, 1, 1)
        self._temperature = record.temperature.large

    def assess(self, data: bytes) -> object:
        """Return probabilities and the saliency map of the top diagnosis."""
        inputs = self._read(data)
        with torch.inference_mode():
            logits = self._network(inputs)
            scaled = logits / self._temperature
            probabilities = scaled.softmax(dim=1)
        top = int(probabilities.argmax())
        target = ClassifierOutputTarget(top)
        heat = self._cam(
            # The clone is outside inference mode, as a gradient needs.
            input_tensor=inputs.clone(),
            targets=[target],
        )
        return probabilities, heat

    def _read(self, data: bytes) -> torch.Tensor:
        spec = self._spec
        file = io.BytesIO(data)
        image = Image.open(file).convert("RGB")
        box = spec.crop_box(*image.size)
        square = image.crop(box)
        size = (spec.size_px, spec.size_px)
        interpolation = INTERPOLATIONS[spec.interpolation]
        small = square.resize(size, interpolation)
        values = torch.from_numpy(np.array(small))
        pixels = values.permute(2, 0, 1)
        centred = pixels / 255 - self._mean
        normalised = centred / self._std
        return normalised[None]


def decode_at_a_quarter(data: bytes) -> Image.Image:
    """Decode a JPEG at a quarter of its size, as `read_image` does with 24 megapixels."""
    file = io.BytesIO(data)
    image = Image.open(file)
    quarter = (image.width // 4, image.height // 4)
    image.draft(None, quarter)
    image.load()
    return image


def medians(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run everything once to warm up, then in turns; return the median milliseconds of each."""
    taken_ms: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, do in work.items():
            began = time.perf_counter()
            do()
            seconds = time.perf_counter() - began
            # The first round fills caches.
            if number:
                times_ms = taken_ms[name]
                times_ms.append(1000 * seconds)
    median_ms = {}
    for name, times_ms in taken_ms.items():
        median_ms[name] = statistics.median(times_ms)
    return median_ms


def views_of(pixels: Pixels, model: Model) -> NDArray[np.float32]:
    """Return the input of each network of a model: every view of (N, S, S, 3) pixels."""
    turns = model.committee.turns
    by_turn = [turned(pixels, turn) for turn in turns]
    views = np.concatenate(by_turn)
    spec = model.record.input
    return to_array(views, spec)


def run_bare(model: Model, inputs: NDArray[np.float32]) -> None:
    """Run every network of a model, and nothing else."""
    for member in model.committee.members:
        member.run(inputs)


def measure_file(model: Model, rounds: int) -> dict[str, float]:
    """Return the milliseconds of one small file, and of everything for a large one."""
    small = jpeg("MEL", 0, 600, 450)
    large = jpeg("MEL", 0, 6000, 4000)
    pixels = to_pixels(read_image(small), model.record.input)
    inputs = views_of(pixels[None], model)
    common_way = CommonWay(model)
    milliseconds = medians(
        {
            "bare pass": lambda: run_bare(model, inputs),
            "assessment": lambda: assess(model, small),
            "the common way": lambda: common_way.assess(small),
        },
        rounds,
    )
    assessment = assess(model, small)
    image = assessment.image
    heat = activation_map(model, image, assessment.prediction, "MEL")
    late = {
        "24 megapixels": lambda: assess(model, large),
        "its decoding": lambda: decode_at_a_quarter(large),
        "trust of the map": lambda: trust(model, image, heat, "MEL"),
        "eight views": lambda: stability(model, image, assessment.prediction),
    }
    milliseconds |= medians(late, max(rounds // 10, 3))
    return milliseconds


def write_folder(folder: Path, count: int) -> list[Path]:
    """Write drawn lesions as JPEG files; at most 64 different ones."""
    n_codes = len(CODES)
    n_different = min(count, 64)
    drawn = []
    for index in range(n_different):
        code = CODES[index % n_codes]
        content = jpeg(code, index, 600, 450)
        drawn.append(content)
    files = []
    for index in range(count):
        file = folder / f"{index}.jpg"
        number = index % n_different
        file.write_bytes(drawn[number])
        files.append(file)
    return files


def measure_folder(model: Model, files: list[Path]) -> dict[str, float]:
    """Return the milliseconds of a folder: predicted, assessed, and by a peer."""
    spec = model.record.input
    n_views = len(model.committee.turns)
    images_in_pass = max(1, BATCH_SIZE // n_views)

    def read_pixels(file: Path) -> Pixels:
        image = read_image(file)
        return to_pixels(image, spec)

    def run_peer() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            read = pool.map(read_pixels, files)
            pixels = list(read)
        for start in range(0, len(pixels), images_in_pass):
            end = start + images_in_pass
            batch = np.stack(pixels[start:end])
            views = views_of(batch, model)
            run_bare(model, views)

    def assess_all() -> None:
        images = read_images(files)
        while group := list(islice(images, ASSESSED_AT_A_TIME)):
            assess_batch(model, group)

    work = {
        "ours": lambda: model.predict_batch(files),
        "assessed": assess_all,
        "peer": run_peer,
    }
    return medians(work, 3)


@dataclass(frozen=True)
class Cold:
    """A new process until its first result: seconds, memory, and whether torch was loaded."""

    seconds: float
    memory_mb: float
    torch_loaded: str


def measure_cold(file: Path) -> Cold:
    """Assess a file in a new process."""
    root = Path(__file__).parent.parent
    code = COLD.format(
        root=str(root),
        file=str(file),
        threads=THREADS,
    )
    line = [sys.executable, "-c", code]
    began = time.perf_counter()
    ended = subprocess.run(
        line,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - began
    rss_kb, torch_loaded = ended.stdout.split()
    memory_mb = int(rss_kb) / 1000
    return Cold(seconds, memory_mb, torch_loaded)


def ratios(
    milliseconds: dict[str, float],
    folder: dict[str, float],
    cold: Cold,
) -> dict[str, float]:
    """Return the ratios of the last line."""
    usual = milliseconds["the common way"]
    assessment = milliseconds["assessment"]
    bare = milliseconds["bare pass"]
    large = milliseconds["24 megapixels"]
    decoding = milliseconds["its decoding"]
    peer = folder["peer"]
    return {
        "usual_over_ours": round(usual / assessment, 2),
        "ours_over_bare": round(assessment / bare, 2),
        "24_megapixels_over_bare": round(large / bare, 2),
        "its_decoding_over_bare": round(decoding / bare, 2),
        "folder_ours_over_peer": round(peer / folder["ours"], 2),
        "folder_assessed_over_peer": round(peer / folder["assessed"], 2),
        "cold_s": round(cold.seconds, 2),
        "cold_mb": round(cold.memory_mb),
    }


def print_times(
    milliseconds: dict[str, float],
    folder: dict[str, float],
    files: int,
) -> None:
    """Print the times of one file, and the speeds of the folder."""
    for name, taken_ms in milliseconds.items():
        print(f"{name:<16}{taken_ms:9.2f} ms")
    for name, taken_ms in folder.items():
        images_per_s = 1000 * files / taken_ms
        print(f"folder, {name:<8}{images_per_s:9.1f} images/s")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    summary_line = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=summary_line)
    parser.add_argument(
        "--rounds",
        type=int,
        default=50,
        help="runs of each work (default: 50)",
    )
    parser.add_argument(
        "--files",
        type=int,
        default=500,
        help="files in the folder (default: 500)",
    )
    return parser.parse_args()


def print_heading(model: Model) -> None:
    """Print the model and the settings of the measurement."""
    record = model.record
    side_px = record.input.size_px
    print(f"{record.model_id}, {side_px} px, {THREADS} threads")


def print_cold(cold: Cold) -> None:
    """Print what a new process needs."""
    loaded = f"torch loaded: {cold.torch_loaded}"
    memory = f"{cold.memory_mb:.0f} MB"
    print(f"{'cold':<16}{cold.seconds:9.2f} s, {memory}, {loaded}")


def main() -> None:
    """Measure and print."""
    options = read_options()
    torch.set_num_threads(THREADS)
    model = Model.load("isic2019", threads=THREADS)
    milliseconds = measure_file(model, options.rounds)
    with TemporaryDirectory() as place:
        files = write_folder(Path(place), options.files)
        folder = measure_folder(model, files)
        cold = measure_cold(files[0])
    print_heading(model)
    print_times(milliseconds, folder, options.files)
    print_cold(cold)
    results = ratios(milliseconds, folder, cold)
    print(json.dumps(results))


if __name__ == "__main__":
    main()
