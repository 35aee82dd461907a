"""Compares the speed of training with that of a plain PyTorch loop, in images a second.

    python benchmarks/training.py [--images N] [--rounds N]

Both train the same network on the same files in the same run. Ours is `cadlib.training.loop.train`
with the settings of TrainConfig: pixels decoded once and read from the cache, channels last;
checkpoint and validation are included. The plain loop decodes and resizes each file with Pillow in
every epoch, in a DataLoader with as many workers, in float32, contiguous. Augmentation, optimizer,
batch size and side are the same.

Each is timed over its second epoch, in a process of its own, in turns; the best of the rounds
counts. The source files are lesions drawn at 600 × 450 and 1024 × 1024 px and, where CADLIB_DATA
names a folder with isic2019/, images of it. It prints a table and, as its last line, one JSON
object of ratios: ours over plain, and the same with the cost of hashing and caching spread over the
default number of epochs (all_in).
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from PIL import Image
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from cadlib.data import splits
from cadlib.data.dataset import open_dataset
from cadlib.data.pixel_cache import cached_pixels
from cadlib.images.synthetic import render_lesion
from cadlib.network.backbones import build, load_pretrained
from cadlib.taxonomy import CODES
from cadlib.training.augment import augment
from cadlib.training.config import TrainConfig
from cadlib.training.loop import train
from cadlib.training.run import HISTORY_FILE
from cadlib.training.setup import input_spec

DEFAULTS = TrainConfig()
CONFIG = replace(DEFAULTS, epochs=2, first_px=DEFAULTS.last_px, validation=0.06, test=0.0)
DRAWN_A_CLASS = 16
TRUTH = "ISIC_2019_Training_GroundTruth.csv"
INPUT = "ISIC_2019_Training_Input"


class Files(Dataset[tuple[Tensor, Tensor]]):
    """The files as a plain loop reads them.

    Each is decoded, cropped to its centred square, resized, augmented and normalised.
    """

    def __init__(self, folder: Path) -> None:
        table = open_dataset(folder, verify=False).table
        self._paths = table["path"].tolist()
        self._labels = table["diagnosis"].map(CODES.index).tolist()
        self._spec = input_spec(build(CONFIG.backbone, CONFIG.input_px), CONFIG.input_px)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        spec = self._spec
        image = Image.open(self._paths[row]).convert("RGB")
        square = image.crop(spec.crop_box(*image.size))
        small = square.resize((spec.size_px, spec.size_px), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)
        seed = int(torch.randint(2**62, ()))
        varied = augment(pixels, CONFIG.last_px, seed, CONFIG.least_crop)
        mean = torch.tensor(spec.mean).view(3, 1, 1)
        std = torch.tensor(spec.std).view(3, 1, 1)
        normalised = (varied.float() / 255 - mean) / std
        return normalised.contiguous(), torch.tensor(self._labels[row])


def plain(folder: Path) -> float:
    """Train the plain way; return the images a second of the second epoch."""
    loader = DataLoader(
        Files(folder),
        CONFIG.batch_size,
        shuffle=True,
        num_workers=CONFIG.workers,
        drop_last=True,
        persistent_workers=True,
    )
    network = build(
        CONFIG.backbone,
        CONFIG.input_px,
        drop_rate=CONFIG.drop_rate,
        drop_path_rate=CONFIG.drop_path_rate,
    )
    load_pretrained(network, CONFIG.backbone, CONFIG.input_px)
    network.train()
    groups = param_groups_layer_decay(network, CONFIG.weight_decay, layer_decay=CONFIG.layer_decay)
    optimizer = torch.optim.AdamW(groups, lr=CONFIG.learning_rate)
    loss_of = nn.CrossEntropyLoss()
    for _ in range(CONFIG.epochs):
        began = time.perf_counter()
        for images, labels in loader:
            loss = loss_of(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        # Only the second epoch counts: the first one starts the workers.
        seconds = time.perf_counter() - began
    return len(loader) * CONFIG.batch_size / seconds


def ours(folder: Path) -> float:
    """Train our way; return the images a second of the second epoch."""
    with TemporaryDirectory() as run_dir:
        trained = train(folder, Path(run_dir), CONFIG)
        lines = (Path(run_dir) / HISTORY_FILE).read_text().splitlines()
    assert trained is not None
    seconds = [json.loads(line)["seconds"] for line in lines]
    # The history counts seconds from the start of the run.
    second_epoch_s = seconds[1] - seconds[0]
    n_batches = trained.data.epoch_images // CONFIG.batch_size
    return n_batches * CONFIG.batch_size / second_epoch_s


def prepare(folder: Path) -> float:
    """Hash and cache every image, as ours does once before the first epoch.

    Return images a second.
    """
    table = open_dataset(folder, verify=False).table
    began = time.perf_counter()
    splits.perceptual_hashes(table)
    network = build(CONFIG.backbone, CONFIG.input_px)
    cached_pixels(table, input_spec(network, CONFIG.input_px))
    seconds = time.perf_counter() - began
    return len(table) / seconds


LOOPS = {"plain": plain, "ours": ours, "prepare": prepare}


def draw_dataset(folder: Path, images: int, size: tuple[int, int]) -> Path:
    """Write lesions of a size as JPEG files in ISIC's layout, each drawing several times."""
    (folder / INPUT).mkdir(parents=True)
    copies = max(images // (DRAWN_A_CLASS * len(CODES)), 1)
    rows = [f"image,{','.join(CODES)}"]
    for code in CODES:
        cells = ",".join("1.0" if code == other else "0.0" for other in CODES)
        for seed in range(DRAWN_A_CLASS):
            image = draw_image(code, seed, size)
            for _ in range(copies):
                name = f"ISIC_{len(rows) - 1:07}"
                image.save(folder / INPUT / f"{name}.jpg", quality=90)
                rows.append(f"{name},{cells}")
    (folder / TRUTH).write_text("\n".join(rows) + "\n")
    return folder


def draw_image(code: str, seed: int, size: tuple[int, int]) -> Image.Image:
    """Draw a lesion in a square, and cut it to the height."""
    _, height_px = size
    side = max(size)
    top = (side - height_px) // 2
    drawn = Image.fromarray(render_lesion(code, seed, side))
    return drawn.crop((0, top, side, top + height_px))


def sample_dataset(folder: Path, source: Path, images: int) -> Path:
    """Link random images of a data set, as many of each class, into a folder of ISIC's layout."""
    (folder / INPUT).mkdir(parents=True)
    table = open_dataset(source, verify=False).table
    shuffled = table.sample(frac=1, random_state=0)
    sample = shuffled.groupby("diagnosis").head(images // len(CODES))
    for path in sample["path"]:
        (folder / INPUT / Path(path).name).symlink_to(path)
    (folder / TRUTH).symlink_to(source.resolve() / TRUTH)
    return folder


def measure_loop(loop: str, folder: Path) -> float:
    """Run a loop in a process of its own; return its images a second."""
    line = [sys.executable, __file__, "--loop", loop, "--folder", str(folder)]
    environment = {**os.environ, "CADLIB_CACHE": str(folder / "cache")}
    ended = subprocess.run(line, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    last_line = ended.stdout.splitlines()[-1]
    return float(last_line)


def compare(name: str, folder: Path, rounds: int) -> dict[str, float]:
    """Print the rows of one source and return its ratios."""
    prepared = measure_loop("prepare", folder)
    speed = {"plain": 0.0, "ours": 0.0}
    for _ in range(rounds):
        for loop in ("plain", "ours"):
            speed[loop] = max(speed[loop], measure_loop(loop, folder))
    plain_speed = speed["plain"]
    our_speed = speed["ours"]
    # Seconds an image add up, not images a second.
    spread = 1 / (1 / our_speed + 1 / (prepared * DEFAULTS.epochs))
    print(name)
    print(f"  plain loop                                {plain_speed:7.1f} images/s")
    print(f"  ours                                      {our_speed:7.1f} images/s")
    print(f"  ours, hashing and caching over {DEFAULTS.epochs:2} epochs  {spread:7.1f} images/s")
    print(f"  hashing and caching, once                 {prepared:7.1f} images/s", flush=True)
    return {
        "ours_over_plain": round(our_speed / plain_speed, 2),
        "all_in": round(spread / plain_speed, 2),
    }


def compare_all(place: Path, images: int, rounds: int) -> dict[str, dict[str, float]]:
    """Compare the loops on drawn images of two sizes, and on real ones where there are any."""
    ratios = {}
    for size in ((600, 450), (1024, 1024)):
        name = f"{size[0]}x{size[1]}"
        folder = draw_dataset(place / name, images, size)
        ratios[name] = compare(f"drawn, {name} px", folder, rounds)
    data = os.environ.get("CADLIB_DATA", "")
    real = Path(data, "isic2019")
    if data and real.is_dir():
        folder = sample_dataset(place / "real", real, images)
        ratios["isic2019"] = compare(f"{images} images of {real}", folder, rounds)
    return ratios


def main() -> None:
    """Measure and print, or run one loop for the process that does."""
    flags = argparse.ArgumentParser(description="images a second while training")
    flags.add_argument("--images", type=int, default=1024, help="files of each source")
    flags.add_argument("--rounds", type=int, default=2)
    flags.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    flags.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.loop:
        print(LOOPS[options.loop](options.folder))
        return
    batches = f"batches of {CONFIG.batch_size} at {CONFIG.last_px} px"
    threads = f"{CONFIG.workers} workers, {torch.get_num_threads()} threads"
    cache = f"cache at {CONFIG.input_px} px"
    print(f"{CONFIG.backbone}, {batches}, {cache}, ours {CONFIG.precision}, {threads}")
    with TemporaryDirectory() as temporary:
        ratios = compare_all(Path(temporary), options.images, options.rounds)
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
